"""A network that learns its training rows by heart."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.answers import VALIDATIONS, accuracy_lost, more_than_chance, score_lost
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen, Validation

RISE = 1.1
"""Times its minimum, above which the validation loss has turned up."""
SHARE = 10
"""One in so many validations, and three at least, have to be above it in a row."""
FALL = 0.9
"""Times its value at the minimum, below which the training loss went on falling meanwhile."""
HARM = 0.1
"""Of the loss of ignoring the inputs, or of the least loss where the training rows are known by heart: a rise that
makes the answers clearly worse."""
BY_HEART = 0.01
"""Of the least validation loss, a training loss that leaves nothing to learn."""


class Overfit(Rule):
    """The validation loss rises while the training loss goes on falling.

    Trigger: several validations in a row above 1.1 times the minimum, by more than the spread over validation batches
    explains, while the training loss fell by a tenth or more since. A gap between the two alone is no sign.
    Harm: where a score was told, it got worse. Else the accuracy on validation rows fell with it, or the loss there is
    above that of ignoring the inputs; where no accuracy can be seen, the rise is a tenth of that, or a tenth of the
    minimum with the training rows known by heart. A rise without, or one that may be chance, is told at the end, as an
    info; not where a score alone says how good the answers are, and holds.
    Confirmation: the validation itself, whose rows are not trained on.
    Remedy: stop at the minimum; weight decay, dropout, augmentation, more rows, a smaller network.
    """

    name = "overfit"
    looks_at = "a validation loss that rises again"
    sources: ClassVar = ("Prechelt 1998, Early Stopping: But When?", "Schoop et al. 2021, UMLAUT (CHI)")

    def check(self, seen: Seen) -> Finding | None:
        passes = [one for one in seen.validations if one.loss is not None and math.isfinite(one.loss)]
        if seen.others or len(passes) <= VALIDATIONS or passes[-1].training_modules:
            return None
        losses = [one.loss or 0.0 for one in passes]
        best = losses.index(min(losses))
        late = passes[best + 1 :][-max(VALIDATIONS, len(passes) // SHARE) :]
        reference = median(losses[max(best - 1, 0) : best + 2])  # one lucky validation is no minimum
        if len(late) < max(VALIDATIONS, len(passes) // SHARE) or reference <= 0:
            return None
        certain = _is_certain(passes[best], late)
        if any((one.loss or 0.0) <= RISE * reference for one in late) or not (certain or seen.ended):
            return None
        before, after = _training_loss(seen, passes[best].step), _training_loss(seen, passes[-1].step)
        if not after < FALL * before:
            return None
        rise = fmean(one.loss or 0.0 for one in late) - losses[best]
        scored = score_lost(passes, late)
        lost = accuracy_lost(passes, late) if scored is None else scored
        if scored is not None:
            harm = scored
        elif passes[-1].outputs:  # answers that are as right as before, given with too much confidence, are a note
            harm = lost or losses[-1] > (seen.baseline or math.inf)
        else:
            by_heart = after < BY_HEART * losses[best] and rise > HARM * losses[best]
            harm = lost or by_heart or rise > HARM * (seen.baseline or 2 * losses[best])
        harm = harm and certain
        if not harm and (not seen.ended or (scored is not None and not passes[-1].outputs)):
            return None
        return self.finding(
            seen,
            f"the validation loss rose from {losses[best]:.4g} at step {passes[best].step} to {losses[-1]:.4g}, while "
            f"the training loss fell from {before:.4g} to {after:.4g}",
            "What is learned now holds for the training rows only."
            + ("" if harm else " The answers are hardly worse for it; the network is more certain than it should be.")
            + ("" if certain else " With so few validation rows it may be chance."),
            "stop at the minimum of the validation loss, or use weight decay, dropout, augmentation or more data",
            severity="warning" if harm else "info",
            confirmed=f"in {len(late)} validations in a row"
            + ("" if not lost else ", whose score got worse, too" if scored else ", whose accuracy fell as well"),
            change={"training.patience": VALIDATIONS},
            best_step=passes[best].step,
            validation_losses=losses[-20:],
            training_losses=[before, after],
            **({} if scored is None else {"validation_scores": [one.score for one in passes[-20:]]}),
        )


def _is_certain(best: Validation, late: list[Validation]) -> bool:
    """Whether the rise is more than the spread over validation batches explains, or over validations without them."""
    last = late[-1]
    if len(last.losses) == len(best.losses) > 1:
        rises = [after - before for before, after in zip(best.losses, last.losses, strict=True)]
    else:
        rises = [(one.loss or 0.0) - (best.loss or 0.0) for one in late]
    return more_than_chance(rises)


def _training_loss(seen: Seen, step: int) -> float:
    """The mean over the last steps before this one."""
    count = max(min(seen.done // 10, 100), 3)
    return fmean(seen.losses[max(step - count, 0) : step])
