"""What a loss was computed from: the operations that autograd recorded, read before the backward pass frees them.

It sees what hooks on modules do not: activations called as functions, what lies between two layers, and how the
loss is joined to the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

AFFINE = {"Addmm", "Mm", "Convolution", "MkldnnConvolution", "Linear", "MkldnnLinear", "MkldnnReshapeLinear"}
"""Operations of linear and convolutional layers."""
TRANSPARENT = {
    *("View", "UnsafeView", "ReshapeAlias", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Expand", "Clone"),
    *(
        "ToCopy",
        "Alias",
        "Slice",
        "Select",
        "Index",
        "Flatten",
        "AvgPool1D",
        "AvgPool2D",
        "AvgPool3D",
        "Detach",
        "Split",
    ),
    *(
        "MkldnnAdaptiveAvgPool2D",
        "AdaptiveAvgPool2D",
        "AdaptiveAvgPool1D",
        "NativeDropout",
        "Contiguous",
        "SplitWithSizes",
    ),
}
"""Operations that bend nothing: what passes through them could as well be part of a layer before or after."""
ACTIVATIONS = {
    "Relu": "relu",
    "Threshold": "relu",
    "Hardtanh": "hardtanh",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "LogSigmoid": "log_sigmoid",
    "Softplus": "softplus",
    "Exp": "exp",
}


@dataclass(slots=True)
class Operation:
    """A node of the graph: one operation, what went into it, and what came out."""

    name: str
    """As autograd calls it, without `Backward0`: `Addmm`, `Relu`, `NllLoss`."""
    shape: tuple[int, ...]
    """Of what came out."""
    inputs: list[Operation] = field(default_factory=list)
    """Those that gradients go on to; constants are not among them."""
    parameters: list[str] = field(default_factory=list)
    """Names of the parameters that went in, also through a transposition or a change of type."""
    node: Any = field(default=None, repr=False)
    is_dropout: bool = False
    """Whether it multiplies by a mask that drops entries and scales the rest up."""

    def saved(self, name: str) -> Any:
        """What autograd kept for the backward pass, such as `self`, `result` or `target`; none where it did not."""
        try:
            return getattr(self.node, f"_saved_{name}", None)
        except RuntimeError:  # freed by a backward pass, or changed in place since
            return None

    @property
    def data(self) -> list[Operation]:
        """The inputs that are no parameters."""
        return [one for one in self.inputs if not one.is_parameter]

    @property
    def is_parameter(self) -> bool:
        """Whether it hands on a parameter, as it is, transposed or in another type."""
        return self.name == "AccumulateGrad" or (
            self.name in {"T", "Transpose", "ToCopy", "Permute", "View", "Expand"}
            and len(self.inputs) == 1
            and self.inputs[0].is_parameter
        )

    @property
    def is_affine(self) -> bool:
        """Whether it multiplies by a weight: a linear or convolutional layer."""
        return self.name in AFFINE and bool(self.parameters)

    @property
    def layer(self) -> str:
        """The module that the parameters belong to."""
        return self.parameters[-1].rpartition(".")[0] if self.parameters else ""

    def above(self) -> Operation | None:
        """The operation that data came from, if there is just one, past those that bend nothing."""
        at = self
        while len(at.data) == 1:
            at = at.data[0]
            if at.name not in TRANSPARENT and not at.is_dropout:
                return at
        return None


class Graph:
    """All operations behind a loss, from it to the parameters."""

    def __init__(self, loss: Tensor, names: Mapping[Tensor, str]) -> None:
        """Read it; `names` are those of the parameters."""
        self.operations: list[Operation] = []
        self.used: set[str] = set()
        """The parameters that a gradient will reach."""
        known: dict[Any, Operation] = {}
        if loss.grad_fn is None:
            return
        pending = [loss.grad_fn]
        while pending:  # each node after all that it leads to
            node = pending[-1]
            if node in known:
                pending.pop()
                continue
            nexts = [one for one, _ in node.next_functions if one is not None]
            if waiting := [one for one in nexts if one not in known]:
                pending += waiting
                continue
            known[pending.pop()] = self._read(node, [known[one] for one in nexts], names)
        self.operations = list(known.values())

    def _read(self, node: Any, inputs: list[Operation], names: Mapping[Tensor, str]) -> Operation:
        name = node.name().rpartition("::")[2].split("Backward")[0]
        metadata = node._input_metadata
        operation = Operation(name, tuple(metadata[0].shape) if metadata else (), inputs, [], node)
        if name == "AccumulateGrad":
            operation.shape = tuple(node.variable.shape)
            if (own := names.get(node.variable)) is not None:
                operation.parameters.append(own)
                self.used.add(own)
        for one in inputs:
            if one.is_parameter:
                operation.parameters += one.parameters
        operation.is_dropout = _drops(operation)
        return operation

    def __iter__(self) -> Iterator[Operation]:
        """From the first layer to the loss."""
        return iter(self.operations)

    @property
    def loss(self) -> Operation | None:
        """The last operation: the loss itself."""
        return self.operations[-1] if self.operations else None

    def affine(self) -> list[Operation]:
        """The layers with weights, in the order of the forward pass."""
        return [one for one in self.operations if one.is_affine]

    def activations(self) -> Iterator[tuple[str, str, Operation]]:
        """Each activation: the layer before it, its kind (`relu`, `tanh`) and the operation."""
        for one in self.operations:
            if (kind := ACTIVATIONS.get(one.name)) is not None:
                yield self._layer_before(one), kind, one

    def _layer_before(self, operation: Operation) -> str:
        at: Operation | None = operation
        while at is not None and not at.is_affine:
            at = at.data[0] if at.data else None
        return at.layer if at is not None else ""


def named_parameters(models: Mapping[str, nn.Module]) -> dict[Tensor, str]:
    """The names of all parameters; those of several models begin with the model's."""
    single = len(models) == 1
    return {
        parameter: name if single else f"{player}.{name}"
        for player, model in models.items()
        for name, parameter in model.named_parameters()
    }


def _drops(operation: Operation) -> bool:
    """Whether it multiplies by zeros and a number above 1: asked at once, as what autograd kept is soon freed."""
    if operation.name != "Mul" or len(operation.inputs) != 1:
        return False
    other = operation.saved("other")
    if not isinstance(other, Tensor) or other.requires_grad or other.shape != operation.shape:
        return False
    values = torch.unique(other.flatten()[: 1 << 12])
    return len(values) <= 2 and bool((values > 1).any()) and bool(((values > 1) | (values == 0)).all())
