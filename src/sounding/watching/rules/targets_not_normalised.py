"""Targets on a scale far from what a network puts out at first."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.experiments import Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import WIDE_ROWS, Seen

FIRST = 10
SCALE = 10.0
GAIN = 0.5
HEADWAY = 0.2


class TargetsNotNormalised(Rule):
    """The network spends its steps on reaching the level and the scale of the targets.

    Trigger: in a regression the targets are ten times as large as the outputs were at first, and as one; the loss is
    still about that of answering with their mean, or above it.
    Confirmed: a copy whose outputs are scaled to the targets' mean and deviation gets to less than half of the loss in
    fifty steps.
    Remedy: train on standardised targets and scale predictions back.
    """

    name = "targets_not_normalised"
    looks_at = "targets that are not normalised"
    asked_when_lost = True
    explains = ("exploding_gradient", "lr_too_low", "underfit", "too_few_steps", "numerics", "dead_relu")
    sources: ClassVar = ("Ben Braiek and Khomh 2022, TheDeepChecker (TOSEM), over_scaled_outputs",)

    def __init__(self) -> None:
        self._next = FIRST
        self._outputs = 0.0

    def check(self, seen: Seen) -> Finding | None:
        call = seen.call
        if call is None or call.name not in {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}:
            return None
        self._outputs = self._outputs or float(call.outputs.float().square().mean().sqrt())
        if not seen.laboratory.is_ready or not seen.laboratory.start or call.outputs.shape != call.target.shape:
            return None
        if seen.done < self._next and seen.lost is None:
            return None
        targets = torch.cat([_few(one) for one in seen.targets[-64:]]).float()
        size, mean, deviation = float(targets.square().mean().sqrt()), targets.mean(), targets.std()
        if size < SCALE * max(self._outputs, 1.0) or (seen.lost is None and seen.headway() > HEADWAY):
            return None
        self._next = 2 * seen.done
        race = seen.laboratory.race(lambda twin: _rescale(twin, mean, deviation), fresh=True)
        if race.gain < GAIN:
            return None
        return self.finding(
            seen,
            f"targets are about {size:.3g}, outputs began at about {self._outputs:.2g}",
            "Until the outputs have grown to the targets' level and scale nothing else is learned, and gradients are "
            "as large as the targets.",
            "train on (target - mean) / deviation and scale the predictions back",
            target_mean=float(mean),
            target_deviation=float(deviation),
            outputs=self._outputs,
            confirmed=str(race),
        )


def _few(target: Tensor) -> Tensor:
    """(rows, numbers): all rows of single numbers, some of wide ones."""
    return target[:WIDE_ROWS].flatten(1) if target.ndim > 1 else target[:, None]


def _rescale(twin: Twin, mean: Tensor, deviation: Tensor) -> None:
    def scaled(module: Any, args: Any, outputs: Any) -> Any:
        return outputs * deviation + mean if isinstance(outputs, Tensor) else None

    twin.model.register_forward_hook(scaled)
