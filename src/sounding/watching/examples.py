"""Inputs and targets of recorded batches."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten

from sounding.watching.seen import Seen
from sounding.watching.tape import Slot, Tape, Weight


def call_of(tape: Tape) -> tuple[Any, list[Tensor]] | None:
    """What the first model was called with, and the tensors in it; none where they were computed in the same step."""
    arguments = tape.calls()[0].arguments
    leaves = tree_flatten(arguments, is_leaf=lambda tree: isinstance(tree, (Slot, Weight)))[0]
    if any(isinstance(leaf, (Slot, Weight)) for leaf in leaves):
        return None
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return (arguments, tensors) if tensors else None


def inputs_of(tape: Tape) -> Tensor | None:
    """What the first model was called with first, if that is a tensor."""
    call = call_of(tape)
    return call[1][0] if call is not None else None


def target_of(tape: Tape) -> Tensor | None:
    """What the loss compares with: as given to a loss function, or a constant with an entry for each example."""
    if tape.target is not None:
        return tape.target
    inputs = inputs_of(tape)
    if inputs is None or not inputs.ndim:
        return None
    for entry in tape.entries:
        for leaf in [] if isinstance(entry.run, str) else tree_flatten(entry.arguments)[0]:
            if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == len(inputs):
                return leaf
    return None


def batches(seen: Seen) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets of the recorded batches that have as many of the ones as of the others."""
    pairs = map(_pair_of, seen.tapes)
    return [(x, y) for x, y in pairs if x is not None and y is not None and x.ndim and y.ndim and len(x) == len(y)]


def _pair_of(tape: Tape) -> tuple[Tensor | None, Tensor | None]:
    if tape.pair is None:
        tape.pair = inputs_of(tape), target_of(tape)
    return tape.pair
