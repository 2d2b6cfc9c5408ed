"""A learning rate that is gone long before the run ends."""

from __future__ import annotations

from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.experiments import LONG, STEPS, rate_times
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FALLEN = 0.01
"""Part of its peak below which a rate is gone."""
GAIN = 0.1


class SchedulerPerStep(Rule):
    """A schedule made for epochs advances with every batch.

    Trigger: the rate fell to less than a hundredth of its peak, and training goes on for a quarter as long again.
    Harm: a copy at a third of the peak rate gets further in fifty steps than one at the rate there is left, or one at
    the peak in 150.
    Remedy: call `scheduler.step()` once an epoch, or make the schedule for the number of steps.
    """

    name = "scheduler_per_step"
    looks_at = "a schedule that advances too fast"
    explains = ("lr_too_low", "underfit", "too_few_steps", "no_update")
    sources: ClassVar = ("Karpathy 2019, A Recipe for Training Neural Networks",)

    def check(self, seen: Seen) -> Finding | None:
        peak = max(seen.rates, default=0.0)
        if not seen.rates or seen.rates[-1] > FALLEN * peak or seen.ended or not seen.laboratory.is_ready:
            return None
        if self._may_be_planned(seen):
            return None
        first = next(step for step, rate in enumerate(seen.rates) if rate <= FALLEN * peak)
        rate = max(seen.rates[-1], 1e-12)
        tried = ((peak / rate / 3, STEPS), (peak / rate, LONG))
        races = (seen.laboratory.race(rate_times(factor), steps=steps) for factor, steps in tried)
        race = next((race for race in races if race.gain > GAIN), None)
        if race is None:
            return None
        return self.finding(
            seen,
            f"the learning rate fell from {peak:.3g} to {rate:.3g} by step {first + 1}",
            "The schedule advances much faster than the run: from here on nothing is learned.",
            "call scheduler.step() once an epoch instead of once a batch, or make the schedule for as many steps",
            peak=peak,
            rate=rate,
            confirmed=str(race),
        )

    def _may_be_planned(self, seen: Seen) -> bool:
        """Whether the fall may be the planned end of the run: it is no fault before training goes on for long."""
        first = next(step for step, rate in enumerate(seen.rates) if rate <= FALLEN * max(seen.rates))
        return seen.done < 1.25 * first + 5
