"""Targets that have nothing to do with the inputs."""

from __future__ import annotations

from typing import ClassVar

import torch

from sounding.finding import Finding
from sounding.watching.experiments import rate_times
from sounding.watching.relation import EXAMPLES, classes_of, examples, linear_agreement, neighbour_agreement
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FIRST = 60
HEADWAY = 0.1
MEMORISED = 0.7
"""Of the loss on one batch: a network that could not learn at all keeps nearly everything, one without hidden layers
still a part."""
BETTER = 0.02
ONE_SIDED = 0.9
"""Agreement by chance, above which it takes more examples than there are to tell it from any other."""
VALIDATIONS = 4
LEARNED, WORSE = 0.97, 1.03
"""Times the loss of the best constant answer: training below, and validation above, is learning by heart."""


class LabelsShuffled(Rule):
    """The network cannot do better than ignoring its inputs, though it can learn.

    Trigger: after sixty steps the loss is within ten percent of that of the best constant answer. In pictures and
    series what matters may take long to find, and neighbours show little of it: there only the end counts. Or the
    training loss falls while no validation, of four or more, was ever clearly better than that: what is learned by
    heart says nothing of other rows.
    Confirmed: a copy learns one batch by heart, so that network and rate are able to learn, and real inputs do no
    better than zeros, unless validation has told that much; and the targets of nearest neighbours agree no more often
    than by chance, nor does a linear fit foretell those that were left out of it.
    Remedy: look at some examples beside their targets; shuffle both with the same permutation.
    """

    name = "labels_shuffled"
    looks_at = "targets that have nothing to do with the inputs"
    explains = ("underfit", "too_few_steps", "lr_too_low", "overfit", "label_noise")
    sources: ClassVar = (
        "Karpathy 2019, A Recipe for Training Neural Networks: input-independent baseline",
        "Zhang et al. 2017, arXiv:1611.03530: random labels are learned by heart",
    )

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if seen.done < self._next and not (seen.ended and seen.done >= FIRST // 2):
            return None
        by_heart = _learns_by_heart(seen)
        if seen.baseline is None or not (by_heart or (seen.laboratory.is_ready and seen.headway() <= HEADWAY)):
            return None
        self._next = 2 * seen.done
        inputs, targets = examples(seen.laboratory)
        if len(inputs) < EXAMPLES or (inputs.ndim > 2 and not (seen.ended or by_heart)):
            return None
        inputs, classes = inputs.flatten(1), classes_of(targets)
        agreements = (neighbour_agreement(inputs, classes), linear_agreement(inputs, classes))
        if agreements[0].chance > ONE_SIDED or any(one.is_certain for one in agreements):
            return None
        confirmed = self._by_heart(seen) if by_heart else self._blind(seen)
        if not confirmed:
            return None
        agreement, chance, _ = agreements[0]
        return self.finding(
            seen,
            "targets look unrelated to the inputs",
            f"After {seen.done} steps no loss on other rows is better than that of an answer that ignores the inputs."
            if by_heart
            else f"After {seen.done} steps the loss is that of an answer that ignores the inputs.",
            "look at some examples beside their targets; inputs and targets have to be shuffled together",
            severity="error",
            agreement=agreement,
            chance=chance,
            confirmed=f"{confirmed}, and neighbours agree in {agreement:.0%} where chance is {chance:.0%}",
        )

    def _by_heart(self, seen: Seen) -> str:
        best = min(_validation_losses(seen))
        return (
            f"the loss on validation rows was {best:.4g} at its best, "
            f"where ignoring the inputs comes to {seen.baseline:.4g}"
        )

    def _blind(self, seen: Seen) -> str:
        """That the network could learn, and does not look at its inputs; nothing where either is not so."""
        left = seen.laboratory.memorises(steps=300)
        if left > MEMORISED:  # a rate that has fallen already says nothing of what the network can hold
            left = seen.laboratory.memorises(rate_times(3), steps=300)
        if left > MEMORISED:
            return ""
        blind, seeing = seen.laboratory.loss(torch.zeros_like), seen.laboratory.loss()
        if seeing < (1 - 5 * BETTER) * blind:
            return ""
        return (
            f"a copy learned one batch by heart ({left:.1%} of its loss left), zeros for inputs do as well "
            f"({blind:.4g} against {seeing:.4g})"
        )


def _validation_losses(seen: Seen) -> list[float]:
    return [loss for one in seen.validations if (loss := one.loss) is not None]


def _learns_by_heart(seen: Seen) -> bool:
    """Whether training gets better than ignoring the inputs, and validation never does."""
    losses, baseline = _validation_losses(seen), seen.baseline
    if len(losses) < VALIDATIONS or baseline is None:
        return False
    return (
        seen.headway() > 1 - LEARNED
        and min(losses) >= LEARNED * baseline
        and sorted(losses[-VALIDATIONS:])[VALIDATIONS // 2] >= WORSE * baseline
    )
