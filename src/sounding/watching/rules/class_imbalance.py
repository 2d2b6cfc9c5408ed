"""Rare classes that are never answered."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.experiments import apart
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen
from sounding.watching.tape import LOSSES, LossCall

RATIO = 10
"""Of the most frequent class to a rare one."""
RECALL = 0.3
COMMON = 0.7
"""Recall of the frequent classes at which they are learned."""
LEAST = 8
"""Rows of rare classes that have to be seen."""


class ClassImbalance(Rule):
    """Some classes are so rare that the network does without them.

    Trigger: a class is ten times rarer than the most frequent one in the batches seen, and the loss has no weights.
    Harm: rows of such classes are found in less than three of ten cases, in validation or, where there is none, in
    recorded batches, while frequent classes are learned and the loss does not fall any more, or at the end.
    Remedy: class weights, or more of the rare rows in each batch.
    """

    name = "class_imbalance"
    looks_at = "rare classes that are never found"
    experiment = 10
    explains = ("underfit", "overfit", "too_few_steps")
    sources: ClassVar = (
        "Schoop et al. 2021, UMLAUT (CHI), class imbalance (ten to one, more than .7 missed)",
        "Johnson and Khoshgoftaar 2019, Survey on deep learning with class imbalance",
    )

    def check(self, seen: Seen) -> Finding | None:
        if not seen.ended and (len(seen.validations) < 3 or seen.is_falling()):
            return None
        call = seen.call
        if call is None or seen.others or call.answers() is None or (call.classes and call.target.is_floating_point()):
            return None
        if any(call.options.get(name) is not None for name in ("weight", "pos_weight")):
            return None
        shares = _shares(seen)
        rare = (shares > 0) & (shares * RATIO < shares.max())
        if not rare.any():
            return None
        answers, truth, where = self._answered(seen)
        if answers is None or truth is None:
            return None
        of_rare = rare[truth.clamp(0, len(rare) - 1)]
        if int(of_rare.sum()) < LEAST or not (~of_rare).any():
            return None
        right = (answers == truth).float()
        recall, common = float(right[of_rare].mean()), float(right[~of_rare].mean())
        if recall >= RECALL or common < COMMON:
            return None
        names = rare.nonzero().flatten().tolist()
        return self.finding(
            seen,
            f"classes {', '.join(map(str, names[:5]))} are rare ({float(shares[rare].max()):.1%} of the rows at most) "
            f"and found in {recall:.0%} of the cases",
            f"The frequent classes are right in {common:.0%} of the cases. With so few rows of the others the loss is "
            "low without them.",
            "give the loss weights (weight= or pos_weight=), or draw rare rows more often",
            classes=names[:20],
            recall=recall,
            recall_of_the_others=common,
            rows=int(of_rare.sum()),
            confirmed=f"{int(of_rare.sum())} rows of these classes in {where}",
        )

    def _answered(self, seen: Seen) -> tuple[Tensor | None, Tensor | None, str]:
        latest = next((one for one in reversed(seen.validations) if one.outputs), None)
        if latest is not None:
            outputs = torch.cat([one.flatten() for one in latest.outputs])
            return outputs, torch.cat([one.flatten() for one in latest.targets]).long(), "validation"
        if not seen.laboratory.is_ready:
            return None, None, ""
        return *_replayed(seen), "recorded batches"


def _shares(seen: Seen) -> Tensor:
    """Of each class in the targets seen: (C,)."""
    targets = torch.cat([one.flatten() for one in seen.targets]).long()
    counts = torch.bincount(targets[targets >= 0], minlength=2)
    return counts.double() / counts.sum()


def _replayed(seen: Seen) -> tuple[Tensor | None, Tensor | None]:
    """What a copy in evaluation mode answers to the recorded batches, and what is right."""
    answers, truth = [], []

    def heard(run: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], outcome: object) -> None:
        given = dict(zip(("input", "target"), args, strict=False)) | kwargs
        if run in LOSSES:
            call = LossCall(LOSSES[run], given["input"], given["target"], given["input"], {})
            if (found := call.answers()) is None:
                return
            answers.append(found.flatten())
            truth.append(given["target"].flatten().long())

    with apart(), torch.no_grad():
        models = {name: copy.deepcopy(model).eval() for name, model in seen.laboratory.models.items()}
        for tape in seen.laboratory.tapes:
            tape.play(models, heard=heard)
    return (torch.cat(answers), torch.cat(truth)) if answers else (None, None)
