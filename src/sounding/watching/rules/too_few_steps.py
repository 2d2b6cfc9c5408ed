"""A run that ends while there is much left to learn."""

from __future__ import annotations

import math
from statistics import fmean, pstdev
from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.answers import score_lost
from sounding.watching.experiments import STEPS as RACE
from sounding.watching.labels import labelled
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

STEPS = 10
"""Below these there is no curve to judge."""
SHARE = 0.12
"""Of all that the loss fell, the part that fell between the last fifth of the run and the one before."""
HEADWAY = 0.5
"""Of the loss of ignoring the inputs, below which so little is gone that the run is clearly unfinished."""
NOTHING = 0.1
"""The same after one or two epochs without a curve to judge."""
ACCURACY = 0.9
LEFT = 0.7
"""Of the loss at the end, below which more steps on the recorded batches bring a copy."""
RATE = 0.1
"""Of its peak: a rate below it was brought down because the end was planned."""
FEW = 2
"""Epochs, after which there may be no curve to judge yet."""
LONGER = 3
"""Times the epochs there were, which the remedy asks for."""


class TooFewSteps(Rule):
    """The loss is still falling clearly when the run ends.

    Trigger: at the end, an eighth or more of all that the loss fell so far fell in the last fifth; the validation
    loss, where seen, is at its lowest, and a score that was told did not get worse; the learning rate is not at the end
    of a schedule. One or two epochs without such a curve are looked at, too.
    Harm: less than half of the loss of ignoring the inputs is gone, or a tenth after one or two epochs without such a
    curve. A run that came further is told as an info.
    Confirmation: a copy that goes on for as many steps (50 to 100), on the recorded batches, loses a third of the loss.
    Without such a curve it has to lose it on recorded batches held out.
    Remedy: more epochs.
    """

    name = "too_few_steps"
    looks_at = "a loss that is still falling at the end"
    explains = ("underfit",)
    sources: ClassVar = ("Humbatova et al. 2021, DeepCrime (ISSTA): number of epochs",)

    def check(self, seen: Seen) -> Finding | None:
        if not seen.ended or seen.done < STEPS or seen.others or not seen.laboratory.is_ready:
            return None
        if not all(map(math.isfinite, seen.losses)) or seen.rates[-1] < RATE * max(seen.rates):
            return None
        share = _late_share(seen.losses)
        falls, epochs = share >= SHARE, len(seen.validations)  # our trainer validates once an epoch
        if not (falls or 1 <= epochs <= FEW) or not _validation_falls(seen):
            return None
        known = labelled(seen.laboratory)
        accuracy = float((known.predictions == known.labels).float().mean()) if known is not None else None
        if accuracy is not None and accuracy > ACCURACY:
            return None
        if falls:
            steps, held_out = min(max(seen.done, 50), 100), ""
            losses = seen.laboratory.descend(steps=steps)
            now, reached = fmean(seen.recent(max(seen.done // 20, 3))), fmean(losses[-len(losses) // 5 :])
        else:
            steps, held_out = RACE * (8 if seen.headway() < NOTHING else 4), " held out"
            now, reached = seen.laboratory.held_out(steps=0), seen.laboratory.held_out(steps=steps)
        if not reached < LEFT * now:
            return None
        return self.finding(
            seen,
            f"the loss still falls when the run ends at step {seen.done}: {share:.0%} of its fall is of the last fifth"
            if falls
            else f"the run ends at step {seen.done}, after {epochs} epoch{'s' * (epochs > 1)}",
            "The network had no time to learn what it can.",
            "train for more epochs",
            severity="warning" if seen.headway() < (HEADWAY if falls else NOTHING) else "info",
            change={"training.epochs": LONGER * epochs} if epochs else None,
            confirmed=f"a copy that went on for {steps} steps came from {now:.4g} to {reached:.4g} on recorded batches"
            + held_out,
            share_of_last_fifth=share,
            loss=now,
            accuracy=accuracy,
        )


def _late_share(losses: list[float]) -> float:
    """How much of all that the loss fell it fell from the fifth before the last to the last; 0 within the noise."""
    fifth = len(losses) // 5
    before, last = losses[-2 * fifth : -fifth], losses[-fifth:]
    fall, total = fmean(before) - fmean(last), fmean(losses[: max(fifth // 4, 1)]) - fmean(last)
    noise = math.hypot(pstdev(before), pstdev(last)) / math.sqrt(fifth)
    return fall / total if total > 0 and fall > 3 * noise else 0.0


def _validation_falls(seen: Seen) -> bool:
    """Whether the last validation was clearly the best so far, where there were several."""
    losses = [one.loss for one in seen.validations if one.loss is not None]
    if score_lost(seen.validations):
        return False
    return len(losses) < 2 or losses[-1] < 0.98 * min(losses[:-1])
