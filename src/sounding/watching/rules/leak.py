"""Answers that are known before they are asked for."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from sounding.finding import Finding
from sounding.watching.examples import batches, call_of, target_of
from sounding.watching.experiments import apart
from sounding.watching.rule import Rule
from sounding.watching.rules.bad_data import rows_of
from sounding.watching.seen import Seen

ROWS = 64
TELLING = 0.99
"""Correlation of a column with the target."""
APART = 0.9
"""What the next best column may reach, and the part of the training rows that may be among the validation's."""
UNIQUE = 0.95
"""Of the validation rows: where more repeat, rows are met again by chance."""
LEAST_ROWS = 8
MOVED = 1e-4
SHARED = 0.15
"""Of the validation rows that were met in training."""


class Leak(Rule):
    """The network sees what it is to predict, or is measured on what it was trained on.

    Trigger: targets are the inputs of the next place, and an output moves when a later input is changed; or one column
    of a table says what the target is, and no other comes near; or a clear part of the validation rows was met in
    training, though they are not simply the training rows and rows do not repeat by themselves.
    Harm: certain: what is measured does not hold where the future, the column or the row is not known.
    Remedy: a causal mask; leave the column out; split before anything else.
    """

    name = "leak"
    looks_at = "targets that can be seen in the inputs, and validation rows that were trained on"
    experiment = 10
    sources: ClassVar = (
        "Karpathy 2019, A Recipe for Training Neural Networks, dependencies by backpropagation",
        "Kapoor and Narayanan 2023, Leakage and the reproducibility crisis (Patterns)",
    )

    def __init__(self) -> None:
        self._asked = 0
        self._compared = 0  # rows, when columns were compared with the target last

    def check(self, seen: Seen) -> Finding | None:
        if seen.others or len(seen.steps) < 2:
            return None
        return self._future(seen) or self._telling(seen) or self._shared(seen)

    def _future(self, seen: Seen) -> Finding | None:
        if self._asked >= 2 or not seen.laboratory.is_ready:
            return None
        self._asked += 1
        moved = future_moves(seen)
        if moved < MOVED:
            return None
        return self.finding(
            seen,
            "outputs depend on later inputs, which are the targets: the future leaks into the past",
            "The network learns to copy what it is to predict. Where the future is not there, it knows nothing.",
            "give attention a causal mask, and use layers that see the past only (no bidirectional ones)",
            severity="error",
            moved=moved,
            confirmed=f"later inputs changed on a copy in evaluation mode move earlier outputs by up to {moved:.2g} of "
            "their deviation, and targets are the inputs of the next place",
        )

    def _telling(self, seen: Seen) -> Finding | None:
        parts = batches(seen)
        rows = sum(len(one) for one, _ in parts)
        if rows < ROWS or parts[0][1][0].numel() > 1 or not (rows >= 2 * self._compared or seen.ended):
            return None
        self._compared = rows
        x, y = rows_of(seen)
        if x is None or y is None or y.ndim > 1 or len(x) < ROWS or not 3 <= x.shape[1] <= 1000:
            return None
        told = _correlations(x, y)
        best, second = told.topk(2).values.tolist()
        if best < TELLING or second > APART:
            return None
        column = int(told.argmax())
        return self.finding(
            seen,
            f"input column {column} says what the target is: their correlation is {best:.4f}",
            "Such a column is mostly made from the target. Where the network is used it is not known, or says "
            "something else.",
            f"leave column {column} out, or make sure that it is known before the target is",
            column=column,
            correlation=best,
            next_best=second,
            confirmed=f"over {len(x)} rows of recorded batches; no other column comes above {second:.2f}",
        )

    def _shared(self, seen: Seen) -> Finding | None:
        validation = next((one for one in seen.validations if one.rows), None)
        if validation is None or not (seen.ended or len(seen.steps) % 4 == 0):
            return None
        parts = [batch for batch in validation.rows if len(batch) >= LEAST_ROWS]
        rows = [row for part in parts for row in part]
        held, trained = set(rows), seen.trained_rows
        if len(rows) < ROWS or len(held) < UNIQUE * len(rows):
            return None
        met = [sum(row in trained for row in part) / len(part) for part in parts]
        share = len(held & trained) / len(held)
        if share < SHARED or min(met) < share / 3:
            return None
        if len(held & trained) > APART * len(trained):  # the training rows themselves, for their own measure
            return None
        return self.finding(
            seen,
            f"at least {share:.0%} of the validation rows were trained on",
            "What is measured on them says how well they were memorised, not how the network does on new rows.",
            "split the rows before anything is copied or drawn from them, and remove duplicates first",
            met=len(held & trained),
            rows=len(held),
            trained_rows_looked_at=len(trained),
            confirmed="exact copies of these rows were in the training batches looked at",
        )


def future_moves(seen: Seen) -> float:
    """How far outputs move when later inputs change, in deviations of the outputs; 0 where nothing is predicted."""
    tape = seen.laboratory.tapes[-1]
    call, target = call_of(tape), target_of(tape)
    if target is None or call is None:
        return 0.0
    arguments, leaves = call
    found = next((one for one in (_ahead(leaf, target) for leaf in leaves) if one is not None), None)
    if found is None:
        return 0.0
    inputs, axis = found
    length = inputs.shape[axis]
    cut = length // 2
    kept, later = torch.split(inputs, [cut, length - cut], axis)
    later = later.roll(1, 1 - axis) if inputs.shape[1 - axis] > 1 else later.flip(axis)
    changed = torch.cat([kept, later], axis)
    with apart(), torch.no_grad():
        model = copy.deepcopy(seen.model).eval()
        otherwise = tree_map(lambda leaf: changed if leaf is inputs else leaf, arguments)
        one, again, other = (_early(model, given, inputs, axis) for given in (arguments, arguments, otherwise))
    if not one or not all(a.equal(b) for a, b in zip(one, again, strict=True)):
        return 0.0
    return min(float((a - b).abs().max() / a.std().clamp_min(1e-12)) for a, b in zip(one, other, strict=True))


def _ahead(inputs: Tensor, target: Tensor) -> tuple[Tensor, int] | None:
    """Inputs and their axis of time, if targets are the inputs of the next place."""
    if inputs.ndim < 2 or inputs.is_floating_point() != target.is_floating_point():
        return None
    for axis in (1, 0):
        length = inputs.shape[axis]
        if length < 4:
            continue
        shorter = (*inputs.shape[:axis], length - 1, *inputs.shape[axis + 1 :])
        if target.numel() == inputs.numel():
            ahead = target.reshape(inputs.shape).narrow(axis, 0, length - 1)
        elif target.numel() == inputs.narrow(axis, 1, length - 1).numel():
            ahead = target.reshape(shorter)
        else:
            continue
        asked = ahead != -100  # what cross-entropy leaves out
        same = (ahead == inputs.narrow(axis, 1, length - 1))[asked].float().mean()
        unmoved = (ahead == inputs.narrow(axis, 0, length - 1))[asked].float().mean()
        if float(same) > 0.9 and float(unmoved) < 0.8:
            return inputs, axis
    return None


def _early(model: Any, arguments: Any, inputs: Tensor, axis: int) -> list[Tensor]:
    """Outputs at the places of the first half; two readings where there are as many classes as places."""
    args, kwargs = arguments
    shape, length = inputs.shape, inputs.shape[axis]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        leaves = tree_flatten(model(*args, **kwargs))[0]
    readings = list[Tensor]()
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.ndim < 2:
            continue
        if leaf.shape[:2] == shape[:2]:
            readings.append(leaf.narrow(axis, 0, length // 2))
        if leaf.shape[0] == shape[0] and leaf.shape[-1] == length and axis == 1:
            readings.append(leaf.narrow(-1, 0, length // 2))
        if leaf.shape[0] == shape[0] * shape[1]:
            readings.append(leaf.reshape(*shape[:2], -1).narrow(axis, 0, length // 2))
        if readings:
            break
    return readings


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    """Of each column with the target, the larger of that of numbers and of ranks; classes have no ranks: (F,)."""
    plain = _correlated(x.double(), y.double())
    if not y.is_floating_point() or len(torch.unique(y)) < len(y) / 4:
        return plain
    ranks = _correlated(x.argsort(0).argsort(0).double(), y.argsort().argsort().double())
    return torch.maximum(plain, ranks)


def _correlated(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(0), y - y.mean()
    scale = x.square().sum(0).sqrt() * y.square().sum().sqrt()
    return torch.where(scale > 0, (x * y[:, None]).sum(0) / scale.clamp_min(1e-300), 0).abs()
