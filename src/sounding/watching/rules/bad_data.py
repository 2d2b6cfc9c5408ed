"""Rows from which nothing can be learned."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.examples import batches, call_of, inputs_of, target_of
from sounding.watching.probes import fingerprints
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

ROWS = 32
"""At least so many have to be seen."""
REPEATED = 0.5
OUTLYING_FROM = 10
"""Steps before which too few targets were seen."""
FAR, FEW, DOMINATED = 50, 0.02, 0.95
"""Targets that are so many times further from the median than half of all are, the share of all that they may be, and
the share of the squared distances that they have."""


class BadData(Rule):
    """Inputs or targets that say nothing or something impossible.

    Trigger: inputs or targets that are not finite; targets of a binary loss that are no probabilities; the same few
    rows over and over, with targets that differ; a few targets so far out that a squared error sees nothing else;
    columns that are the same in every row.
    Harm: what is not finite has to reach the loss; repeated rows have to contradict one another; targets far out
    have to make up nearly all of the squared distances. Constant columns in other data are a note.
    Remedy: look at the rows where they are read.
    """

    name = "bad_data"
    looks_at = "gaps, constants and contradictions in the batches"
    goes_by_loss = False
    asked_when_lost = True
    explains = (
        *("numerics", "underfit", "labels_shuffled", "lr_too_low", "too_few_steps", "no_update", "overfit"),
        *("exploding_gradient", "lr_too_high", "inputs_not_normalised", "corrupt_labels", "label_noise", "bad_init"),
        *("vanishing_gradient", "dead_relu", "class_imbalance"),
    )
    sources: ClassVar = (
        "Ben Braiek and Khomh 2022, TheDeepChecker (TOSEM), data checks",
        "github.com/Lightning-Universe/lightning-bolts, issue 194",
    )

    def __init__(self) -> None:
        self._compared = 0  # rows, when they were compared last

    def check(self, seen: Seen) -> Finding | None:
        return (
            self._not_finite(seen)
            or self._improbable(seen)
            or self._repeated(seen)
            or self._outlying(seen)
            or self._constant(seen)
        )

    def _not_finite(self, seen: Seen) -> Finding | None:
        if seen.lost is None or seen.lost.what not in {"inputs", "targets"}:
            return None
        what = seen.lost.what
        rows = f" in row {seen.lost.rows[0]} of the batch" if seen.lost.rows else ""
        problem = f": {seen.lost.operation}" if seen.lost.operation else ""
        return self.finding(
            seen,
            f"{what} are not finite{rows}{problem}",
            "One gap makes the loss, all gradients and with the next update every weight not a number.",
            "fill the gaps or leave these rows out, before batches are made",
            severity="error",
            where=what,
            rows=seen.lost.rows,
            confirmed="the loss of this batch is not finite",
        )

    def _improbable(self, seen: Seen) -> Finding | None:
        call = seen.call
        if call is None or call.name != "binary_cross_entropy_with_logits":
            return None
        outside = float(((call.target < 0) | (call.target > 1)).float().mean())
        if not outside:
            return None
        return self.finding(
            seen,
            f"{outside:.0%} of the targets of a binary loss lie outside 0 to 1 (up to {float(call.target.max()):.3g})",
            "Of such targets the loss has no least value: outputs grow without end.",
            "map the targets to 0 and 1",
            severity="error",
            least=float(call.target.min()),
            largest=float(call.target.max()),
            confirmed="the targets of this batch",
        )

    def _repeated(self, seen: Seen) -> Finding | None:
        parts = [x for x, _ in batches(seen)]
        count = sum(map(len, parts))
        if count < max(ROWS, 2 * self._compared) or len(seen.steps) < 3:
            return None
        self._compared = count
        different = {number for part in parts for number in fingerprints((part,), {})}  # equal rows have equal ones
        x, y = (None, None) if len(different) > (1 - REPEATED) * count else rows_of(seen)
        if x is None or y is None or len(others := beside(seen)) != len(x):
            return None
        kinds, group = torch.unique(torch.cat([x.double(), others], 1), dim=0, return_inverse=True)
        if len(kinds) > (1 - REPEATED) * len(x) or not _contradict(y, group, len(kinds)):
            return None
        same = len(kinds) == 1
        return self.finding(
            seen,
            ("all inputs are the same" if same else f"{len(x)} rows hold only {len(kinds)} different inputs")
            + ", with different targets",
            "Where inputs do not differ, the best answer is the same for all of them: there is nothing to learn.",
            "look at how rows are read: a wrong index, a file read once, or columns that were lost",
            severity="error",
            rows=len(x),
            different=len(kinds),
            confirmed="within rows of equal inputs the targets vary as much as in all",
        )

    def _outlying(self, seen: Seen) -> Finding | None:
        call = seen.call
        if call is None or call.name != "mse_loss" or seen.done < OUTLYING_FROM or call.target.shape[1:].numel() > 1:
            return None
        values = torch.cat([target.flatten() for target in seen.targets]).double()
        away = (values - values.median()).abs()
        spread = float(away.median())
        outliers = away > FAR * spread
        share = float(away[outliers].square().sum() / away.square().sum().clamp_min(1e-300))
        if not spread or not 0 < int(outliers.sum()) <= FEW * len(values) or share < DOMINATED:
            return None
        return self.finding(
            seen,
            f"{int(outliers.sum())} of {len(values)} targets lie {FAR} times further from the middle than most, up to "
            f"{float(values[away.argmax()]):.4g}",
            f"They make up {share:.1%} of what squared errors measure: the network follows them and not the others.",
            "look at these rows; correct or drop them, or use a loss that they do not dominate (l1, Huber)",
            outliers=int(outliers.sum()),
            targets=len(values),
            median=float(values.median()),
            spread=spread,
            share=share,
            confirmed="the targets of the steps that were looked at",
        )

    def _constant(self, seen: Seen) -> Finding | None:
        x, _ = rows_of(seen) if seen.ended else (None, None)
        if x is None or len(x) < ROWS or x.shape[1] < 2:
            return None
        constant = (x == x[0]).all(0).nonzero().flatten().tolist()
        if not constant:
            return None
        return self.finding(
            seen,
            f"{len(constant)} of {x.shape[1]} input columns are the same in all {len(x)} rows looked at",
            "They tell nothing about the examples.",
            "leave them out, unless they vary elsewhere",
            severity="info",
            columns=constant[:20],
        )


def rows_of(seen: Seen) -> tuple[Tensor | None, Tensor | None]:
    """Inputs (N, F) and targets (N) or (N, K) of all recorded batches, where inputs are tables of numbers."""
    parts = [(x, y) for x, y in batches(seen) if x.is_floating_point() and x.ndim > 1]
    if not parts or any(x.shape[1:] != parts[0][0].shape[1:] or y.shape[1:] != parts[0][1].shape[1:] for x, y in parts):
        return None, None
    y = torch.cat([y for _, y in parts]).cpu()
    return torch.cat([x for x, _ in parts]).flatten(1).float().cpu(), y.flatten(1).squeeze(-1) if y.ndim > 1 else y


def beside(seen: Seen) -> Tensor:
    """(N, F) what the first model was called with besides its first input: beside equal numbers codes may differ."""
    parts = []
    for tape in seen.tapes:
        _, tensors = call_of(tape) or (None, [])
        rows = len(tensors[0]) if tensors and tensors[0].ndim else 0
        if inputs_of(tape) is None or target_of(tape) is None or not rows:
            continue
        others = [one.flatten(1).double() for one in tensors[1:] if one.ndim > 1 and len(one) == rows]
        parts.append(torch.cat([torch.zeros(rows, 0, dtype=torch.float64, device=tensors[0].device), *others], 1).cpu())
    same = parts and all(part.shape[1:] == parts[0].shape[1:] for part in parts)
    return torch.cat(parts) if same else torch.zeros(0, 0)


def _contradict(y: Tensor, group: Tensor, groups: int) -> bool:
    """Whether targets vary within groups of equal inputs nearly as much as over all."""
    if y.ndim > 1:
        y = y.argmax(1) if y.shape[1] > 1 else y[:, 0]
    if not y.is_floating_point():
        return _right(y, group) < 1 - 0.8 * (1 - float(torch.unique(y, return_counts=True)[1].max()) / len(y)) - 1e-9
    total = float(y.var(correction=0))
    means = torch.zeros(groups).index_add_(0, group, y.float()) / torch.bincount(group, minlength=groups)
    return total > 0 and float((y - means[group]).square().mean()) > 0.8 * total


def _right(y: Tensor, group: Tensor) -> float:
    """The part that is right when each group answers with its most frequent class."""
    _, classes = torch.unique(y, return_inverse=True)
    table = torch.zeros(int(group.max()) + 1, int(classes.max()) + 1)
    table.index_put_((group, classes), torch.ones(len(y)), accumulate=True)
    return float(table.max(1).values.sum()) / len(y)
