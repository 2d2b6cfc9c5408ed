"""How well anomalies are found, beside simple models on the same rows.

Each of six ADBench sets is fitted with nothing set but the seed and the share of test rows, in both ways in which
anomalies are met: known ones left out of training (`left out`), and among the training rows (`among`). Known anomalies
stay in the part into which they were drawn, so that both ways measure on the same rows. The isolation forest and PCA of
the runs see the encoded columns that the network sees; those called plain see standardised numbers.

The UCR series is fitted on its training points alone; found is whether the highest score of the test points lies in the
labelled stretch or within 100 points of it, as the archive asks.

    python -m benchmarks.anomaly [NAME ...] [--seeds 1 2 3] [--network NAME] [--data DIR]

DIR holds the public data sets (default: the environment variable SOUNDING_DATA); those that are absent are skipped by
name. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from sounding import fit

SETS = {
    "cardio": "6_cardio",
    "annthyroid": "2_annthyroid",
    "mammography": "23_mammography",
    "thyroid": "38_thyroid",
    "musk": "25_musk",
    "shuttle": "32_shuttle",
}
WAYS = {"left out": "leave_out", "among": "train"}
SERIES = "135_UCR_Anomaly_InternalBleeding16"
TEST = 0.3
PLAIN = {"task": "anomaly", "training.plan": "reference"}
"""The plan would be measured beside whatever else runs; it changes the time, not what is found."""
SLACK = 100
"""Points beside the labelled stretch that count as found."""

Scores = dict[str, tuple[float, float]]
"""ROC AUC and average precision by the name of a model."""


def measure(name: str, way: str, seed: int, data: Path, network: str) -> tuple[Scores, float]:
    """Every model on one split of one set, and the seconds of the fit."""
    with np.load(existing(data / "adbench-anomaly" / f"{SETS[name]}.npz")) as arrays:
        x, y = arrays["X"].astype(np.float64), arrays["y"].astype(np.int64).reshape(-1)
    table, train, test = divided(x, y, seed, leave_out=way == "left out")
    settings = {**PLAIN, "seed": seed, "anomaly.known": WAYS[way], "network.name": network}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = fit(table, "y", settings=settings, out=folder, say=None, progress=False)
        seconds = time.perf_counter() - started
        scores = {run.results["network"]: both(run.metrics["test"])}
        scores |= {model: both(run.results["baseline"][model]["test"]) for model in run.results["baseline"]}
    return scores | plain(x, y, train, test, seed), seconds


def divided(
    x: np.ndarray, y: np.ndarray, seed: int, *, leave_out: bool
) -> tuple[dict[str, pa.Table], np.ndarray, np.ndarray]:
    """The rows with a test part that is the same in both ways, and which rows of `x` are trained and measured on."""
    draw, classes = np.random.default_rng(seed), [np.flatnonzero(y == label) for label in (0, 1)]
    test = np.sort(np.concatenate([draw.permutation(rows)[: round(TEST * len(rows))] for rows in classes]))
    train = np.setdiff1d(np.arange(len(y)), test)
    if leave_out:
        train = train[y[train] == 0]
    order = np.concatenate([train, test])
    columns = {f"x{at}": column for at, column in enumerate(x[order].T)}
    parts = {"train": range(len(train)), "test": range(len(train), len(order))}
    data = pa.table({**columns, "y": y[order].astype(str)})
    return {name: data.slice(rows.start, len(rows)) for name, rows in parts.items()}, train, test


def both(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["roc_auc"], metrics["average_precision"]


def plain(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> Scores:
    """Isolation forest and PCA, with half and with nine tenths of the variance, on standardised numbers."""
    deviation = x[train].std(0)
    rows = (x - x[train].mean(0))[:, deviation > 0] / deviation[deviation > 0]
    scores = {"plain isolation forest": -IsolationForest(random_state=seed).fit(rows[train]).score_samples(rows[test])}
    for kept in (0.5, 0.9):
        model = PCA(kept, svd_solver="full").fit(rows[train])
        error = rows[test] - model.inverse_transform(model.transform(rows[test]))
        scores[f"plain PCA, {kept:.0%}"] = np.square(error).sum(1)
    return {
        model: (float(roc_auc_score(y[test], score)), float(average_precision_score(y[test], score)))
        for model, score in scores.items()
    }


def series(seed: int, data: Path, window: int) -> dict[str, Any]:
    """Whether the labelled stretch of the UCR series is found."""
    settings = {**PLAIN, "seed": seed, "data.window": window, "data.ignore": ["timestamp", "is_anomaly"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("TRAIN", "TEST"):
            packed = existing(data / "uea-ucr-timeseries" / f"{SERIES}_{part}.csv.gz")
            (folder / f"{part}.csv").write_bytes(gzip.decompress(packed.read_bytes()))
        run = fit(folder / "TRAIN.csv", settings=settings, out=folder / "run", say=None, progress=False)
        scores = np.array(run.predict_table(folder / "TEST.csv")[0]["score"])
        labels = np.loadtxt(folder / "TEST.csv", delimiter=",", skiprows=1)[:, 2] > 0
    stretch, highest = np.flatnonzero(labels), int(scores.argmax())
    away = max(stretch[0] - highest, highest - stretch[-1], 0)
    return {"seed": seed, "window": window, "highest": highest, "away": int(away), "found": bool(away <= SLACK)}


def existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(path)
    return path


def table_of(results: list[dict[str, Any]], way: str, models: list[str]) -> list[str]:
    """The lines of a table: a set each, and their mean, of ROC AUC / average precision over the seeds."""
    names = list(dict.fromkeys(row["set"] for row in results if row["way"] == way))
    lines = [f"| {way} | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"]
    means = np.array(
        [
            [np.mean([row["scores"][model] for row in results if (row["set"], row["way"]) == (name, way)], 0)]
            for name in names
            for model in models
        ]
    ).reshape(len(names), len(models), 2)
    for name, cells in [*zip(names, means, strict=True), ("**mean**", means.mean(0))]:
        lines.append(f"| {name} | " + " | ".join(f"{roc:.3f} / {precision:.3f}" for roc, precision in cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="sets, or series; all when none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--windows", type=int, nargs="+", default=[50, 100, 150])
    parser.add_argument("--network", default="auto")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOUNDING_DATA", "data")))
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in options.names or [*SETS, "series"]:
        try:
            if name == "series":
                found = [series(seed, options.data, window) for seed in options.seeds for window in options.windows]
                results += [{"set": "series", **one} for one in found]
                print(f"series: found in {sum(one['found'] for one in found)} of {len(found)}: {found}", flush=True)
                continue
            for way in WAYS:
                for seed in options.seeds:
                    scores, seconds = measure(name, way, seed, options.data, options.network)
                    results.append({"set": name, "way": way, "seed": seed, "scores": scores, "seconds": seconds})
                    rounded = {model: f"{roc:.3f} {precision:.3f}" for model, (roc, precision) in scores.items()}
                    print(f"   {name}, {way}, {seed}: {rounded} {seconds:.0f} s", file=sys.stderr, flush=True)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error.filename or error} is absent", flush=True)
    tables = [row for row in results if "way" in row]
    if tables:
        models = list(tables[0]["scores"])
        for way in WAYS:
            print("\n".join(table_of(tables, way, models)), flush=True)
        print(f"seconds of a fit, mean: {mean(row['seconds'] for row in tables):.0f}", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
