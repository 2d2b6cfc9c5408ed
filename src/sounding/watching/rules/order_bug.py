"""Batches whose rows belong together."""

from __future__ import annotations

from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from sounding.finding import Finding
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

BATCHES = 6
LEAST_ROWS = 4
MIXED = 0.4
"""Part of the entropy that batches drawn at random would have."""
APART = 0.5
"""Part of the variance of the targets that lies between batches."""
FORGOTTEN = 1.5
"""Times that the loss on batches of before is that of the latest, both as it is now and as it was."""


class OrderBug(Rule):
    """Rows are given in the order in which they were stored.

    Trigger: the classes within a batch are far fewer than batches drawn at random from all targets seen would have;
    for numbers, most of the variance lies between batches. Batches of less than four rows do not count.
    Harm: batches of before are forgotten: their loss is now well above that of the latest batch when it was met.
    Remedy: shuffle the rows in each epoch.
    """

    name = "order_bug"
    looks_at = "batches that are not shuffled"
    experiment = 10
    explains = (
        *("underfit", "lr_too_high", "overfit", "too_few_steps", "labels_shuffled", "class_imbalance", "lr_too_low"),
        *("exploding_gradient", "dead_relu", "corrupt_labels", "label_noise", "bad_init"),
    )
    sources: ClassVar = ("Bengio 2012, Practical recommendations for gradient-based training, section 3.1.1",)

    def __init__(self) -> None:
        self._next = 0

    def check(self, seen: Seen) -> Finding | None:
        targets = [one for one in seen.targets[-64:] if one.ndim and len(one) >= LEAST_ROWS]
        if seen.others or seen.call is None or len(targets) < BATCHES or seen.done < self._next:
            return None
        ordered = _ordered(targets)
        if ordered is None or not seen.laboratory.is_ready or len(seen.laboratory.tapes) < 4:
            return None
        self._next = seen.done + max(seen.done // 4, 5)
        *before, last = seen.laboratory.tapes
        lost = fmean(seen.laboratory.loss(tape=tape) for tape in before)
        if lost < FORGOTTEN * max(last.loss, 1e-12):
            return None
        what, measured = ordered
        return self.finding(
            seen,
            f"batches are not shuffled: {what}",
            "Each batch pulls the network towards its own rows, and what was learned from others is lost on the way.",
            "shuffle the rows in each epoch, for instance with DataLoader(shuffle=True)",
            measured=measured,
            batches=len(targets),
            loss_of_this_batch=last.loss,
            loss_of_earlier_batches=lost,
            confirmed=f"the loss on {len(before)} earlier batches is {lost:.3g}, that of the last was {last.loss:.3g}",
        )


def _ordered(targets: list[Tensor]) -> tuple[str, float] | None:
    """What shows that rows were not shuffled, in words and as a number; none where nothing does."""
    if not targets[0].is_floating_point():
        classes = [one.flatten() for one in targets]
        together = torch.cat(classes)
        drawn = together[torch.randperm(len(together), generator=torch.Generator().manual_seed(0))]
        expected = fmean(_entropy(one) for one in torch.split(drawn, [len(one) for one in classes]))
        measured = fmean(map(_entropy, classes)) / max(expected, 1e-12)
        if expected < 0.1 or measured > MIXED:
            return None
        return f"the classes of a batch have {measured:.0%} of the entropy of rows drawn at random", measured
    columns = [one.flatten(1).squeeze(-1) if one.ndim > 1 else one for one in targets]
    if columns[0].ndim > 1:
        return None
    if all(bool(((one == 0) | (one == 1)).all()) for one in columns):
        return _ordered([one.long() for one in columns])
    together = torch.cat(columns).double()
    within = sum(float((one.double() - one.double().mean()).square().sum()) for one in columns) / len(together)
    share = 1 - within / max(float(together.var(correction=0)), 1e-12)
    # of shuffled rows about one part in the length of a batch lies between batches
    if share < APART + 2 * len(columns) / len(together):
        return None
    return f"{share:.0%} of the variance of the targets lies between batches", share


def _entropy(classes: Tensor) -> float:
    counts = torch.unique(classes, return_counts=True)[1].double()
    shares = counts / counts.sum()
    return float(-(shares * shares.log()).sum())
