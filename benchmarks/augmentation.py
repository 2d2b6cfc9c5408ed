"""What augmentation gains, at equal epochs: photographs with it and without, and clothes of which few are labelled.

The test rows are those that the sets bring. `--rows` takes so many training rows, every class in its share, so that
many seeds can be run in a short time; `--fashion` takes Fashion-MNIST in place of @cifar10-jpeg.

    python -m benchmarks.augmentation [--policies none default] [--seeds 0 1 2] [--rows 5000] [--epochs 10]
    python -m benchmarks.augmentation --policies default --time 40m --epochs 60
    python -m benchmarks.augmentation --fashion --rows 6000 --policies none default strong

SOUNDING_DATA names the folder of the public data sets. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sounding import fit
from sounding.data.sources import read_source
from sounding.data.table import Table
from sounding.recipe import DataRecipe, parse_duration, parse_setting

PLAN = {"training.precision": "bfloat16", "training.channels_last": True, "training.threads": 1}
"""The plan would be measured beside whatever else runs."""


def parts(table: Table) -> dict[str, Any]:
    """The two parts, as `fit` takes them."""
    return {name: table.data.slice(rows.start, len(rows)) for name, rows in table.parts.items()}


def few_rows(table: Table, rows: int) -> Table:
    """The test part, and so many training rows: as many of each class, the first ones."""
    labels = np.asarray(table.data[table.target[0]].to_pylist())
    training, classes = np.array(table.parts["train"]), np.unique(labels)
    kept = np.zeros(len(table), dtype=bool)
    kept[table.parts["test"]] = True
    for name in classes:
        kept[training[labels[training] == name][: rows // len(classes)]] = True
    return table.filter(kept)


def measure(source: dict[str, Any], policy: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run: what it reached and what it took."""
    settings = {
        "target": ["label"],
        "seed": seed,
        "training.augment": policy,
        "evaluation.bootstrap": 200,
        **PLAN,
        **({"training.epochs": options.epochs} if options.epochs else {}),
        **({"training.time": parse_duration(options.time)} if options.time else {}),
        **dict(parse_setting(one) for one in options.set),
    }
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        run = fit(source, settings=settings, out=Path(folder) / "run", say=None, progress=False)
        results = run.results
        found = {
            "policy": policy,
            "seed": seed,
            "rows": results["data"]["rows"]["train"],
            "epochs": results["epochs"],
            "accuracy": results["metrics"]["test"]["accuracy"],
            "train_loss": round(results["history"][-1]["train_loss"], 3),
            "parameters": results["parameters"],
            "seconds": round(time.perf_counter() - started),
            "processor_seconds": round(time.process_time() - used),
        }
    print(found, flush=True)
    return found


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=["none", "default"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--time", default="")
    parser.add_argument("--fashion", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    table = read_source("@fashion-mnist" if options.fashion else "@cifar10-jpeg", DataRecipe())
    table = few_rows(table, options.rows) if options.rows else table
    source = parts(table)
    found = [measure(source, policy, seed, options) for policy in options.policies for seed in options.seeds]
    for policy in options.policies:
        reached = sorted(one["accuracy"] for one in found if one["policy"] == policy)
        print(f"{policy}: {np.median(reached):.4f} ({', '.join(f'{one:.4f}' for one in reached)})")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
