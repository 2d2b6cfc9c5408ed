"""Inputs and targets of recorded batches."""

from __future__ import annotations

from torch import Tensor
from torch.utils._pytree import tree_flatten

from sounding.watching.seen import Seen
from sounding.watching.tape import Tape


def inputs_of(tape: Tape) -> Tensor | None:
    """What the first model was called with first, if that is a tensor."""
    for entry in tape.calls()[:1]:
        leaves = [leaf for leaf in tree_flatten(entry.arguments)[0] if isinstance(leaf, Tensor)]
        return leaves[0] if leaves else None
    return None


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
    pairs = ((inputs_of(tape), target_of(tape)) for tape in seen.tapes)
    return [(x, y) for x, y in pairs if x is not None and y is not None and x.ndim and y.ndim and len(x) == len(y)]
