"""A loss that compares every output with every target."""

from __future__ import annotations

from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen


class ShapeBroadcast(Rule):
    """Outputs and targets of different shapes are stretched to fit each other.

    Trigger: the difference of (N, 1) and (N,) is (N, N): larger than the outputs. A single target for all outputs,
    or one for each row of them, stretches nothing but the target and is no fault.
    Harm: certain: the best answer to all targets at once is their mean, the same for every example.
    Remedy: give both the same shape.
    """

    name = "shape_broadcast"
    looks_at = "outputs and targets of different shapes"
    goes_by_loss = False
    asked_when_lost = True
    explains = ("underfit", "labels_shuffled", "lr_too_low", "too_few_steps", "targets_not_normalised", "lr_too_high")
    sources: ClassVar = ("Ben Braiek and Khomh 2022, TheDeepChecker (TOSEM), wrong_loss2",)

    def check(self, seen: Seen) -> Finding | None:
        for outputs, target, result in self._pairs(seen):
            if result != outputs and _size(result) > _size(outputs) and outputs[:1] == target[:1] and outputs[0] > 1:
                return self.finding(
                    seen,
                    f"outputs {list(outputs)} and targets {list(target)} are stretched to {list(result)} in the loss",
                    "Every output is compared with every target of the batch, and the network learns their mean.",
                    "give outputs and targets the same shape, with output.squeeze(1) or target.unsqueeze(1)",
                    severity="error",
                    outputs=list(outputs),
                    target=list(target),
                    confirmed="the shapes of this batch",
                )
        return None

    def _pairs(self, seen: Seen) -> list[tuple[tuple[int, ...], ...]]:
        elementwise = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
        calls = [
            (tuple(call.outputs.shape), tuple(call.target.shape), _stretched(call.outputs.shape, call.target.shape))
            for call in seen.calls
            if call.name in elementwise
        ]
        return [*calls, *seen.combined]


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for one in shape:
        size *= one
    return size


def _stretched(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    length = max(len(one), len(other))
    padded = ((1,) * (length - len(shape)) + tuple(shape) for shape in (one, other))
    return tuple(max(pair) for pair in zip(*padded, strict=True))
