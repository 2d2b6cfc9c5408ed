"""How the learning rate moves through training: functions of progress alone, so that nothing needs saving.

Progress is the fraction of all steps already done, in [0, 1]; a schedule answers with a factor of the peak rate.
What `reduce_on_plateau` does depends on validation as well: `plateau_factor` makes it a function of the values so far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from sounding.errors import RecipeError, nearest

Schedule = Callable[[float], float]
"""Progress in [0, 1] to a factor of the peak learning rate."""

WARMUP_START = 0.01
"""Factor at the first step of a warm-up: a rate of zero would waste that step."""


def constant(progress: float) -> float:
    """The peak rate throughout."""
    return 1.0


def linear(progress: float) -> float:
    """A straight line down to zero."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Half a cosine down to zero: slow, fast, slow (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def step(progress: float) -> float:
    """Ten times smaller after one half, and again after three quarters (He et al. 2016, arXiv:1512.03385, 4.2)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def one_cycle(progress: float, *, rise: float = 0.3) -> float:
    """Up from 1/25 of the peak rate during the first `rise`, then down to almost nothing, along cosines.

    Source: Smith and Topin 2018, arXiv:1708.07120, with the shape and sizes of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    low, lowest = 1 / 25, 1 / 25e4
    if progress < rise:
        return 1.0 + (low - 1.0) * cosine(progress / rise)
    return lowest + (1.0 - lowest) * cosine((progress - rise) / (1.0 - rise))


def warmup_stable_decay(progress: float) -> float:
    """The peak rate, then a straight line down to zero in the last fifth; `warmup` puts the rise before it.

    Source: Hu et al. 2024, arXiv:2404.06395, section 4; the linear form and the fifth from Hägele et al. 2024,
    arXiv:2405.18392, section 3.
    """
    return min(1.0, (1.0 - progress) / 0.2)


def reduce_on_plateau(progress: float) -> float:
    """The peak rate; the trainer reduces it by `plateau_factor` wherever validation stops getting better."""
    return 1.0


def plateau_factor(
    values: Iterable[float], *, patience: int = 5, factor: float = 0.1, threshold: float = 1e-4
) -> float:
    """What is left of the learning rate after some validations: `factor` to the number of plateaus among them.

    A plateau is `patience` + 1 validations in a row none of which is better than the best one before; the count
    starts again after it. This is the rule of `torch.optim.lr_scheduler.ReduceLROnPlateau` without its lower limits,
    worked out anew each time, so that a resumed run has nothing to restore.

    values:     one for each validation so far, smaller is better: give accuracies and the like with a minus.
                What is not a number is no improvement.
    patience:   validations without improvement that are put up with.
    factor:     in (0, 1).
    threshold:  improvements by a smaller part of the best value do not count.

    >>> plateau_factor([0.9, 0.5, 0.6, 0.5, 0.7], patience=2)
    0.1
    >>> plateau_factor([0.9, 0.5, 0.6, 0.5, 0.4], patience=2)
    1.0
    """
    best, waited, left = math.inf, 0, 1.0
    for value in values:
        if value < best * (1.0 - math.copysign(threshold, best)):
            best, waited = value, 0
        else:
            waited += 1
        if waited > patience:
            left, waited = left * factor, 0
    return left


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "one_cycle": one_cycle,
    "warmup_stable_decay": warmup_stable_decay,
    "reduce_on_plateau": reduce_on_plateau,
}


def build_schedule(name: str, *, warmup: float = 0.0) -> Schedule:
    """A schedule by name, its shape squeezed into what a warm-up leaves.

    name:    one of `SCHEDULES`.
    warmup:  fraction of all steps, in [0, 1), in which the rate rises in a straight line to its peak.
             `one_cycle` rises by itself; here it is the fraction in which it does so (0 means 0.3).

    Raises:
        RecipeError: for an unknown name or a warm-up outside [0, 1).

    >>> schedule = build_schedule("cosine", warmup=0.2)
    >>> [round(schedule(progress), 2) for progress in (0, 0.1, 0.2, 0.6, 1)]
    [0.01, 0.51, 1.0, 0.5, 0.0]
    """
    if name not in SCHEDULES:
        raise RecipeError(f'there is no schedule "{name}"', nearest(name, SCHEDULES))
    if not 0.0 <= warmup < 1.0:
        raise RecipeError(f"the warm-up is {warmup}", "give a fraction of all steps, at least 0 and less than 1")
    shape = SCHEDULES[name]
    if name == "one_cycle":
        return lambda progress: one_cycle(progress, rise=warmup or 0.3)
    if warmup == 0.0:
        return shape

    def schedule(progress: float) -> float:
        if progress < warmup:
            return WARMUP_START + (1.0 - WARMUP_START) * progress / warmup
        return shape((progress - warmup) / (1.0 - warmup))

    return schedule
