"""How well autoencoders give rows back, beside as many principal components, and what their codes are good for.

Nothing is set but the task, the size of the code and, for the variational ones, the network. `below` is by how much the
error on the test rows is less than that of principal components; `classifier` is the accuracy on the test rows of a
logistic regression of the labels on the codes, and of one on all pixels. Training sees no label.

    python -m benchmarks.compression [NAME ...] [--sizes 8 16 32] [--networks auto ...] [--seeds 0]

The public data sets are taken from the environment variable SOUNDING_DATA. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import sounding
from sounding.recipe import Recipe
from sounding.tasks.prepare import Prepared, prepare

NAMES = ("digits", "fashion-mnist")
ITERATIONS = 200
"""Of each logistic regression."""


def classifier_accuracy(inputs: np.ndarray, labels: np.ndarray, prepared: Prepared) -> float:
    train, test = prepared.split.train, prepared.split.test
    mean, deviation = inputs[train].mean(0), inputs[train].std()  # one scale for all pixels, or rare ones mislead
    inputs = (inputs - mean) / deviation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=ITERATIONS).fit(inputs[train], labels[train])
    return float(model.score(inputs[test], labels[test]))


def measure(name: str, network: str, size: int, seed: int, pixels: dict[tuple[str, int], float]) -> dict[str, Any]:
    """One training, and what came of it; `pixels` remembers the accuracies of classifiers on pixels."""
    settings = {"task": "compression", "network.name": network, "network.code_size": size, "seed": seed}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = sounding.fit(f"@{name}", settings=settings, out=Path(folder) / "run", say=None, progress=False)
        seconds = time.perf_counter() - began
        prepared = prepare(f"@{name}", {"task": "compression", "seed": seed})
        predictions, results = run.task.predict(run.network, prepared.inputs), run.results
    (labels,) = prepared.schema.encode_targets(prepared.table).values()
    if (name, seed) not in pixels:
        rows = prepared.target.reshape(len(labels), -1).astype(np.float32)
        pixels[name, seed] = classifier_accuracy(rows, labels, prepared)
    error = results["metrics"]["test"]["reconstruction_error"]
    components = results["baseline"]["principal components"]["test"]["reconstruction_error"]
    return {
        "data": name,
        "network": results["network"],
        "size": size,
        "seed": seed,
        "error": round(error, 4),
        "components": round(components, 4),
        "below": round(1 - error / components, 3),
        "explained": round(results["metrics"]["test"]["variance_explained"], 4),
        "used": results["figures"]["units"].get("used"),
        "classifier": round(classifier_accuracy(run.task.decide(predictions), labels, prepared), 4),
        "classifier_on_pixels": round(pixels[name, seed], 4),
        "epochs": results["epochs"],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", default=NAMES, help=f"of the catalogue; {' and '.join(NAMES)} when none is named"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--networks", nargs="+", default=[Recipe().network.name, "picture_variational_autoencoder"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    pixels: dict[tuple[str, int], float] = {}
    print(
        "| data | network | size | seed | error | components | below | explained | used | classifier, on pixels | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in options.names:
        for network in options.networks:
            for size in options.sizes:
                for seed in options.seeds:
                    row = measure(name, network, size, seed, pixels)
                    rows.append(row)
                    used = "" if row["used"] is None else f"{row['used']} of {size}"
                    print(
                        f"| {name} | {row['network']} | {size} | {seed} | {row['error']} | {row['components']} | "
                        f"{100 * row['below']:.0f} % | {100 * row['explained']:.1f} % | {used} | "
                        f"{row['classifier']}, {row['classifier_on_pixels']} | {row['seconds']} |"
                    )
                    sys.stdout.flush()
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
