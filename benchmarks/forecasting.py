"""How far forecasts are off, beside naive ones and exponential smoothing on the same windows.

ETTh1 as papers split it: 12, 4 and 4 months of 30 days (rows 0 to 8,640, 11,520 and 14,400), all seven channels, the
next 96 hours from each hour on, mean squared error on data standardised by the training rows. Airline passengers: the
last 24 months, 12 ahead from each month on, and all 24 at once.

    python -m benchmarks.forecasting [etth1 airline ...] [--seeds 1 2 3] [--networks NAME ...] [--set KEY=VALUE ...]

DIR of `--data` holds the public data sets (default: the environment variable SOUNDING_DATA); those that are absent are
skipped by name. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from sounding import fit
from sounding.recipe import parse_setting

PLAIN = {"task": "forecasting", "training.plan": "reference"}
"""The plan would be measured beside whatever else runs; it changes the time, not what is found."""
MONTHS = 20 * 30 * 24
"""Rows of ETTh1 that are used."""
SETS: dict[str, dict[str, Any]] = {
    "etth1": {
        "target": ["*"],
        "data.time": "date",
        "forecasting.horizon": 96,
        "data.validation": 0.2,
        "data.test": 0.2,
    },
    "airline": {"target": ["Passengers"], "data.time": "Month", "forecasting.horizon": 12, "data.test": 24 / 144},
    "airline, 24 ahead": {
        "target": ["Passengers"],
        "data.time": "Month",
        "forecasting.horizon": 24,
        "data.test": 24 / 144,
    },
}
SHOWN = ("standardised_mse", "standardised_mae", "mase", "coverage")


def source(name: str, data: Path, folder: Path) -> Path:
    """The file to fit; of ETTh1 the first 20 months."""
    if name != "etth1":
        path = data / "airline-passengers" / "airline-passengers.csv"
        if not path.is_file():
            raise FileNotFoundError(path)
        return path
    lines = gzip.decompress((data / "ett" / "ETTh1.csv.gz").read_bytes()).decode().splitlines(keepends=True)
    path = folder / "ETTh1.csv"
    path.write_text("".join(lines[: MONTHS + 1]))
    return path


def measure(name: str, network: str, seed: int, settings: dict[str, Any], data: Path) -> dict[str, Any]:
    """Test metrics of the network and of each simple model, and the seconds of the fit."""
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        asked = {**PLAIN, **SETS[name], "seed": seed, "network.name": network, **settings}
        run = fit(source(name, data, folder), settings=asked, out=folder / "run", say=None, progress=False)
        baseline = {model: scores["test"] for model, scores in run.results["baseline"].items()}
        history = run.recipe.forecasting.history
    return {
        "set": name,
        "seed": seed,
        "network": run.results["network"],
        "history": history,
        "epochs": run.results["epochs"],
        "parameters": run.results["parameters"],
        "test": run.metrics["test"],
        "validation": run.metrics["validation"],
        "interval": run.results["intervals"]["test"].get("standardised_mse"),
        "baseline": baseline,
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }


def table_of(results: list[dict[str, Any]], name: str) -> list[str]:
    """The lines of a table: each network as a mean over seeds, then the simple models."""
    rows = [row for row in results if row["set"] == name]
    lines = [f"| {name} | {' | '.join(SHOWN)} | each seed's {SHOWN[0]} | CPU s |", "|---" * (len(SHOWN) + 3) + "|"]
    for network in dict.fromkeys(row["network"] for row in rows):
        of = [row for row in rows if row["network"] == network]
        means = " | ".join(f"{mean(row['test'][metric] for row in of):.3f}" for metric in SHOWN)
        each = ", ".join(f"{row['test'][SHOWN[0]]:.4f}" for row in of)
        lines.append(f"| {network} | {means} | {each} | {mean(row['cpu'] for row in of):.0f} |")
    for model, scores in rows[0]["baseline"].items():
        lines.append(f"| {model} | {' | '.join(f'{scores[metric]:.3f}' for metric in SHOWN)} | | |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="sets; all when none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--networks", nargs="+", default=["auto"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOUNDING_DATA", "data")))
    options = parser.parse_args()
    settings = dict(parse_setting(text) for text in options.set)
    results: list[dict[str, Any]] = []
    for name in options.names or SETS:
        try:
            for network in options.networks:
                for seed in options.seeds:
                    results.append(measure(name, network, seed, settings, options.data))
                    row = results[-1]
                    test, validation = (row[part][SHOWN[0]] for part in ("test", "validation"))
                    told = f"{test:.4f}, validation {validation:.4f}, {row['epochs']} epochs, {row['cpu']:.0f} s CPU"
                    print(f"   {name}, {row['network']}, {seed}: {told}", flush=True)
            print("\n".join(table_of(results, name)), flush=True)
        except FileNotFoundError as error:
            print(f"{name}: skipped: {error.filename or error} is absent", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
