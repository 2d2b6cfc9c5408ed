"""Units that answer zero to every example."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from sounding.finding import Finding
from sounding.watching.experiments import Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

EXAMPLES, LEAST = 512, 64
"""Examples for which a unit has to be zero: of so many if there are as many of late, and of no less."""
SHARE = 0.5
"""Of a layer."""
GAIN = 0.1
HEADWAY = 0.9
LITTLE_HEADWAY = 0.5
"""At the end of a run whose loss still falls."""


class DeadRelu(Rule):
    """More than half of a layer's units are zero for every example, so that no gradient passes them.

    Trigger: they were zero for 64 to 512 examples in a row, all of the second half of the run, and the loss does not
    fall, or the run ends with half of it left. Sparse layers, where each unit answers to some examples, do not count.
    Confirmed: a copy with the layers before ReLUs drawn anew gets further in fifty steps at a third of the rate.
    Remedy: a lower rate, He initialisation, or a leaky ReLU.
    """

    name = "dead_relu"
    looks_at = "units that are zero for every example"
    explains = ("underfit", "vanishing_gradient", "labels_shuffled", "too_few_steps", "lr_too_low")
    sources: ClassVar = ("Lu et al. 2019, arXiv:1903.06733", "Amazon SageMaker Debugger, rule DeadRelu")

    def __init__(self) -> None:
        self._next = 0

    def check(self, seen: Seen) -> Finding | None:
        if seen.done < max(self._next, 10) or not seen.laboratory.is_ready or seen.headway() > HEADWAY:
            return None
        if seen.is_falling() and not (seen.ended and seen.headway() < LITTLE_HEADWAY):
            return None
        dead = {layer: share for layer, share in dead_shares(seen).items() if share > SHARE}
        if not dead:
            return None
        self._next = 2 * seen.done
        race = seen.laboratory.race(lambda twin: _revive(twin, seen))
        if race.gain < GAIN:
            return None
        layer = max(dead, key=lambda name: dead[name])
        return self.finding(
            seen,
            f"{dead[layer]:.0%} of the units after {layer or 'a layer'} are zero for every example",
            "No gradient passes a unit that is always zero: it never comes back, and the layer works with the rest.",
            "draw the weights anew (He initialisation) and lower the learning rate, or use a leaky ReLU",
            change={"training.optimizer.lr": float(f"{max(seen.rates) / 10:.1g}")},
            layer=layer,
            shares=dead,
            confirmed=str(race),
        )


def dead_shares(seen: Seen) -> dict[str, float]:
    """By layer before a ReLU: the share of units that were zero for all examples of late."""
    shares: dict[str, float] = {}
    for number, last in enumerate(seen.last.activations):
        if last.kind != "relu":
            continue
        alive, examples = torch.zeros_like(last.alive), 0
        for step in reversed(seen.steps):
            if len(step.activations) != len(seen.last.activations) or examples >= EXAMPLES:
                break
            if step.number < seen.done // 2:  # steps that are looked at are far apart, and a unit may have died since
                break
            one = step.activations[number]
            if one.alive.shape != alive.shape:
                break
            alive |= one.alive
            examples += one.examples
        if examples >= LEAST:
            shares[last.layer] = max(shares.get(last.layer, 0.0), 1 - float(alive.float().mean()))
    return shares


def _revive(twin: Twin, seen: Seen) -> None:
    """Draw all weights before ReLUs anew, and go on at a third of the rate."""
    layers = {one.layer for one in seen.last.activations if one.kind == "relu"}
    modules = dict(twin.model.named_modules())
    with torch.no_grad():
        for layer in layers & set(modules):
            module = modules[layer]
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()
    twin.scale_rate(1 / 3)
