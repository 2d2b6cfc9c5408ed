"""Gradients that do not reach the first layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from sounding.finding import Finding
from sounding.watching.experiments import Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen, Step

RATIO = 1e-3
STEPS = 3
FIRST = 10
HEADWAY = 0.1
GAIN = 0.1


class VanishingGradient(Rule):
    """The first layers get next to no gradient, and the network does not learn.

    Trigger: relative to its weights, the gradient of the first layer is less than a thousandth of the last one's in
    three steps that were looked at, and nearly all of the loss is still there after ten steps.
    Confirmed: a copy with ReLU for sigmoid and tanh and He initialisation, or with batch norms' work done by drawing
    weights anew, gets further in fifty steps.
    Remedy: ReLU with He initialisation, normalisation, skip connections.
    """

    name = "vanishing_gradient"
    looks_at = "gradients that do not reach the first layers"
    explains = ("underfit", "lr_too_low", "labels_shuffled", "too_few_steps")
    sources: ClassVar = (
        "Glorot and Bengio 2010, AISTATS",
        "Zhang et al. 2021, AutoTrainer (ICSE): norm of the first over the last below 1e-3",
    )

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if seen.done < self._next or len(seen.steps) < STEPS or not seen.laboratory.is_ready:
            return None
        ratios = [ratio for step in seen.steps[-STEPS:] if (ratio := first_to_last(step)) is not None]
        if len(ratios) < STEPS or max(ratios) >= RATIO or seen.headway() > HEADWAY:
            return None
        self._next = 2 * seen.done
        start = bool(seen.laboratory.start)
        race = seen.laboratory.race(open_up, fresh=start)
        if race.gain < GAIN:
            return None
        return self.finding(
            seen,
            f"the gradient of the first layer is {max(ratios):.1g} of the last one's",
            "Each layer passes on less of the gradient than it gets; the first ones stay as they were drawn.",
            "use ReLU with He initialisation, normalisation layers, or skip connections",
            change={"network.options.activation": "relu"},
            ratios=ratios,
            confirmed=str(race),
        )


def first_to_last(step: Step) -> float | None:
    """How the relative gradient of the first weight compares with that of the last; none with fewer than four."""
    layers = [f"{one.layer}.weight" for one in step.inputs]
    relative = [
        step.gradients[name] / step.weights[name]
        for name in dict.fromkeys(layers)
        if name in step.gradients and step.weights.get(name)
    ]
    if len(relative) < 4 or not relative[-1]:
        return None
    return relative[0] / relative[-1]


def open_up(twin: Twin) -> None:
    """Sigmoid and tanh become ReLU, weights are drawn after He et al. 2015."""
    for parent in list(twin.model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, (nn.Sigmoid, nn.Tanh)):
                setattr(parent, name, nn.ReLU())
    he(twin)


def he(twin: Twin) -> None:
    """Draw the weights of linear and convolutional layers after He et al. 2015."""
    with torch.no_grad():
        for module in twin.model.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()
