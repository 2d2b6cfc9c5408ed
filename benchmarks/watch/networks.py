"""Small networks as people write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class Exponential(nn.Module):
    """The activation of that name in Keras."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def dense(
    *sizes: int,
    activation: Activation | None = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    dropout: float = 0.0,
    last: Sequence[nn.Module] = (),
) -> nn.Sequential:
    """Linear layers, with a norm, an activation and dropout after each but the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers.append(nn.Linear(before, after))
        layers += [norm(after)] if norm is not None else []
        layers += [activation()] if activation is not None else []
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]), *last)


def he(model: nn.Module) -> nn.Module:
    """He et al. 2015: keeps the size of the signal through layers of ReLU."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def filled(model: nn.Module, fill: Callable[[Tensor], object]) -> nn.Module:
    """All weight matrices from `fill`; biases at 0."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            fill(parameter.data)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def convolutional(
    channels: int = 1,
    classes: int = 10,
    *,
    size: int = 8,
    activation: Activation = nn.ReLU,
    dropout: float = 0.0,
    widths: tuple[int, int] = (8, 16),
    hidden: int = 32,
    last: Sequence[nn.Module] = (),
) -> nn.Sequential:
    """After LeNet: two convolutions, each pooled, and two linear layers."""
    return nn.Sequential(
        *(nn.Conv2d(channels, widths[0], 3, padding=1), activation(), nn.MaxPool2d(2)),
        *(nn.Conv2d(widths[0], widths[1], 3, padding=1), activation(), nn.MaxPool2d(2)),
        *(nn.Flatten(), *([nn.Dropout(dropout)] if dropout else [])),
        *(nn.Linear(widths[1] * (size // 4) ** 2, hidden), activation(), nn.Linear(hidden, classes), *last),
    )


def deep_convolutional(
    classes: int = 6,
    *,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    dropout: float = 0.2,
    activation: Activation = nn.ReLU,
    blocks: int = 4,
    width: int = 12,
    last: Sequence[nn.Module] = (),
) -> nn.Sequential:
    """Convolutions with batch norm, ReLU and dropout, then the mean over the picture."""
    layers: list[nn.Module] = []
    channels = 3
    for block in range(blocks):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=norm is None)]
        layers += [norm(width)] if norm is not None else []
        layers += [activation()]
        if block in {1, 3}:
            layers += [nn.MaxPool2d(2), *([nn.Dropout(dropout)] if dropout else [])]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes), *last)


class Residual(nn.Module):
    """A block of two convolutions around which the input goes on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.inner(x)).relu()


def residual(channels: int = 3, classes: int = 6, width: int = 12, blocks: int = 2) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        *(Residual(width) for _ in range(blocks)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)),
    )


class DenseResidual(nn.Module):
    """Linear layers around which the input goes on, each with a layer norm first."""

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class Recurrent(nn.Module):
    """Reads a sequence (N, length, features) and answers from its last state."""

    def __init__(self, kind: type[nn.RNNBase], features: int, width: int, outputs: int, **options: object) -> None:
        super().__init__()
        self.core = kind(features, width, batch_first=True, **options)  # type: ignore[arg-type]
        both = 2 if options.get("bidirectional") else 1
        self.head = nn.Linear(width * both, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(x)[0][:, -1])


class ByHand(nn.Module):
    """A recurrent cell as it is written by hand: h = activation(W x + U h)."""

    def __init__(self, features: int, width: int, outputs: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.enter, self.turn = nn.Linear(features, width), nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), self.turn.out_features)
        for now in x.unbind(1):
            state = self.activation(self.enter(now) + self.turn(state))
        return self.head(state)


class Letters(nn.Module):
    """Predicts at each place of a text (N, length) the letter that follows: (N, letters, length)."""

    def __init__(self, core: nn.Module, letters: int, width: int, *, outputs: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, width)
        self.core = core
        self.head = nn.LazyLinear(letters) if outputs is None else nn.Linear(outputs, letters)

    def forward(self, x: Tensor) -> Tensor:
        states = self.core(self.embedding(x))
        return self.head(states[0] if isinstance(states, tuple) else states).transpose(1, 2)


class Transformer(nn.Module):
    """Layers of attention over (N, length, width), with places told by sines; causal: each sees only the past."""

    def __init__(
        self,
        width: int,
        layers: int = 2,
        heads: int = 4,
        *,
        causal: bool,
        dropout: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            *(width, heads, 2 * width), dropout=dropout, batch_first=True, norm_first=norm_first
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.causal = causal
        place, rate = torch.arange(200.0)[:, None], torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
        self.register_buffer("places", torch.stack([(place * rate).sin(), (place * rate).cos()], -1).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length) if self.causal else None
        return self.layers(x + self.places[:length], mask=mask, is_causal=self.causal)


class Attentive(nn.Module):
    """A transformer over a sequence (N, length, features), its mean, and a linear answer."""

    def __init__(self, features: int, width: int, outputs: int, *, dropout: float = 0.0, layers: int = 1) -> None:
        super().__init__()
        self.enter = nn.Linear(features, width)
        self.core = Transformer(width, layers, causal=False, dropout=dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.core(self.enter(x)).mean(1))


class Piped(nn.Module):
    """A function between two networks: what forward methods do that are written by hand."""

    def __init__(self, first: nn.Module, between: Callable[[Tensor], Tensor], second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))
