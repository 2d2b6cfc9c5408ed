"""Targets that have nothing to do with the inputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FIRST = 60
HEADWAY = 0.05
MEMORISED = 0.5
BETTER = 0.02
NEIGHBOURS = 5
EXAMPLES = 100


class LabelsShuffled(Rule):
    """The network cannot do better than ignoring its inputs, though it can learn.

    Trigger: after sixty steps the loss is within five percent of that of the best constant answer. In pictures and
    series what matters may take long to find, and neighbours show little of it: there only the end counts.
    Confirmed: a copy learns one batch by heart, so that network and rate are able to learn; real inputs do no better
    than zeros; and the targets of nearest neighbours agree no more often than by chance.
    Remedy: look at some examples beside their targets; shuffle both with the same permutation.
    """

    name = "labels_shuffled"
    looks_at = "targets that have nothing to do with the inputs"
    explains = ("underfit", "too_few_steps", "lr_too_low", "overfit", "label_noise")
    sources: ClassVar = ("Karpathy 2019, A Recipe for Training Neural Networks: input-independent baseline",)

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if not seen.laboratory.is_ready or (seen.done < self._next and not (seen.ended and seen.done >= FIRST // 2)):
            return None
        if seen.baseline is None or seen.headway() > HEADWAY:
            return None
        self._next = 2 * seen.done
        inputs, targets = examples(seen)
        if len(inputs) < EXAMPLES or (inputs.ndim > 2 and not seen.ended):
            return None
        inputs = inputs.flatten(1)
        agreement, chance = neighbour_agreement(inputs, targets)
        if agreement > chance + 3 * (max(chance * (1 - chance), 0.01) / len(inputs)) ** 0.5:
            return None
        left = seen.laboratory.memorises(steps=300)
        if left > MEMORISED:
            return None
        blind = seen.laboratory.loss(torch.zeros_like)
        seeing = seen.laboratory.loss()
        if seeing < (1 - 5 * BETTER) * blind:
            return None
        return self.finding(
            seen,
            "targets look unrelated to the inputs",
            f"After {seen.done} steps the loss is that of an answer that ignores the inputs.",
            "look at some examples beside their targets; inputs and targets have to be shuffled together",
            severity="error",
            agreement=agreement,
            chance=chance,
            confirmed=f"a copy learned one batch by heart ({left:.1%} of its loss left), zeros for inputs do as well "
            f"({blind:.4g} against {seeing:.4g}), and neighbours agree in {agreement:.0%} where chance is {chance:.0%}",
        )


def examples(seen: Seen) -> tuple[Tensor, Tensor]:
    """Inputs (N, ...) and targets of the recorded batches; empty where a batch is no such pair."""
    inputs, targets = [], []
    for tape in seen.laboratory.tapes:
        args, kwargs = tape.calls()[0].arguments
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.is_floating_point()]
        target = tape.target
        if tensors and target is not None and target.ndim and len(tensors[0]) == len(target):
            inputs.append(tensors[0].float())
            targets.append(target)
    if not inputs:
        return torch.empty(0, 0), torch.empty(0)
    return torch.cat(inputs), torch.cat(targets)


def neighbour_agreement(inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """How often the targets of nearest neighbours agree, and how often those of any two examples do.

    Numbers agree where both are on the same side of the median.
    """
    if targets.is_floating_point():
        targets = targets.flatten(1)[:, 0] if targets.ndim > 1 and targets.shape[1] == 1 else targets
        targets = (targets > targets.median()).long() if targets.ndim == 1 else targets.argmax(1)
    elif targets.ndim > 1:
        targets = targets.flatten(1)[:, 0]
    scaled = (inputs - inputs.mean(0)) / inputs.std(0).clamp_min(1e-6)
    distances = torch.cdist(scaled, scaled)
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(min(NEIGHBOURS, len(inputs) - 1), largest=False).indices
    agreement = float((targets[nearest] == targets[:, None]).float().mean())
    shares = torch.bincount(targets - targets.min()).float() / len(targets)
    return agreement, float(shares.square().sum())
