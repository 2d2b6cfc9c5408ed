"""Validation while dropout and batch norms are in training mode."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen


class EvalModeForgotten(Rule):
    """Rows that are not trained on pass through dropout and batch norms in training mode.

    Trigger: a forward pass without gradients between steps, with such modules in training mode. Batch norms without
    momentum, whose statistics are being measured anew on purpose, do not count.
    Harm: certain: what is measured depends on chance and on the batch, and running statistics take in these rows.
    Remedy: `model.eval()` before validation, `model.train()` after it.
    """

    name = "eval_mode_forgotten"
    looks_at = "validation in training mode"
    goes_by_loss = False
    explains = ("overfit",)
    sources: ClassVar = ("github.com/pytorch/pytorch, issue 4741", "github.com/keras-team/keras, issue 6977")

    def check(self, seen: Seen) -> Finding | None:
        if not seen.validations or seen.others:
            return None
        modules = dict(seen.model.named_modules())
        wrong = [
            name
            for name in seen.validations[-1].training_modules
            if not isinstance(modules[name], nn.modules.batchnorm._BatchNorm) or modules[name].momentum is not None
        ]
        if not wrong:
            return None
        return self.finding(
            seen,
            f"validation runs in training mode: {len(wrong)} modules such as {wrong[0]} behave as in training",
            "Dropout drops and batch norm takes the statistics of the batch: the same rows get another answer each "
            "time, and running statistics take in rows that are not trained on.",
            "call model.eval() before validation and model.train() after it",
            modules=wrong[:10],
            confirmed="seen in a forward pass without gradients",
        )
