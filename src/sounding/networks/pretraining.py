"""Lessons that inputs set themselves, by which an encoder learns to see before it is told what to look for.

A lesson wraps an encoder (any network with `forward_features` and `num_features`) and answers each row with a loss;
when it is over, the encoder is what is kept.

Sources: cells of other rows in the place of some: Bahri et al. 2022, arXiv:2106.15147 (SCARF), and what they were told
again: Yoon et al. 2020 (VIME, NeurIPS); patches hidden and painted in by one layer: Xie et al. 2022, arXiv:2111.09886
(SimMIM); noise taken off: Vincent et al. 2008; two views of one picture: Chen et al. 2020, arXiv:2002.05709 (SimCLR).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Lesson(NamedTuple):
    """How each of B rows was answered."""

    loss: Tensor
    """(B,)"""
    naive: Tensor
    """(B,) the loss of an answer that knows nothing of the row: the mean of the batch, or any other row."""
    features: Tensor
    """(B, num_features); in evaluation those of the row as it is, in training of what was shown of it."""


class _Lesson(nn.Module):
    """An encoder with a lesson: it loses its own head.

    Draws come from the default generator while training, and in evaluation are always the same.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        encoder.head = nn.Identity()
        self.encoder = encoder
        self.num_features = int(encoder.num_features)  # type: ignore[arg-type]

    def _features(self, *inputs: Tensor) -> Tensor:
        """(B, num_features), or (B, members, num_features)."""
        return cast("Callable[..., Tensor]", self.encoder.forward_features)(*inputs)

    def _kept(self, shown: Tensor, *inputs: Tensor) -> Tensor:
        features = shown if self.training else self._features(*inputs)
        return features.mean(1) if hasattr(self.encoder, "members") else features

    def _generator(self) -> torch.Generator | None:
        return None if self.training else torch.Generator().manual_seed(0)


class MaskedColumns(_Lesson):
    """Some cells of a table are exchanged for those of other rows; the network says what was there.

    Args:
        encoder: takes numbers (B, number_features) and categories (B, len(cardinalities)).
        number_features: columns of numbers, of mean 0 and deviation 1.
        cardinalities: for each column of categories, how many codes it has.
        masked: probability in [0, 1) that a cell is exchanged; at least one of each row is, unless it is 0.
        noise: standard deviation of what is added to all numbers; with it, all cells are to be told, not only those
            that were exchanged.

    >>> from sounding.networks import TabularFeedForward
    >>> network = MaskedColumns(TabularFeedForward(2, [3], 1), 2, [3])
    >>> [tuple(part.shape) for part in network(torch.randn(5, 2), torch.zeros(5, 1, dtype=torch.int64))]
    [(5,), (5,), (5, 256)]
    """

    def __init__(
        self,
        encoder: nn.Module,
        number_features: int,
        cardinalities: Sequence[int],
        *,
        masked: float = 0.3,
        noise: float = 0.0,
    ) -> None:
        super().__init__(encoder)
        if not 0.0 <= masked < 1.0 or noise < 0.0 or masked == noise == 0.0:
            raise ValueError(f"masked is {masked} and noise {noise}; give a share below 1, or noise above 0")
        if masked == 0.0 and not number_features:
            raise ValueError("there is no number to add noise to; give masked")
        self.cardinalities = list(cardinalities)
        self.masked, self.noise = masked, noise
        self.decoder = nn.Linear(self.num_features, number_features + sum(cardinalities))

    def forward(self, numbers: Tensor, categories: Tensor) -> Lesson:
        """(B, number_features) float and (B, len(cardinalities)) codes."""
        (rows, count), generator = numbers.shape, self._generator()
        draws = torch.rand(rows, count + categories.shape[1], generator=generator).to(numbers.device)
        others = torch.randint(rows, tuple(draws.shape), generator=generator).to(numbers.device)
        hidden = draws < self.masked
        if self.masked:
            hidden[torch.arange(rows, device=hidden.device), draws.argmin(1)] = True
        seen = torch.where(hidden[:, :count], numbers.gather(0, others[:, :count]), numbers)
        codes = torch.where(hidden[:, count:], categories.gather(0, others[:, count:]), categories)
        if self.noise:
            more = torch.randn(numbers.shape, generator=generator).to(numbers.device)
            seen, hidden = seen + self.noise * more, torch.ones_like(hidden)
        shown = self._features(seen, codes)
        guessed = self.decoder(shown)  # (B, outputs), or (B, members, outputs)
        if guessed.ndim == 2:
            guessed = guessed[:, None]
        errors = [(guessed[..., :count] - numbers[:, None]).square().mean(1)]
        naive = [(numbers - numbers.mean(0)).square()]
        of_columns = guessed[..., count:].split(self.cardinalities, -1) if self.cardinalities else ()
        for column, logits in zip(categories.unbind(1), of_columns, strict=True):
            truth = column.long()[:, None].expand(logits.shape[:2])
            errors.append(F.cross_entropy(logits.mT, truth, reduction="none").mean(1)[:, None])
            shares = torch.bincount(column.long(), minlength=logits.shape[-1]) / rows
            naive.append(-shares[column.long()].log()[:, None])
        weights = hidden / hidden.sum(1, keepdim=True)
        loss, of_naive = ((torch.cat(parts, 1) * weights).sum(1) for parts in (errors, naive))
        return Lesson(loss, of_naive, self._kept(shown, numbers, categories))


class MaskedPatches(_Lesson):
    """Squares of a picture are hidden, and the network paints them in.

    Where the encoder has `forward_maps`, each place of the last map paints what it stands for, by one layer; any other
    encoder paints all from its features.

    Args:
        encoder: takes pictures (B, in_channels, H, W), standardised.
        in_channels: 1 for grey pictures, 3 for coloured ones.
        picture_size: height and width of the pictures, in pixels.
        masked: share of the squares that is hidden, in [0, 1).
        patch: side of a square, in pixels; a seventh of the shorter side of the picture if 0.
        noise: standard deviation of what is added to all pixels; with it, all of them are to be painted.

    >>> from sounding.networks import ResNet
    >>> network = MaskedPatches(ResNet(1, 1, picture_size=(8, 8)), 1, picture_size=(8, 8))
    >>> [tuple(part.shape) for part in network(torch.randn(5, 1, 8, 8))]
    [(5,), (5,), (5, 256)]
    """

    def __init__(
        self,
        encoder: nn.Module,
        in_channels: int,
        *,
        picture_size: tuple[int, int],
        masked: float = 0.6,
        patch: int = 0,
        noise: float = 0.0,
    ) -> None:
        super().__init__(encoder)
        if not 0.0 <= masked < 1.0 or noise < 0.0 or masked == noise == 0.0:
            raise ValueError(f"masked is {masked} and noise {noise}; give a share below 1, or noise above 0")
        self.masked, self.noise = masked, noise
        self.patch = patch or max(round(min(picture_size) / 7), 1)
        self.paints_places = hasattr(encoder, "forward_maps")
        if self.paints_places:
            with torch.no_grad():
                maps = cast("Any", encoder.eval()).forward_maps(torch.zeros(1, in_channels, *picture_size))
            encoder.train()
            self.stride = math.ceil(picture_size[0] / maps.shape[2])
            self.decoder: nn.Module = nn.Conv2d(self.num_features, in_channels * self.stride**2, 1)
        else:
            self.decoder = nn.Linear(self.num_features, in_channels * math.prod(picture_size))

    def forward(self, pictures: Tensor) -> Lesson:
        """(B, in_channels, H, W) float, of mean 0 and deviation 1 in each channel."""
        (rows, _, height, width), generator = pictures.shape, self._generator()
        hidden = self._hidden(rows, height, width, generator).to(pictures.device)
        seen = pictures.masked_fill(hidden, 0.0)
        if self.noise:
            seen = seen + self.noise * torch.randn(pictures.shape, generator=generator).to(pictures.device)
            hidden = torch.ones_like(hidden)
        if self.paints_places:
            maps = cast("Any", self.encoder).forward_maps(seen)
            painted = F.pixel_shuffle(self.decoder(maps), self.stride)[..., :height, :width]
            shown = maps.mean((2, 3))
        else:
            shown = self._features(seen)
            painted = self.decoder(shown).view_as(pictures)
        weights = hidden / hidden.sum((1, 2, 3), keepdim=True) / pictures.shape[1]
        loss = ((painted - pictures).square() * weights).sum((1, 2, 3))
        naive = ((pictures - pictures.mean(0)).square() * weights).sum((1, 2, 3))
        return Lesson(loss, naive, self._kept(shown, pictures))

    def _hidden(self, rows: int, height: int, width: int, generator: torch.Generator | None) -> Tensor:
        """(B, 1, H, W) bool: of each picture so many squares, at least one unless it is none."""
        down, right = math.ceil(height / self.patch), math.ceil(width / self.patch)
        count = max(round(self.masked * down * right), 1) if self.masked else 0
        order = torch.rand(rows, down * right, generator=generator).argsort(1).argsort(1)
        squares = (order < count).view(rows, 1, down, right)
        wide = squares.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return wide[..., :height, :width]


class TwoViews(_Lesson):
    """Two random views of each picture; the network finds the other view of a picture among those of all in the batch.

    A view is a part of the picture, enlarged, turned, with another contrast and brightness. Larger batches are harder
    and teach more. A batch that passes in parts is as easy as its parts.

    Args:
        encoder: takes pictures (B, in_channels, H, W), standardised.
        temperature: by which similarities are divided.
        code_size: outputs of the two layers behind the features, whose directions are compared; thrown away afterwards.
        crop: the smallest part of a picture that a view shows, as a share of its area.
        turn: the largest rotation, in degrees.
        colour: the largest change of contrast and brightness.
        flip: whether half of the views are mirrored.

    >>> from sounding.networks import ResNet
    >>> network = TwoViews(ResNet(1, 1, picture_size=(8, 8)))
    >>> [tuple(part.shape) for part in network(torch.randn(5, 1, 8, 8))]
    [(5,), (5,), (5, 256)]
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        temperature: float = 0.2,
        code_size: int = 64,
        crop: float = 0.4,
        turn: float = 15.0,
        colour: float = 0.4,
        flip: bool = False,
    ) -> None:
        super().__init__(encoder)
        if temperature <= 0.0 or not 0.0 < crop <= 1.0:
            raise ValueError(f"temperature is {temperature} and crop {crop}; give more than 0, crop up to 1")
        self.temperature, self.crop, self.turn, self.colour, self.flip = temperature, crop, turn, colour, flip
        size = self.num_features
        self.projection = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, code_size))

    def forward(self, pictures: Tensor) -> Lesson:
        """(B, in_channels, H, W) float, of mean 0 and deviation 1 in each channel."""
        generator = self._generator()
        views = torch.cat([self.view(pictures, generator), self.view(pictures, generator)])
        shown = self._features(views)
        loss = nt_xent(*self.projection(shown).chunk(2), temperature=self.temperature)
        naive = torch.full_like(loss, math.log(max(2 * len(pictures) - 1, 1)))
        return Lesson(loss, naive, self._kept(shown[: len(pictures)], pictures))

    def view(self, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One view of each picture."""
        draws = torch.rand(7, len(pictures), generator=generator).to(pictures.device)
        side = (self.crop + (1 - self.crop) * draws[0]).sqrt()
        angle = math.radians(self.turn) * (2 * draws[1] - 1)
        mirror = torch.where(draws[6] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(side)
        across, down = ((1 - side) * (2 * place - 1) for place in draws[2:4])
        cosine, sine = side * angle.cos(), side * angle.sin()
        rows = [torch.stack([mirror * cosine, -sine, across], 1), torch.stack([mirror * sine, cosine, down], 1)]
        grid = F.affine_grid(torch.stack(rows, 1).to(pictures.dtype), list(pictures.shape), align_corners=False)
        seen = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        contrast, brightness = (1 + self.colour * (2 * draw - 1) for draw in draws[4:6])
        varied: Tensor = seen * contrast.view(-1, 1, 1, 1) + (brightness - 1).view(-1, 1, 1, 1)
        return varied


def nt_xent(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """(B,) the loss of finding, from each view of a row, the other among all 2 B - 1 others: cross-entropy of cosines.

    first, second: (B, size), the codes of two views.
    Source:        Chen et al. 2020, arXiv:2002.05709, equation 1; here the mean of the two directions, row by row.

    >>> nt_xent(torch.eye(2), torch.eye(2), temperature=1.0)
    tensor([0.5514, 0.5514])
    """
    rows = len(first)
    codes = F.normalize(torch.cat([first, second]), dim=1)
    cosines = codes @ codes.T / temperature
    cosines = cosines.masked_fill(torch.eye(2 * rows, dtype=torch.bool, device=codes.device), -torch.inf)
    other = torch.arange(2 * rows, device=codes.device).roll(rows)
    losses: Tensor = F.cross_entropy(cosines, other, reduction="none").view(2, rows).mean(0)
    return losses


LESSONS: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "table": {"masked": MaskedColumns, "denoising": partial(MaskedColumns, masked=0.1, noise=0.5)},
    "pictures": {
        "contrastive": TwoViews,
        "masked": MaskedPatches,
        "denoising": partial(MaskedPatches, masked=0.0, noise=0.5),
    },
}
"""For each form of input the lessons by name, the usual one first."""
