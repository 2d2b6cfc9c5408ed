"""Hidden units stuck where their activation is flat."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from sounding.finding import Finding
from sounding.watching.experiments import Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import Activation, Seen

SHARE = 0.5
STEPS = 3
GAIN = 0.1
HEADWAY = 0.7


class Saturation(Rule):
    """More than half of a hidden layer's tanh or sigmoid units are where the slope is a hundredth of the largest.

    Trigger: in three steps that were looked at, and most of the loss is still there.
    Confirmed: a copy whose layer is drawn anew for the size of its inputs gets further in fifty steps.
    Remedy: normalised inputs, Xavier initialisation, a lower rate, or an activation that does not saturate.
    """

    name = "saturation"
    looks_at = "saturated units"
    explains = ("vanishing_gradient", "underfit", "lr_too_low", "too_few_steps", "labels_shuffled")
    sources: ClassVar = ("Glorot and Bengio 2010, AISTATS", "Amazon SageMaker Debugger, rule SaturatedActivation")

    def __init__(self) -> None:
        self._next = 0

    def check(self, seen: Seen) -> Finding | None:
        if len(seen.steps) < STEPS or seen.done < max(self._next, 8) or not seen.laboratory.is_ready:
            return None
        if seen.headway() > HEADWAY:
            return None
        layers = [one.layer for one in seen.last.activations if one.kind in {"tanh", "sigmoid"}]
        shares = {
            layer: min(_share(step.activations, layer) for step in seen.steps[-STEPS:]) for layer in layers if layer
        }
        stuck = {layer: share for layer, share in shares.items() if share > SHARE and layer != _last_layer(seen)}
        if not stuck:
            return None
        self._next = 2 * seen.done
        race = seen.laboratory.race(lambda twin: _redraw(twin, seen, list(stuck)))
        if race.gain < GAIN:
            return None
        layer = max(stuck, key=lambda name: stuck[name])
        return self.finding(
            seen,
            f"{stuck[layer]:.0%} of the activations after {layer} are saturated",
            "Where tanh and sigmoid are flat, hardly any gradient passes: these units learn next to nothing.",
            "normalise the inputs, use Xavier initialisation, or another activation",
            change={"network.options.activation": "relu"},
            layer=layer,
            shares=stuck,
            confirmed=str(race),
        )


def _share(activations: list[Activation], layer: str) -> float:
    return max((one.saturated for one in activations if one.layer == layer), default=0.0)


def _last_layer(seen: Seen) -> str:
    return seen.last.inputs[-1].layer if seen.last.inputs else ""


def _redraw(twin: Twin, seen: Seen, layers: list[str]) -> None:
    """Draw the layers anew so that what comes out has a deviation of one."""
    sizes = {one.layer: max(one.rms, 1e-12) for one in seen.last.inputs}
    modules = dict(twin.model.named_modules())
    with torch.no_grad():
        for layer in layers:
            module = modules.get(layer)
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.xavier_normal_(module.weight, gain=1 / sizes.get(layer, 1.0))
                if module.bias is not None:
                    module.bias.zero_()
