"""How well pixels are told apart: membranes under a microscope, and views of streets.

    python -m benchmarks.segmentation [membranes|streets ...] [--seeds 0] [--time 15m] [--network NAME]
                                      [--set KEY=VALUE ...]

The network, the most frequent class, and models of the colours around each pixel, on the test pictures that each set
brings.
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

SETS: dict[str, dict[str, Any]] = {
    "membranes": {
        "source": "@isbi2012-membrane",
        "floors": {"pixel_accuracy": 0.92, "iou_cell": 0.90},
        "minutes": 20,
        "settings": {
            "network.name": "unet",
            "network.options.hidden_size": 32,
            "network.options.stem_stride": 2,
            "segmentation.elastic": 6.0,
            "segmentation.mirrored": True,
            "training.averaging": "ema",
            "training.average_decay": 0.995,
            "training.epochs": 200,
            "segmentation.flip": "all",
            "segmentation.scale": 1.25,
            "segmentation.turn": 15.0,
            "training.class_weights": False,
        },
    },
    "streets": {
        "source": "@camvid-mini",
        "floors": {"iou": 0.42},
        "minutes": 30,
        "settings": {"segmentation.turn": 5.0},
    },
}
"""Floors in so many minutes on two cores. A microscope knows no up and down, and always enlarges alike."""
PLAN = {"training.precision": "bfloat16", "training.channels_last": True, "training.threads": 1}
"""The plan would be measured beside whatever else runs."""


def measure(name: str, seed: int, seconds: float, changes: dict[str, Any]) -> dict[str, Any]:
    """One run: what it reached, beside simple answers, and what it took."""
    asked = SETS[name]
    settings = {"seed": seed, "training.time": seconds, **PLAN, **asked["settings"], **changes}
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        results = fit(asked["source"], settings=settings, out=Path(folder) / "run", progress=False).results
        test = results["metrics"]["test"]
        return {
            "set": name,
            "network": results["network"],
            "seed": seed,
            "parameters": results["parameters"],
            "epochs": results["epochs"],
            "seconds": round(time.perf_counter() - started),
            "processor_seconds": round(time.process_time() - used),
            "test": {metric: round(value, 4) for metric, value in test.items()},
            "interval": [round(bound, 4) for bound in results["intervals"]["test"]["iou"]],
            "others": {model: round(one["test"]["iou"], 4) for model, one in results["baseline"].items()},
            "floors": {metric: [floor, test[metric] >= floor] for metric, floor in asked["floors"].items()},
        }


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), metavar="SET", help=" or ".join(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--time", help="that training may take; three quarters of what the floor allows when left out")
    parser.add_argument("--network", help="the usual one when left out")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = dict(parse_setting(one) for one in options.set)
    if options.network:
        changes["network.name"] = options.network
    found = []
    for name in options.sets:
        seconds = parse_duration(options.time) if options.time else 45.0 * SETS[name]["minutes"]
        for seed in options.seeds:
            one = measure(name, seed, seconds, changes)
            found.append(one)
            floors = ", ".join(
                f"{metric} {one['test'][metric]} (floor {floor}, {'reached' if reached else 'not reached'})"
                for metric, (floor, reached) in one["floors"].items()
            )
            print(f"{name} seed {seed} by {one['network']}: {floors}; {one['processor_seconds']} processor seconds")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
