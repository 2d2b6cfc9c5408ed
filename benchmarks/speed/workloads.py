"""The eight workloads: data, batch size and epochs. No PyTorch here: one contender has to do without it.

Every number of training rows is a multiple of the batch size, so that nobody pays for compiling a second shape. Data
are drawn or read once and written as .npy files; all contenders read those.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LEARNING_RATE = 1e-3
"""Of AdamW, everywhere. Its weight decay is 0: which parameters are decayed differs from framework to framework."""
SEQUENCE = 64
"""Characters that a language model reads at once."""
VOCABULARY = 65
ADULT_COLUMNS = 108
"""Of the census as numbers: 6 standardised ones, and one for each word of the other columns."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """What all contenders are given."""

    x: Array
    y: Array
    held_out_x: Array
    held_out_y: Array


@dataclass(frozen=True, slots=True)
class Workload:
    """A network, data and how long to train."""

    name: str
    title: str
    data: Callable[[Path | None, int, int], Arrays]
    """From the folder of the public data sets, if any, and the numbers of training and held-out rows."""
    batch_size: int
    batches: int
    """In an epoch."""
    epochs: int
    """So many that the loop written by hand takes 10 to 20 s on two cores."""
    held_out: int
    loss: str = "cross_entropy"
    """A name from `networks.LOSSES`."""

    @property
    def rows(self) -> int:
        return self.batch_size * self.batches


def table(data: Path | None, rows: int, held_out: int) -> Arrays:
    """14 numbers and two classes, drawn by a small random network with noise."""
    rng = np.random.default_rng(14)
    x = rng.standard_normal((rows + held_out, 14), dtype=np.float32)
    hidden = np.maximum(x @ rng.standard_normal((14, 32), dtype=np.float32), 0)
    score = hidden @ rng.standard_normal(32, dtype=np.float32)
    noise = rng.standard_normal(len(x), dtype=np.float32) * score.std() / 2
    return halves(x, (score + noise > np.median(score)).astype(np.int64), rows)


def fashion(data: Path | None, rows: int, held_out: int) -> Arrays:
    """Fashion-MNIST: (N, 1, 28, 28) with mean 0 and deviation 1; where it is absent, ten patterns in noise."""
    folder = data / "fashion-mnist" if data is not None else Path()
    if data is not None and folder.exists():
        x = read_idx(folder / "train-images-idx3-ubyte.gz")[: rows + held_out, None].astype(np.float32)
        y = read_idx(folder / "train-labels-idx1-ubyte.gz")[: rows + held_out].astype(np.int64)
        return halves((x - x[:rows].mean()) / x[:rows].std(), y, rows)
    return patterns(rows, held_out, channels=1, side=28)


def fashion_rows(data: Path | None, rows: int, held_out: int) -> Arrays:
    """The same pictures as rows of 784 numbers in [0, 1], which are their own target."""
    pictures = fashion(data, rows, held_out)
    low, high = pictures.x.min(), pictures.x.max()
    train, rest = ((x.reshape(len(x), 784) - low) / (high - low) for x in (pictures.x, pictures.held_out_x))
    return Arrays(train, train, rest, rest)


def cifar(data: Path | None, rows: int, held_out: int) -> Arrays:
    """CIFAR-10: (N, 3, 32, 32) with mean 0 and deviation 1; where it is absent, ten patterns in noise."""
    path = data / "cifar10-jpeg" / "cifar10-jpeg.tar.gz" if data is not None else Path()
    if data is None or not path.exists():
        return patterns(rows, held_out, channels=3, side=32)
    from PIL import Image

    pictures, classes = list[Array](), list[str]()
    each = -(-(rows + held_out) // 10)
    with tarfile.open(path) as archive:
        for member in archive:
            parts = member.name.split("/")
            if parts[0] != "train" or not member.isfile() or classes.count(parts[1]) == each:
                continue
            file = archive.extractfile(member)
            assert file is not None
            with Image.open(io.BytesIO(file.read())) as picture:
                pictures.append(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
            classes.append(parts[1])
    _, y = np.unique(classes, return_inverse=True)
    order = np.random.default_rng(32).permutation(len(y))[: rows + held_out]
    x = np.stack(pictures)[order].astype(np.float32)
    x = (x - x[:rows].mean((0, 2, 3), keepdims=True)) / x[:rows].std((0, 2, 3), keepdims=True)
    return halves(x, y[order].astype(np.int64), rows)


def patterns(rows: int, held_out: int, *, channels: int, side: int) -> Arrays:
    """Ten smooth patterns, each picture one of them in noise."""
    rng = np.random.default_rng(side)
    coarse = rng.standard_normal((10, channels, side // 4, side // 4), dtype=np.float32)
    patterns = coarse.repeat(4, 2).repeat(4, 3)
    y = rng.integers(0, 10, rows + held_out)
    x = patterns[y] + 2 * rng.standard_normal((len(y), channels, side, side), dtype=np.float32)
    return halves(x, y, rows)


def characters(data: Path | None, rows: int, held_out: int) -> Arrays:
    """Sequences of characters (N, 64) and the ones that follow; where Shakespeare is absent, from a random chain."""
    path = data / "tinyshakespeare" / "input.txt" if data is not None else Path()
    needed = (rows + held_out) * SEQUENCE + 1
    if data is not None and path.exists():
        text = np.frombuffer(path.read_bytes(), np.uint8)
        _, codes = np.unique(text, return_inverse=True)
    else:
        rng = np.random.default_rng(SEQUENCE)
        follows = rng.integers(0, VOCABULARY, (VOCABULARY, 4))
        choices = rng.integers(0, 4, needed)
        codes = np.zeros(needed, np.int64)
        for at in range(1, needed):
            codes[at] = follows[codes[at - 1], choices[at]]
    codes = codes[:needed].astype(np.int64)
    x, y = codes[:-1].reshape(-1, SEQUENCE), codes[1:].reshape(-1, SEQUENCE)
    return Arrays(x[:rows], y[:rows], x[rows:], y[rows:])


def halves(x: Array, y: Array, rows: int) -> Arrays:
    return Arrays(x[:rows], y[:rows], x[rows:], y[rows:])


def read_idx(path: Path) -> Array:
    with gzip.open(path) as file:
        content = file.read()
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


WORKLOADS = {
    workload.name: workload
    for workload in [
        Workload("table-small", "small table network, 14-256-256-2", table, 256, 188, 50, 8192),
        Workload("table-wide", "wide table network, 14-1024-1024-2", table, 512, 94, 8, 8192),
        Workload("table-ensemble", "tabular ensemble, 8 members", table, 256, 94, 12, 8192, "members_cross_entropy"),
        Workload("conv-small", "two convolutions, Fashion-MNIST", fashion, 64, 314, 5, 4096),
        Workload("resnet", "ResNet, 32x32 pictures", cifar, 128, 40, 3, 1024),
        Workload("lstm", "LSTM language model", characters, 32, 128, 4, 512, "sequence_cross_entropy"),
        Workload("transformer", "transformer language model", characters, 32, 128, 4, 512, "sequence_cross_entropy"),
        Workload("autoencoder", "autoencoder, 784-256-32-256-784", fashion_rows, 128, 157, 30, 4096, "mse"),
    ]
}


def write(folder: Path, names: list[str], data: Path | None, batches: int = 0) -> None:
    """Write the arrays of workloads as .npy files; `batches` cuts them to so many, for a quick look."""
    for name in names:
        workload = WORKLOADS[name]
        cut = min(batches, workload.batches) if batches else workload.batches
        held_out = min(workload.held_out, 2 * workload.batch_size) if batches else workload.held_out
        arrays = workload.data(data, workload.batch_size * cut, held_out)
        (folder / name).mkdir(parents=True)
        for part in Arrays.__dataclass_fields__:
            np.save(folder / name / f"{part}.npy", np.ascontiguousarray(getattr(arrays, part)))


def read(folder: Path, name: str) -> Arrays:
    return Arrays(*(np.load(folder / name / f"{part}.npy") for part in Arrays.__dataclass_fields__))
