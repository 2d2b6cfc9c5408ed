"""Layers that follow one another with nothing between them."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, NamedTuple

from torch import nn
from torch.nn import functional as F

from sounding.finding import Finding
from sounding.watching.experiments import Twin
from sounding.watching.graph import Operation
from sounding.watching.probes import fingerprints
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FIRST = 8
"""Steps before the first race; each later one waits for three times as many."""
LEARNED = 0.8
"""Progress from which on nothing is missing."""
GAIN = 0.15
"""Of the race, and on batches held out ..."""
HELD_OUT_GAIN = 0.1
"""... so much, or ..."""
CLEAR_GAIN = 0.8
"""... so much of the race alone."""
DISTINCT = 0.9
"""Of the recorded rows, for batches to count as held out."""
STEPS = 100


class Pair(NamedTuple):
    """Two layers, one after the other."""

    first: str
    second: str


class MissingNonlinearity(Rule):
    """Two linear or convolutional layers with nothing between them that bends: together they are one.

    Trigger: the graph leads from a layer to the one before without an activation. Inner widths of at most half of the
    outer ones (low rank by intent), grouped convolutions and projections that several layers share do not count.
    Harm: two copies start where training began; the one with ReLU between these layers gets clearly further, and does
    so on batches held out as well, or nearly to the end. Without that, or where the run has learned well as it is,
    this is no more than a note.
    Remedy: an activation after each hidden layer.
    """

    name = "missing_nonlinearity"
    looks_at = "layers with no activation between them"
    explains = ("underfit", "too_few_steps", "lr_too_low", "labels_shuffled", "bad_init", "vanishing_gradient")
    sources: ClassVar = (
        "Schoop et al. 2021, UMLAUT (CHI), missing activation",
        "Nikanjam et al. 2021, NeuraLint (TOSEM), rules on layers",
    )

    def __init__(self) -> None:
        self._pairs: list[Pair] | None = None
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if self._pairs is None and seen.graph is not None and not seen.others:
            self._pairs = pairs(seen)
        if not self._pairs or (seen.done < self._next and not seen.ended):
            return None
        self._next = 3 * seen.done
        confirmed = ""
        if self._may_learn_more(seen) and seen.laboratory.is_ready and seen.laboratory.start:
            race = seen.laboratory.race(self._bend, steps=STEPS, fresh=True)
            if race.gain > CLEAR_GAIN or (race.gain > GAIN and self._helps_elsewhere(seen)):
                confirmed = str(race)
        if not confirmed and not seen.ended:
            return None
        first, second = self._pairs[0]
        return self.finding(
            seen,
            f"nothing lies between the layers {first} and {second}: together they can do no more than one of them",
            "A linear map of a linear map is a linear map. Only an activation between them lets depth say more.",
            f"put an activation such as ReLU after {first}",
            severity="warning" if confirmed else "info",
            layers=[list(pair) for pair in self._pairs[:10]],
            confirmed=confirmed,
        )

    def _may_learn_more(self, seen: Seen) -> bool:
        progress = seen.progress()
        return progress is None or progress < LEARNED

    def _helps_elsewhere(self, seen: Seen) -> bool:
        """Whether it is not just noise that is learned better: on batches that share no rows with those learned."""
        rows = [row for tape in seen.laboratory.tapes for row in fingerprints(*tape.calls()[0].arguments)]
        if len(set(rows)) < DISTINCT * len(rows):
            return False
        return seen.laboratory.held_out(self._bend) < (1 - HELD_OUT_GAIN) * seen.laboratory.held_out()

    def _bend(self, twin: Twin) -> None:
        for layer in {pair.first for pair in self._pairs or ()}:
            twin.model.get_submodule(layer).register_forward_hook(lambda module, args, output: F.relu(output))


def pairs(seen: Seen) -> list[Pair]:
    """Layers with nothing that bends between them, as far as that looks like an oversight."""
    assert seen.graph is not None
    modules = dict(seen.model.named_modules())
    found = []
    for one in seen.graph.affine():
        before = _above(one)
        if before is None or not before.is_affine:
            continue
        first, second = modules.get(before.layer), modules.get(one.layer)
        if first is None or second is None or first is second:
            continue
        outer, inner, outer_too = _width(first, 0), _width(first, 1), _width(second, 1)
        if inner > min(outer, outer_too) / 2:
            found.append(Pair(before.layer, one.layer))
    shared = Counter(pair.first for pair in found)
    return [pair for pair in found if shared[pair.first] == 1]


def _above(operation: Operation) -> Operation | None:
    """The operation that bends before this one; batch norms and leaky ReLUs of slope one do not."""
    at = operation.above()
    while at is not None and (
        at.name in {"NativeBatchNorm", "CudnnBatchNorm"}
        or (at.name == "LeakyRelu" and float(at.node._saved_negative_slope) == 1)
    ):
        at = at.above()
    return at


def _width(module: nn.Module, side: int) -> float:
    """Of what goes into a layer (0) and what comes out (1); not a number for those that are no plain layers."""
    if isinstance(module, nn.Linear):
        return float((module.in_features, module.out_features)[side])
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups == 1:
        return float((module.in_channels, module.out_channels)[side])
    return float("nan")
