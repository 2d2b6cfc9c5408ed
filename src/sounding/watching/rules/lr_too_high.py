"""Steps that are too long."""

from __future__ import annotations

from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.experiments import rate_times
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FIRST = 4
"""Steps before the first judgement."""
LEAP = 0.1
"""Of its own norm, by which weights must not change in one step."""
FACTORS = (1 / 3, 1 / 10, 1 / 100, 1 / 1000)
GAIN = 0.3


class LearningRateTooHigh(Rule):
    """The loss rises or stands still because each step overshoots.

    Trigger: the loss is higher than at the start, or far above its best, or lost; or it makes no headway and does not
    fall, while weights change by more than a hundredth of themselves in a step or have once changed by a tenth.
    Confirmed: of copies that begin where training began, those at a third, a tenth, a hundredth or a thousandth of the
    rate get further in fifty steps than the one at this rate.
    Remedy: the rate that got furthest.
    """

    name = "lr_too_high"
    looks_at = "a learning rate that is too high"
    asked_when_lost = True
    explains = (
        *("dead_relu", "exploding_gradient", "saturation", "numerics", "labels_shuffled", "underfit", "overfit"),
        *("vanishing_gradient", "too_few_steps", "targets_not_normalised"),
    )
    sources: ClassVar = (
        "Stanford CS231n, Neural Networks 3: updates of about a thousandth of the weights",
        "Ben Braiek and Khomh 2022, TheDeepChecker (TOSEM): update ratio between 1e-4 and 1e-1",
    )

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if (seen.done < self._next and seen.lost is None and not seen.ended) or not self._is_harmed(seen):
            return None
        laboratory = seen.laboratory
        if not laboratory.is_ready or not laboratory.start or not seen.steps:
            return None
        self._next = 2 * seen.done
        races = {factor: laboratory.race(rate_times(factor), fresh=True) for factor in FACTORS}
        best = max(races, key=lambda factor: (races[factor].gain, -races[factor].remedied[-1]))
        learned = races[best].remedied[-1] < 0.9 * max(races[best].remedied[0], 1e-12)
        if races[best].gain < GAIN or not learned:
            return None
        rate = max(seen.rates)
        return self.finding(
            seen,
            f"the learning rate of {rate:.3g} is too high",
            "Each step goes so far that the loss is no lower there: it rises, swings, or is lost.",
            f"set the learning rate to {rate * best:.1g}",
            change={"training.optimizer.lr": float(f"{rate * best:.1g}")},
            rate=rate,
            factor=best,
            update_ratio=seen.update_ratio(),
            confirmed=f"from the same start at {rate * best:.1g}: {races[best]}",
        )

    def _is_harmed(self, seen: Seen) -> bool:
        if seen.lost is not None:
            return True
        if len(seen.losses) < FIRST:
            return False
        if seen.has_risen():
            return True
        late = sorted(seen.recent(5))[len(seen.recent(5)) // 2]
        if seen.steps and seen.done >= 10 and seen.headway() < 0.1 and not seen.is_falling():
            leaps = max(seen.update_ratio(step) for step in seen.steps)  # after which a network may be dead and quiet
            if seen.update_ratio() > 0.01 or leaps > LEAP:
                return True
        return seen.done >= 20 and seen.headway() < 0.5 and late > 2 * max(min(seen.losses), 1e-12) and late > 0
