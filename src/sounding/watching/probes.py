"""What is measured in a step that is looked at closely."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_flatten

from sounding.watching.experiments import apart
from sounding.watching.graph import Graph, Operation
from sounding.watching.seen import Activation, LayerInput, Lost, Seen, Step

SAMPLE = 1 << 18
"""Entries of a parameter that are looked at: more say no more."""
FINGERPRINT = 1 << 12
"""Entries of a row that tell it from others."""
EXAMPLES = 256
"""Of what goes into a layer or comes out of an activation: about so many tell its statistics."""
LOOKED_AT = {"relu", "tanh", "sigmoid"}
"""Activations that die or saturate."""
FLAT = 0.01
"""An activation is saturated where its slope is below this part of its largest."""


@dataclass(slots=True)
class Notes:
    """What was noted of one step so far, most of it tensors that are not read yet."""

    inputs: tuple[Any, Any] | None = None
    """Arguments of the model's last call."""
    backwards: int = 0
    stale: bool = False
    training: bool = True
    before: dict[str, Tensor] = field(default_factory=dict)
    """Weights before the update."""
    gradients: dict[str, Tensor] = field(default_factory=dict)
    """Norms."""
    applied: dict[str, Tensor] | None = None
    layers: list[LayerInput] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    is_half: bool = False
    """Whether layers compute in float16, in which small gradients are zero."""
    zeros: dict[str, Tensor] = field(default_factory=dict)

    def note_before(self, seen: Seen) -> None:
        """Before a backward pass."""
        if not self.backwards:
            assert seen.optimizer is not None
            held = [p for group in seen.optimizer.param_groups for p in group["params"]]
            gradients = [p.grad for p in held if p.grad is not None]  # others nobody zeroes, nor uses
            self.stale = any(bool(g.count_nonzero()) for g in gradients[-2:])
            self.training = seen.model.training

    def note_graph(self, graph: Graph) -> None:
        """What the operations kept: the inputs of layers and what came out of activations."""
        self.is_half = any(one.node._input_metadata[0].dtype == torch.float16 for one in graph.affine())
        inputs = (layer_input(operation) for operation in graph.affine())
        self.layers = [one for one in inputs if one is not None]
        outputs = (activation(layer, kind, operation, graph) for layer, kind, operation in graph.activations())
        self.activations = [one for one in outputs if one is not None]

    def note_after(self, seen: Seen) -> None:
        """After a backward pass."""
        self.backwards += 1
        trained = {name: p for name, p in seen.model.named_parameters() if p.requires_grad}
        self.gradients = _norms({name: p.grad for name, p in trained.items() if p.grad is not None})
        if not self.before:
            self.before = {name: _sampled(p).clone() for name, p in trained.items()}

    def note_before_step(self, seen: Seen) -> None:
        """When the optimizer is about to make its step; with a closure, that is before the backward pass."""
        if self.backwards:
            own = seen.model.named_parameters()
            self.applied = _norms({name: p.grad for name, p in own if p.grad is not None and p.requires_grad})
        if self.backwards and self.is_half:
            matrices = {n: p.grad for n, p in seen.model.named_parameters() if p.grad is not None and p.ndim > 1}
            self.zeros = {name: (gradient == 0).float().mean() for name, gradient in matrices.items()}

    def step_of(self, seen: Seen, backwards: int) -> Step:
        """All of it as numbers: here the CPU waits for the GPU."""
        now = {name: p for name, p in seen.model.named_parameters() if name in self.before}
        updates = _norms({name: _sampled(p) - self.before[name] for name, p in now.items()})
        assert seen.optimizer is not None
        return Step(
            number=seen.done - 1,
            loss=seen.losses[-1],
            rates=[float(group["lr"]) for group in seen.optimizer.param_groups],
            gradients=_read(self.gradients),
            applied=_read(self.gradients if self.applied is None else self.applied),
            weights=_read(_norms(self.before)),
            updates=_read(updates),
            backwards=backwards,
            stale=self.stale,
            training=self.training,
            inputs=self.layers,
            activations=self.activations,
            zeros=_read(self.zeros),
        )


def _sampled(parameter: Tensor) -> Tensor:
    return parameter.detach().flatten()[:SAMPLE]


def _norms(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    given = {name: t.detach() for name, t in tensors.items() if t is not None}
    present = {name: t.coalesce().values() if t.is_sparse else t for name, t in given.items()}
    if not present:
        return {}
    return dict(zip(present, torch._foreach_norm([t.float() for t in present.values()]), strict=True))


def _read(norms: dict[str, Tensor]) -> dict[str, float]:
    return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True)) if norms else {}


def _by_unit(values: Tensor, channels_second: bool) -> Tensor:
    """(examples, units) float32: convolutional layers have their units second, all others last.

    Of a larger number some hundred evenly spaced examples: first fewer places in pictures and sequences, then fewer
    rows of the batch.
    """
    if values.ndim < 2:
        return values.reshape(-1, 1).float()
    unit = 1 if channels_second else values.ndim - 1
    places = [dim for dim in range(1, values.ndim) if dim != unit]
    excess = values.numel() / max(values.shape[unit], 1) / EXAMPLES
    steps = dict.fromkeys(places, math.ceil(excess ** (1 / len(places)))) if places and excess > 1 else {}
    left = math.prod(-(-values.shape[dim] // steps.get(dim, 1)) for dim in (0, *places))
    steps[0] = max(round(left / EXAMPLES), 1)
    sampled = values.detach()[tuple(slice(None, None, steps.get(dim, 1)) for dim in range(values.ndim))]
    return sampled.movedim(unit, -1).flatten(0, -2).float()


def layer_input(operation: Operation) -> LayerInput | None:
    """What went into a layer, where autograd kept it: for a layer whose weight is trained."""
    convolution = "Convolution" in operation.name
    values = operation.saved("input" if convolution else "mat1" if operation.name == "Addmm" else "self")
    if not isinstance(values, Tensor) or not values.is_floating_point():
        return None
    units = _by_unit(values, convolution)
    means, deviations = units.mean(0), units.std(0, correction=0)
    return LayerInput(
        operation.layer, not operation.data, float(units.mean()), float(units.square().mean().sqrt()), means, deviations
    )


def activation(layer: str, kind: str, operation: Operation, graph: Graph) -> Activation | None:
    """What came out of an activation."""
    result = operation.saved("result") if kind in LOOKED_AT else None
    if not isinstance(result, Tensor) or result.ndim < 2:
        return None
    convolution = any("Convolution" in one.name and one.layer == layer for one in graph.affine())
    units = _by_unit(result, convolution)
    saturated = 0.0
    if kind == "tanh":
        saturated = float((units.square() > 1 - FLAT).float().mean())
    elif kind == "sigmoid":
        saturated = float((units * (1 - units) < FLAT / 4).float().mean())
    nonzero = units != 0
    return Activation(
        layer, kind, nonzero.any(0).cpu(), len(units), 1 - float(nonzero.float().mean()), saturated,
        float(units.std(0, correction=0).mean()),
    )  # fmt: skip


def modes(model: nn.Module) -> list[str]:
    """Dropout and batch norms in training mode: those that behave differently in evaluation."""
    return [
        name
        for name, module in model.named_modules()
        if module.training and (isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0))
    ]


class _Place(NamedTuple):
    layer: str
    kind: str


def trace(seen: Seen, inputs: tuple[Any, Any], root: Tensor) -> Lost:
    """Where numbers stopped being finite: in inputs, weights, the output of a layer, or only in the loss."""
    args, kwargs = inputs
    found: list[tuple[str, str, list[int]]] = []
    for leaf in tree_flatten((args, kwargs))[0]:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and not bool(leaf.isfinite().all()):
            return Lost(seen.done, "inputs", "", rows_of(leaf))
    for name, parameter in seen.model.named_parameters():
        if not bool(parameter.isfinite().all()):
            return Lost(seen.done, "weights", name, [])
    with apart(), torch.no_grad():
        model = copy.deepcopy(seen.model)
        handles = [
            module.register_forward_hook(_finite_hook(name, type(module).__name__, found))
            for name, module in model.named_modules()
        ]
        model(*args, **kwargs)
        for handle in handles:
            handle.remove()
    if found:
        layer, kind, rows = found[0]
        return Lost(seen.done, f"the output of {kind}", layer, rows)
    for operation in Graph(root, {}):
        for what, problem, bad in _unsafe(operation):
            if bool(bad.any()):
                return Lost(seen.done, what, "", _rows(bad), problem)
    return Lost(seen.done, "the loss", "", [])


def _unsafe(operation: Operation) -> Iterator[tuple[str, str, Tensor]]:
    """What can go wrong in an operation of a loss: where, in words, and the entries in which it did."""
    given, target = operation.saved("self"), operation.saved("target")
    if isinstance(target, Tensor):
        yield "targets", "", ~target.isfinite()
        if operation.name.startswith("NllLoss"):
            ignored = target == _signed(operation.node._saved_ignore_index)
            yield "targets", "all of them are ignored", ignored.all()
    if isinstance(given, Tensor) and operation.name in {"Log", "Log2", "Log10", "Log1P"}:
        shifted = given + 1 if operation.name == "Log1P" else given
        yield "the loss", "the logarithm of zero", shifted == 0
        yield "the loss", "the logarithm of a negative number", shifted < 0
    if operation.name == "Div" and isinstance(divisor := operation.saved("other"), Tensor):
        yield "the loss", "a division by zero", divisor == 0
    if isinstance(result := operation.saved("result"), Tensor) and operation.name == "Exp":
        yield "the loss", "an exponential that overflows", result.isinf()
    if isinstance(result, Tensor) and operation.name == "Sqrt":
        yield "the loss", "the root of a negative number", result.isnan()


def _signed(number: int) -> int:
    """As autograd keeps negative numbers: as large ones."""
    return number if number < 1 << 63 else number - (1 << 64)


def _finite_hook(name: str, kind: str, found: list[tuple[str, str, list[int]]]) -> Any:
    def look(module: nn.Module, args: Any, output: Any) -> None:
        numbers = (leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point())
        found.extend((name, kind, rows_of(leaf)) for leaf in numbers if not bool(leaf.isfinite().all()))

    return look


def rows_of(values: Tensor) -> list[int]:
    """The examples of a batch that are not finite, the first ten."""
    return _rows(~values.isfinite())


def _rows(bad: Tensor) -> list[int]:
    rows = bad.flatten(1).any(1) if bad.ndim > 1 else bad
    return [int(row) for row in rows.nonzero().flatten()[:10]] if rows.ndim else []


def fingerprints(args: Any, kwargs: Any) -> list[int]:
    """A number for each row of what a model was given first, the same for the same entries and hardly for others."""
    leaves = (leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor) and leaf.ndim > 1)
    first = next(leaves, None)
    if first is None or first.is_complex() or not first.numel():
        return []
    rows = first.detach().flatten(1)[:, :FINGERPRINT]
    whole = rows.float().view(torch.int32).long() if rows.is_floating_point() else rows.long()
    draws = torch.Generator().manual_seed(rows.shape[1])
    factors = torch.randint(1 << 62, (rows.shape[1],), generator=draws) * 2 + 1
    mixed = whole * factors.to(whole.device)
    return [int(row) for row in (mixed ^ (mixed >> 29)).sum(1).tolist()]


def sensitive(model: nn.Module) -> list[str]:
    """Dropout and batch norms: what behaves differently in training and in evaluation."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) or (isinstance(module, _DropoutNd) and module.p > 0)
    ]
