"""What a good engineer writes: with a DataLoader, or with all rows in one tensor and a gather for each batch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.networks import LOSSES, build, held_out_loss, outputs_of
from benchmarks.speed.workloads import LEARNING_RATE

Loader = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""From an epoch to its batches."""


def prepare(
    job: Job,
    *,
    resident: bool,
    fused: bool,
    tune: bool = False,
    order: Callable[[int], Tensor] | None = None,
) -> Callable[[], Trained]:
    """Prepare the loop.

    resident: gather batches from one tensor, instead of a DataLoader over a TensorDataset.
    tune:     take the number of threads, 1 or 2, with which some steps are fastest.
    order:    the order of the rows in an epoch, where it should be a given one.
    """
    network, loss_of = build(job.workload.name, job.seed), LOSSES[job.workload.loss]
    x, y = torch.from_numpy(job.arrays.x), torch.from_numpy(job.arrays.y)
    size = job.workload.batch_size
    loader = gathering(x, y, size, order) if resident else loading(x, y, size)
    notes = {"threads": choose_threads(job, loader, fused)} if tune else {}

    def train() -> Trained:
        if tune:
            torch.set_num_threads(notes["threads"])
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=fused or None)
        network.train()
        losses = []
        for epoch in range(job.epochs):
            total = 0.0
            for inputs, target in loader(epoch):
                loss = loss_of(network(inputs), target)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(inputs)
            losses.append(total / len(x))
            job.epoch_ended(lambda x: outputs_of(network, x))
        held_out = torch.from_numpy(job.arrays.held_out_x), torch.from_numpy(job.arrays.held_out_y)
        return Trained(losses, lambda: held_out_loss(network, job.workload.loss, *held_out), notes)

    return train


def loading(x: Tensor, y: Tensor, size: int) -> Loader:
    loader = DataLoader(TensorDataset(x, y), batch_size=size, shuffle=True)
    return lambda epoch: iter(loader)


def gathering(x: Tensor, y: Tensor, size: int, order: Callable[[int], Tensor] | None) -> Loader:
    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.randperm(len(x)) if order is None else order(epoch)
        for chosen in rows.split(size):
            yield x.index_select(0, chosen), y.index_select(0, chosen)

    return batches


def choose_threads(job: Job, loader: Loader, fused: bool, steps: int = 30) -> int:
    """The faster of 1 and 2 threads, measured in turns on a copy; the random generator is left as it was."""
    network, loss_of = build(job.workload.name, job.seed), LOSSES[job.workload.loss]
    spent: dict[int, list[float]] = {1: [], 2: []}
    copies = {count: copy.deepcopy(network) for count in spent}
    optimizers = {
        count: torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=fused or None)
        for count, network in copies.items()
    }
    with torch.random.fork_rng(devices=[]):
        for step, (inputs, target) in enumerate(loader(0)):
            for count, seconds in spent.items():
                torch.set_num_threads(count)
                began = time.perf_counter()
                loss = loss_of(copies[count](inputs), target)
                optimizers[count].zero_grad(set_to_none=True)
                loss.backward()
                optimizers[count].step()
                seconds.append(time.perf_counter() - began)
            if step == steps:
                break
    return min(spent, key=lambda count: median(spent[count]))
