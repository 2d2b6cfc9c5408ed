"""Two networks against each other: a generator makes examples of noise, a discriminator tells them from real ones.

Sources: Goodfellow et al. 2014, arXiv:1406.2661 (the game); Huang et al. 2024, arXiv:2501.05441 (R3GAN: residual blocks
without any normalization, section 4); Zhang et al. 2019, arXiv:1901.09321 (Fixup: how such blocks begin); Miyato and
Koyama 2018, arXiv:1802.05637 (the discriminator's projection on a class); Miyato et al. 2018, arXiv:1802.05957
(spectral normalization); Jang et al. 2017, arXiv:1611.01144 (straight-through Gumbel softmax, for categories).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
"""Of the leaky ReLU below zero."""
SMALLEST = 7
"""Pixels on the longer side of a picture from which the generator starts, at most."""
WIDEST = 512


class AdversarialNetwork(nn.Module):
    """A generator and its discriminator; each is a plain module of its own.

    `frequencies` (classes,), by which `sample` draws classes, are all alike until they are set.

    >>> network = picture_adversarial(1, 10, picture_size=(28, 28), width=8)
    >>> pictures = network.sample(3, torch.Generator().manual_seed(0), classes=torch.tensor([0, 5, 5]))
    >>> pictures.shape, network.discriminator(pictures, torch.tensor([0, 5, 5])).shape
    (torch.Size([3, 1, 28, 28]), torch.Size([3]))
    """

    frequencies: Tensor

    def __init__(self, generator: nn.Module, discriminator: nn.Module, noise_size: int, classes: int = 0) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.noise_size, self.classes = noise_size, classes
        self.register_buffer("frequencies", torch.full((classes,), 1.0 / max(classes, 1)))

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, noise_size), and the classes (B,) where there are some, to as many examples."""
        examples: Tensor = self.generator(noise, classes)
        return examples

    def draw(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor | None]:
        """Noise (count, noise_size) and, where there are some, classes (count,) by their frequencies.

        generator: of the CPU, so that every device draws the same; none takes torch's default one.
        """
        device = self.frequencies.device
        noise = torch.randn(count, self.noise_size, generator=generator).to(device)
        if not self.classes:
            return noise, None
        return noise, torch.multinomial(self.frequencies.cpu(), count, replacement=True, generator=generator).to(device)

    def sample(self, count: int, generator: torch.Generator | None = None, classes: Tensor | None = None) -> Tensor:
        """So many new examples; of the given classes (count,), or of classes drawn by their frequencies."""
        noise, drawn = self.draw(count, generator)
        return self.forward(noise, drawn if classes is None else classes)


class DenseGenerator(nn.Module):
    """Rows of a table from noise, by fully connected layers.

    Args:
        noise_size: numbers of noise for a row; one for each code of a category comes on top, by which it is drawn.
        number_features: numbers in a row.
        cardinalities: codes of each column of categories.
        classes: that a row can be asked for; 0 for none.
        hidden_sizes: outputs of each hidden layer.
    """

    def __init__(
        self,
        noise_size: int,
        number_features: int,
        cardinalities: Sequence[int] = (),
        classes: int = 0,
        *,
        hidden_sizes: Sequence[int] = (128, 128, 128),
    ) -> None:
        super().__init__()
        self.noise_size, self.number_features, self.cardinalities = noise_size, number_features, tuple(cardinalities)
        self.embedding = nn.Embedding(classes, noise_size) if classes else None
        sizes = [noise_size * (2 if classes else 1), *hidden_sizes]
        self.layers = _dense(sizes)
        self.head = nn.Linear(sizes[-1], number_features + sum(cardinalities))

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, noise_size + sum(cardinalities)) to (B, number_features + sum(cardinalities)).

        What comes out are numbers, then each category as one-hot: it is drawn by its probability, and has the gradient
        of the softmax.
        """
        noise, draws = noise.tensor_split([self.noise_size], 1)
        values: Tensor = self.head(self.layers(_with_class(noise, self.embedding, classes)))
        numbers, logits = values.tensor_split([self.number_features], 1)
        drawn = torch.split(logits + _gumbel(draws), list(self.cardinalities), 1) if self.cardinalities else ()
        return torch.cat([numbers, *(_one_hot(one) for one in drawn)], 1)


class DenseDiscriminator(nn.Module):
    """How real rows of a table are, by fully connected layers.

    Args:
        in_features: numbers in a row, one-hot categories among them.
        classes: that a row can have; 0 for none.
        hidden_sizes: outputs of each hidden layer.
        spectral_normalization: whether each layer's largest singular value is held at 1.
    """

    def __init__(
        self,
        in_features: int,
        classes: int = 0,
        *,
        hidden_sizes: Sequence[int] = (128, 128, 128),
        spectral_normalization: bool = False,
    ) -> None:
        super().__init__()
        sizes = [in_features, *hidden_sizes]
        self.layers = _dense(sizes)
        self.judgement = _Judgement(sizes[-1], classes)
        if spectral_normalization:
            _normalize(self)

    def forward(self, rows: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, in_features) to (B,): the larger, the more real."""
        score: Tensor = self.judgement(self.layers(rows), classes)
        return score


class PictureGenerator(nn.Module):
    """Pictures from noise: a few pixels with many channels, enlarged stage by stage between residual blocks.

    Args:
        noise_size: numbers of noise for a picture.
        out_channels: 1 for grey pictures, 3 for coloured ones.
        picture_size: height and width in pixels.
        classes: that a picture can be asked for; 0 for none.
        width: channels of the last stage, which has half the height and width; each stage before has twice as many.
        depth: blocks in each stage.
    """

    def __init__(
        self,
        noise_size: int,
        out_channels: int,
        picture_size: tuple[int, int],
        classes: int = 0,
        *,
        width: int = 32,
        depth: int = 1,
    ) -> None:
        super().__init__()
        *self.sizes, first = _stages(picture_size, width)
        self.first, self.picture_size = first, picture_size
        self.embedding = nn.Embedding(classes, noise_size) if classes else None
        self.stem = nn.Linear(noise_size * (2 if classes else 1), math.prod(first))
        stages = [first, *reversed(self.sizes)]
        blocks = depth * len(stages)
        self.blocks = nn.ModuleList(nn.Sequential(*(Block(s[0], blocks) for _ in range(depth))) for s in stages)
        self.narrow = nn.ModuleList(nn.Conv2d(a[0], b[0], 1, bias=False) for a, b in pairwise(stages))
        self.head = nn.Conv2d(width, 4 * out_channels, 3, padding=1)

    def forward(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, noise_size) to (B, out_channels, H, W)."""
        values = self.stem(_with_class(noise, self.embedding, classes)).unflatten(1, self.first)
        values = self.blocks[0](values)
        for (_, *size), narrow, blocks in zip(reversed(self.sizes), self.narrow, self.blocks[1:], strict=True):
            values = blocks(F.interpolate(narrow(values), size=size, mode="bilinear"))
        pictures = F.pixel_shuffle(self.head(F.leaky_relu(values, SLOPE)), 2)
        return pictures[:, :, : self.picture_size[0], : self.picture_size[1]]


class PictureDiscriminator(nn.Module):
    """How real pictures are: the stages of the generator, the other way round.

    Args:
        in_channels: 1 for grey pictures, 3 for coloured ones.
        picture_size: height and width in pixels.
        classes: that a picture can have; 0 for none.
        width: channels of the first stage, which has half the height and width; each further stage has twice as many.
        depth: blocks in each stage.
        num_features: of a picture, from which it is judged.
        spectral_normalization: whether each layer's largest singular value is held at 1.
    """

    def __init__(
        self,
        in_channels: int,
        picture_size: tuple[int, int],
        classes: int = 0,
        *,
        width: int = 32,
        depth: int = 1,
        num_features: int = 128,
        spectral_normalization: bool = False,
    ) -> None:
        super().__init__()
        stages = _stages(picture_size, width)
        blocks = depth * len(stages)
        self.stem = nn.Conv2d(in_channels, width, 4, 2, padding=(1 + picture_size[0] % 2, 1 + picture_size[1] % 2))
        self.blocks = nn.ModuleList(nn.Sequential(*(Block(s[0], blocks) for _ in range(depth))) for s in stages)
        self.widen = nn.ModuleList(nn.Conv2d(a[0], b[0], 1, bias=False) for a, b in pairwise(stages))
        self.features = nn.Linear(math.prod(stages[-1]), num_features)
        self.judgement = _Judgement(num_features, classes)
        if spectral_normalization:
            _normalize(self)

    def forward(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W) to (B,): the larger, the more real."""
        values = self.blocks[0](self.stem(pictures))
        for widen, blocks in zip(self.widen, self.blocks[1:], strict=True):
            values = blocks(F.avg_pool2d(widen(values), 2, ceil_mode=True))
        features = F.leaky_relu(self.features(F.leaky_relu(values, SLOPE).flatten(1)), SLOPE)
        score: Tensor = self.judgement(features, classes)
        return score


class Block(nn.Module):
    """Two 3x3 convolutions, and what came in added to what comes out: at first as it came in."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, SLOPE)
        with torch.no_grad():  # Fixup, for two layers in a block: so that no depth makes the first update too large
            self.first.weight *= blocks**-0.5
        for silent in (self.first.bias, self.second.weight, self.second.bias):
            nn.init.zeros_(cast("Tensor", silent))

    def forward(self, values: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        change: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(values, SLOPE)), SLOPE))
        return values + change


class _Judgement(nn.Module):
    """A score (B,) from features (B, num_features): a linear one, and how well they fit the class."""

    def __init__(self, num_features: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(num_features, 1)
        self.embedding = nn.Embedding(classes, num_features) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=num_features**-0.5)

    def forward(self, features: Tensor, classes: Tensor | None) -> Tensor:
        score: Tensor = self.head(features)[:, 0]
        return score if self.embedding is None else score + (self.embedding(classes) * features).sum(1)


def tabular_adversarial(
    number_features: int,
    cardinalities: Sequence[int],
    out_features: int,
    bins: Sequence[Tensor] | None = None,
    *,
    noise_size: int = 16,
    hidden_sizes: Sequence[int] = (128, 128, 128),
    spectral_normalization: bool = False,
) -> AdversarialNetwork:
    """A generator and a discriminator of rows; `out_features` is the number of classes that can be asked for.

    >>> network = tabular_adversarial(2, [3], 0)
    >>> network.sample(5).shape
    torch.Size([5, 5])
    """
    generator = DenseGenerator(noise_size, number_features, cardinalities, out_features, hidden_sizes=hidden_sizes)
    discriminator = DenseDiscriminator(
        number_features + sum(cardinalities),
        out_features,
        hidden_sizes=hidden_sizes,
        spectral_normalization=spectral_normalization,
    )
    return AdversarialNetwork(generator, discriminator, noise_size + sum(cardinalities), out_features)


def picture_adversarial(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    noise_size: int = 64,
    width: int = 32,
    depth: int = 1,
    spectral_normalization: bool = False,
) -> AdversarialNetwork:
    """A generator and a discriminator of pictures; `out_features` is the number of classes that can be asked for."""
    generator = PictureGenerator(noise_size, in_channels, picture_size, out_features, width=width, depth=depth)
    discriminator = PictureDiscriminator(
        in_channels,
        picture_size,
        out_features,
        width=width,
        depth=depth,
        spectral_normalization=spectral_normalization,
    )
    return AdversarialNetwork(generator, discriminator, noise_size, out_features)


def as_row(numbers: Tensor, categories: Tensor, cardinalities: Sequence[int]) -> Tensor:
    """A real row as a generated one is: numbers (B, F) and codes (B, K) to (B, F + sum(cardinalities)).

    >>> as_row(torch.tensor([[0.5]]), torch.tensor([[2, 0]]), [3, 2])
    tensor([[0.5000, 0.0000, 0.0000, 1.0000, 1.0000, 0.0000]])
    """
    hot = [F.one_hot(codes.long(), count) for codes, count in zip(categories.unbind(1), cardinalities, strict=True)]
    return torch.cat([numbers, *(one.to(numbers.dtype) for one in hot)], 1)


def _dense(sizes: Sequence[int]) -> nn.Sequential:
    layers = nn.Sequential()
    for before, after in pairwise(sizes):
        layers += nn.Sequential(nn.Linear(before, after), nn.LeakyReLU(SLOPE))
    return layers


def _with_class(noise: Tensor, embedding: nn.Embedding | None, classes: Tensor | None) -> Tensor:
    return noise if embedding is None else torch.cat([noise, embedding(classes)], 1)


def _gumbel(noise: Tensor) -> Tensor:
    """Normal noise as noise of the standard Gumbel distribution."""
    exponential: Tensor = -torch.special.log_ndtr(noise.float())
    return -exponential.log()


def _one_hot(logits: Tensor) -> Tensor:
    """The likeliest category as one-hot, with the gradient of the softmax."""
    soft = logits.softmax(1)
    hard = F.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)
    return hard + soft - soft.detach()


def _stages(picture_size: tuple[int, int], width: int) -> list[tuple[int, int, int]]:
    """Channels, height and width of each stage, from half the picture down to a few pixels."""
    height, breadth = (math.ceil(side / 2) for side in picture_size)
    stages = [(width, height, breadth)]
    while max(height, breadth) > SMALLEST:
        height, breadth = math.ceil(height / 2), math.ceil(breadth / 2)
        stages.append((min(2 * stages[-1][0], WIDEST), height, breadth))
    return stages


def _normalize(discriminator: nn.Module) -> None:
    """Hold the largest singular value of each layer at 1; a layer of zeros has none, so these begin at random."""
    for layer in [m for m in discriminator.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]:
        if not layer.weight.any():
            nn.init.kaiming_normal_(layer.weight, SLOPE)
        spectral_norm(layer)
