"""Steps that are too short."""

from __future__ import annotations

from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.experiments import rate_times
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

TINY = 3e-5
"""Updates relative to the weights that lead nowhere within any run."""
SMALL = 1e-3
"""What healthy updates are about; below it, and without headway, a higher rate is tried."""
PATIENCE = 60
"""Steps before small updates are judged."""
FACTORS = (10.0, 100.0, 1e3, 1e4, 1e5)
GAIN = 0.3
HEADWAY = 0.1


class LearningRateTooLow(Rule):
    """The loss hardly falls because each step is so short.

    Trigger: updates of less than 3e-5 of the weights after ten steps, or of less than 1e-3 after sixty while nearly all
    of the loss is still there. A rate that still rises (warm-up) is left alone.
    Confirmed: a copy at ten times the rate, or a hundred and so on, gets clearly further in fifty steps.
    Remedy: the least of these rates that does.
    """

    name = "lr_too_low"
    looks_at = "a learning rate that is too low"
    explains = ("too_few_steps", "underfit", "labels_shuffled", "vanishing_gradient", "targets_not_normalised")
    sources: ClassVar = ("Stanford CS231n, Neural Networks 3: updates of about a thousandth of the weights",)

    def __init__(self) -> None:
        self._next = 10

    def check(self, seen: Seen) -> Finding | None:
        if not seen.steps or not seen.laboratory.is_ready or (seen.done < self._next and not seen.ended):
            return None
        rates = seen.rates
        if len(rates) > 1 and rates[-1] > rates[-2]:
            return None
        ratio, headway = seen.update_ratio(), seen.headway()
        patient = seen.done >= PATIENCE or (seen.ended and seen.done >= 10)
        if headway > HEADWAY or not (0 < ratio < TINY or (patient and 0 < ratio < SMALL)):
            return None
        self._next = 2 * seen.done
        races = ((factor, seen.laboratory.race(rate_times(factor))) for factor in FACTORS)
        factor, race = next(((factor, race) for factor, race in races if race.gain > GAIN), (0.0, None))
        if race is None:
            return None
        rate = rates[-1]
        return self.finding(
            seen,
            f"the learning rate of {rate:.3g} is too low",
            f"Each step changes the weights by {ratio:.1g} of themselves; at this pace the loss hardly falls.",
            f"set the learning rate to {rate * factor:.1g}",
            change={"training.optimizer.lr": float(f"{rate * factor:.1g}")},
            rate=rate,
            factor=factor,
            update_ratio=ratio,
            confirmed=f"at {rate * factor:.1g}: {race}",
        )
