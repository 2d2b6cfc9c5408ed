"""Labels that are wrong here and there."""

from __future__ import annotations

import math
from typing import ClassVar

from sounding.finding import Finding
from sounding.watching.answers import answers_lost
from sounding.watching.labels import Doubts, Labelled, doubts, labelled, next_asking
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

FIRST = 30
ROWS = 120
NOISE = 0.12
"""Of the labels: fewer wrong ones hardly hurt."""
STRONG = 0.15
"""Of the labels: from here on it is worth a warning."""
EVEN = 0.5
"""Wrong labels are as frequent where it is easy as anywhere else; where classes overlap, they differ far less there."""
HEADWAY = 0.85
"""Of the loss of ignoring the inputs: a network that comes further has learned in spite of them, or by heart."""
MEMORISED = 0.5


class LabelNoise(Rule):
    """Many labels contradict what their own neighbours and the network say.

    Trigger: of the examples of recorded batches of which nearest neighbours and network, in evaluation mode, agree
    most, an eighth or more bear another label. It is asked early and again, since a network learns the simple first
    and wrong labels by heart later. Classes that overlap do not count: nobody is sure of their examples,
    and labels and neighbours differ far more often among the rest.
    Harm: the score or accuracy of validation falls from its peak, or the loss stays well above zero.
    Confirmation: a copy can learn one batch by heart, so it is not the network that is at its limit.
    Remedy: look at the examples that are listed; drop or relabel them; stop early; smooth the labels.
    """

    name = "label_noise"
    looks_at = "labels that their neighbours contradict"
    explains = ("overfit", "underfit", "too_few_steps")
    sources: ClassVar = (
        "Northcutt et al. 2021, Confident Learning (JAIR)",
        "Arpit et al. 2017, A Closer Look at Memorization (ICML)",
        "Cover and Hart 1967, Nearest Neighbor Pattern Classification",
    )

    def __init__(self) -> None:
        self._next = FIRST
        self._worst: Doubts | None = None
        self._looks = 0  # that gave reason to doubt: once may be chance

    def check(self, seen: Seen) -> Finding | None:
        due = seen.done >= self._next or (seen.ended and seen.done >= FIRST)
        if seen.others or not due or not seen.laboratory.may_look or not seen.laboratory.tapes:
            return None
        self._next = next_asking(seen.done)
        self._look(labelled(seen.laboratory))
        worst = self._worst
        if worst is None or self._looks < 2 or (seen.done < 2 * FIRST and not seen.ended):
            return None
        fell = answers_lost(seen.validations)
        harm = worst.share > STRONG and (fell or seen.headway() < HEADWAY)
        left = seen.laboratory.memorises() if harm else 1.0
        if left > MEMORISED and not seen.ended:
            return None
        return self.finding(
            seen,
            f"about {worst.share:.0%} of the labels look wrong",
            "The network spends itself on learning them by heart, and gets worse for new examples by it.",
            "look at the examples listed; correct or drop such rows, stop early, or use label smoothing",
            severity="warning" if harm and left <= MEMORISED else "info",
            confirmed=f"neighbours and network agree on another label for so many of {len(worst.rows)} examples that "
            "are easiest to foretell" + (f"; one batch can be learned ({left:.0%} left)" if harm else ""),
            change={"training.label_smoothing": 0.1} if harm and left <= MEMORISED else None,
            share=worst.share,
            examples=worst.places,
        )

    def _look(self, known: Labelled | None) -> None:
        if known is None or not known.inputs.shape[1] or len(known.labels) < ROWS:
            return
        found = doubts(known)
        if found is None or found.share - 2 * math.sqrt(found.share * (1 - found.share) / len(found.rows)) < NOISE / 3:
            return
        label, _ = known.neighbours
        if found.share < EVEN * float((label != known.labels).float().mean()):
            return
        self._looks += 1
        if found.share > max(NOISE, self._worst.share if self._worst is not None else 0.0):
            self._worst = found
