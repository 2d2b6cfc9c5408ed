"""Weight decay, a penalty or dropout that outweighs the data."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch.nn.modules.dropout import _DropoutNd

from sounding.finding import Finding
from sounding.watching.experiments import Laboratory, Remedy, Twin, apart
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FIRST = 50
STEPS = 5
"""Looked steps in a row in which the regularisation weighs so much."""
WEIGHT = 0.5
"""Of the data's gradient: a regularisation that pulls with more shapes what is learned."""
DROPOUT = 0.7
HEADWAY = 0.5
"""Of the loss of ignoring the inputs: a network that comes further learns."""
BETTER = 0.8
FEWEST = 4
STRONGEST = 0.01
"""Weight decay that the remedy leaves."""


class _Suspect(NamedTuple):
    what: str
    strength: float
    remedy: Remedy
    advice: str
    change: dict[str, Any]
    is_penalty: bool = False


class OverRegularised(Rule):
    """The network cannot learn, since its weights are pulled to zero or its units dropped.

    Trigger: in several looked steps in a row the pull of the weight decay is more than half that of the data (for a
    decay that is apart from the gradient: more than half of the update); or the gradient of a penalty in the loss is;
    or every dropout drops more than 0.7. The loss has come less than half way from ignoring the inputs.
    Confirmation: a copy without it that goes on from here is clearly better on recorded batches held out, in
    evaluation mode, than one that keeps it and than the network is now.
    Remedy: a tenth of the weight decay or penalty; a dropout of 0.2 or less.
    """

    name = "over_regularised"
    looks_at = "weight decay, penalties or dropout that outweigh the data"
    explains = ("underfit", "lr_too_low", "too_few_steps", "vanishing_gradient", "dead_relu")
    sources: ClassVar = ("cs231n, Neural Networks 3: sanity checks", "Humbatova et al. 2021, DeepCrime (ISSTA)")

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        laboratory = seen.laboratory
        enough = seen.done >= self._next or (seen.ended and seen.done >= FIRST // 2)
        if seen.others or not enough or not laboratory.is_ready or len(laboratory.tapes) < FEWEST:
            return None
        if not laboratory.tapes[-1].has_penalty and seen.headway() > HEADWAY:
            return None
        suspects = [one for look in (_decay, _penalty, _dropout) if (one := look(seen)) is not None]
        if not suspects:
            return None
        now = laboratory.held_out(steps=0)
        if seen.baseline is not None and now < (1 - HEADWAY) * seen.baseline:
            return None
        self._next = 2 * seen.done
        kept = laboratory.held_out()
        for one in suspects:
            free = laboratory.held_out(one.remedy, without_penalty=one.is_penalty)
            if free < BETTER * min(now, kept):
                return self.finding(
                    seen,
                    f"{one.what} outweighs the data",
                    "The network is held where it cannot learn, far above the loss that it could have.",
                    one.advice,
                    change=one.change,
                    confirmed=f"on batches held out a copy without it came to a loss of {free:.4g}, one with it to "
                    f"{kept:.4g}",
                    strength=one.strength,
                    loss_with=kept,
                    loss_without=free,
                )
        return None


def _decay(seen: Seen) -> _Suspect | None:
    assert seen.optimizer is not None
    decay = max(group.get("weight_decay", 0) or 0 for group in seen.optimizer.param_groups)
    steps = seen.steps[-STEPS:]
    if not decay or len(steps) < STEPS:
        return None
    apart_from_gradient = type(seen.optimizer).__name__ == "AdamW" or any(
        group.get("decoupled_weight_decay") for group in seen.optimizer.param_groups
    )
    strengths = []
    for step in steps:
        weights = math.hypot(*step.weights.values())
        if apart_from_gradient:
            pull, data = step.rates[0] * decay * weights, math.hypot(*step.updates.values())
        else:
            pull, data = decay * weights, step.gradient_norm
        strengths.append(pull / max(data, 1e-12))
    if min(strengths) < WEIGHT and not _has_vanished(seen):
        return None

    def without(twin: Twin) -> None:
        for group in twin.optimizer.param_groups:
            group["weight_decay"] = type(group.get("weight_decay", 0.0))(0)
        _renewed(twin, seen.laboratory)

    less = float(f"{min(decay / 10, STRONGEST):.1g}")
    change = {"training.optimizer.weight_decay": less}
    return _Suspect(
        f"a weight decay of {decay:g}", min(strengths), without, f"try weight_decay={less:g} or less", change
    )


def _has_vanished(seen: Seen) -> bool:
    """Whether the weights are all but gone: the pull on nothing is nothing."""
    first, last = (math.hypot(*step.weights.values()) for step in (seen.steps[0], seen.last))
    return last < 0.05 * first


def _renewed(twin: Twin, laboratory: Laboratory) -> None:
    """Give back the weights of the start: out of those that were pulled to zero no gradient leads."""
    if laboratory.start:
        twin.model.load_state_dict(laboratory.start)
        twin.optimizer.state.clear()


def _penalty(seen: Seen) -> _Suspect | None:
    tapes = seen.laboratory.tapes
    if not tapes[-1].has_penalty:
        return None
    strength = min(_penalty_strength(seen, back) for back in (1, 2, 3))
    if strength < WEIGHT:
        return None

    def without(twin: Twin) -> None:
        _renewed(twin, seen.laboratory)

    what, advice = "a penalty on the weights in the loss", "make it ten times smaller, or leave it out"
    return _Suspect(what, strength, without, advice, {"training.l1": 0.0, "training.l2": 0.0}, True)


def _penalty_strength(seen: Seen, back: int) -> float:
    """The norm of the gradient of the penalty relative to that of the data."""
    with apart():
        twin = seen.laboratory.twin()
        tape = seen.laboratory.tapes[-back]
        parameters = [parameter for parameter in twin.model.parameters() if parameter.requires_grad]
        whole, data = (
            torch.autograd.grad(one.play(twin.models), parameters, allow_unused=True)
            for one in (tape, tape.without_penalty(twin.models))
        )
    pairs = [(a, b) for a, b in zip(whole, data, strict=True) if a is not None and b is not None]
    pull = math.hypot(*(float((a - b).norm()) for a, b in pairs))
    return pull / max(math.hypot(*(float(b.norm()) for _, b in pairs)), 1e-12)


def _dropout(seen: Seen) -> _Suspect | None:
    drops = [module.p for module in seen.model.modules() if isinstance(module, _DropoutNd) and module.p > 0]
    if not drops or min(drops) <= DROPOUT:
        return None

    def without(twin: Twin) -> None:
        for module in twin.model.modules():
            if isinstance(module, _DropoutNd):
                module.p = 0.0

    change = {"network.options.dropout": 0.2}
    return _Suspect(f"a dropout of {max(drops):g} at every layer", max(drops), without, "try a dropout of 0.2", change)
