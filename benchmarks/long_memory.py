"""Which networks carry something over a long sequence: adding and copying, by length and network.

    python -m benchmarks.long_memory --problems adding copying --lengths 100 200 400 --seeds 0

Both after Hochreiter and Schmidhuber 1997, "Long short-term memory", as in Arjovsky et al. 2016, arXiv:1511.06464,
section 4.

adding:   of a series of numbers from 0 to 1 two are marked, one in each half; their sum is asked for at the end. Always
          saying 1 has a mean squared error of 1/6. Solved below 0.01.
copying:  ten symbols out of eight, then so many blanks, a sign, and ten blanks at which the symbols are to be said
          again in order. Without memory the cross-entropy is log 8 = 2.08 nats a symbol. Solved below 0.05.

Networks are Sounding's own, trained by `Trainer` on the same sequences for as many steps at most; a run ends when it
has solved its problem.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks import LanguageRecurrent, LanguageTransformer, SeriesRecurrent, SeriesTransformer
from sounding.randomness import draw_seed
from sounding.training import EpochRecord, StepRecord, Trainer

SYMBOLS, CODES = 10, 10
"""To be copied; and a blank, a sign and eight symbols."""
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


def copying(length: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Codes (count, length + 20), and the ten symbols (count, 10) that stand at their beginning.

    0 is a blank, 1 the sign, 2 to 9 are symbols.

    >>> codes, symbols = copying(4, 1, seed=0)
    >>> torch.equal(codes[:, :SYMBOLS], symbols), codes[0, SYMBOLS:].tolist()
    (True, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    """
    draws = torch.Generator().manual_seed(draw_seed(seed, "copying", length))
    symbols = torch.randint(2, CODES, (count, SYMBOLS), generator=draws)
    codes = torch.zeros(count, length + 2 * SYMBOLS, dtype=torch.int64)
    codes[:, :SYMBOLS] = symbols
    codes[:, SYMBOLS + length - 1] = 1
    return codes, symbols


def copied(logits: Tensor, symbols: Tensor) -> Tensor:
    """The cross-entropy of a symbol, from logits (B, L, codes) of which the last ten places count."""
    return F.cross_entropy(logits[:, -SYMBOLS:].flatten(0, 1), symbols.flatten())


def recurrent(length: int, cell: str) -> nn.Module:
    """One layer that reads forward alone, and answers from its last state: nothing shortens the way."""
    return SeriesRecurrent(
        2, 1, length=length, cell=cell, hidden_sizes=(64,), bidirectional=False, pooling="last", dropout=0.0
    )


def transformer(length: int) -> nn.Module:
    """Every point is a word."""
    return SeriesTransformer(2, 1, length=length, stretches=length, dropout=0.0)


def speaking(length: int, cell: str) -> nn.Module:
    """One layer that answers at each place from what it has read so far."""
    return LanguageRecurrent(CODES, CODES, cell=cell, embedding_size=16, hidden_sizes=(128,))


def attending(length: int) -> nn.Module:
    """Two layers that answer at each place and attend to what stands before it."""
    return LanguageTransformer(CODES, CODES, hidden_size=64, depth=2)


class Problem(NamedTuple):
    """What is asked, and of whom."""

    examples: Callable[[int, int, int], tuple[Tensor, Tensor]]
    """By length, count and seed."""
    loss: str | Callable[[Tensor, Tensor], Tensor]
    measure: str
    solved: float
    guess: float
    """What can be had without a memory."""
    networks: dict[str, tuple[Callable[[int], nn.Module], float]]
    """How each is built, and its learning rate; smaller ones for the RNN, whose gradients explode at larger ones."""


PROBLEMS = {
    "adding": Problem(
        adding,
        "mse",
        "mean squared error",
        0.01,
        1 / 6,
        {
            "rnn": (partial(recurrent, cell="rnn"), 1e-3),
            "gru": (partial(recurrent, cell="gru"), 3e-3),
            "lstm": (partial(recurrent, cell="lstm"), 3e-3),
            "transformer": (transformer, 1e-3),
        },
    ),
    "copying": Problem(
        copying,
        copied,
        "nats a symbol",
        0.05,
        math.log(8),
        {
            "rnn": (partial(speaking, cell="rnn"), 1e-3),
            "gru": (partial(speaking, cell="gru"), 3e-3),
            "lstm": (partial(speaking, cell="lstm"), 3e-3),
            "transformer": (attending, 1e-3),
        },
    ),
}


class SolvedError(Exception):
    """Raised from an onlooker, which ends the run."""


def run(asked: str, name: str, length: int, epochs: int, seed: int) -> dict[str, object]:
    """Train one network, and say how far it came."""
    problem = PROBLEMS[asked]
    build, rate = problem.networks[name]
    torch.manual_seed(draw_seed(seed, "initialization", name))
    network = build(length)
    errors: list[float] = []

    def look(record: StepRecord | EpochRecord) -> None:
        if isinstance(record, EpochRecord):
            errors.append(record.validation["loss"])
            if errors[-1] < problem.solved:
                raise SolvedError

    trainer = Trainer(
        network,
        loss=problem.loss,
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
        examples = problem.examples(length, TRAINING, seed)
        trainer.fit(examples, validation=problem.examples(length, VALIDATION, seed + 1_000_000))
    return {
        "problem": asked,
        "network": name,
        "length": length,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "error": round(errors[-1], 5),
        "least": round(min(errors), 5),
        "solved": errors[-1] < problem.solved,
        "steps": len(errors) * (TRAINING // 64),
        "processor_seconds": round(time.process_time() - processor, 1),
        "seconds": round(time.perf_counter() - wall, 1),
    }


def main() -> None:
    """A line for each cell as it ends, then the table, then all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--networks", nargs="+", choices=list(PROBLEMS["adding"].networks), default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=40, help=f"passes over {TRAINING} sequences, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = []
    for asked, length in product(options.problems, options.lengths):
        for name, seed in product(options.networks or PROBLEMS[asked].networks, options.seeds):
            cells.append(run(asked, name, length, options.epochs, seed))
            print(json.dumps(cells[-1]), flush=True)
    for asked in options.problems:
        reached = f"{PROBLEMS[asked].measure} (guess {PROBLEMS[asked].guess:.3f})"
        print(f"\n| {asked} | length | seed | {reached} | solved | steps | processor |")
        print("|---|---|---|---|---|---|---|")
        for cell in cells:
            if cell["problem"] == asked:
                solved = "yes" if cell["solved"] else f"no, {cell['least']} at its least"
                print(
                    f"| {cell['network']} | {cell['length']} | {cell['seed']} | {cell['error']} | {solved} | "
                    f"{cell['steps']} | {cell['processor_seconds']} s |"
                )
    print(json.dumps(cells))


if __name__ == "__main__":
    main()
