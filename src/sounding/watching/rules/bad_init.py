"""Weights that were drawn so that signals die, blow up, or all units do the same."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.rules.vanishing_gradient import he
from sounding.watching.seen import Seen

FIRST = 3
RATIO = 100.0
"""Times that signals may grow or shrink from the first hidden layer to the last."""
LOSS = 3.0
"""Times the loss of ignoring the inputs that the first loss may be."""
HEADWAY = 0.5
GAIN = 0.2


class BadInit(Rule):
    """The network starts where it cannot learn.

    Trigger: all units of a hidden layer have the same weights, also after an update; or signals grow or shrink more
    than a hundredfold through depth, or the first loss is several times that of ignoring the inputs; and most of the
    loss is still there.
    Confirmed: a copy whose weights are drawn after He et al. gets further from the start in fifty steps.
    Remedy: He initialisation for ReLU, Xavier for tanh and sigmoid.
    """

    name = "bad_init"
    looks_at = "weights that were drawn badly"
    asked_when_lost = True
    explains = (
        *("vanishing_gradient", "exploding_gradient", "dead_relu", "saturation", "underfit", "labels_shuffled"),
        *("lr_too_low", "lr_too_high", "too_few_steps", "numerics"),
    )
    sources: ClassVar = ("He et al. 2015, arXiv:1502.01852", "Glorot and Bengio 2010, AISTATS")

    def __init__(self) -> None:
        self._next = FIRST
        self._first: float | None = None

    def check(self, seen: Seen) -> Finding | None:
        if self._first is None and seen.call is not None:
            self._first = seen.call.mean
        if len(seen.steps) < 2 or not seen.laboratory.is_ready or not seen.laboratory.start:
            return None
        if (seen.done < self._next and seen.lost is None) or (seen.lost is None and seen.headway() > HEADWAY):
            return None
        twins = self._alike(seen)
        why = f"all units of {twins} have the same weights" if twins else self._scale(seen)
        if not why:
            return None
        self._next = 3 * seen.done
        race = seen.laboratory.race(he, fresh=True)
        if race.gain < GAIN:
            return None
        return self.finding(
            seen,
            f"the weights were drawn badly: {why}",
            "Units that begin alike stay alike; signals that die or blow up on their way take the gradients with them.",
            "draw the weights anew: He initialisation for ReLU, Xavier for tanh and sigmoid",
            layer=twins,
            rms=[one.rms for one in seen.steps[0].inputs],
            first_loss=self._first,
            confirmed=str(race),
        )

    def _alike(self, seen: Seen) -> str:
        layers = [one.layer for one in seen.last.inputs]
        parameters = dict(seen.model.named_parameters())
        for layer in layers[:-1]:
            weight = parameters.get(f"{layer}.weight")
            if weight is not None and len(weight) > 1 and _same_rows(weight.detach()):
                return layer
        return ""

    def _scale(self, seen: Seen) -> str:
        sizes = [one.rms for one in seen.steps[0].inputs if not one.is_first]
        if len(sizes) > 1 and sizes[0] > 0 and not 1 / RATIO < sizes[-1] / sizes[0] < RATIO:
            return f"signals go from {sizes[0]:.2g} in the first hidden layer to {sizes[-1]:.2g} in the last"
        first = seen.steps[0].inputs[0].rms if seen.steps[0].inputs else 0.0
        if sizes and first > 0 and not 1 / RATIO < sizes[-1] / first < RATIO:
            return f"signals go from {first:.2g} in the inputs to {sizes[-1]:.2g} before the last layer"
        baseline, first_loss = seen.ignorance, self._first
        classes = seen.call.classes if seen.call is not None else 0
        even = math.log(max(classes, 2))  # what equal probabilities cost: rows in order show few classes at first
        if classes and baseline and first_loss and first_loss > LOSS * max(baseline, 0.5) and first_loss > 1.5 * even:
            return f"the first loss is {first_loss:.3g}, where {baseline:.3g} is that of knowing nothing"
        return ""


def _same_rows(weight: Tensor) -> bool:
    rows = weight.flatten(1)
    return bool((rows - rows[:1]).abs().max() <= 1e-6 * rows.abs().max().clamp_min(1e-12))
