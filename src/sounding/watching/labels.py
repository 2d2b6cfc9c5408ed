"""Inputs, labels and answers of the recorded batches, a row each: what can be said about labels is said from these."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from sounding.watching.experiments import Laboratory, apart
from sounding.watching.tape import LOSSES

CLASSIFYING = {"cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"}
"""Loss functions that compare with labels."""
LARGEST = 1024
"""Rows that are compared with each other: four times as many comparisons say little more."""
NEIGHBOURS = 10
FIRST, SETTLED = 30, 200
"""Steps."""
AGREEMENT = 0.85
"""Of neighbours and model, below which neither foretells labels."""


def next_asking(done: int) -> int:
    """After how many steps to look at labels again: seldom in long runs."""
    due = FIRST
    while due <= done:  # the same steps for all rules, which share what they see
        due = math.ceil(1.5 * due) if due < SETTLED else 2 * due
    return due


@dataclass(frozen=True)
class Labelled:
    """Examples of a classification, none of them twice."""

    inputs: Tensor
    """(N, features), standardised; empty where the inputs are no numbers."""
    labels: Tensor
    """(N,) int64."""
    predictions: Tensor
    """(N,) int64: the most probable class according to the model, in evaluation mode."""
    confidence: Tensor
    """(N,): its probability."""
    places: list[tuple[int, int]]
    """Number of the step, and row in its batch."""

    @cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """The label that most of the ten nearest rows bear, and the share of them that do, by row."""
        distances = torch.cdist(self.inputs, self.inputs)
        distances.fill_diagonal_(torch.inf)
        nearest = distances.topk(min(NEIGHBOURS, len(distances) - 1), largest=False).indices
        votes = torch.nn.functional.one_hot(self.labels[nearest], int(self.labels.max()) + 1).float().mean(1)
        share, label = votes.max(1)
        return label, share


def labelled(laboratory: Laboratory) -> Labelled | None:
    """The examples of the recorded batches; none where the loss is not one of classification with a label a row."""
    known: Labelled | None = laboratory.once("labelled", lambda: _labelled(laboratory))
    return known


def _labelled(laboratory: Laboratory) -> Labelled | None:
    if (call := laboratory.seen.call) is None or call.name not in CLASSIFYING:  # spares playing the tapes
        return None
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    with apart(), torch.no_grad():
        models = copy.deepcopy(dict(laboratory.models))
        for model in models.values():
            model.eval()
        for tape in reversed(laboratory.tapes):
            heard = _Heard(laboratory.seen.name)
            tape.play(models, heard=heard)
            if (part := heard.part()) is None:
                return None
            parts.append(part)
    if not parts or len({part[0].shape[1] for part in parts}) > 1:
        return None
    inputs, labels, probabilities = (torch.cat([part[i] for part in parts])[:LARGEST].cpu() for i in range(3))
    numbers = {step.loss: step.number for step in laboratory.seen.steps}
    steps = [numbers.get(tape.loss, -1) for tape in reversed(laboratory.tapes)]
    places = [(step, row) for step, part in zip(steps, parts, strict=True) for row in range(len(part[1]))][:LARGEST]
    if inputs.shape[1]:
        rows = first_of_each(inputs)
        inputs = (inputs[rows] - inputs[rows].mean(0)) / inputs[rows].std(0, correction=0).clamp_min(1e-6)
    else:
        rows = torch.arange(len(labels))
    confidence, predictions = probabilities[rows].max(1)
    return Labelled(inputs, labels[rows], predictions, confidence, [places[row] for row in rows.tolist()])


class _Heard:
    """Takes down what went into a model and what its loss was computed from."""

    def __init__(self, player: str) -> None:
        self.player = player
        self.inputs: Tensor | None = None
        self.outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, run: Any, args: Any, kwargs: Any, outcome: Any) -> None:
        if run == self.player:
            leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor) and leaf.ndim]
            self.inputs = next((leaf for leaf in leaves if leaf.is_floating_point()), None)
        elif not isinstance(run, str) and run in LOSSES:
            given = dict(zip(("input", "target"), args, strict=False)) | kwargs
            if isinstance(given.get("input"), Tensor) and isinstance(given.get("target"), Tensor):
                self.outputs = _classified(LOSSES[run], given["input"], given["target"])

    def part(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Inputs (empty where they are no numbers), labels, probabilities."""
        if self.outputs is None:
            return None
        labels, probabilities = self.outputs
        inputs = self.inputs
        if inputs is None or len(inputs) != len(labels):
            inputs = torch.empty(len(labels), 0)
        return inputs.flatten(1).float(), labels, probabilities


def _classified(name: str, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
    """(N,) labels and (N, classes) probabilities, where there is one label a row."""
    outputs = outputs.float()
    if name in {"cross_entropy", "nll_loss"} and outputs.ndim == 2 and target.ndim == 1:
        return target.long(), outputs.softmax(1)  # of log-probabilities the softmax is what they are the logarithm of
    if name.startswith("binary_cross_entropy") and outputs.numel() == len(outputs) == target.numel():
        if not bool(((target == 0) | (target == 1)).all()):
            return None
        share = (outputs.sigmoid() if name.endswith("logits") else outputs).flatten()
        return target.flatten().long(), torch.stack([1 - share, share], 1)
    return None


def first_of_each(inputs: Tensor) -> Tensor:
    """The rows that are not the same as one before."""
    _, which = torch.unique(inputs, dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(inputs))
    return first.scatter_reduce(0, which, torch.arange(len(inputs)), "amin").sort().values


@dataclass(frozen=True, slots=True)
class Doubts:
    """Examples of which the label could be foretold, in the eyes of the neighbours and of the model alike."""

    rows: Tensor
    """(M,): which, of those that are known."""
    expected: Tensor
    """(M,) int64: the label that both foretell."""
    share: float
    """Of them, those that bear another label."""
    places: list[dict[str, int]]
    """The first of these: step, row in its batch, label and what was expected."""


def doubts(known: Labelled, part: float = 0.25, of: int | None = None) -> Doubts | None:
    """Judge labels where they can be foretold best; none where neighbours and model do not agree even there.

    Where classes overlap, neighbours disagree and the model is unsure: such rows are not among the best, and so a hard
    problem is not taken for a wrong label. Wrong labels are anywhere.

    part: the part of the rows that is taken; of: only among those that are expected to be of this class.
    """
    label, agreement = known.neighbours
    certainty = torch.minimum(_rank(agreement + 1e-3 * known.confidence), _rank(known.confidence))
    candidates = torch.arange(len(label)) if of is None else ((label == of) & (known.predictions == of)).nonzero()[:, 0]
    count = max(round(part * len(candidates)), 1)
    if len(candidates) < 2:
        return None
    rows = candidates[certainty[candidates].topk(count).indices]
    if float((label[rows] == known.predictions[rows]).float().mean()) < AGREEMENT:
        return None
    wrong = (known.labels[rows] != label[rows]) & (known.predictions[rows] == label[rows])
    places = [
        {"step": known.places[row][0], "row": known.places[row][1]}
        | {"label": int(known.labels[row]), "expected": int(label[row])}
        for row in rows[wrong].tolist()
    ]
    return Doubts(rows, label[rows], float(wrong.float().mean()), places[:10])


def _rank(values: Tensor) -> Tensor:
    return values.argsort().argsort().float()
