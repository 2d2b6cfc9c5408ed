"""Whether targets have anything to do with inputs, by the recorded examples alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sounding.watching.experiments import Laboratory
from sounding.watching.labels import first_of_each

NEIGHBOURS = 5
EXAMPLES = 100
"""Fewer say nothing."""
CERTAIN = 3.0
"""Standard errors above chance, from which on targets are taken to agree."""
RIDGE = 1.0
"""Penalty of the linear fit, where the products of examples are divided by the number of inputs."""


class Agreement(NamedTuple):
    """How often something is right about classes."""

    share: float
    chance: float
    """How often it would be right if inputs said nothing."""
    examples: int

    @property
    def is_certain(self) -> bool:
        """Whether it is right more often than by chance."""
        variance = max(self.chance * (1 - self.chance), 0.01)
        return self.share > self.chance + CERTAIN * math.sqrt(variance / self.examples)


def examples(laboratory: Laboratory) -> tuple[Tensor, Tensor]:
    """Inputs (N, ...) and targets of the recorded batches; empty where a batch is no such pair."""
    inputs, targets = [], []
    for tape in laboratory.tapes:
        args, kwargs = tape.calls()[0].arguments
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.is_floating_point()]
        target = tape.target
        if tensors and target is not None and target.ndim and len(tensors[0]) == len(target):
            inputs.append(tensors[0].float())
            targets.append(target)
    if not inputs:
        return torch.empty(0, 0), torch.empty(0)
    joined, rows = torch.cat(inputs), first_of_each(torch.cat(inputs).flatten(1))
    return joined[rows], torch.cat(targets)[rows]


def classes_of(targets: Tensor) -> Tensor:
    """(N,) int64 from targets of any shape; numbers are above their median or not."""
    if not targets.is_floating_point():
        return targets.flatten(1)[:, 0].long() if targets.ndim > 1 else targets.long()
    targets = targets.flatten(1)[:, 0] if targets.ndim > 1 and targets.shape[1] == 1 else targets
    return (targets > targets.median()).long() if targets.ndim == 1 else targets.argmax(1)


def neighbour_agreement(inputs: Tensor, classes: Tensor) -> Agreement:
    """How often nearest neighbours have the same class; by chance, any two examples."""
    scaled = _scaled(inputs)
    distances = torch.cdist(scaled, scaled)
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(min(NEIGHBOURS, len(inputs) - 1), largest=False).indices
    agreement = float((classes[nearest] == classes[:, None]).float().mean())
    chance = float((torch.bincount(classes - classes.min()).float() / len(classes)).square().sum())
    return Agreement(agreement, chance, len(inputs))


def linear_agreement(inputs: Tensor, classes: Tensor) -> Agreement:
    """How often a linear fit to all other examples finds the class of one; by chance, the most frequent class.

    A ridge regression, leaving one out in closed form: Hastie et al., The Elements of Statistical Learning, eq. 7.64.
    """
    scaled, goals = _scaled(inputs).double(), torch.nn.functional.one_hot(classes - classes.min()).double()
    shares = goals.mean(0)
    kernel = scaled @ scaled.T / scaled.shape[1]
    hat = torch.linalg.solve(kernel + RIDGE * torch.eye(len(kernel), dtype=kernel.dtype), kernel).T
    fitted, own = hat @ (goals - shares), hat.diagonal()[:, None]
    left_out = shares + (fitted - own * (goals - shares)) / (1 - own)
    found = float((left_out.argmax(1) == classes - classes.min()).double().mean())
    chance = float(shares.max())
    return Agreement(found, chance, len(inputs))


def _scaled(inputs: Tensor) -> Tensor:
    return (inputs - inputs.mean(0)) / inputs.std(0).clamp_min(1e-6)
