"""How good generators are that are trained by the defaults: whether they find all modes, and what their pictures teach.

    python -m benchmarks.generation [PART ...] [--seeds 0 1 2 3 4] [--data DIR] [--time 30m]
    python -m benchmarks.generation --judge RUN

Parts: `ring` (8 Gaussians on a circle of radius 1, deviation 0.01), `grid` (25 Gaussians two apart, deviation 0.05),
`turned` (the same grid turned by 30 degrees, so that no column by itself shows its modes) and `fashion` (Fashion-MNIST,
28 x 28, conditional on the class). Points: VEEGAN, arXiv:1705.07761, section 5.1; PacGAN, arXiv:1712.04086, 4.1.

Each run is `sounding fit ... --task generation` and `sounding predict RUN --count N` in processes of their own. DIR
holds the public data sets (default: the environment variable SOUNDING_DATA). The last line is JSON.

Pictures are judged by a small convolutional network that was trained on the real ones: precision, recall and Fréchet
distance against the test pictures in its features (128 numbers before its head), and the classification accuracy score:
the accuracy on the real test pictures of the same network trained on as many made-up pictures as there are real ones,
with the classes that were asked for (Ravuri and Vinyals 2019, arXiv:1905.10887).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sounding.data.sources import read_source
from sounding.networks import ConvolutionalNetwork
from sounding.recipe import DataRecipe
from sounding.run import load
from sounding.tasks.sample_metrics import frechet_distance, modes, precision_and_recall
from sounding.training import Trainer

ROWS, SAMPLES = 5000, 2500
MOST_COMPARED = 5000
"""Pictures of each kind for precision and recall, whose neighbours are sought among all pairs."""


def centres_of(name: str) -> tuple[np.ndarray, float]:
    """The centres of a mixture and the deviation of each."""
    if name == "ring":
        angles = np.arange(8) * np.pi / 4
        return np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.01
    side = np.arange(-4.0, 5.0, 2.0)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    turn = np.pi / 6 if name == "turned" else 0.0
    return grid @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]), 0.05


def points(name: str, seed: int, folder: Path, options: list[str]) -> dict[str, Any]:
    """One run on points, and what became of the modes."""
    centres, deviation = centres_of(name)
    draw = np.random.default_rng(seed)
    rows = centres[draw.integers(len(centres), size=ROWS)] + deviation * draw.normal(size=(ROWS, 2))
    source, run, made = folder / "points.csv", folder / "run", folder / "made.csv"
    write_csv(source, rows)
    seconds = sounding("fit", source, "--task", "generation", "--seed", seed, "--out", run, "--quiet", *options)
    sounding("predict", run, "--count", SAMPLES, "--out", made, "--quiet")
    found = modes(read_csv(made), centres, deviation)
    return {
        "covered": found.covered,
        "of": len(centres),
        "high_quality": found.high_quality,
        "seconds": seconds,
        **findings_of(run),
    }


def fashion(seed: int, folder: Path, options: list[str]) -> dict[str, Any]:
    """One run on pictures of clothes, and how well its pictures stand for real ones."""
    run = folder / "run"
    seconds = sounding("fit", "@fashion-mnist", "--task", "generation", "--seed", seed, "--out", run, *options)
    return {"seconds": seconds, **judged(run), **findings_of(run)}


def judged(run: Path) -> dict[str, Any]:
    """How well the pictures of a run stand for real ones."""
    table = read_source("@fashion-mnist", DataRecipe())
    schema = load(run).schema
    (pictures,) = (array for name, array in schema.encode(table).blocks.items() if name.startswith("image"))
    (codes,) = schema.encode_targets(table).values()
    test = np.zeros(len(codes), dtype=bool)
    test[table.parts["test"]] = True
    samples = load(run).sample(int((~test).sum()))
    assert samples.classes is not None
    judge = classifier(pictures[~test], codes[~test])
    real, made = (features(judge, some) for some in (pictures[test], samples.made))
    precision, recall = precision_and_recall(real[:MOST_COMPARED], made[:MOST_COMPARED])
    pupil = classifier(samples.made, samples.classes)
    return {
        "classification_accuracy_score": accuracy(pupil, pictures[test], codes[test]),
        "accuracy_of_a_classifier_of_real_pictures": accuracy(judge, pictures[test], codes[test]),
        "agreement": accuracy(judge, samples.made, samples.classes),
        "precision": precision,
        "recall": recall,
        "frechet_distance": frechet_distance(real, made[: len(real)]),
    }


class Scaled(nn.Module):
    """uint8 pictures to numbers around zero, then the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 1, H, W) uint8 to logits."""
        logits: Tensor = self.network(pictures.float() / 127.5 - 1.0)
        return logits


def classifier(pictures: np.ndarray, codes: np.ndarray) -> Trainer:
    """A small convolutional network after three passes over some pictures."""
    torch.manual_seed(0)
    network = ConvolutionalNetwork(1, 10, picture_size=(28, 28), hidden_sizes=[16, 32, 64, 128], depth=1)
    trainer = Trainer(
        Scaled(network), lr=1e-2, schedule="cosine", epochs=3, batch_size=128, watch=False, threads=1, progress=False
    )
    trainer.fit((pictures, codes.astype(np.int64)))
    return trainer


def features(judge: Trainer, pictures: np.ndarray) -> np.ndarray:
    """What the network sees in pictures before its head."""
    network = judge.network.get_submodule("network").eval()
    with torch.inference_mode():
        batches = torch.from_numpy(pictures).split(500)
        found = [network.forward_features(batch.float() / 127.5 - 1.0) for batch in batches]  # type: ignore[operator]
    return torch.cat(found).numpy()


def accuracy(trainer: Trainer, pictures: np.ndarray, codes: np.ndarray) -> float:
    return float((trainer.predict(pictures).argmax(1).numpy() == codes).mean())


def findings_of(run: Path) -> dict[str, Any]:
    """What the watch found: a collapse, above all."""
    found = json.loads((run / "results.json").read_text())["findings"]
    return {"findings": [one["title"] for one in found if one["severity"] != "info"]}


def sounding(*words: object) -> float:
    """Run a command; the seconds it took."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sounding", *map(str, words)], check=True)
    return round(time.perf_counter() - started, 1)


def write_csv(path: Path, rows: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y"], *rows.tolist()])


def read_csv(path: Path) -> np.ndarray:
    with path.open() as file:
        next(lines := csv.reader(file))
        return np.array([[float(cell) for cell in line] for line in lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["ring", "grid", "turned", "fashion"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--data", default=os.environ.get("SOUNDING_DATA", ""))
    parser.add_argument("--time", default="", help="of a run on pictures, such as 30m")
    parser.add_argument("--set", action="append", default=[], help="further settings of all runs")
    parser.add_argument("--judge", metavar="RUN", help="only judge a run on Fashion-MNIST that is there already")
    options = parser.parse_args()
    if options.data:
        os.environ["SOUNDING_DATA"] = options.data
    if options.judge:
        print(json.dumps(judged(Path(options.judge))))
        return
    settings = [word for one in options.set for word in ("--set", one)]
    results: dict[str, list[dict[str, Any]]] = {}
    for part in options.parts:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                limit = ["--time", options.time] if options.time else []
                if part == "fashion":
                    found = fashion(seed, Path(folder), [*limit, *settings])
                else:
                    found = points(part, seed, Path(folder), settings)
            results.setdefault(part, []).append({"seed": seed, **found})
            print(part, results[part][-1], flush=True)
    for part, found in results.items():
        keys = [key for key in found[0] if key not in ("seed", "of", "findings")]
        middle = {key: round(median(one[key] for one in found), 4) for key in keys}
        print(f"{part}: {middle}; warned in {sum(bool(one['findings']) for one in found)} of {len(found)}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
