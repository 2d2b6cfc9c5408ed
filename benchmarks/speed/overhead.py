"""Microseconds of a step above the bare loop, on the smallest network: `python -m benchmarks.speed.overhead`.

The bare loop gathers a batch from resident tensors, and does forward, backward and a fused AdamW step: it does not
even read the loss. Both take turns in one process, one thread each; the CPU time of an epoch is divided by its steps,
and the medians over all epochs are compared. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.networks import FeedForward
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import Trainer
from sounding.training.loop import EpochRecord, StepRecord

BATCH_SIZE = 32


def bare(x: Tensor, y: Tensor, epochs: int) -> list[float]:
    """CPU microseconds of a step, in each epoch but the first."""
    network = FeedForward(14, 2, hidden_sizes=(32,))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    marks = []
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = F.cross_entropy(network(x.index_select(0, rows)), y.index_select(0, rows))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        marks.append(time.process_time())
    return per_step(marks, len(x))


def sounding(x: Tensor, y: Tensor, epochs: int) -> list[float]:
    """The same by the trainer, with the same fused AdamW."""
    recipe = TrainingRecipe(
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=OptimizerRecipe(name="adamw", lr=1e-3, weight_decay=0.0, implementation="fused"),
        clip_norm=0.0,
        patience=0,
        plan="given",
        threads=1,
    )
    marks = []

    def note(record: StepRecord | EpochRecord) -> None:
        if isinstance(record, EpochRecord):
            marks.append(time.process_time())

    network = FeedForward(14, 2, hidden_sizes=(32,))
    Trainer(network, loss=F.cross_entropy, recipe=recipe, onlookers=[note], progress=False).fit((x, y))
    return per_step(marks, len(x))


def per_step(marks: list[float], rows: int) -> list[float]:
    steps = -(-rows // BATCH_SIZE)
    return [1e6 * (after - before) / steps for before, after in pairwise(marks)]


def measure(turns: int, epochs: int, steps: int) -> dict[str, float]:
    """Medians over `turns` times `epochs` epochs of so many steps each."""
    torch.set_num_threads(1)
    x = torch.randn(steps * BATCH_SIZE, 14)
    y = (x[:, 0] > 0).long()
    spent: dict[str, list[float]] = {"bare": [], "sounding": []}
    for turn in range(turns + 1):
        for name, loop in (("bare", bare), ("sounding", sounding)):
            measured = loop(x, y, epochs + 1)
            if turn:  # the first turn fills caches
                spent[name] += measured
    medians = {name: median(values) for name, values in spent.items()}
    return {**medians, "overhead": medians["sounding"] - medians["bare"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    print(json.dumps(measure(options.turns, options.epochs, options.steps)))


if __name__ == "__main__":
    main()
