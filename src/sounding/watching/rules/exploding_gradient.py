"""Gradients that are far larger than a step can bear."""

from __future__ import annotations

import math
from statistics import median
from typing import Any, ClassVar

from torch.nn.utils import clip_grad_norm_

from sounding.finding import Finding
from sounding.watching.experiments import Remedy, Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

SPIKE = 10.0
FIRST = 4
GAIN = 0.2


class ExplodingGradient(Rule):
    """Gradients grow on their way back, or now and then by far, and throw the weights about.

    Trigger: a gradient ten times the median of those before it, or one that is not finite, or more than a hundred
    times as large as the weights; and the loss is above its best or lost.
    Confirmed: a copy whose gradients are clipped gets further from the same start in fifty steps.
    Remedy: clip the norm of the gradients, lower the rate, normalise.
    """

    name = "exploding_gradient"
    looks_at = "gradients that explode"
    asked_when_lost = True
    explains = ("numerics", "dead_relu", "saturation", "underfit", "labels_shuffled")
    sources: ClassVar = ("Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063", "Godbole et al. 2023, Tuning Playbook")

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if not seen.steps or not seen.laboratory.is_ready or not seen.laboratory.start:
            return None
        if seen.done < self._next and seen.lost is None:
            return None
        norms = [step.gradient_norm for step in seen.steps]
        finite = [norm for norm in norms if math.isfinite(norm)]
        usual = median(finite[: max(len(finite) // 2, 1)]) if finite else 0.0
        largest = max(norms, default=0.0)
        spiked = not math.isfinite(sum(norms)) or largest > SPIKE * max(usual, 1e-12) or self._is_huge(seen)
        if not spiked or not self._is_harmed(seen):
            return None
        self._next = 2 * seen.done
        limit = min(usual, 1.0) if usual else 1.0
        race = seen.laboratory.race(_clipped(limit), fresh=True)
        if race.gain < GAIN:
            return None
        return self.finding(
            seen,
            f"a gradient norm of {largest:.3g}, where {usual:.3g} was usual",
            "Steps follow the size of the gradient: one such step undoes many others, or ends in infinity.",
            f"clip the norm of the gradients at {limit:.2g}, or lower the learning rate",
            change={"training.clip_norm": float(f"{limit:.2g}")},
            largest=largest if math.isfinite(largest) else str(largest),
            usual=usual,
            confirmed=str(race),
        )

    def _is_huge(self, seen: Seen) -> bool:
        step = seen.steps[0]
        weights = math.sqrt(sum(norm * norm for norm in step.weights.values()))
        return step.gradient_norm > 100 * max(weights, 1e-12)

    def _is_harmed(self, seen: Seen) -> bool:
        if seen.lost is not None:
            return True
        late = seen.recent(3)
        return len(late) == 3 and (
            not all(math.isfinite(loss) for loss in late) or min(late) > 1.5 * max(min(seen.losses), 1e-12)
        )


def _clipped(limit: float) -> Remedy:
    def remedy(twin: Twin) -> None:
        def clip(*_: Any) -> None:
            clip_grad_norm_(twin.model.parameters(), limit)

        twin.optimizer.register_step_pre_hook(clip)

    return remedy
