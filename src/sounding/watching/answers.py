"""Whether answers for validation rows got worse: by the score that was told, else by the accuracy that was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

import torch

from sounding.watching.seen import Validation

VALIDATIONS = 3
"""The latest, which are compared with the best ones."""
LESS, MORE_WRONG = 0.02, 0.1
"""Of the best score, what has to be lost: of one that is to be high, and of an error, which is to be low."""


def answers_lost(passes: Sequence[Validation], late: Sequence[Validation] = ()) -> bool:
    """Whether the answers of late, in the last three validations if not said, are worse than they were."""
    lost = score_lost(passes, late)
    return accuracy_lost(passes, late) if lost is None else lost


def score_lost(passes: Sequence[Validation], late: Sequence[Validation] = ()) -> bool | None:
    """Whether the score is clearly worse than at its best, by more than its own spread; none where it was not told."""
    late = late or passes[-VALIDATIONS:]
    scores = [_upwards(one) for one in passes if one.score is not None and math.isfinite(one.score)]
    recent = [_upwards(one) for one in late if one.score is not None and math.isfinite(one.score)]
    if len(recent) < len(late) or len(recent) < VALIDATIONS:
        return None
    best = scores.index(max(scores))
    if best >= len(scores) - len(recent):
        return False
    peak = median(scores[max(best - 1, 0) : best + 2])  # one lucky validation is no peak
    falls = [peak - score for score in recent]
    least = (LESS if late[-1].higher_is_better else MORE_WRONG) * abs(peak)
    return more_than_chance(falls) and fmean(falls) > least


def more_than_chance(differences: Sequence[float]) -> bool:
    """Whether their mean is above zero by more than two standard errors."""
    return fmean(differences) > 2 * stdev(differences) / math.sqrt(len(differences))


def _upwards(validation: Validation) -> float:
    score = validation.score or 0.0
    return score if validation.higher_is_better else -score


def _accuracy(validation: Validation) -> tuple[float, int]:
    right = [
        (outputs == targets).float().flatten()
        for outputs, targets in zip(validation.outputs, validation.targets, strict=True)
        if outputs.shape == targets.shape
    ]
    return (float(torch.cat(right).mean()), sum(map(len, right))) if right else (math.nan, 0)


def accuracy_lost(passes: Sequence[Validation], late: Sequence[Validation] = ()) -> bool:
    """Whether the accuracy is lower than it was, by more than chance."""
    late = late or passes[-VALIDATIONS:]
    accuracies = [_accuracy(one) for one in passes]
    if len(passes) <= VALIDATIONS or any(not rows for _, rows in accuracies):
        return False
    highest = sorted(accuracy for accuracy, _ in accuracies)[-2]  # one lucky validation is no peak
    now, rows = fmean(_accuracy(one)[0] for one in late), accuracies[-1][1]
    noise = math.sqrt(max(highest * (1 - highest), 1 / rows) / rows)
    return highest - now > max(2 * noise, 0.01)
