"""How well sentences are translated: multi30k, English to German, measured by sacrebleu on test_2016_flickr.

The network, the translation of the most similar training sentence, and the sentence as it is, on the same rows. BLEU is
that of cased texts with sacrebleu's own tokens, and once more with all letters small.

    python -m benchmarks.translation [--seeds 1 2] [--time 35m] [--rows 29000] [--network NAME ...] [--set KEY=VALUE]

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
from sounding.data.sources import read_source
from sounding.recipe import DataRecipe, parse_duration, parse_setting

FLOOR = 35.0
"""BLEU that an hour on two cores is to reach."""
PLAN = {"training.precision": "bfloat16", "training.attention": "plain", "training.threads": 1}
"""The plan would be measured beside whatever else runs."""
SHOWN = ("bleu", "bleu_lowercased", "chrf", "exact_match")


def parts(rows: int) -> dict[str, list[dict[str, str]]]:
    """The pairs of each part; of the training part the first so many."""
    table = read_source("@multi30k-en-de", DataRecipe())
    pairs = table.data.to_pylist()
    split = {name: [pairs[row] for row in places] for name, places in table.parts.items()}
    return {**split, "train": split["train"][:rows]}


def measure(network: str, seed: int, seconds: float, data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """One run: what it reached, beside simple answers, and what it took."""
    settings = {
        "task": "translation",
        "target": ["de"],
        "network.name": network,
        "seed": seed,
        "training.time": seconds,
        **PLAN,
        **changes,
    }
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        run = fit(data, settings=settings, out=Path(folder) / "run", progress=False)
        results = run.results
        return {
            "network": results["network"],
            "seed": seed,
            "parameters": results["parameters"],
            "epochs": results["epochs"],
            "seconds": round(time.perf_counter() - started),
            "processor_seconds": round(time.process_time() - used),
            **{name: round(results["metrics"]["test"][name], 2) for name in SHOWN},
            "interval": [round(bound, 2) for bound in results["intervals"]["test"]["bleu"]],
            "others": {name: round(one["test"]["bleu"], 2) for name, one in results["baseline"].items()},
            "examples": results["figures"]["translations"]["texts"][::4],
        }


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--time", default="35m")
    parser.add_argument("--rows", type=int, default=29_000)
    parser.add_argument("--network", nargs="+", default=["auto"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = dict(parse_setting(one) for one in options.set)
    data, seconds = parts(options.rows), parse_duration(options.time)
    found = [measure(network, seed, seconds, data, changes) for network in options.network for seed in options.seeds]
    for one in found:
        reached = "reached" if one["bleu"] >= FLOOR or one["bleu_lowercased"] >= FLOOR else "not reached"
        print(
            f"{one['network']} seed {one['seed']}: BLEU {one['bleu']}, lower-cased {one['bleu_lowercased']}; "
            f"floor {FLOOR:.0f} {reached}; {one['epochs']} epochs, {one['processor_seconds']} processor seconds"
        )
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
