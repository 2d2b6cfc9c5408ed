"""Autoencoders: networks that learn to say what they saw in few numbers, and to tell it from these alone.

Sources: Hinton and Salakhutdinov 2006 (deep autoencoders); Vincent et al. 2008 (denoising); Makhzani and Frey 2014,
arXiv:1312.5663 (sparse codes); Kingma and Welling 2014, arXiv:1312.6114 (variational); Higgins et al. 2017 (beta);
Bowman et al. 2016, arXiv:1511.06349, section 3.1 (the divergence warms up); Kingma et al. 2016, arXiv:1606.04934,
appendix C.8 (free bits); Rybkin et al. 2021, arXiv:2006.13202 (the decoder's variance is the mean error).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sounding.networks.activations import build_activation
from sounding.networks.feedforward import hidden_layers
from sounding.networks.initialization import initialize
from sounding.networks.normalization import CENTRED, build_normalization
from sounding.networks.tabular import TableColumns

CALIBRATION = 0.01
"""The weight of a batch in the running mean of the error by which a divergence is scaled."""
WARMUP = 1000
"""Training passes in which a divergence rises to its full weight."""


class Reconstruction(NamedTuple):
    """What an autoencoder makes of its inputs."""

    values: Tensor
    """Pictures (B, C, H, W), or rows of a table (B, number_features + sum(cardinalities)): the numbers, then for each
    column of categories the logits of its codes."""
    code: Tensor
    """(B, out_features)."""
    penalty: Tensor
    """(B,), which training adds to the mean of each row's `reconstruction_errors`."""


def reconstruction_errors(values: Tensor, inputs: Sequence[Tensor], cardinalities: Sequence[int] = ()) -> Tensor:
    """How wrong each pixel, number or category of a reconstruction is.

    values:         of a `Reconstruction`.
    inputs:         what it was made from: (pictures,), or (numbers, categories).
    cardinalities:  for each column of categories, how many codes it has.
    Returns:        (B, features): squared errors of the C * H * W pixels, or those of the numbers and then for each
                    column of categories the cross-entropy in nats.

    >>> values, numbers, categories = torch.zeros(1, 3), torch.tensor([[2.0]]), torch.tensor([[1]])
    >>> reconstruction_errors(values, (numbers, categories), [2])
    tensor([[4.0000, 0.6931]])
    """
    if len(inputs) == 1:
        return (values - inputs[0]).square().flatten(1)
    numbers, categories = inputs
    guessed, *logits = torch.split(values, [numbers.shape[1], *cardinalities], 1)
    columns = zip(logits, categories.long().T[..., None], strict=True)
    # not F.cross_entropy: codes that are given back are no labels to whoever listens for those of a classification
    wrong = [-column.log_softmax(1).gather(1, codes) for column, codes in columns]
    return torch.cat([(guessed - numbers).square(), *wrong], 1)


class Autoencoder(nn.Module):
    """An encoder that says in `code_size` numbers what it saw, and a decoder that tells it from these.

    Trained to give back its inputs it learns what most of them have in common: codes stand for rows where few numbers
    are wanted, and what it cannot give back is strange. Its features are its codes, and its head is the decoder.

    Args:
        encoder: takes the inputs, gives (B, code_size).
        decoder: takes (B, code_size), gives `Reconstruction.values`.
        code_size: numbers that stand for a row.
        noise: standard deviation of what is added to numbers and pixels while training, for them to be cleaned of it.
        masked: probability in [0, 1) that a pixel, number or category is hidden while training: as 0, the mean, or as
            code 0, the unknown category.
        nonzero: entries of a code that may differ from zero, those of the largest size; 0 for all.

    >>> network = Autoencoder(nn.Linear(6, 2), nn.Linear(2, 6), 2)
    >>> values, code, penalty = network(torch.zeros(5, 6))
    >>> values.shape, code.shape, penalty.tolist()
    (torch.Size([5, 6]), torch.Size([5, 2]), [0.0, 0.0, 0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        code_size: int,
        *,
        noise: float = 0.0,
        masked: float = 0.0,
        nonzero: int = 0,
    ) -> None:
        super().__init__()
        if nonzero > code_size:
            raise ValueError(f"nonzero is {nonzero}, and a code has {code_size} entries; give at most so many")
        self.encoder, self.head = encoder, decoder
        self.num_features = code_size
        self.noise, self.masked, self.nonzero = noise, masked, nonzero

    def encode(self, *inputs: Tensor) -> Tensor:
        """The inputs, as they are, to codes (B, code_size)."""
        code: Tensor = self.encoder(*inputs)
        if not 0 < self.nonzero < code.shape[1]:
            return code
        largest = code.abs().topk(self.nonzero, 1).indices
        return code * torch.zeros_like(code).scatter(1, largest, 1.0)

    def decode(self, code: Tensor) -> Tensor:
        """Codes (B, code_size) to `Reconstruction.values`."""
        values: Tensor = self.head(code)
        return values

    def forward_features(self, *inputs: Tensor) -> Tensor:
        """The inputs to codes (B, code_size); while training, of inputs that are noisy or masked."""
        return self.encode(*self._corrupted(inputs))

    def forward(self, *inputs: Tensor) -> Reconstruction:
        """Pictures (B, C, H, W), or numbers (B, number_features) and categories (B, columns)."""
        code = self.forward_features(*inputs)
        return Reconstruction(self.decode(code), code, torch.zeros_like(code[:, 0]))

    def _corrupted(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.training:
            return inputs
        if self.noise:
            inputs = tuple(x + self.noise * torch.randn_like(x) if x.is_floating_point() else x for x in inputs)
        if self.masked:
            inputs = tuple(x.masked_fill(torch.rand(x.shape, device=x.device) < self.masked, 0) for x in inputs)
        return inputs


class VariationalAutoencoder(Autoencoder):
    """An autoencoder whose codes are normal distributions near the standard one, so that it can imagine new rows.

    The mean is the code; training decodes a draw. The penalty is the divergence of the distributions from the standard
    normal one, times 2 * error / features. With it, the mean error plus the penalty has the gradient (up to a factor)
    of the evidence bound of a Gaussian decoder with the variance that fits best, the mean error itself: neither
    drowns the other, whatever the units, and as many entries of the code are used as help. The mean error is a
    running one over training passes, and a part of the state.

    Args:
        encoder: takes the inputs, gives (B, 2 * code_size): means, then logarithms of variances.
        decoder: as for `Autoencoder`, as are `code_size`, `noise` and `masked`.
        cardinalities: for each column of categories, how many codes it has.
        beta: factor of the divergence; 1 is the evidence bound.
        warmup: training passes in which the divergence rises to its full weight: first the code learns to say much,
            then to say it in order. Begun with the full weight, entries fall silent that could have helped.
        free_bits: divergence of each entry, in nats, that costs nothing.

    >>> network = VariationalAutoencoder(nn.Linear(6, 4), nn.Linear(2, 6), 2)
    >>> network.sample(3).shape
    torch.Size([3, 6])
    """

    error: Tensor
    passes: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        code_size: int,
        *,
        cardinalities: Sequence[int] = (),
        noise: float = 0.0,
        masked: float = 0.0,
        beta: float = 1.0,
        warmup: int = WARMUP,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__(encoder, decoder, code_size, noise=noise, masked=masked)
        self.cardinalities = tuple(cardinalities)
        self.beta, self.warmup, self.free_bits = beta, warmup, free_bits
        self.register_buffer("error", torch.tensor(1.0))  # what the mean of standardised inputs would give
        self.register_buffer("passes", torch.tensor(0))

    def posterior(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances of the codes, (B, code_size) each."""
        mean, log_variance = self.encoder(*inputs).chunk(2, 1)
        return mean, log_variance

    def encode(self, *inputs: Tensor) -> Tensor:
        """The inputs, as they are, to the means of their codes (B, code_size)."""
        return self.posterior(*inputs)[0]

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """So many new rows, as `Reconstruction.values`; the draws are the generator's, on the CPU."""
        codes = torch.randn(count, self.num_features, generator=generator)
        return self.decode(codes.to(self.error.device))

    def forward(self, *inputs: Tensor) -> Reconstruction:
        """Pictures (B, C, H, W), or numbers (B, number_features) and categories (B, columns)."""
        mean, log_variance = self.posterior(*self._corrupted(inputs))
        drawn = mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean
        values = self.decode(drawn)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance) / 2  # of each entry, in nats
        divergence = divergence.clamp(min=self.free_bits).sum(1)
        scale = self.beta * 2 * self.error / sum(prod(x.shape[1:]) for x in inputs)
        if self.training:
            self.passes.add_(1)
            scale = scale * (self.passes / max(self.warmup, 1)).clamp(max=1.0)
            wrong = reconstruction_errors(values.detach(), inputs, self.cardinalities).mean()
            self.error.lerp_(wrong.to(self.error.dtype), CALIBRATION)
        return Reconstruction(values, mean, scale * divergence)


class LinearAndDeep(nn.Module):
    """A linear map, and what hidden layers add to it: it begins near the best linear code, and goes on from there.

    >>> LinearAndDeep(4, 2, [8], "relu", "none")(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, in_features: int, out_features: int, hidden_sizes: Sequence[int], activation: str, normalization: str
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.deep: nn.Module | None = None
        if hidden_sizes:
            self.deep = nn.Sequential(
                hidden_layers([in_features, *hidden_sizes], activation, normalization, 0.0, False),
                nn.Linear(hidden_sizes[-1], out_features, bias=False),
            )

    def forward(self, values: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        linear: Tensor = self.linear(values)
        return linear if self.deep is None else torch.add(linear, self.deep(values))


class TableEncoder(nn.Module):
    """The columns of a table as one row of numbers, and on through layers."""

    def __init__(self, columns: TableColumns, layers: nn.Module) -> None:
        super().__init__()
        self.columns, self.layers = columns, layers

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, number_features) and (B, columns of categories) to what the layers give."""
        row: Tensor = self.layers(self.columns(numbers, categories))
        return row


class PictureEncoder(nn.Module):
    """Stages of two 3x3 convolutions, of which the first halves the picture, and a linear map beside them.

    With more than 64 pixels on its shorter side the picture is made smaller still by the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        picture_size: tuple[int, int],
        hidden_sizes: Sequence[int],
        activation: str,
        normalization: str,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for channels, stride in zip(hidden_sizes, _strides(picture_size, hidden_sizes), strict=True):
            layers += _convolution(before, channels, stride, activation, normalization)
            layers += _convolution(channels, channels, 1, activation, normalization)
            before = channels
        places = prod(_sizes(picture_size, hidden_sizes)[-1])
        self.deep = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * places, out_features, bias=False))
        self.linear = nn.Linear(in_channels * prod(picture_size), out_features)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_features)."""
        return torch.add(self.linear(pictures.flatten(1)), self.deep(pictures))


class PictureDecoder(nn.Module):
    """A `PictureEncoder` the other way: each convolution gives several channels for each place, as its new pixels.

    Source: Shi et al. 2016, arXiv:1609.05158 (pixels from channels).
    """

    def __init__(
        self,
        in_features: int,
        out_channels: int,
        picture_size: tuple[int, int],
        hidden_sizes: Sequence[int],
        activation: str,
        normalization: str,
    ) -> None:
        super().__init__()
        sizes, strides = _sizes(picture_size, hidden_sizes), _strides(picture_size, hidden_sizes)
        before = hidden_sizes[-1]
        layers: list[nn.Module] = [
            nn.Linear(in_features, before * prod(sizes[-1])),
            nn.Unflatten(1, (before, *sizes[-1])),
            build_activation(activation),
        ]
        for stage in reversed(range(len(hidden_sizes))):
            after = hidden_sizes[stage - 1] if stage else out_channels
            layers += _convolution(before, before, 1, activation, normalization)
            layers += [
                nn.Conv2d(before, after * strides[stage] ** 2, 3, padding=1),
                nn.PixelShuffle(strides[stage]),
                Cropped(sizes[stage]),
            ]
            if stage:
                layers += [build_normalization(normalization, after, 2), build_activation(activation)]
            before = after
        self.deep = nn.Sequential(*layers)
        self.linear = nn.Sequential(
            nn.Linear(in_features, out_channels * prod(picture_size)), nn.Unflatten(1, (out_channels, *picture_size))
        )

    def forward(self, code: Tensor) -> Tensor:
        """(B, in_features) to pictures (B, out_channels, H, W)."""
        return torch.add(self.linear(code), self.deep(code))


class Cropped(nn.Module):
    """Pictures without the rows at the bottom and the columns at the right that are too many."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, at least H, at least W) to (B, C, H, W)."""
        return pictures[..., : self.size[0], : self.size[1]]


def _convolution(before: int, after: int, stride: int, activation: str, normalization: str) -> list[nn.Module]:
    size = 3 if stride <= 2 else 2 * stride - 1
    return [
        nn.Conv2d(before, after, size, stride, padding=size // 2, bias=normalization not in CENTRED),
        build_normalization(normalization, after, 2),
        build_activation(activation),
    ]


def _strides(picture_size: tuple[int, int], stages: Sequence[int]) -> list[int]:
    """Of each stage: 2, and of the first as much more as brings the shorter side to 64 pixels at most before it."""
    first = 2
    while min(picture_size) * 2 / first > 64:
        first *= 2
    return [first, *[2] * (len(stages) - 1)]


def _sizes(picture_size: tuple[int, int], stages: Sequence[int]) -> list[tuple[int, int]]:
    """Heights and widths before each stage, and after the last."""
    sizes = [picture_size]
    for stride in _strides(picture_size, stages):
        height, width = sizes[-1]
        sizes.append((-(-height // stride), -(-width // stride)))
    return sizes


def table_autoencoder(
    number_features: int,
    cardinalities: Sequence[int],
    out_features: int,
    *,
    bins: Sequence[Tensor] | None = None,
    number_embedding_size: int = 0,
    one_hot_limit: int = 100,
    hidden_sizes: Sequence[int] = (256, 256),
    activation: str = "silu",
    normalization: str = "none",
    noise: float = 0.0,
    masked: float = 0.0,
    nonzero: int = 0,
    initialization: str = "default",
) -> Autoencoder:
    """A fully connected autoencoder for numbers and categories; without hidden layers it is linear.

    `hidden_sizes` are those of the encoder, and in reverse those of the decoder.

    >>> network = table_autoencoder(2, [3], 4)
    >>> network(torch.zeros(5, 2), torch.zeros(5, 1, dtype=torch.int64)).values.shape
    torch.Size([5, 5])
    """
    columns = TableColumns(number_features, cardinalities, bins, number_embedding_size, one_hot_limit)
    encoder = LinearAndDeep(sum(columns.sizes), out_features, hidden_sizes, activation, normalization)
    values = number_features + sum(cardinalities)
    decoder = LinearAndDeep(out_features, values, hidden_sizes[::-1], activation, normalization)
    network = Autoencoder(
        TableEncoder(columns, encoder), decoder, out_features, noise=noise, masked=masked, nonzero=nonzero
    )
    initialize(network, initialization)
    return network


def table_variational_autoencoder(
    number_features: int,
    cardinalities: Sequence[int],
    out_features: int,
    *,
    bins: Sequence[Tensor] | None = None,
    number_embedding_size: int = 0,
    one_hot_limit: int = 100,
    hidden_sizes: Sequence[int] = (256, 256),
    activation: str = "silu",
    normalization: str = "none",
    noise: float = 0.0,
    masked: float = 0.0,
    beta: float = 1.0,
    warmup: int = WARMUP,
    free_bits: float = 0.0,
    initialization: str = "default",
) -> VariationalAutoencoder:
    """The variational `table_autoencoder`."""
    columns = TableColumns(number_features, cardinalities, bins, number_embedding_size, one_hot_limit)
    encoder = LinearAndDeep(sum(columns.sizes), 2 * out_features, hidden_sizes, activation, normalization)
    values = number_features + sum(cardinalities)
    decoder = LinearAndDeep(out_features, values, hidden_sizes[::-1], activation, normalization)
    network = VariationalAutoencoder(
        TableEncoder(columns, encoder),
        decoder,
        out_features,
        cardinalities=cardinalities,
        noise=noise,
        masked=masked,
        beta=beta,
        warmup=warmup,
        free_bits=free_bits,
    )
    initialize(network, initialization)
    return network


def picture_autoencoder(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    hidden_sizes: Sequence[int] = (512, 256),
    activation: str = "silu",
    normalization: str = "none",
    noise: float = 0.0,
    masked: float = 0.0,
    nonzero: int = 0,
    initialization: str = "default",
) -> Autoencoder:
    """A fully connected autoencoder for the pixels of pictures; without hidden layers it is linear.

    >>> picture_autoencoder(1, 16, picture_size=(8, 8))(torch.zeros(5, 1, 8, 8)).code.shape
    torch.Size([5, 16])
    """
    encoder, decoder = _dense(
        in_channels, out_features, out_features, picture_size, hidden_sizes, activation, normalization
    )
    network = Autoencoder(encoder, decoder, out_features, noise=noise, masked=masked, nonzero=nonzero)
    initialize(network, initialization)
    return network


def picture_variational_autoencoder(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    hidden_sizes: Sequence[int] = (512, 256),
    activation: str = "silu",
    normalization: str = "none",
    noise: float = 0.0,
    masked: float = 0.0,
    beta: float = 1.0,
    warmup: int = WARMUP,
    free_bits: float = 0.0,
    initialization: str = "default",
) -> VariationalAutoencoder:
    """The variational `picture_autoencoder`."""
    encoder, decoder = _dense(
        in_channels, 2 * out_features, out_features, picture_size, hidden_sizes, activation, normalization
    )
    network = VariationalAutoencoder(
        encoder,
        decoder,
        out_features,
        noise=noise,
        masked=masked,
        beta=beta,
        warmup=warmup,
        free_bits=free_bits,
    )
    initialize(network, initialization)
    return network


def convolutional_autoencoder(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    hidden_sizes: Sequence[int] = (32, 64),
    activation: str = "silu",
    normalization: str = "batch",
    noise: float = 0.0,
    masked: float = 0.0,
    nonzero: int = 0,
    initialization: str = "default",
) -> Autoencoder:
    """A convolutional autoencoder for pictures: `hidden_sizes` are the channels of stages that halve the picture.

    >>> convolutional_autoencoder(3, 16, picture_size=(32, 24))(torch.zeros(5, 3, 32, 24)).values.shape
    torch.Size([5, 3, 32, 24])
    """
    encoder = PictureEncoder(in_channels, out_features, picture_size, hidden_sizes, activation, normalization)
    decoder = PictureDecoder(out_features, in_channels, picture_size, hidden_sizes, activation, normalization)
    network = Autoencoder(encoder, decoder, out_features, noise=noise, masked=masked, nonzero=nonzero)
    initialize(network, initialization)
    return network


def convolutional_variational_autoencoder(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    hidden_sizes: Sequence[int] = (32, 64),
    activation: str = "silu",
    normalization: str = "batch",
    noise: float = 0.0,
    masked: float = 0.0,
    beta: float = 1.0,
    warmup: int = WARMUP,
    free_bits: float = 0.0,
    initialization: str = "default",
) -> VariationalAutoencoder:
    """The variational `convolutional_autoencoder`."""
    encoder = PictureEncoder(in_channels, 2 * out_features, picture_size, hidden_sizes, activation, normalization)
    decoder = PictureDecoder(out_features, in_channels, picture_size, hidden_sizes, activation, normalization)
    network = VariationalAutoencoder(
        encoder,
        decoder,
        out_features,
        noise=noise,
        masked=masked,
        beta=beta,
        warmup=warmup,
        free_bits=free_bits,
    )
    initialize(network, initialization)
    return network


def _dense(
    channels: int,
    encoded: int,
    out_features: int,
    picture_size: tuple[int, int],
    hidden_sizes: Sequence[int],
    activation: str,
    normalization: str,
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of pixels that are one row of numbers."""
    pixels = channels * prod(picture_size)
    encoder = LinearAndDeep(pixels, encoded, hidden_sizes, activation, normalization)
    decoder = LinearAndDeep(out_features, pixels, hidden_sizes[::-1], activation, normalization)
    return nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, (channels, *picture_size)))
