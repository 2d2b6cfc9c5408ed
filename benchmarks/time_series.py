"""How well series are classified, beside nearest neighbours and random convolutions on the same rows.

Five sets of the UEA and UCR archives, each with the archive's own training and test files and nothing set but the seed.

    python -m benchmarks.time_series [NAME ...] [--seeds 1 2 3] [--network NAME] [--set KEY=VALUE ...] [--data DIR]

DIR holds the public data sets (default: the environment variable SOUNDING_DATA); those that are absent are skipped by
name. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from sounding import fit
from sounding.recipe import parse_setting

FLOORS = {"JapaneseVowels": 0.97, "BasicMotions": 1.0, "GunPoint": 0.98, "ItalyPowerDemand": 0.96, "ArrowHead": 0.82}
"""By set, the test accuracy that is asked for."""
PLAIN = {"training.plan": "reference", "training.watch": False}
"""The plan would be measured beside whatever else runs; it changes the time, not what is found."""


def measure(name: str, seed: int, settings: dict[str, Any], data: Path) -> dict[str, Any]:
    """Test accuracy of the network and of each simple model, and the seconds of the fit."""
    train, test = (data / "uea-ucr-timeseries" / f"{name}_{part}.ts.gz" for part in ("TRAIN", "TEST"))
    if not train.is_file():
        raise FileNotFoundError(train)
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = fit(train, test=test, settings={**PLAIN, "seed": seed, **settings}, out=folder, say=None, progress=False)
        baseline = {model: scores["test"]["accuracy"] for model, scores in run.results["baseline"].items()}
    return {
        "set": name,
        "seed": seed,
        "network": run.results["network"],
        "accuracy": run.metrics["test"]["accuracy"],
        "baseline": baseline,
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }


def table_of(results: list[dict[str, Any]]) -> list[str]:
    """The lines of a table: of each set the mean over seeds, that of each model, and the floor."""
    models = list(results[0]["baseline"])
    lines = [f"| test accuracy | {results[0]['network']} | {' | '.join(models)} | floor | CPU s |"]
    lines.append("|---" * (len(models) + 4) + "|")
    for name in dict.fromkeys(row["set"] for row in results):
        rows = [row for row in results if row["set"] == name]
        each = ", ".join(f"{row['accuracy']:.3f}" for row in rows)
        simple = " | ".join(f"{mean(row['baseline'][model] for row in rows):.3f}" for model in models)
        lines.append(
            f"| {name} | {mean(row['accuracy'] for row in rows):.3f} ({each}) | {simple} | {FLOORS[name]} | "
            f"{mean(row['cpu'] for row in rows):.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="sets; all when none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--network", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOUNDING_DATA", "data")))
    options = parser.parse_args()
    settings = {"network.name": options.network, **dict(parse_setting(text) for text in options.set)}
    results = []
    for name in options.names or FLOORS:
        try:
            results += [measure(name, seed, settings, options.data) for seed in options.seeds]
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error} is absent", flush=True)
    if results:
        print("\n".join(table_of(results)), flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
