"""How good the defaults are: nothing is set but target, test file and seed.

Each data set is written to plain files, `sounding fit ... --json` runs on them in a process of its own, and the
table shows the median over seeds next to the simple models of the same run and the figures published elsewhere.

    python -m benchmarks.defaults [NAME ...] [--seeds 0 1 2] [--data DIR]

DIR holds the public data sets (default: the environment variable SOUNDING_DATA); those that are absent are skipped by
name. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

ADULT = (
    "age workclass fnlwgt education education_num marital_status occupation relationship race sex "
    "capital_gain capital_loss hours_per_week native_country income"
).split()

Files = list[str]
"""The words after `sounding fit`."""


class Workload(NamedTuple):
    """One line of the table."""

    name: str
    arguments: Callable[[Path, Path], Files]
    """From the folder of the data and a folder to write to, the words after `sounding fit`."""
    metrics: tuple[str, ...]
    floors: tuple[float, ...]
    minutes: float
    reference: str
    """Measured elsewhere on the same test rows."""


def adult(data: Path, folder: Path) -> Files:
    for part in ("train", "test"):
        with gzip.open(data / "adult" / f"adult-{part}.csv.gz", "rt") as file:
            rows = [[cell.strip().rstrip(".") for cell in row] for row in csv.reader(file) if len(row) == 15]
        write_csv(folder / f"{part}.csv", ADULT, rows)
    return [str(folder / "train.csv"), "--target", "income", "--test", str(folder / "test.csv")]


def california_housing(data: Path, folder: Path) -> Files:
    with tarfile.open(data / "california-housing" / "housing.tgz") as archive:
        (name,) = (name for name in archive.getnames() if name.endswith("housing.csv"))
        member = archive.extractfile(name)
        assert member is not None
        header, *rows = csv.reader(io.TextIOWrapper(member))
    order = np.random.default_rng(42).permutation(len(rows))
    fifth = len(rows) // 5
    write_csv(folder / "test.csv", header, (rows[i] for i in order[:fifth]))
    write_csv(folder / "train.csv", header, (rows[i] for i in order[fifth:]))
    return [str(folder / "train.csv"), "--target", "median_house_value", "--test", str(folder / "test.csv")]


def fashion_mnist(data: Path, folder: Path) -> Files:
    return [str(existing(data / "fashion-mnist"))]


def sst2(data: Path, folder: Path) -> Files:
    for part in ("train", "test"):
        with gzip.open(data / "sst2" / f"{part}.tsv.gz", "rt", encoding="utf-8") as file:
            rows = [line.rstrip("\n").rsplit("\t", 1) for line in file]
        write_csv(folder / f"{part}.csv", ["sentence", "sentiment"], rows)
    return [str(folder / "train.csv"), "--target", "sentiment", "--test", str(folder / "test.csv")]


def trec(data: Path, folder: Path) -> Files:
    for part in ("train", "test"):
        lines = (data / "trec" / f"TREC.{part}").read_text(encoding="latin-1").splitlines()
        pairs = (line.split(" ", 1) for line in lines)
        write_csv(folder / f"{part}.csv", ["question", "kind"], ([text, label.split(":")[0]] for label, text in pairs))
    return [str(folder / "train.csv"), "--target", "kind", "--test", str(folder / "test.csv")]


def banking77(data: Path, folder: Path) -> Files:
    for part in ("train", "test"):
        with gzip.open(data / "banking77" / f"{part}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        write_csv(folder / f"{part}.csv", header, rows)
    return [str(folder / "train.csv"), "--target", "category", "--test", str(folder / "test.csv")]


def catalogue(name: str) -> Callable[[Path, Path], Files]:
    return lambda data, folder: [name]


WORKLOADS = [
    Workload(
        "adult", adult, ("accuracy", "roc_auc"), (0.864, 0.918), 4, "trees 0.8725 / 0.9268; AutoGluon 0.8737 / 0.9274"
    ),
    Workload("california-housing", california_housing, ("rmse",), (48_500,), 4, "trees 45,493; AutoGluon 43,250"),
    Workload("fashion-mnist", fashion_mnist, ("accuracy",), (0.925,), 12, "forest 0.877"),
    Workload("digits", catalogue("@digits"), ("accuracy",), (0.985,), 1, ""),
    Workload("sst2", sst2, ("accuracy",), (0.80,), 4, "TF-IDF 0.813"),
    Workload("trec", trec, ("accuracy",), (0.885,), 3, "TF-IDF 0.910"),
    Workload("banking77", banking77, ("accuracy",), (0.85,), 4, "TF-IDF 0.869"),
    Workload("breast-cancer", catalogue("@breast-cancer"), ("accuracy",), (), 0.5, ""),
    Workload("wine", catalogue("@wine"), ("accuracy",), (), 0.5, ""),
    Workload("diabetes", catalogue("@diabetes"), ("rmse",), (), 0.5, ""),
]


def existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(path)
    return path


def write_csv(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def measure(workload: Workload, data: Path, seeds: list[int]) -> dict[str, Any]:
    """Run one workload for each seed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = workload.arguments(data, folder)
        runs = []
        for seed in seeds:
            command = [sys.executable, "-m", "sounding", "fit", *words, "--seed", str(seed), "--json", "--quiet"]
            started = time.perf_counter()
            done = subprocess.run(
                [*command, "--out", str(folder / f"run-{seed}")], check=True, stdout=subprocess.PIPE, text=True
            )
            result = json.loads(done.stdout.splitlines()[-1])
            runs.append({**result, "wall": time.perf_counter() - started})
            print(
                "   ",
                workload.name,
                seed,
                {m: round(result["metrics"]["test"][m], 4) for m in workload.metrics},
                f"{runs[-1]['wall']:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    baselines = {
        name: [round(median(run["baseline"][name]["test"][metric] for run in runs), 4) for metric in workload.metrics]
        for name in runs[0]["baseline"]
        if all(metric in runs[0]["baseline"][name]["test"] for metric in workload.metrics)
    }
    return {
        "name": workload.name,
        "metrics": list(workload.metrics),
        "network": runs[0]["network"],
        "median": [round(median(run["metrics"]["test"][m] for run in runs), 4) for m in workload.metrics],
        "seeds": [[round(run["metrics"]["test"][m], 4) for m in workload.metrics] for run in runs],
        "floor": list(workload.floors),
        "baselines": baselines,
        "seconds": round(median(run["wall"] for run in runs), 1),
        "limit": workload.minutes * 60,
        "reference": workload.reference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads; all when none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOUNDING_DATA", "data")))
    options = parser.parse_args()
    rows = []
    print("| data | metric | network, median (each seed) | floor | simple models, same run | elsewhere | s (limit) |")
    print("|---|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        if options.names and workload.name not in options.names:
            continue
        try:
            row = measure(workload, options.data, options.seeds)
        except FileNotFoundError as error:
            print(f"| {workload.name} | skipped: {error.filename or error} is absent | | | | | |")
            continue
        rows.append(row)
        seeds = "; ".join(" / ".join(map(str, seed)) for seed in row["seeds"])
        simple = "; ".join(f"{name} {' / '.join(map(str, values))}" for name, values in row["baselines"].items())
        print(
            f"| {row['name']} | {' / '.join(row['metrics'])} | {row['network']} {' / '.join(map(str, row['median']))} "
            f"({seeds}) | {' / '.join(map(str, row['floor'])) or 'the linear model'} | {simple} | {row['reference']} | "
            f"{row['seconds']} ({row['limit']:.0f}) |",
            flush=True,
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
