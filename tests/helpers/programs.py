"""Small training programs to be watched: a loop as people write it, with places to put a fault in."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.watching import Watch, watch


def blobs(
    rows: int = 256, classes: int = 3, features: int = 8, spread: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Classes around random centres; (N, features) and (N,)."""
    draws = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(classes, features, generator=draws)
    y = torch.randint(0, classes, (rows,), generator=draws)
    return centres[y] + spread * torch.randn(rows, features, generator=draws), y


def perceptron(
    *sizes: int, activation: Callable[[], nn.Module] = nn.ReLU, last: tuple[nn.Module, ...] = ()
) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1], *last)


def train(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    rate: float = 1e-2,
    epochs: int = 5,
    batch_size: int = 32,
    before_step: Callable[[nn.Module, torch.optim.Optimizer], None] = lambda model, optimizer: None,
    zero_grad: bool = True,
    validation: tuple[Tensor, Tensor] | None = None,
    evaluate: bool = True,
    restore: bool = True,
    shuffle: bool = True,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    watched: bool = True,
    parameters: Callable[[nn.Module], Any] = lambda model: model.parameters(),
) -> Watch:
    """Train as everybody does, under the watch; `watched=False` gives a watch that saw nothing."""
    draws = torch.Generator().manual_seed(1)
    chosen = optimizer(parameters(model), lr=rate)
    schedule = scheduler(chosen) if scheduler is not None else None
    x, y = data
    w = watch(model, chosen, say=None)
    if watched:
        w.__enter__()
    for _ in range(epochs):
        if restore:
            model.train()
        rows = torch.randperm(len(x), generator=draws) if shuffle else torch.arange(len(x))
        for chosen_rows in rows.split(batch_size):
            if zero_grad:
                chosen.zero_grad()
            value = loss(model(x[chosen_rows]), y[chosen_rows])
            value.backward()
            before_step(model, chosen)
            chosen.step()
            if schedule is not None:
                schedule.step()
        if validation is not None:
            if evaluate:
                model.eval()
            with torch.no_grad():
                for part_x, part_y in zip(validation[0].split(64), validation[1].split(64), strict=True):
                    loss(model(part_x), part_y)
    if watched:
        w.__exit__(None, None, None)
    return w


def alarms(w: Watch) -> list[str]:
    """The rules that warned, in the order of the findings."""
    return [finding.rule for finding in w.findings if finding.severity != "info"]
