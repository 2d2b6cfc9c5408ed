"""What watching costs: CPU time of programs with and without it, taking turns."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.speed.networks import LOSSES, build
from benchmarks.speed.workloads import LEARNING_RATE, WORKLOADS, Arrays, Workload, read, write
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


def workloads(data: Path | None, names: list[str], epochs_scale: float) -> dict[str, Run]:
    """Loops by hand on the workloads of `benchmarks.speed`, so many of the epochs that they state."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), names, data)
        arrays = {name: read(Path(folder), name) for name in names}
    return {
        name: partial(by_hand, WORKLOADS[name], arrays[name], max(1, round(WORKLOADS[name].epochs * epochs_scale)))
        for name in names
    }


def by_hand(workload: Workload, arrays: Arrays, epochs: int, watch: Any, seed: int) -> None:
    """Resident tensors, fused AdamW, the loss read in each step."""
    torch.manual_seed(seed)
    network, loss_of = build(workload.name, seed), LOSSES[workload.loss]
    x, y = torch.from_numpy(arrays.x), torch.from_numpy(arrays.y)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    with watch(network, optimizer):
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(workload.batch_size):
                loss = loss_of(network(x.index_select(0, rows)), y.index_select(0, rows))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                loss.item()
