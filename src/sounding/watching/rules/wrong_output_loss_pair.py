"""A last operation and a loss that do not belong together."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.finding import Finding
from sounding.watching.examples import target_of
from sounding.watching.experiments import Twin, apart
from sounding.watching.graph import TRANSPARENT, Graph, Operation
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen
from sounding.watching.tape import Entry, Tape

RANGES = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Relu": (0.0, math.inf)}
NAMES = {"Relu": "ReLU", "LogSoftmax": "log-softmax", "LogSigmoid": "log-sigmoid"}
PROPER = {"NllLoss", "NllLoss2D", "MseLoss", "BinaryCrossEntropy", "BinaryCrossEntropyWithLogits", "HuberLoss"}
DIFFERENCES = {"MseLoss", "SmoothL1Loss", "HuberLoss", "Sub"}
SQUARES = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
LEAST_ROWS = 8
STEPS = 50
"""Of copies that learn classes."""


class WrongOutputLossPair(Rule):
    """The loss takes the outputs for something that they are not.

    Trigger: softmax, sigmoid or tanh before a loss that applies softmax or sigmoid itself; a softmax over a single
    unit; a negative log-likelihood of numbers that are no log-probabilities; the logarithm of a layer's raw outputs;
    a loss with its sign turned; an output that cannot reach the targets; targets of cross-entropy that are no
    distributions. Log-softmax before cross-entropy changes nothing and is no fault.
    Harm: certain for these, the loss has a floor or none at all. ReLU on logits has to show examples or classes
    without any gradient, or to lose a race against a copy without it; squares of the distance to one-hot classes
    have to classify worse than a copy with cross-entropy.
    Remedy: give the loss what it expects: raw outputs where it normalises by itself.
    """

    name = "wrong_output_loss_pair"
    looks_at = "outputs and a loss that do not fit"
    goes_by_loss = False
    asked_when_lost = True
    explains = (
        *(
            "underfit",
            "lr_too_low",
            "too_few_steps",
            "labels_shuffled",
            "vanishing_gradient",
            "saturation",
            "dead_relu",
        ),
        *(
            "targets_not_normalised",
            "bad_init",
            "missing_nonlinearity",
            "lr_too_high",
            "exploding_gradient",
            "numerics",
        ),
        *("label_noise", "corrupt_labels", "over_regularised", "class_imbalance", "batch_mixing"),
    )
    sources: ClassVar = (
        "Ben Braiek and Khomh 2022, TheDeepChecker (TOSEM), output and loss checks",
        "Schoop et al. 2021, UMLAUT (CHI), missing or double softmax",
        "github.com/tflearn/tflearn, issue 562",
    )

    def __init__(self) -> None:
        self._tried = 0

    def check(self, seen: Seen) -> Finding | None:
        if seen.graph is None or seen.graph.loss is None or not seen.steps:
            return None
        tail = ending(seen.graph)
        return (
            self._single_unit(seen, tail)
            or self._squashed(seen, tail)
            or self._not_logarithms(seen)
            or self._logarithm_of_raw(seen, tail)
            or self._negated(seen)
            or self._no_distributions(seen)
            or self._out_of_reach(seen, tail)
            or self._rectified(seen, tail)
            or self._squares_of_classes(seen, tail)
        )

    def _single_unit(self, seen: Seen, tail: list[Operation]) -> Finding | None:
        for one in tail:
            if one.name in {"Softmax", "LogSoftmax"} and one.shape and one.shape[_axis(one)] == 1 and _layer(one):
                return self.finding(
                    seen,
                    f"softmax over a single unit: the output is 1 whatever goes in ({list(one.shape)})",
                    "A softmax shares 1 out among the units. With one unit there is nothing to share: the output is "
                    "constant and its gradient zero.",
                    "for two classes use binary_cross_entropy_with_logits or two units; for a number use mse_loss "
                    "without softmax",
                    severity="error",
                    shape=list(one.shape),
                    confirmed="the axis of the softmax has one entry in this batch",
                )
        return None

    def _squashed(self, seen: Seen, tail: list[Operation]) -> Finding | None:
        for one in tail:
            before = one.above()
            if before is None:
                continue
            if one.name == "LogSoftmax" and before.name in {"Softmax", "Sigmoid", "Tanh"}:
                loss, classes = "cross-entropy, which applies softmax itself", one.shape[_axis(one)]
                low, high = RANGES[before.name]
                floor = math.log1p((classes - 1) * math.exp(low - high))
            elif one.name == "BinaryCrossEntropyWithLogits" and before.name in {*RANGES, *NAMES}:
                loss, floor = "binary_cross_entropy_with_logits, which applies sigmoid itself", _binary_floor(before)
            else:
                continue
            return self.finding(
                seen,
                f"{_named(before)} goes into {loss}",
                f"The loss takes its inputs for logits. Squeezed ones keep it above {floor:.3g} for some targets "
                "however sure the network is, and their gradients are small.",
                f"remove the {_named(before)} before the loss; apply it only to read probabilities",
                layer=_layer(before) or "",
                floor=floor,
                confirmed="the operations behind this loss",
            )
        return None

    def _not_logarithms(self, seen: Seen) -> Finding | None:
        call = seen.call
        if call is None or call.name != "nll_loss" or call.outputs.ndim < 2:
            return None
        outputs = call.outputs.float()
        if _near_one(outputs.exp().sum(1)):
            return None
        by_batch = len(outputs) > 1 and _near_one(outputs.exp().sum(0))
        if not by_batch and float(outputs.max()) <= 1e-4:
            return None
        what = "raw outputs"
        if by_batch:
            what = "log-probabilities that sum to 1 over the batch instead of over the classes"
        elif _near_one(outputs.sum(1)):
            what = "probabilities"
        return self.finding(
            seen,
            f"nll_loss is given {what} instead of log-probabilities",
            "It takes the entry of the right class and turns its sign: of anything but logarithms of probabilities "
            "that is no measure of fit, and may fall without end.",
            "use cross_entropy on raw outputs, or log_softmax(outputs, dim=1) before nll_loss",
            severity="error",
            loss=float(call.value.mean()),
            largest_output=float(outputs.max()),
            confirmed="the exponentials of this batch's outputs do not sum to 1 for each example",
        )

    def _logarithm_of_raw(self, seen: Seen, tail: list[Operation]) -> Finding | None:
        for one in tail:
            if one.name not in {"Log", "BinaryCrossEntropy"}:
                continue
            before = one.above()
            if before is not None and before.name in {"Clamp", "ClampMin", "ClampMax"}:
                before = before.above()
            if before is None or not before.is_affine:
                continue
            what = "a logarithm" if one.name == "Log" else "binary_cross_entropy"
            return self.finding(
                seen,
                f"the raw outputs of {before.layer} go into {what}, which takes probabilities",
                "Raw outputs are of any sign and size. What is clamped has no gradient, what is not has no logarithm.",
                "use cross_entropy or binary_cross_entropy_with_logits on the raw outputs",
                layer=before.layer,
                confirmed="the operations behind this loss",
            )
        return None

    def _negated(self, seen: Seen) -> Finding | None:
        assert seen.graph is not None
        one = seen.graph.loss
        if one is None or seen.others or one.name != "Neg" or not one.data or one.data[0].name not in PROPER:
            return None
        if seen.last.loss > 0:  # log-likelihoods, whose sign was turned before
            return None
        return self.finding(
            seen,
            "the loss has its sign turned: training makes it worse",
            "The optimizer descends; on the negative of a loss that means that errors grow without end.",
            "remove the minus before the loss",
            severity="error",
            loss=seen.last.loss,
            confirmed="the last operation before the backward pass is a negation of a loss",
        )

    def _no_distributions(self, seen: Seen) -> Finding | None:
        call = seen.call
        if call is None or call.name != "cross_entropy" or not call.target.is_floating_point():
            return None
        target = call.target.float()
        if call.outputs.ndim == 1 and len(target) > 1 and not _near_one(target.sum()[None]):
            problem = (
                f"one number for each of {len(target)} examples is taken for one distribution over as many classes"
            )
        elif target.ndim > 1 and not _near_one(target.sum(1)):
            problem = f"targets sum to {float(target.sum(1).mean()):.3g} over the classes on average, and not to 1"
        elif float(target.min()) < -1e-6:
            problem = "targets are negative"
        else:
            return None
        return self.finding(
            seen,
            f"cross_entropy is given targets that are no distributions: {problem}",
            "Its least value depends on the scale of the targets, and outputs that sum to 1 cannot match them.",
            "for several labels at once use binary_cross_entropy_with_logits, for numbers mse_loss, for classes their "
            "numbers",
            confirmed="the targets of this batch",
        )

    def _out_of_reach(self, seen: Seen, tail: list[Operation]) -> Finding | None:
        last, target = _last_bend(tail), _numbers(seen)
        if last is None or target is None or last.name not in RANGES:
            return None
        low, high = RANGES[last.name]
        missed = target - target.clamp(low, high)
        outside = float((missed.abs() > 1e-3).float().mean())
        floor, variance = float(missed.square().mean()), float(target.var(correction=0))
        if outside < 0.02 or floor < 0.01 * variance:
            return None
        reach = f"[{low:g}, {high:g}]" if high < math.inf else "what is not negative"
        return self.finding(
            seen,
            f"{_named(last)} at the end can only answer with {reach}, and {outside:.0%} of the targets lie outside",
            f"Their part of the squared error, {floor:.3g}, stays however long the network is trained; the variance "
            f"of the targets is {variance:.3g}.",
            f"remove the {_named(last)} at the end, or scale the targets into its range",
            severity="error",
            outside=outside,
            floor=floor,
            targets=[float(target.min()), float(target.max())],
            confirmed="the targets of the batches seen",
        )

    def _rectified(self, seen: Seen, tail: list[Operation]) -> Finding | None:
        if not any(_into_softmax(one) for one in tail):
            return None
        call = seen.call
        zero_rows = dead = 0.0
        if call is not None and call.outputs.ndim == 2 and len(call.outputs) >= LEAST_ROWS:
            zero_rows = float((call.outputs == 0).all(1).float().mean())
            dead = float((call.outputs == 0).all(0).float().mean())
        confirmed = (
            f"for {zero_rows:.0%} of the examples all logits are zero, {dead:.0%} of the classes are never above"
        )
        if max(zero_rows, dead) < 0.05:
            if seen.done < 2 * self._tried or not seen.laboratory.is_ready or not _last_relu(seen.model):
                return None
            self._tried = seen.done
            race = seen.laboratory.race(_without_last_relu)
            if race.gain < 0.05:
                return None
            confirmed = str(race)
        return self.finding(
            seen,
            "ReLU on logits: what goes into cross-entropy cannot be negative",
            "A class can never be ruled out, and where the logits of an example or a class are all zero no gradient "
            "flows back.",
            "remove the ReLU before the loss",
            zero_examples=zero_rows,
            zero_classes=dead,
            confirmed=confirmed,
        )

    def _squares_of_classes(self, seen: Seen, tail: list[Operation]) -> Finding | None:
        call = seen.call
        if call is None or call.name != "mse_loss" or not _is_one_hot(call.target) or seen.done < 20:
            return None
        if seen.done < 2 * self._tried or not seen.laboratory.is_ready or call.outputs.ndim != 2:
            return None
        self._tried = seen.done
        last = _last_bend(tail)
        squared = _accuracy(seen, None)
        proper = _accuracy(seen, last.name if last is not None else "")
        if proper - squared < 0.1:
            return None
        return self.finding(
            seen,
            "mse_loss on one-hot classes: cross-entropy learns them much faster",
            "Where an output is sure and wrong its squared error is nearly flat, and most outputs are zeros that are "
            "soon fitted.",
            "use cross_entropy on raw outputs and the numbers of the classes",
            accuracy=squared,
            accuracy_with_cross_entropy=proper,
            confirmed=f"after the same number of steps, a copy with cross-entropy is right for {proper:.0%} of the "
            f"recorded examples and one without for {squared:.0%}",
        )


def ending(graph: Graph) -> list[Operation]:
    """The operations between the last layers and the loss, the loss first."""
    found: dict[int, Operation] = {}
    pending = [graph.loss] if graph.loss is not None else []
    while pending:
        one = pending.pop(0)
        if id(one) in found or one.is_affine or one.is_parameter:
            continue
        found[id(one)] = one
        pending += one.data
    return list(found.values())


def _named(operation: Operation) -> str:
    return NAMES.get(operation.name, operation.name.lower())


def _axis(operation: Operation) -> int:
    """Of a softmax; autograd keeps negative numbers as large ones."""
    axis = int(operation.node._saved_dim)
    return axis if axis < 1 << 63 else axis - (1 << 64)


def _layer(operation: Operation) -> str | None:
    """The layer whose outputs go into it, if nothing bends them in between."""
    before = operation.above()
    return before.layer if before is not None and before.is_affine else None


def _binary_floor(before: Operation) -> float:
    """The loss of the target that is worse off, at the most favourable logit."""
    low, high = RANGES.get(before.name, (-math.inf, 0.0))
    return max(math.log1p(math.exp(low)) if low > -math.inf else 0.0, math.log1p(math.exp(-high)))


def _near_one(totals: Tensor) -> bool:
    """Whether at least half of them are."""
    return float(((totals - 1).abs() < 0.05).float().mean()) >= 0.5


def _last_bend(tail: list[Operation]) -> Operation | None:
    """The operation whose result is compared with targets, past those that bend nothing."""
    for one in tail:
        if one.name in DIFFERENCES and len(one.data) == 1:
            before = one.data[0]
            return before if before.name not in TRANSPARENT else before.above()
    return None


def _numbers(seen: Seen) -> Tensor | None:
    """The targets of a regression seen of late, flattened."""
    if seen.call is not None:
        if seen.call.name not in SQUARES:
            return None
        return torch.cat([one.flatten().float() for one in seen.targets[-16:]])
    targets = [target_of(tape) for tape in seen.tapes]
    flat = [one.flatten().float() for one in targets if one is not None and one.is_floating_point()]
    return torch.cat(flat) if flat else None


def _into_softmax(operation: Operation) -> bool:
    """Whether ReLU gives the logits; where a mean over places comes between, it is part of the last layer's design."""
    before = operation.above() if operation.name == "LogSoftmax" else None
    return before is not None and before.name == "Relu" and math.prod(before.shape) == math.prod(operation.shape)


def _last_relu(model: nn.Module) -> nn.Module | None:
    """The last module, if it is a ReLU."""
    last = list(model.modules())[-1]
    return last if isinstance(last, nn.ReLU) else None


def _without_last_relu(twin: Twin) -> None:
    last = _last_relu(twin.model)
    assert last is not None
    last.register_forward_hook(lambda module, args, output: args[0])


def _is_one_hot(target: Tensor) -> bool:
    return (
        target.ndim == 2
        and target.shape[1] > 1
        and bool(((target == 0) | (target == 1)).all())
        and bool((target.sum(1) == 1).all())
    )


def _accuracy(seen: Seen, last: str | None) -> float:
    """Of a copy on recorded batches after training on them; with cross-entropy where the last operation is given."""
    tapes = seen.laboratory.tapes if last is None else [_proper(tape, last) for tape in seen.laboratory.tapes]
    right: list[Tensor] = []

    def heard(run: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], _: object) -> None:
        if run is F.mse_loss or isinstance(run, _Entropy):
            given = dict(zip(("input", "target"), args, strict=False)) | kwargs
            outputs, target = given["input"], given["target"]
            right.append(outputs.argmax(1) == target.argmax(1))

    with apart():
        twin = seen.laboratory.twin()
        twin.model.train()
        for step in range(STEPS):
            twin.step(tapes[step % len(tapes)])
        with torch.no_grad():
            for tape in tapes:
                tape.play(twin.models, heard=heard)
    return float(torch.cat(right).float().mean())


class _Entropy(NamedTuple):
    """Cross-entropy in place of squares, of what the last operation leaves."""

    last: str

    def __call__(self, input: Tensor, target: Tensor, **_: object) -> Tensor:
        if self.last == "Softmax":
            return -(target * input.clamp_min(1e-12).log()).sum(1).mean()
        if self.last == "Sigmoid":
            return F.binary_cross_entropy(input, target.to(input.dtype))
        return F.cross_entropy(input, target.to(input.dtype))


def _proper(tape: Tape, last: str) -> Tape:
    """The same with cross-entropy in place of squares."""
    runs: list[Any] = [_Entropy(last) if one.run is F.mse_loss else one.run for one in tape.entries]
    entries = [Entry(run, one.arguments, one.results) for run, one in zip(runs, tape.entries, strict=True)]
    return Tape(entries, tape.roots, tape.random, tape.loss)
