"""Seconds until the test rows are predicted well enough: `sounding fit`, a loop by hand, and the peers.

    python -m benchmarks.time_to_accuracy [NAME ...] [--rounds 3] [--contenders x,y] [--peers-python PATH] [--data DIR]

Everything counts, from starting Python to the end. `sounding fit` reads the raw files, prepares them, trains, compares
with simple models and writes its report; it is given nothing but the file, or a budget (`--time`): the smallest of some
with which it gets there. The others get arrays that are ready (scaled, words as columns), a network of the usual size,
AdamW at 1e-3, look at the test rows after each epoch, and stop as soon as they are good enough.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.defaults import WORKLOADS as FILES
from benchmarks.speed.__main__ import ROOT, names_of, run
from benchmarks.speed.contenders import CONTENDERS, Job, Predict
from benchmarks.speed.workloads import Array, Arrays, Workload, read_idx

NAMES = ["pytorch-resident", "lightning", "skorch", "keras-torch", "keras-jax"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached on which data."""

    metric: str
    value: float
    arrays: Callable[[Path], Arrays]
    """The training rows, and as held-out ones the test rows."""
    batch_size: int
    epochs: int
    """After which a contender gives up."""
    budgets: tuple[int, ...]
    """Seconds that `sounding fit --time` is given, the least first."""


class Reached(Exception):  # noqa: N818  (nothing went wrong)
    """The goal is reached: training may end."""


def fashion(data: Path) -> Arrays:
    """Fashion-MNIST with mean 0 and deviation 1."""
    folder = data / "fashion-mnist"
    x, test = (
        read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:, None].astype(np.float32) for part in ("train", "t10k")
    )
    y, truth = (read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64) for part in ("train", "t10k"))
    return Arrays((x - x.mean()) / x.std(), y, (test - x.mean()) / x.std(), truth)


def digits(data: Path) -> Arrays:
    """A tenth of scikit-learn's digits for testing, as `sounding fit` takes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    x, test, y, truth = train_test_split(x, y.astype(np.int64), test_size=0.1, stratify=y, random_state=0)
    return Arrays(x, y, test, truth)


def adult(data: Path) -> Arrays:
    """The census: numbers scaled, words as columns of 0 and 1."""
    import pandas
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    with tempfile.TemporaryDirectory() as folder:
        workload = next(workload for workload in FILES if workload.name == "adult")
        workload.arguments(data, Path(folder))
        train, test = (pandas.read_csv(Path(folder) / f"{part}.csv") for part in ("train", "test"))
    numbers = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
    words = [name for name in train if name not in (*numbers, "income")]
    prepared = make_column_transformer(
        (StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words)
    )
    x, held_out = prepared.fit_transform(train).astype(np.float32), prepared.transform(test).astype(np.float32)
    y, truth = ((table["income"] == ">50K").to_numpy().astype(np.int64) for table in (train, test))
    return Arrays(x, y, held_out, truth)


GOALS = {
    "fashion-mnist": Goal("accuracy", 0.92, fashion, 128, 30, (45, 60, 90, 120, 180)),
    "digits": Goal("accuracy", 0.98, digits, 32, 100, (3, 5, 10)),
    "adult": Goal("roc_auc", 0.92, adult, 256, 40, (3, 5, 10, 20)),
}


def score(metric: str, outputs: Array, truth: Array) -> float:
    """Accuracy, or the area under the ROC curve of two classes."""
    if metric == "accuracy":
        return float((outputs.argmax(1) == truth).mean())
    from scipy.stats import rankdata

    ranks, ones = rankdata(outputs[:, 1] - outputs[:, 0]), int(truth.sum())
    return float((ranks[truth == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(truth) - ones)))


def work(name: str, contender: str, data: str, seed: int, started: float) -> dict[str, Any]:
    """Train until the goal is reached; for a process of its own."""
    goal, who = GOALS[name], CONTENDERS[contender]
    os.environ.update(who.environment)
    module = import_module(f"benchmarks.speed.contenders.{who.module}")
    arrays = Arrays(*(np.load(Path(data) / f"{part}.npy") for part in Arrays.__dataclass_fields__))
    scores: list[float] = []

    def look(predict: Predict) -> None:
        scores.append(score(goal.metric, predict(arrays.held_out_x), arrays.held_out_y))
        if scores[-1] >= goal.value:
            raise Reached

    workload = Workload(name, name, lambda *_: arrays, goal.batch_size, -(-len(arrays.x) // goal.batch_size), 0, 0)
    train = module.prepare(Job(workload, arrays, goal.epochs, seed, look), **who.options)
    with contextlib.suppress(Reached):
        train()
    return {"seconds": time.monotonic() - started, "score": max(scores), "reached": scores[-1] >= goal.value}


def fit(name: str, data: Path, folder: Path, seed: int, words: Sequence[str]) -> dict[str, Any]:
    """`sounding fit` on the raw files."""
    goal = GOALS[name]
    workload = next(workload for workload in FILES if workload.name == name)
    source = workload.arguments(data, folder)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        environment.update(PYTHONPATH=str(ROOT / "src"), SOUNDING_CACHE=cache)
        command = [sys.executable, "-m", "sounding", "fit", *source, "--seed", str(seed), "--json", "--quiet", *words]
        done = subprocess.run(
            [*command, "--out", str(Path(cache) / "run")], check=True, capture_output=True, text=True, env=environment
        )
    found = json.loads(done.stdout.splitlines()[-1])["metrics"]["test"][goal.metric]
    return {"seconds": time.monotonic() - began, "score": found, "reached": found >= goal.value}


def peer(name: str, contender: str, folder: Path, seed: int, python: str) -> dict[str, Any]:
    """One of the others, in a process and an environment of its own."""
    job = {"name": name, "contender": contender, "data": str(folder), "seed": seed, "started": time.monotonic()}
    with tempfile.TemporaryDirectory() as cache:
        chosen = python if CONTENDERS[contender].peer else sys.executable
        return run(chosen, "benchmarks.time_to_accuracy", "--work", json.dumps(job), cache=cache, threads=0)


def measure(name: str, contenders: list[str], rounds: int, data: Path, python: str) -> list[dict[str, Any]]:
    """All contenders in turns; the budgets of `--time` from the least, until one is enough in every round."""
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arrays = GOALS[name].arrays(data)
        for part in Arrays.__dataclass_fields__:
            np.save(folder / f"{part}.npy", getattr(arrays, part))
        for seed in range(rounds):
            for contender in contenders:
                found = peer(name, contender, folder, seed, python)
                lines.append({"name": name, "contender": contender, "seed": seed, **found})
                print(lines[-1], file=sys.stderr, flush=True)
            lines.append({"name": name, "contender": "sounding fit", "seed": seed, **fit(name, data, folder, seed, [])})
            print(lines[-1], file=sys.stderr, flush=True)
        for budget in GOALS[name].budgets:
            words = ["--time", f"{budget}s"]
            for seed in range(rounds):
                found = fit(name, data, folder, seed, words)
                lines.append({"name": name, "contender": f"sounding fit {' '.join(words)}", "seed": seed, **found})
                print(lines[-1], file=sys.stderr, flush=True)
                if not found["reached"]:
                    break
            else:
                break
    return lines


def report(lines: list[dict[str, Any]]) -> str:
    """A table: medians of the seconds, and each score."""
    text = ["| data, goal | who | reached | seconds, median (each) | scores |", "|---|---|---|---|---|"]
    for name, who in dict.fromkeys((line["name"], line["contender"]) for line in lines):
        goal, runs = GOALS[name], [line for line in lines if (line["name"], line["contender"]) == (name, who)]
        if errors := [line["error"] for line in runs if "error" in line]:
            text.append(f"| {name} | {who} | not run: {errors[0]} | | |")
            continue
        each, scores = (
            "; ".join(f"{line[key]:{form}}" for line in runs) for key, form in (("seconds", ".1f"), ("score", ".4f"))
        )
        text.append(
            f"| {name}, {goal.metric} {goal.value} | {who} | {sum(line['reached'] for line in runs)} of {len(runs)} | "
            f"{median(line['seconds'] for line in runs):.1f} ({each}) | "
            f"{scores} |"
        )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(GOALS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", type=names_of(CONTENDERS), default=NAMES)
    parser.add_argument("--peers-python", default=os.environ.get("SOUNDING_PEERS_PYTHON", sys.executable))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOUNDING_DATA", "data")))
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(**options.work)))
        return
    lines = []
    for name in options.names:
        lines += measure(name, options.contenders, options.rounds, options.data, options.peers_python)
    print(report(lines))
    print(json.dumps(lines))


if __name__ == "__main__":
    main()
