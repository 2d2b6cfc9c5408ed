"""How well cells are found: bccd in its given parts, from scratch, measured as COCO does.

The network and two simple answers on the same 72 test pictures.

    python -m benchmarks.detection [--seeds 1 2] [--time 45m] [--epochs N] [--network NAME ...] [--keep DIR]
        [--set KEY=VALUE]

SOUNDING_DATA names the folder of the public data sets. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from sounding import fit
from sounding.recipe import parse_duration, parse_setting

FLOOR = 0.75
"""map50 that 45 minutes on two cores are to reach."""
PLAN = {"training.precision": "bfloat16", "training.channels_last": True, "training.threads": 1}
"""The plan would be measured beside whatever else runs."""
MICROSCOPE = {"detection.upside_down": True}
"""There is no up in it."""


def measure(network: str, seed: int, changes: dict[str, Any], out: str | None = None) -> dict[str, Any]:
    """One run: what it reached, beside simple answers, and what it took.

    out: where the run is kept.
    """
    settings = {"network.name": network, "seed": seed, **PLAN, **MICROSCOPE, **changes}
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        run = fit("@bccd", settings=settings, out=out or Path(folder) / "run", progress=False)
        seconds, processor = time.perf_counter() - started, time.process_time() - used
        results = run.results
        counts = results["figures"]["detection"]["counts"]
        return {
            "network": results["network"],
            "seed": seed,
            "parameters": results["parameters"],
            "epochs": results["epochs"],
            "seconds": round(seconds),
            "processor_seconds": round(processor),
            "metrics": {name: round(value, 4) for name, value in results["metrics"]["test"].items()},
            "interval": [round(bound, 4) for bound in results["intervals"]["test"]["map50"]],
            "others": {name: round(one["test"]["map50"], 4) for name, one in results["baseline"].items()},
            "counts": {one["label"]: [sum(one["true"]), sum(one["found"]), covered(one)] for one in counts},
        }


def covered(one: dict[str, Any]) -> float | None:
    """The share of pictures whose true count lies in the interval."""
    rows = zip(one["low"], one["true"], one["high"], strict=True)
    known = [low <= true <= high for low, true, high in rows if high is not None]
    return round(sum(known) / len(known), 3) if known else None


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--time")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--network", nargs="+", default=["auto"])
    parser.add_argument("--keep", metavar="DIR", help="where the run is kept: for a single one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = dict(parse_setting(one) for one in options.set)
    if options.time:
        changes["training.time"] = parse_duration(options.time)
    if options.epochs:
        changes["training.epochs"] = options.epochs
    keep = options.keep
    found = [measure(network, seed, changes, keep) for network in options.network for seed in options.seeds]
    for one in found:
        reached = "reached" if one["metrics"]["map50"] >= FLOOR else "not reached"
        print(
            f"{one['network']} seed {one['seed']}: mAP50 {one['metrics']['map50']}, mAP {one['metrics']['map']}; floor "
            f"{FLOOR} {reached}; {one['epochs']} epochs, {one['processor_seconds']} processor seconds"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
