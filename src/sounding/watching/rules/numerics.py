"""Numbers that are lost: not finite, too small for their type, or of a loss without a bottom."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.experiments import apart
from sounding.watching.graph import TRANSPARENT
from sounding.watching.rule import Rule
from sounding.watching.seen import Lost, Seen

ZEROS = 0.5
"""The part of a layer's gradients that is zero from which on too much of it is lost."""
SCALE = 4096.0
UNBOUNDED = {"Neg", "Mean", "Sum", "Mul", "Div", "Index", "Gather", *TRANSPARENT}
"""Operations through which a loss stays linear in the outputs, with constants beside them."""
REMEDIES = {
    "logarithm": "compute it from raw outputs, by log_softmax, logsigmoid or a loss with logits; or clamp what goes in",
    "division": "add a small number to the divisor, or leave such examples out",
    "exponential": "use logsumexp, or a loss that takes raw outputs",
    "root": "add a small number under the root",
    "ignored": "leave batches out in which there is nothing to learn from",
}


class Numerics(Rule):
    """The loss is not a number, or gradients are zero for want of precision.

    Trigger: the loss is not finite: the batch is gone through once more to find where that begins. Or gradients are
    not finite while the loss is. Or more than half of the gradients of every layer are exactly zero while layers
    compute in float16. Or the loss is negative and linear in the raw outputs of a layer, so that it falls for ever.
    Harm: certain for what is not finite. Zero gradients have to come back when the batch is done again with the loss
    multiplied.
    Remedy: by where it began: stable losses, a scaler, a lower rate.
    """

    name = "numerics"
    looks_at = "numbers that are not finite or lost to half precision"
    goes_by_loss = False
    asked_when_lost = True
    explains = ("no_update", "underfit", "lr_too_low", "too_few_steps", "overfit")
    sources: ClassVar = (
        "Wardat et al. 2022, DeepDiagnosis (ICSE), numerical errors",
        "Micikevicius et al. 2018, Mixed Precision Training (ICLR), section 3.2",
    )

    def __init__(self) -> None:
        self._tried = 0

    def check(self, seen: Seen) -> Finding | None:
        if seen.lost is not None:
            return self._not_finite(seen, seen.lost)
        if not seen.steps:
            return None
        return self._unseen(seen) or self._gradients(seen) or self._underflow(seen) or self._bottomless(seen)

    def _not_finite(self, seen: Seen, lost: Lost) -> Finding:
        where = f"{lost.what} of {lost.layer}" if lost.layer else lost.what
        evidence: dict[str, Any] = {
            "where": lost.what,
            "layer": lost.layer,
            "rows": lost.rows,
            "last_losses": _told(seen.recent(3)),
        }
        if lost.what == "weights":
            finite = [step for step in seen.steps if all(map(math.isfinite, step.weights.values()))]
            evidence["last_finite"] = finite[-1].number if finite else None
            evidence["update_ratio"] = max(finite[-1].update_ratios.values(), default=0.0) if finite else None
        operation = f": {lost.operation}" if lost.operation else ""
        return self.finding(
            seen,
            f"the loss is not finite in step {lost.step + 1}, and that begins in {where}{operation}",
            "From here on every gradient and soon every weight is not a number: nothing can be learned any more.",
            self._remedy(lost),
            severity="error",
            change=_change(seen, lost),
            operation=lost.operation,
            confirmed="the batch was gone through once more, operation by operation",
            **evidence,
        )

    def _remedy(self, lost: Lost) -> str:
        if lost.what == "inputs":
            return "clean the inputs: fill gaps or leave these rows out"
        if lost.what == "targets":
            return "clean the targets: leave out rows without one"
        if lost.what == "weights":
            return "lower the learning rate or clip gradients, and start again from weights that are finite"
        if lost.what == "the loss":
            return next((text for word, text in REMEDIES.items() if word in lost.operation), REMEDIES["logarithm"])
        return f"look at {lost.layer or 'the model'}: numbers overflow or a division or logarithm meets zero in it"

    def _unseen(self, seen: Seen) -> Finding | None:
        """Where losses are not read at once, as on a GPU."""
        bad = next((step for step, loss in enumerate(seen.losses) if not math.isfinite(loss)), None)
        if bad is None:
            return None
        return self._not_finite(seen, Lost(bad, "this step", "", []))

    def _gradients(self, seen: Seen) -> Finding | None:
        step = seen.last
        bad = [name for name, norm in step.applied.items() if not math.isfinite(norm)]
        if not bad or not math.isfinite(step.loss):
            return None
        risky = [one.name for one in seen.graph or () if one.name in {"Sqrt", "Pow", "Log", "Div", "Acos", "Asin"}]
        return self.finding(
            seen,
            f"gradients are not finite though the loss is, {bad[-1]} the last of them",
            "The slope of a root at zero, or of a division by next to nothing, is infinite; the step makes weights of "
            "it.",
            "add a small number under roots and to divisors",
            severity="error",
            parameters=bad[:10],
            operations=risky[:10],
            confirmed="seen after the backward pass",
        )

    def _underflow(self, seen: Seen) -> Finding | None:
        zeros = seen.last.zeros
        if not zeros or min(zeros.values()) < ZEROS or not seen.laboratory.is_ready or seen.done < 2 * self._tried:
            return None
        self._tried = seen.done
        scaled = _zeros(seen, SCALE)
        if scaled > ZEROS * min(zeros.values()):
            return None
        return self.finding(
            seen,
            f"in every layer at least {min(zeros.values()):.0%} of the gradients are zero in float16",
            "Gradients smaller than 6e-8 are zero in float16: what would move the weights is lost.",
            "scale the loss with torch.amp.GradScaler, or compute in bfloat16",
            zeros=dict(sorted(zeros.items(), key=lambda item: -item[1])[:5]),
            confirmed=f"with the loss multiplied by {SCALE:.0f} only {scaled:.0%} are zero on the same batch",
        )

    def _bottomless(self, seen: Seen) -> Finding | None:
        one = seen.graph.loss if seen.graph is not None else None
        if seen.others or seen.call is not None or one is None or seen.last.loss >= 0:
            return None
        signs = 0
        while one.name in UNBOUNDED and len(one.data) == 1:
            signs += one.name == "Neg"
            one = one.data[0]
        if not one.is_affine or not signs or seen.last.loss > min(seen.losses[0], 0) - 1:
            return None
        return self.finding(
            seen,
            f"the loss is the raw outputs of {one.layer} with their sign turned: it falls without end",
            "A cross-entropy needs logarithms of probabilities. Raw outputs can grow for ever, and the loss with them.",
            "use cross_entropy, or log_softmax before picking the right class",
            severity="error",
            layer=one.layer,
            losses=_told([seen.losses[0], seen.last.loss]),
            confirmed="the operations between that layer and the loss are linear, and the loss is below zero",
        )


def _change(seen: Seen, lost: Lost) -> dict[str, Any]:
    """A tenth of the rate, where it was the weights that were lost."""
    return (
        {"training.optimizer.lr": float(f"{max(seen.rates) / 10:.1g}")} if lost.what == "weights" and seen.rates else {}
    )


def _zeros(seen: Seen, scale: float) -> float:
    """The least part of zeros over layers when the last batch is done again on a copy with the loss multiplied."""
    with apart():
        twin = seen.laboratory.twin()
        loss = seen.laboratory.tapes[-1].play(twin.models) * scale
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in twin.model.parameters() if p.grad is not None and p.ndim > 1]
        shares: list[Tensor] = [(gradient == 0).float().mean() for gradient in gradients]
        return float(torch.stack(shares).min()) if shares else 1.0


def _told(losses: list[float]) -> list[float | str]:
    """As JSON has them: without numbers that are not finite."""
    return [loss if math.isfinite(loss) else str(loss) for loss in losses]
