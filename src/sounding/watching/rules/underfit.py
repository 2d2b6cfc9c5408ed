"""A network that is too small for what it is to learn."""

from __future__ import annotations

import math
from statistics import fmean, pstdev
from typing import ClassVar

import torch
from torch import nn

from sounding.finding import Finding
from sounding.watching.examples import inputs_of, target_of
from sounding.watching.experiments import Laboratory, Remedy, Twin, rate_times
from sounding.watching.graph import Graph, Operation
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

STEPS = 100
PLATEAU = 0.02
"""Relative fall of the loss in the last fifth of the run, below which nothing happens any more."""
HEADWAY = 0.7
"""Of the loss of ignoring the inputs, above which enough is learned."""
MEMORISED = 0.3
"""Of the loss on one batch: a network that gets below by heart is large enough."""
WIDEST = 4096
WIDER = 4
"""Times the widest hidden layer, which the remedy asks for."""
BETTER = 0.8
"""Times the loss of the network on batches held out, below which a wider one comes."""
FEWEST = 4
"""Recorded batches that are needed to train on some and measure on others."""


class Underfit(Rule):
    """The loss stands still far above zero because the hidden layers are too narrow.

    Trigger: after a hundred steps the loss has not fallen for a fifth of the run, and less than seven tenths of the
    loss of ignoring the inputs are gone.
    Confirmation: a copy cannot learn one batch by heart, at the rate or at a third or three times of it; and a copy
    with wider hidden layers, drawn anew and trained on the few recorded batches only, is better on batches that were
    held out than the network after its whole training, and than an equally narrow one drawn anew, at the rate or at
    three times of it. What is narrow in a network that is to answer with its own inputs is meant to be.
    Remedy: wider or more hidden layers.
    """

    name = "underfit"
    looks_at = "a network that is too small"
    sources: ClassVar = ("Karpathy 2019, A Recipe for Training Neural Networks", "Tuning Playbook 2023, Google")

    def __init__(self) -> None:
        self._next = STEPS
        self._narrow: list[tuple[str, str]] = []
        self._is_large_enough = False  # which it remains

    def check(self, seen: Seen) -> Finding | None:
        if seen.graph is not None and not self._narrow:
            self._narrow = hidden_layers(seen.graph, seen.model)
        laboratory = seen.laboratory
        if self._is_large_enough or seen.others or seen.done < self._next:
            return None
        if not laboratory.is_ready or len(laboratory.tapes) < FEWEST:
            return None
        if not self._narrow or not _stands_still(seen.losses) or not 0 <= seen.headway() < HEADWAY:
            return None
        if _reconstructs(laboratory):
            return None
        self._next = 2 * seen.done
        left = math.inf
        for remedy in (None, rate_times(1 / 3), rate_times(3)):
            left = min(left, laboratory.memorises(remedy, enough=MEMORISED))
            if left < MEMORISED:
                self._is_large_enough = True
                return None
        now = laboratory.held_out(steps=0)
        wide = _tried(laboratory, widened(self._narrow, 8))
        if not wide < BETTER * now:
            return None
        narrow = min(_tried(laboratory, widened(self._narrow, 1, rate)) for rate in (1.0, 3.0))
        if not wide < BETTER * narrow:
            return None
        widths = [_linear(seen.model, one).out_features for one, _ in self._narrow]
        return self.finding(
            seen,
            f"the network is too small: its loss stands still at {fmean(seen.recent(20)):.4g}",
            f"Hidden layers of {', '.join(map(str, widths))} units do not hold what the outputs depend on.",
            "make the hidden layers wider, or add more of them",
            confirmed=f"a copy could not learn one batch by heart ({left:.0%} of its loss left), while one with hidden "
            f"layers eight times as wide came to {wide:.4g} on batches held out, after {4 * 50} steps; the network as "
            f"it is has {now:.4g} there",
            change={"network.options.hidden_sizes": [WIDER * max(widths)] * len(widths)},
            widths=widths,
            loss_held_out=now,
            loss_of_wider=wide,
        )


def _reconstructs(laboratory: Laboratory) -> bool:
    """Whether the inputs are the targets: what is narrow in such a network is meant to be."""
    inputs, target = inputs_of(laboratory.tapes[-1]), target_of(laboratory.tapes[-1])
    return inputs is not None and target is not None and torch.equal(inputs.flatten(), target.flatten())


def _stands_still(losses: list[float]) -> bool:
    fifth = len(losses) // 5
    before, last = losses[-2 * fifth : -fifth], losses[-fifth:]
    noise = math.hypot(pstdev(before), pstdev(last)) / math.sqrt(fifth)
    return fmean(before) - fmean(last) < max(PLATEAU * fmean(before), 2 * noise)


def hidden_layers(graph: Graph, model: nn.Module) -> list[tuple[str, str]]:
    """Pairs of linear layers of which one feeds the next, with nothing but an activation or dropout between them."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    pairs = []
    for one in graph.affine():
        before = _before(one)
        if before is not None and {before.layer, one.layer} <= linear:
            pairs.append((before.layer, one.layer))
    return pairs


def _before(operation: Operation) -> Operation | None:
    at = operation
    while len(at.data) == 1 and (at is operation or not at.parameters):
        at = at.data[0]
        if at.is_affine:
            return at
    return None


def _linear(model: nn.Module, name: str) -> nn.Linear:
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def widened(pairs: list[tuple[str, str]], factor: int, rate: float = 1.0) -> Remedy:
    """The remedy of more hidden units, with all linear layers drawn anew."""

    def change(twin: Twin) -> None:
        widths = {one: _linear(twin.model, one).out_features for one, _ in pairs}
        for one, following in pairs:
            wide = min(widths[one] * factor, max(WIDEST, widths[one]))
            before, after = _linear(twin.model, one), _linear(twin.model, following)
            _redrawn(before, wide, before.in_features)
            _redrawn(after, after.out_features, wide)
        first, *others = twin.optimizer.param_groups
        first["params"] = [parameter for parameter in twin.model.parameters() if parameter.requires_grad]
        for group in others:
            group["params"] = []
        twin.optimizer.state.clear()
        twin.scale_rate(rate)

    return change


def _redrawn(layer: nn.Linear, outputs: int, inputs: int) -> None:
    fresh = nn.Linear(inputs, outputs, bias=layer.bias is not None, device=layer.weight.device)
    layer.weight, layer.bias = fresh.weight, fresh.bias
    layer.out_features, layer.in_features = outputs, inputs


def _tried(laboratory: Laboratory, remedy: Remedy) -> float:
    """The loss on batches held out; infinite where the layers do not fit each other any more."""
    try:
        return laboratory.held_out(remedy)
    except RuntimeError:  # something else depends on the width: a normalisation, or a sum of two layers
        return math.inf
