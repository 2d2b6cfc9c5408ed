"""Which networks carry something over a long sequence: the adding problem, by length and network.

    python -m benchmarks.long_memory --lengths 100 200 400 --seeds 0

The adding problem: Hochreiter and Schmidhuber 1997, "Long short-term memory", section 5.4, as in Arjovsky et al. 2016,
arXiv:1511.06464. Of a series of numbers from 0 to 1 two are marked, one in each half; their sum is asked for at the
end. Always saying 1 has a mean squared error of 1/6. A network has solved it below 0.01.

Networks are Sounding's own, trained by `Trainer` on the same sequences for as many steps at most; a run ends when it
has solved the problem.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sounding.networks import SeriesRecurrent, SeriesTransformer
from sounding.randomness import draw_seed
from sounding.training import EpochRecord, StepRecord, Trainer

SOLVED, GUESS = 0.01, 1 / 6
TRAINING, VALIDATION = 6_400, 1_000
"""Sequences; an epoch is one pass over the first."""


def adding(length: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Series (count, 2, length) of numbers and marks, and the sums (count, 1) of the two that are marked.

    >>> series, sums = adding(10, 3, seed=0)
    >>> torch.allclose((series[:, 0] * series[:, 1]).sum(1, keepdim=True), sums), series[:, 1].sum(1).tolist()
    (True, [2.0, 2.0, 2.0])
    """
    draws = torch.Generator().manual_seed(draw_seed(seed, "adding", length))
    numbers = torch.rand(count, length, generator=draws)
    half = length // 2
    first = torch.randint(half, (count,), generator=draws)
    second = torch.randint(half, length, (count,), generator=draws)
    marks = torch.zeros(count, length)
    marks[torch.arange(count), first] = 1
    marks[torch.arange(count), second] = 1
    return torch.stack([numbers, marks], 1), (numbers * marks).sum(1, keepdim=True)


def recurrent(length: int, cell: str) -> nn.Module:
    """One layer that reads forward alone, and answers from its last state: nothing shortens the way."""
    return SeriesRecurrent(
        2, 1, length=length, cell=cell, hidden_sizes=(64,), bidirectional=False, pooling="last", dropout=0.0
    )


def transformer(length: int) -> nn.Module:
    """Every point is a word."""
    return SeriesTransformer(2, 1, length=length, stretches=length, dropout=0.0)


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], float]] = {
    "rnn": (partial(recurrent, cell="rnn"), 1e-3),
    "gru": (partial(recurrent, cell="gru"), 3e-3),
    "lstm": (partial(recurrent, cell="lstm"), 3e-3),
    "transformer": (transformer, 1e-3),
}
"""How each is built, and its learning rate; smaller ones for the RNN, whose gradients explode at larger ones."""


class SolvedError(Exception):
    """Raised from an onlooker, which ends the run."""


def run(name: str, length: int, epochs: int, seed: int) -> dict[str, object]:
    """Train one network, and say how far it came."""
    build, rate = NETWORKS[name]
    torch.manual_seed(draw_seed(seed, "initialization", name))
    network = build(length)
    errors: list[float] = []

    def look(record: StepRecord | EpochRecord) -> None:
        if isinstance(record, EpochRecord):
            errors.append(record.validation["loss"])
            if errors[-1] < SOLVED:
                raise SolvedError

    trainer = Trainer(
        network,
        loss="mse",
        lr=rate,
        weight_decay=0.0,
        epochs=epochs,
        batch_size=64,
        patience=0,
        clip_norm=1.0,
        schedule="constant",
        watch=False,
        seed=seed,
        onlookers=[look],
        progress=False,
    )
    wall, processor = time.perf_counter(), time.process_time()
    with contextlib.suppress(SolvedError):
        trainer.fit(adding(length, TRAINING, seed), validation=adding(length, VALIDATION, seed + 1_000_000))
    return {
        "network": name,
        "length": length,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "error": round(errors[-1], 5),
        "solved": errors[-1] < SOLVED,
        "steps": len(errors) * (TRAINING // 64),
        "processor_seconds": round(time.process_time() - processor, 1),
        "seconds": round(time.perf_counter() - wall, 1),
    }


def main() -> None:
    """A line for each cell as it ends, then the table, then all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=40, help=f"passes over {TRAINING} sequences, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = []
    for length in options.lengths:
        for name in options.networks:
            for seed in options.seeds:
                cells.append(run(name, length, options.epochs, seed))
                print(json.dumps(cells[-1]), flush=True)
    print(f"\n| network | length | seed | mean squared error (guess {GUESS:.3f}) | solved | steps | processor |")
    print("|---|---|---|---|---|---|---|")
    for cell in cells:
        solved = "yes" if cell["solved"] else "no"
        print(
            f"| {cell['network']} | {cell['length']} | {cell['seed']} | {cell['error']} | {solved} | {cell['steps']} | "
            f"{cell['processor_seconds']} s |"
        )
    print(json.dumps(cells))


if __name__ == "__main__":
    main()
