"""Labels that are wrong by a system: all the same, one class taken for another, or unlike those of validation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.labels import Labelled, doubts, labelled, next_asking
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen, Validation
from sounding.watching.tape import LOSSES

STEPS = 3
EXAMPLES = 48
CLASSES = 100
"""A head with more has classes that are rare."""
TAKEN = 0.6
"""Of a class in validation, taken for one and the same other class."""
RECALL = 0.7
"""Of the other classes: the network knows what it does."""
FIRST = 60
MOVED = 0.2
"""Of the clear examples of a class, bearing one and the same other label."""
SCATTERED = 0.05
"""Bearing any other: of more it is noise that goes anywhere."""
CLEAR = 12
SHAPING = {
    *("squeeze", "unsqueeze", "view", "reshape", "flatten", "transpose", "permute", "__getitem__", "mean"),
    *("float", "double", "to", "clamp", "sigmoid", "softmax", "log_softmax"),
}
"""What may be between a model and its loss, without being a network of its own."""


class CorruptLabels(Rule):
    """Labels follow a fault: one constant, one class under the name of another, training and validation unlike.

    Trigger: after sixty steps or at the end every label that was looked at is the same; or a class of the validation
    rows is answered, for six tenths or more of two validations in a row and each of two times that it is asked, with
    one and the same other class, while the training rows are answered right and the other classes are known, or several
    are taken for one other each; or a fifth or more of the clear examples of a class, as neighbours and network see it,
    bear one and the same other label. Classes that never occur are told at the end, as an info.
    Harm: certain: what is learned is the fault.
    Confirmation: counted.
    Remedy: read some examples beside their labels; make the mapping from names to numbers once, for all rows.
    """

    name = "corrupt_labels"
    looks_at = "labels that are wrong by a system"
    experiment = 10
    explains = ("label_noise", "overfit", "underfit", "too_few_steps", "class_imbalance", "labels_shuffled")
    sources: ClassVar = ("Humbatova et al. 2021, DeepCrime (ISSTA): changed labels", "Northcutt et al. 2021 (JAIR)")

    def __init__(self) -> None:
        self._next = FIRST
        self._suspected: dict[int, int] = {}  # classes of the validation rows, and what they were taken for

    def check(self, seen: Seen) -> Finding | None:
        call = seen.call
        if seen.others or call is None or call.target.ndim == 0:
            return None
        if (found := self._constant(seen)) is not None:
            return found
        if not seen.laboratory.is_ready or (seen.done < self._next and not (seen.ended and seen.done >= FIRST // 2)):
            return None
        self._next = next_asking(seen.done)
        known = labelled(seen.laboratory)
        if known is None or (call.classes > CLASSES):
            return None
        return self._unlike_validation(seen, known) or self._moved(seen, known) or self._absent(seen)

    def _constant(self, seen: Seen) -> Finding | None:
        call = seen.call
        assert call is not None
        values = [_labels(target) for target in seen.targets[:20]]
        count = sum(map(len, values))
        is_classification = call.classes > 1 or call.name.startswith("binary_cross_entropy")
        if seen.done < FIRST and not seen.ended:  # rows sorted by class begin with many of one
            return None
        if not is_classification or len(values) < STEPS or count < EXAMPLES or not _is_of_model(seen):
            return None
        if any(not len(one) or bool((one != values[0][0]).any()) for one in values):
            return None
        return self.finding(
            seen,
            f"every label is the same: {values[0][0].item():g}",
            "There is nothing to tell apart: the network learns to answer this one.",
            "look at how labels are read; the rows may be sorted by class, or their names not found in the mapping",
            severity="error",
            confirmed=f"counted in {count} labels of {len(values)} batches",
            label=values[0][0].item(),
        )

    def _unlike_validation(self, seen: Seen, known: Labelled) -> Finding | None:
        passes = [one for one in seen.validations if one.outputs]
        if not passes or float((known.predictions == known.labels).float().mean()) < RECALL:
            return None
        if len(passes) < 2:
            return None
        answers, targets = _answered(passes[-1])
        before = _taken(*_answered(passes[-2]))  # networks that have not learned yet mistake other classes each time
        trained = torch.bincount(torch.cat([_labels(one) for one in seen.targets]).long(), minlength=CLASSES)
        taken = _taken(answers, targets)
        taken = {one: other for one, other in taken.items() if one in before and before[one][0] == other[0]}
        taken = {one: other for one, other in taken.items() if not trained[other[0]] > 3 * trained[one] > 0}
        unlearned = {one for one in _classes(known.labels) if _recall(known.predictions, known.labels, one) <= RECALL}
        taken = {one: other for one, other in taken.items() if one not in unlearned}
        others = [one for one in _classes(targets) if one not in taken]
        recalls = [_recall(answers, targets, one) for one in others]
        shifted = len(taken) > 1 and len({other for other, _ in taken.values()}) == len(taken)
        if not taken or not (shifted or (recalls and sorted(recalls)[len(recalls) // 2] > RECALL)):
            return None
        suspected, self._suspected = self._suspected, {one: other for one, (other, _) in taken.items()}
        if not suspected.items() & self._suspected.items():  # a network on its way may mistake a class for a while
            return None
        one, (other, share) = next(iter(taken.items()))
        return self.finding(
            seen,
            f"labels mean something else in training than in validation: {share:.0%} of class {one} there is answered "
            f"with {other}" + (f", and {len(taken) - 1} more classes with one other each" if len(taken) > 1 else ""),
            "The network answers its training rows as their labels say, and validation rows by the same rule.",
            "make the mapping from names to numbers once, and use it for all rows",
            confirmed=f"counted in {len(targets)} validation rows",
            taken_for={str(one): other for one, (other, _) in taken.items()},
        )

    def _moved(self, seen: Seen, known: Labelled) -> Finding | None:
        if not known.inputs.shape[1]:
            return None
        found: dict[int, tuple[int, float, list[dict[str, int]]]] = {}
        noisy = 0
        for one in _classes(known.labels):
            clear = doubts(known, part=0.5, of=one)
            if clear is None or len(clear.rows) < CLEAR:
                continue
            shares = torch.bincount(known.labels[clear.rows], minlength=2).float() / len(clear.rows)
            shares[one] = 0.0
            most, rest = float(shares.max()), float(shares.sum() - shares.max())
            noisy += int(clear.share > SCATTERED)
            if most >= MOVED and rest <= SCATTERED:
                found[one] = int(shares.argmax()), most, clear.places
        if len(found) != 1 or noisy > 1 or len(_classes(known.labels)) < 3:
            return None
        one, (other, share, places) = next(iter(found.items()))
        return self.finding(
            seen,
            f"about {share:.0%} of class {one} bear the label {other}",
            "Both neighbours and network see that they belong together with the rest; other classes have no such rows.",
            "look at the examples listed, and at where these labels came from",
            severity="warning",
            confirmed="counted among the examples of the class on which neighbours and network agree most",
            label=one,
            taken_for=other,
            share=share,
            examples=places,
        )

    def _absent(self, seen: Seen) -> Finding | None:
        call = seen.call
        labels = torch.cat([_labels(one) for one in seen.targets]).long()
        if not seen.ended or call is None or call.classes < 2 or len(labels) < 50 * call.classes:
            return None
        absent = sorted(set(range(call.classes)) - set(_classes(labels)))
        if not absent:
            return None
        return self.finding(
            seen,
            f"{len(absent)} of {call.classes} classes never occurred: {', '.join(map(str, absent[:10]))}",
            "The head has outputs for them that only ever learn to be small; labels may count from one, or be lost.",
            "check the number of classes and the mapping of labels",
            severity="info",
            confirmed=f"counted in {len(labels)} labels",
            classes=absent[:20],
        )


def _recall(answers: Tensor, targets: Tensor, label: int) -> float:
    return float((answers[targets == label] == label).float().mean())


def _labels(target: Tensor) -> Tensor:
    """Those that count: of a classification negative ones are left out of the loss."""
    flat = target.flatten()
    return flat if flat.is_floating_point() else flat[flat >= 0]


def _classes(labels: Tensor) -> list[int]:
    return sorted(set(labels.tolist()))


def _is_of_model(seen: Seen) -> bool:
    """Whether the loss compares what the model itself put out, not what another network made of it."""
    if not seen.tapes:
        return False
    own = {slot for entry in seen.tapes[-1].calls() for slot in entry.results if slot is not None}
    for entry in seen.tapes[-1].entries:
        if isinstance(entry.run, str) or not any(
            getattr(leaf, "number", None) in own for leaf in entry.arguments[0][:1]
        ):
            continue
        if entry.run in LOSSES:
            return True
        if getattr(entry.run, "__name__", "") in SHAPING:
            own |= {slot for slot in entry.results if slot is not None}
    return False


def _answered(one: Validation) -> tuple[Tensor, Tensor]:
    """Answers and targets of all its batches."""
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(one.outputs, one.targets, strict=True) if a.shape == b.shape]
    answers, targets = zip(*pairs, strict=True) if pairs else ((torch.empty(0).long(),), (torch.empty(0).long(),))
    return torch.cat(answers), torch.cat(targets)


def _taken(answers: Tensor, targets: Tensor) -> dict[int, tuple[int, float]]:
    """Classes that are answered with one and the same other class, which, and how often."""
    found = {}
    for one in _classes(targets):
        given = torch.bincount(answers[targets == one], minlength=2).float()
        share, other = (given / given.sum()).max(0)
        if one >= 0 and other != one and share > TAKEN and given.sum() >= 10:
            found[one] = int(other), float(share)
    return found
