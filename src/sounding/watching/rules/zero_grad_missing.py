"""Gradients of earlier steps that are still there when the next ones are added."""

from __future__ import annotations

from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

STEPS = 3


class ZeroGradMissing(Rule):
    """The gradients of all steps since the beginning are added up.

    Trigger: in three steps in a row gradients are not zero before the first backward pass after a step. Accumulation
    adds up within a step and is zero after it, so it is not mistaken for this.
    Harm: certain, each update follows a sum over old weights.
    Remedy: zero the gradients before each backward pass.
    """

    name = "zero_grad_missing"
    looks_at = "gradients that are not set to zero"
    goes_by_loss = False
    asked_when_lost = True
    explains = (
        *("exploding_gradient", "lr_too_high", "dead_relu", "numerics", "underfit", "saturation", "lr_too_low"),
        *("labels_shuffled", "too_few_steps", "overfit"),
    )
    sources: ClassVar = ("github.com/pytorch/pytorch, issue 47175",)

    def check(self, seen: Seen) -> Finding | None:
        steps = seen.steps[-STEPS:]
        if len(steps) < STEPS or not all(step.stale and step.number > 0 for step in steps):
            return None
        return self.finding(
            seen,
            "gradients are not set to zero between steps",
            "Each step adds its gradient to those of all steps before it: updates grow and follow weights that are "
            "long gone.",
            "call optimizer.zero_grad() before loss.backward()",
            severity="error",
            steps=[step.number for step in steps],
            gradient_norms=[step.gradient_norm for step in steps],
            confirmed=f"in {STEPS} steps gradients of the step before were there when the backward pass began",
        )
