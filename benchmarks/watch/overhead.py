"""What watching costs: CPU time of programs with and without it, taking turns."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from statistics import median

from benchmarks.watch.measure import Listener
from benchmarks.watch.programs import Run, unwatched

ROUNDS = 5


def cpu_time(program: Run, *, is_watched: bool) -> float:
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program(Listener() if is_watched else unwatched, 0)
    return time.process_time() - began


def overhead(programs: Mapping[str, Run], rounds: int = ROUNDS) -> str:
    """A line for each program, the median and the worst. They last a second: what is spent once weighs much."""
    lines, costs = [], []
    for name, program in programs.items():
        spent: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(rounds + 1):
            for is_watched in (False, True) if turn % 2 else (True, False):
                seconds = cpu_time(program, is_watched=is_watched)
                if turn:  # the first turn fills caches
                    spent[is_watched].append(seconds)
        plain, with_watch = median(spent[False]), median(spent[True])
        costs.append(with_watch / plain - 1)
        lines.append(f"{name:44} {plain:6.2f} s  {with_watch:6.2f} s  {costs[-1]:+7.1%}")
    return "\n".join([*lines, f"median {median(costs):+.1%}, worst {max(costs):+.1%}"])
