"""A generator that makes the same again and again, or that its discriminator has beaten."""

from __future__ import annotations

import copy
import math
from statistics import fmean, median, quantiles
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from sounding.finding import Finding
from sounding.watching.experiments import apart
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen
from sounding.watching.tape import Entry, Slot, Tape

APART = 10
"""Steps between two measurements at least."""
DIVERSITY = 0.3
"""Mean distance of two generated examples relative to that of two real ones, below which modes are missing."""
IN_A_ROW = 3
COLLAPSED = 100
"""Steps after which a diversity that is lost again is a collapse."""
NEVER = 300
"""Steps after which it should have come."""
RISING = 1.25
BEATEN = 0.02
"""Loss of a discriminator that is right and certain nearly always: an accuracy above 0.98."""
WINDOW = 50
VANISHED = 1e-3
HOPELESS = 3.0
"""Loss of a generator that the discriminator believes with a probability of five percent."""


class GanCollapse(Rule):
    """The generator has collapsed to a few modes, or learns nothing more from its discriminator.

    Which player generates is seen from its output going into another one.

    Trigger: in three measurements in a row, not at the beginning and not on the rise, two examples of a generated
    batch differ by less than 0.3 of what two real ones do. Or the loss of the discriminator is near zero for a quarter
    of the run, fifty steps at least, while the gradient of the generator is a thousandth of its first or its loss has
    risen above 3. Losses that go up and down are usual.
    Harm: certain, examples that are all the same; or a generator without a signal.
    Confirmation: measured on a copy of the generator with the recorded noise.
    Remedy: a smaller rate for the discriminator or two time scales, a gradient penalty or spectral norm, smooth labels.
    """

    name = "gan_collapse"
    looks_at = "a generator that collapses or is beaten"
    goes_by_loss = False
    explains = ("vanishing_gradient", "too_few_steps", "lr_too_low", "exploding_gradient", "dead_relu", "saturation")
    sources: ClassVar = (
        "Goodfellow 2016, NIPS Tutorial: Generative Adversarial Networks, 5.1",
        "Arjovsky and Bottou 2017, Towards Principled Methods for Training GANs (ICLR)",
        "Heusel et al. 2017, Two Time-Scale Update Rule (NeurIPS)",
    )

    def __init__(self) -> None:
        self._measured: list[tuple[int, float]] = []

    def check(self, seen: Seen) -> Finding | None:
        if not seen.others or not seen.tapes or seen.done < APART:
            return None
        judge = _judge_of(seen)
        if judge is None:
            return None
        if not self._measured or seen.done >= self._measured[-1][0] + APART:
            diversity = _diversity(seen, judge)
            if diversity is not None:
                self._measured.append((seen.done, diversity))
        return self._collapsed(seen) or self._beaten(seen, judge)

    def _collapsed(self, seen: Seen) -> Finding | None:
        values = [value for _, value in self._measured]
        late, before = values[-IN_A_ROW:], values[-2 * IN_A_ROW : -IN_A_ROW]
        if len(before) < IN_A_ROW or max(late) >= DIVERSITY or fmean(late) > RISING * fmean(before):
            return None
        if seen.done < (COLLAPSED if max(values) >= DIVERSITY else NEVER):
            return None
        return self.finding(
            seen,
            f"the generator has collapsed: its examples differ by {late[-1]:.0%} of what real ones differ by",
            "It found a few examples that the discriminator takes, and makes nothing else.",
            "lower the rates, give the discriminator more steps or a gradient penalty, use minibatch discrimination",
            confirmed=f"measured on copies of the generator at the last {IN_A_ROW} looks",
            diversity=late,
            highest_diversity=max(values),
        )

    def _beaten(self, seen: Seen, judge: Seen) -> Finding | None:
        """Whether the discriminator tells all apart and the generator gets no further."""
        window = max(WINDOW, judge.done // 4)
        call = judge.call
        if call is None or not call.name.startswith("binary_cross_entropy"):
            return None
        if judge.done < 2 * window or seen.done < 2 * WINDOW or len(seen.steps) < 2 * IN_A_ROW:
            return None
        late = judge.losses[-window:]
        if not median(late) < BEATEN or quantiles(late, n=10)[-1] > 5 * BEATEN:
            return None
        first, last = (median(step.gradient_norm for step in steps) for steps in (seen.steps[:3], seen.steps[-3:]))
        count = max(WINDOW, seen.done // 4)
        early, now = fmean(seen.losses[:count]), fmean(seen.losses[-count:])
        if not (last < VANISHED * first or (now > HOPELESS and now > 1.5 * early)) or not math.isfinite(now):
            return None
        return self.finding(
            seen,
            f"the discriminator has won: its loss is {median(late):.2g} for {window} steps",
            "It tells all generated examples from real ones for certain; what it could teach the generator is lost.",
            "lower the rate of the discriminator, smooth its labels, add noise to its inputs or a gradient penalty",
            confirmed=f"seen over the last {window} steps of the discriminator",
            discriminator_loss=median(late),
            generator_losses=[early, now],
            generator_gradients=[first, last],
        )


def _judge_of(seen: Seen) -> Seen | None:
    """The player that the output of this one goes into."""
    others = {other.name: other for other in seen.others}
    for tape in (*reversed(seen.tapes), *(tape for other in seen.others for tape in other.tapes)):
        own: set[int | None] = set()
        for entry in tape.entries:
            takes = any(leaf.number in own for leaf in _leaves(entry) if isinstance(leaf, Slot))
            if takes and entry.run in others:
                return others[str(entry.run)]
            if takes or entry.run == seen.name:
                own.update(entry.results)
    return None


def _leaves(entry: Entry) -> list[object]:
    return tree_flatten(entry.arguments, is_leaf=lambda tree: isinstance(tree, Slot))[0]


def _diversity(seen: Seen, judge: Seen) -> float | None:
    """Of generated examples relative to real ones; none where these cannot be told."""
    generated = _generated(seen)
    if generated is None or len(generated) < 4:
        return None
    tapes = [*list(seen.tapes)[-2:], *list(judge.tapes)[-2:]]
    real = [_spread(one) for tape in tapes for one in _real(tape, judge.name, generated)]
    return _spread(generated) / max(real) if real and max(real) > 0 else None


def _generated(seen: Seen) -> Tensor | None:
    """What the generator makes now of the noise that was recorded last."""
    for tape in reversed(seen.tapes):
        for entry in reversed(tape.entries):
            if entry.run == seen.name and not any(isinstance(leaf, Slot) for leaf in _leaves(entry)):
                args, kwargs = entry.arguments
                with apart(), torch.no_grad():
                    outcome = tree_flatten(copy.deepcopy(seen.model)(*args, **kwargs))[0]
                return next((one for one in outcome if isinstance(one, Tensor) and one.ndim > 1), None)
    return None


def _real(tape: Tape, judge: str, generated: Tensor) -> list[Tensor]:
    """Batches that the discriminator was given as they came, alone or joined to generated ones."""
    entries = [entry for entry in tape.entries if entry.run == judge or getattr(entry.run, "__name__", "") == "cat"]
    given = [leaf for entry in entries for leaf in _leaves(entry) if isinstance(leaf, Tensor) and leaf.ndim > 1]
    return [one for one in given if one.is_floating_point() and len(one) > 3 and one[0].numel() == generated[0].numel()]


def _spread(batch: Tensor) -> float:
    return float(torch.pdist(batch.detach().flatten(1).float()[:256]).mean())
