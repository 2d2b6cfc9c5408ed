"""Examples of a batch that reach into one another."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from sounding.finding import Finding
from sounding.watching.examples import call_of, target_of
from sounding.watching.experiments import apart
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen

LEAST = 3
MOVED = 1e-3
"""Of the deviation of the outputs: less is rounding."""


class BatchMixing(Rule):
    """The output for one example depends on what else is in the batch.

    Trigger: on a copy in evaluation mode one example of a recorded batch is replaced, and outputs of others move.
    Networks whose examples are nodes of a graph or steps of one sequence, and those that compare all with all, mix by
    intent and do not count; neither does batch norm.
    Harm: certain: a prediction depends on its neighbours, and the network learns from examples that are not there.
    Remedy: `permute` or `transpose` instead of `view`; softmax and means over features, not over the batch;
    `batch_first=True`.
    """

    name = "batch_mixing"
    looks_at = "examples of a batch that reach into one another"
    experiment = 10
    explains = ("underfit", "labels_shuffled", "too_few_steps", "lr_too_low", "overfit", "bad_init")
    sources: ClassVar = (
        "Karpathy 2019, A Recipe for Training Neural Networks, dependencies by backpropagation",
        "github.com/Lightning-Universe/lightning-bolts, issue 194",
    )

    def __init__(self) -> None:
        self._is_done = False

    def check(self, seen: Seen) -> Finding | None:
        if self._is_done or seen.others or len(seen.steps) < 2 or not seen.laboratory.is_ready:
            return None
        self._is_done = True
        moved = others_moved(seen)
        if moved < MOVED:
            return None
        return self.finding(
            seen,
            "the output for one example depends on the others in its batch",
            "Axes were mixed up: a view where a permutation is meant, a softmax or mean over the batch, or a recurrent "
            "layer that takes the batch for time.",
            "use permute or transpose instead of view, give softmax and mean the axis of the features, and recurrent "
            "layers batch_first=True",
            severity="error",
            moved=moved,
            confirmed=f"one example replaced moves outputs of others by up to {moved:.2g} of their deviation, on a "
            "copy in evaluation mode",
        )


def others_moved(seen: Seen) -> float:
    """How far outputs move when one other example is replaced, in deviations of the outputs; 0 where it is no fault."""
    tape = seen.laboratory.tapes[-1]
    call, target = call_of(tape), target_of(tape)
    if call is None:
        return 0.0
    arguments, leaves = call
    size = len(target) if target is not None and target.ndim else len(leaves[0]) if leaves[0].ndim else 0
    axes = [axis for axis, length in enumerate(leaves[0].shape[:2]) if length == size]
    if size < LEAST or not axes or mixes_by_intent(seen.model, leaves, size, target):
        return 0.0
    sequences: list[bool] = []

    def single(module: nn.RNNBase, args: Any) -> None:
        values = args[0]
        sequences.append(isinstance(values, Tensor) and (values.ndim == 2 or values.shape[not module.batch_first] == 1))

    with apart(), torch.no_grad():
        model = copy.deepcopy(seen.model).eval()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and not module.track_running_stats:
                module.register_forward_hook(lambda module, args, output: args[0])
            elif isinstance(module, nn.RNNBase):
                module.register_forward_pre_hook(single)
        moved = min(_moved(model, arguments, axis, size) for axis in axes)
    return 0.0 if any(sequences) else moved


def mixes_by_intent(model: nn.Module, leaves: list[Tensor], size: int, target: Tensor | None) -> bool:
    """Whether examples are nodes of a graph, or compared with one another."""
    square = [*leaves[1:], *model.buffers()]
    if any(one.layout != torch.strided or tuple(one.shape[-2:]) == (size, size) for one in square):
        return True
    if any(one.ndim == 2 and one.shape[0] == 2 and not one.is_floating_point() for one in leaves[1:]):
        return True  # edges, from and to
    return target is not None and target.ndim == 1 and target.equal(torch.arange(size, device=target.device))


def _moved(model: nn.Module, arguments: Any, axis: int, size: int) -> float:
    def replaced(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.ndim <= axis or leaf.shape[axis] != size:
            return leaf
        changed = leaf.clone()
        changed.select(axis, 0).copy_(leaf.select(axis, size // 2))
        return changed

    one, again, other = (
        _outputs(model, given, size) for given in (arguments, arguments, tree_map(replaced, arguments))
    )
    if one is None or again is None or other is None or not one.equal(again) or one.shape != other.shape:
        return 0.0
    return float((one - other)[1:].abs().max() / one.std().clamp_min(1e-12))


def _outputs(model: nn.Module, arguments: Any, size: int) -> Tensor | None:
    """The first output that has a row for each example: (N, ...)."""
    args, kwargs = arguments
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        leaves = tree_flatten(model(*args, **kwargs))[0]
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim:
            if leaf.shape[0] == size:
                return leaf.flatten(1) if leaf.ndim > 1 else leaf[:, None]
            if leaf.ndim > 1 and leaf.shape[1] == size:
                return leaf.transpose(0, 1).flatten(1)
    return None
