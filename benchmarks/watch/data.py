"""Data sets that need no download: scikit-learn's, and synthetic ones. Each is a function of a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to train on, and rows held out: inputs and targets."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor

    def with_training(self, x: Tensor, y: Tensor) -> Data:
        return replace(self, x=x, y=y)

    def with_inputs(self, change: Callable[[Tensor], Tensor]) -> Data:
        """Change training and held-out inputs alike."""
        return replace(self, x=change(self.x), held_x=change(self.held_x))

    def with_targets(self, change: Callable[[Tensor], Tensor]) -> Data:
        return replace(self, y=change(self.y), held_y=change(self.held_y))


Source = Callable[[int], Data]
Change = Callable[[Data, torch.Generator], Data]


@dataclass(frozen=True, slots=True)
class Changed:
    """A source with something done to its data."""

    source: Source
    changes: tuple[Change, ...]

    def __call__(self, seed: int) -> Data:
        data = self.source(seed)
        for change in self.changes:
            data = change(data, torch.Generator().manual_seed(seed + 1000))
        return data


def changed(source: Source, *changes: Change) -> Changed:
    return Changed(source, changes)


def split(x: Any, y: Any, seed: int, rows: int) -> Data:
    """`rows` of them, in random order, to train on; the others are held out."""
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = np.asarray(x, np.float32)[order], np.asarray(y)[order]
    y = y.astype(np.float32 if y.dtype.kind == "f" else np.int64)
    return Data(*(torch.from_numpy(part) for part in (x[:rows], y[:rows], x[rows:], y[rows:])))


def scaled(data: Data) -> Data:
    """Inputs with mean 0 and deviation 1, by what the training rows say."""
    mean, deviation = data.x.mean(0), data.x.std(0).clamp(min=1e-6)
    return data.with_inputs(lambda x: (x - mean) / deviation)


# Pictures.


@cache
def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def digits(seed: int, rows: int = 1200) -> Data:
    """Handwritten digits of 8 by 8 points: 1,797 pictures (N, 1, 8, 8) in [0, 1], ten classes."""
    x, y = _digits()
    return split(x.reshape(-1, 1, 8, 8) / 16, y, seed, rows)


def flat_digits(seed: int, rows: int = 1200) -> Data:
    return digits(seed, rows).with_inputs(lambda x: x.flatten(1))


def digit_rows(seed: int) -> Data:
    """Each digit as a sequence of its 8 rows: (N, 8, 8)."""
    return digits(seed).with_inputs(lambda x: x[:, 0])


def textures(seed: int, rows: int = 800, classes: int = 6, size: int = 12, noise: float = 1.8) -> Data:
    """Coloured gratings at one of some angles, with noise: (N, 3, size, size), about mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows + 600)
    angle = math.pi * (y + rng.uniform(-0.25, 0.25, len(y))) / classes
    across, down = np.meshgrid(np.arange(size), np.arange(size))
    frequency, phase = rng.uniform(0.8, 1.4, len(y)), rng.uniform(0, 2 * math.pi, len(y))
    along = np.cos(angle)[:, None, None] * across + np.sin(angle)[:, None, None] * down
    wave = np.sin(frequency[:, None, None] * along + phase[:, None, None])
    colour = rng.uniform(0.5, 1.5, (len(y), 3, 1, 1))
    x = colour * wave[:, None] + noise * rng.normal(size=(len(y), 3, size, size))
    return split(x, y, seed, rows)


# Tables.


def blobs(seed: int, rows: int = 700, centers: int = 3, features: int = 2, std: float = 2.0) -> Data:
    """Clouds of points, one for each class."""
    from sklearn.datasets import make_blobs

    x, y = make_blobs(rows + 300, features, centers=centers, cluster_std=std, random_state=7 + seed)
    return scaled(split(x, y, seed, rows))


def circles(seed: int, rows: int = 700) -> Data:
    from sklearn.datasets import make_circles

    return scaled(split(*make_circles(rows + 300, noise=0.1, factor=0.5, random_state=seed), seed, rows))


def moons(seed: int, rows: int = 700, noise: float = 0.2) -> Data:
    from sklearn.datasets import make_moons

    return scaled(split(*make_moons(rows + 300, noise=noise, random_state=seed), seed, rows))


def table(seed: int, rows: int = 900, classes: int = 4, features: int = 20) -> Data:
    """Several clouds to a class in a table of 20 columns, half of them of use."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        *(rows + 500, features),
        **{"n_informative": features // 2, "n_classes": classes, "class_sep": 1.6, "random_state": 5 + seed},
    )
    return scaled(split(x, y, seed, rows))


def cancer(seed: int) -> Data:
    from sklearn.datasets import load_breast_cancer

    return scaled(split(*load_breast_cancer(return_X_y=True), seed, 400))


def wine(seed: int) -> Data:
    from sklearn.datasets import load_wine

    return scaled(split(*load_wine(return_X_y=True), seed, 120))


UNITS = np.array([1.0, 40.0, 3000.0, 0.02, 7.0, 250.0, 15.0, 0.5, 1200.0, 90.0])
OFFSETS = np.array([4.0, 100.0, 2000.0, 0.1, 70.0, 900.0, 3.0, 1.0, 5000.0, 10.0])


def machines(seed: int, rows: int = 800, noise: float = 0.5) -> Data:
    """A regression table in raw units, as that of cars and their consumption: Friedman's first function (N, 1)."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(rows + 400, noise=noise, random_state=seed)
    return split(x * UNITS + OFFSETS, y[:, None], seed, rows)


def scaled_machines(seed: int, rows: int = 800, noise: float = 0.5) -> Data:
    """The same, inputs and targets with mean 0 and deviation 1."""
    data = scaled(machines(seed, rows, noise))
    mean, deviation = data.y.mean(), data.y.std()
    return data.with_targets(lambda y: (y - mean) / deviation)


def diabetes(seed: int) -> Data:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    data = scaled(split(x, y[:, None], seed, 330))
    mean, deviation = data.y.mean(), data.y.std()
    return data.with_targets(lambda y: (y - mean) / deviation)


def linear_table(seed: int, rows: int = 600) -> Data:
    from sklearn.datasets import make_regression

    x, y = make_regression(rows + 300, 12, n_informative=8, noise=10.0, random_state=seed)
    return scaled(split(x, y[:, None] / y.std(), seed, rows))


def waves(seed: int, rows: int = 600) -> Data:
    """One input, one target: a sine that grows."""
    x = np.random.default_rng(seed).uniform(-2, 2, (rows + 300, 1))
    return split(x, np.sin(3 * x) + 0.5 * x, seed, rows)


# Sequences.


def adding(seed: int, length: int = 20, rows: int = 1500) -> Data:
    """The sum of the two marked numbers of a sequence: (N, length, 2) to (N, 1)."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.uniform(0, 1, (rows + 400, length)), np.zeros((rows + 400, length))], -1)
    for row, half in enumerate(rng.integers(0, length // 2, (len(x), 2))):
        x[row, [half[0], half[1] + length // 2], 1] = 1
    return split(x, (x[..., 0] * x[..., 1]).sum(1, keepdims=True), seed, rows)


def signs(seed: int, length: int = 24, rows: int = 1000) -> Data:
    """Which of three rhythms a noisy series follows: (N, length, 1)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows + 400)
    beat = np.array([0.5, 0.9, 1.4])[y]
    x = np.sin(beat[:, None] * np.arange(length) + rng.uniform(0, 6, (len(y), 1))) + 0.5 * rng.normal(
        size=(len(y), length)
    )
    return split(x[..., None], y, seed, rows)


def first_word(seed: int, length: int = 60, rows: int = 1000) -> Data:
    """Which of four words stood first in a sequence of noise: (N, length, 4), far back at its end."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, rows + 400)
    x = 0.2 * rng.normal(size=(len(y), length, 4))
    x[np.arange(len(y)), 0, y] += 2
    return split(x, y, seed, rows)


WORDS = {
    "article": ["the ", "a "],
    "noun": ["ship ", "sea ", "lead ", "line ", "harbour ", "captain "],
    "verb": ["sounds ", "finds ", "leaves ", "marks "],
    "end": ["at dawn. ", "again. ", "in fog. ", "by night. "],
}
"""Sentences are article, noun, verb, article, noun, end."""
ALPHABET = sorted({letter for several in WORDS.values() for word in several for letter in word})


def text(seed: int, length: int = 24, rows: int = 700) -> Data:
    """Letters of sentences of a small grammar, and the letters that follow: both (N, length), numbers of letters."""
    rng = np.random.default_rng(seed)
    order = ["article", "noun", "verb", "article", "noun", "end"]
    letters = ""
    while len(letters) <= (rows + 200) * length:
        letters += "".join(WORDS[kind][rng.integers(len(WORDS[kind]))] for kind in order)
    numbers = torch.tensor([ALPHABET.index(letter) for letter in letters])
    pieces = numbers.unfold(0, length + 1, length)[: rows + 200]
    return Data(pieces[:rows, :-1], pieces[:rows, 1:], pieces[rows:, :-1], pieces[rows:, 1:])


def reversal(seed: int, length: int = 8, rows: int = 1500) -> Data:
    """Numbers below 8, to be told in reverse order: (N, length) to (N, length)."""
    x = torch.randint(8, (rows + 300, length), generator=torch.Generator().manual_seed(seed))
    return Data(x[:rows], x.flip(1)[:rows], x[rows:], x.flip(1)[rows:])


# What is done to data, by mistake or to harden a task.


def rescaled(factor: float) -> Change:
    return lambda data, _: data.with_inputs(lambda x: x * factor)


def shifted(offset: float) -> Change:
    return lambda data, _: data.with_inputs(lambda x: x + offset)


def shuffled_labels(data: Data, draw: torch.Generator) -> Data:
    """Only the inputs were shuffled."""
    return data.with_training(data.x[torch.randperm(len(data.x), generator=draw)], data.y)


def noisy_labels(share: float, classes: int) -> Change:
    """So many training labels are drawn at random."""

    def change(data: Data, draw: torch.Generator) -> Data:
        wrong = torch.rand(len(data.y), generator=draw) < share
        drawn = torch.randint(classes, data.y.shape, generator=draw)
        return data.with_training(data.x, torch.where(wrong, drawn, data.y))

    return change


def swapped_labels(first: int, second: int) -> Change:
    """All training rows of one class carry the label of another."""
    return lambda data, _: data.with_training(data.x, torch.where(data.y == first, second, data.y))


def rare(classes: tuple[int, ...], kept: int) -> Change:
    """Only so many training rows of each of these classes."""

    def change(data: Data, _: torch.Generator) -> Data:
        keep = torch.ones(len(data.y), dtype=torch.bool)
        for one in classes:
            keep[(data.y == one).nonzero()[kept:, 0]] = False
        return data.with_training(data.x[keep], data.y[keep])

    return change


def ordered(data: Data, _: torch.Generator) -> Data:
    """Training rows by class, or by target."""
    order = data.y.flatten().argsort(stable=True)
    return data.with_training(data.x[order], data.y[order])


def fewer(rows: int) -> Change:
    return lambda data, _: data.with_training(data.x[:rows], data.y[:rows])


def not_a_number(share: float) -> Change:
    """So many rows of the training inputs have a gap."""

    def change(data: Data, draw: torch.Generator) -> Data:
        x = data.x.clone()
        x.view(len(x), -1)[torch.rand(len(x), generator=draw) < share, 0] = math.nan
        return data.with_training(x, data.y)

    return change


def constant_inputs(data: Data, _: torch.Generator) -> Data:
    """Every row of training inputs is the first one, as a wrong index in a loader makes it."""
    return data.with_training(data.x[:1].expand_as(data.x).clone(), data.y)


def held_rows_among_training(data: Data, _: torch.Generator) -> Data:
    """What is held out was trained on."""
    return data.with_training(torch.cat([data.x, data.held_x]), torch.cat([data.y, data.held_y]))


def telling_column(data: Data, draw: torch.Generator) -> Data:
    """A column that is the label, in training; not known when the network is used."""
    y = data.y.float()
    told = y + 0.01 * torch.randn(y.shape, generator=draw)
    unknown = torch.randn(len(data.held_x), 1, generator=draw)
    return replace(data, x=torch.cat([data.x, told[:, None]], 1), held_x=torch.cat([data.held_x, unknown], 1))


def useless_column(data: Data, draw: torch.Generator) -> Data:
    """A column that has nothing to do with the label."""
    return data.with_inputs(lambda x: torch.cat([x, torch.randn(len(x), 1, generator=draw)], 1))


def binary(data: Data, _: torch.Generator) -> Data:
    """Classes 0 and above, as floats in a column: (N, 1)."""
    return data.with_targets(lambda y: (y > 0).float()[:, None])


def outlying_targets(data: Data, draw: torch.Generator) -> Data:
    """A few training targets lost their decimal point."""
    wrong = torch.rand(data.y.shape, generator=draw) < 0.03
    return data.with_training(data.x, torch.where(wrong, data.y * 100 + 100, data.y))


def in_float_columns(data: Data, _: torch.Generator) -> Data:
    """One-hot targets."""
    classes = int(data.y.max()) + 1
    return data.with_targets(lambda y: torch.nn.functional.one_hot(y, classes).float())


small_digits = partial(digits, rows=150)
