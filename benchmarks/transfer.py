"""How few labels an encoder needs that learned before: accuracy by the number of labels, beside training anew.

    python -m benchmarks.transfer [--ways NAME ...] [--sizes 5 20 100] [--draws 3] [--runs DIR] [--results FILE]
                                  [--figure FILE]

The encoder learns on pictures of eight of the ten classes of Fashion-MNIST: `labels` from their labels, `views` without
them, from two views of each. Then it is told 5, 20 or 100 labels a class of other things: of the two classes that it
never saw, and of handwritten digits, which are another kind of picture and of another size. Every training is a
`sounding fit` with its defaults, on one thread; the same draw of the labels serves every way. Each is one line of the
results file; what is in it already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import learning_curve
from benchmarks.learning_curve import Line, medians
from sounding import fit
from sounding.data.sources import read_source
from sounding.recipe import DataRecipe

Pictures = tuple[np.ndarray, np.ndarray]
"""(N, height, width) uint8, and (N,) labels."""

NEW = ("Coat", "Shirt")
"""Classes of Fashion-MNIST that the encoder does not see: two that are hard to tell apart."""
BEFORE = 24_000
"""Pictures of the other classes from which it learns, and how often."""
PASSES = 4
TEST_DIGITS = 500
WAYS = {
    "scratch": "from scratch",
    "labels": "after eight other classes",
    "views": "after their pictures without labels",
}
COLOURS = ("#b35c1e", "#1f5fa8", "#3b8a4b")
DATA = {"fashion": f"{NEW[0]} or {NEW[1]}", "digits": "handwritten digits"}
SETTINGS: dict[str, Any] = {
    "network.name": "resnet",
    "network.options": {"stem_size": 16, "hidden_sizes": [32, 64, 128]},
    "training.threads": 1,
    "training.plan": "given",
    "evaluation.bootstrap": 10,
}


@dataclass(frozen=True)
class Measured:
    """One training."""

    data: str
    way: str
    size: int
    """Labels of each class."""
    draw: int
    accuracy: float
    """On the whole test part."""
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.data, self.way, self.size, self.draw


@cache
def read_pictures(name: str) -> dict[str, Pictures]:
    """The parts of a set of the catalogue; of one that has no test part, some rows are one."""
    table = read_source(f"@{name}", DataRecipe())
    (target,) = table.target
    (column,) = (name for name in table.columns if name != target)
    values = np.asarray(table.column(column, DataRecipe()).plain.to_numpy_ndarray())
    labels = np.array(table.data[target].to_pylist(), dtype=str)
    if "test" in table.parts:
        rows = {part: np.array(table.parts[part]) for part in ("train", "test")}
    else:
        order = np.random.default_rng(0).permutation(len(table))
        rows = {"test": order[:TEST_DIGITS], "train": order[TEST_DIGITS:]}
    return {part: (values[chosen], labels[chosen]) for part, chosen in rows.items()}


def parts(data: str) -> dict[str, Pictures]:
    """Train and test."""
    if data == "digits":
        return read_pictures("digits")
    every = read_pictures("fashion-mnist")
    return {
        part: (values[np.isin(labels, NEW)], labels[np.isin(labels, NEW)]) for part, (values, labels) in every.items()
    }


def drawn(pictures: Pictures, size: int, draw: int) -> Pictures:
    """So many pictures of each class; larger draws hold the smaller ones."""
    values, labels = pictures
    order = np.random.default_rng(draw).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == label][:size] for label in np.unique(labels)])
    return values[chosen], labels[chosen]


def before(way: str, runs: Path) -> Path:
    """The folder of the run that an encoder comes from; trained where it is not there yet."""
    folder = runs / way
    if not (folder / "results.json").is_file():
        values, labels = read_pictures("fashion-mnist")["train"]
        others = np.flatnonzero(~np.isin(labels, NEW))[:BEFORE]
        settings = {**SETTINGS, "training.epochs": PASSES, "training.watch": False}
        source: Any = (values[others], labels[others])
        if way == "views":
            settings |= {"task": "pretraining", "pretraining.method": "contrastive"}
            source = {"image": values[others]}
        fit(source, settings=settings, out=folder, progress=False)
    return folder


def measure(data: str, way: str, size: int, draw: int, runs: Path) -> Measured:
    """Train once."""
    settings = {**SETTINGS, "seed": draw}
    if way != "scratch":
        settings |= {"transfer.source": str(before(way, runs))}
    source, test = drawn(parts(data)["train"], size, draw), parts(data)["test"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = fit(source, test=test, settings=settings, out=Path(folder) / "run", say=None, progress=False)
        seconds = time.perf_counter() - started
        return Measured(data, way, size, draw, run.metrics["test"]["accuracy"], round(seconds, 1))


def read(file: Path) -> list[Measured]:
    """What was measured before."""
    return [Measured(**json.loads(line)) for line in file.read_text().splitlines()] if file.is_file() else []


def curves(results: Iterable[Measured], data: str) -> dict[str, Line]:
    """For each way the labels a class and the median accuracy over draws, by rising labels."""
    return medians(((one.way, one.size, one.accuracy) for one in results if one.data == data), WAYS)


def table(results: Sequence[Measured]) -> str:
    """A line for each of the data and each number of labels: the median, and each draw."""
    lines = [f"| data | labels a class | {' | '.join(WAYS.values())} |", "|---|---|" + "---|" * len(WAYS)]
    for data in DATA:
        for size in sorted({one.size for one in results if one.data == data}):
            cells = []
            for way in WAYS:
                found = [one.accuracy for one in results if (one.data, one.size, one.way) == (data, size, way)]
                each = ", ".join(f"{accuracy:.3f}" for accuracy in found)
                cells.append(f"**{median(found):.3f}** ({each})" if found else "-")
            lines.append(f"| {DATA[data]} | {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(results: Sequence[Measured]) -> str:
    """A panel for each of the data."""
    return learning_curve.figure(
        {words: lines for data, words in DATA.items() if (lines := curves(results, data))},
        named=WAYS,
        colours=COLOURS,
        labels="labels of each class",
        title="Accuracy on the test part by the number of labels: medians over draws of the labels",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer"), help="where encoders are kept")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/transfer.jsonl"))
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/transfer.svg"))
    options = parser.parse_args()
    results = read(options.results)
    known = {one.key for one in results}
    for draw in range(options.draws):
        for size in options.sizes:
            for data in DATA:
                for way in options.ways:
                    if (data, way, size, draw) in known:
                        continue
                    one = measure(data, way, size, draw, options.runs)
                    with options.results.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                    results.append(one)
                    print("   ", one, file=sys.stderr, flush=True)
    options.figure.write_text(figure(results))
    print(table(results))
    print(json.dumps([asdict(one) for one in results]))


if __name__ == "__main__":
    main()
