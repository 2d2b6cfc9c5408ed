"""How much of the gradient reaches the early steps of a sequence."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from sounding.watching.experiments import Laboratory, apart
from sounding.watching.seen import Seen

CALLS = 5
"""Times that a layer is called in one forward pass, from which on a network written by hand counts as recurrent."""


def is_recurrent(model: nn.Module, called: list[str]) -> bool:
    """Whether a network goes step by step: by its modules, or by layers that are called again and again.

    called: the layer of each call in one forward pass.
    """
    if any(isinstance(module, (nn.RNNBase, nn.RNNCellBase)) for module in model.modules()):
        return True
    return any(called.count(layer) >= CALLS for layer in set(called))


def gradient_over_time(laboratory: Laboratory, weights: Mapping[str, Tensor] | None = None) -> Tensor | None:
    """(T,) the mean norm of the gradient with respect to each step of the latest batch.

    Steps are those of what goes into the first recurrent layer, or else of the inputs, (N, T, features) of numbers.

    weights: in place of those of now.

    None where there are no such sequences, or no gradient comes back to them.
    """
    tape = laboratory.tapes[-1]
    leaves: list[Tensor | PackedSequence] = []

    def followed(values: Tensor) -> Tensor:
        leaf = values.detach().clone().requires_grad_()
        leaves.append(leaf)
        return leaf

    def entering(layer: nn.Module, args: tuple[Tensor | PackedSequence, ...]) -> tuple[Tensor | PackedSequence, ...]:
        if isinstance(args[0], Tensor):
            return followed(args[0]), *args[1:]
        leaves.append(args[0]._replace(data=args[0].data.detach().clone().requires_grad_()))
        return leaves[-1], *args[1:]

    began = time.thread_time()
    with apart(), torch.backends.cudnn.flags(enabled=False):  # whose backward passes want training mode
        models = copy.deepcopy(dict(laboratory.models))
        if weights is not None:
            models[laboratory.seen.name].load_state_dict(dict(weights))
        layer = first_recurrent(models.values())
        if layer is None:
            loss = tape.play(models, followed)
        else:
            layer.register_forward_pre_hook(entering)
            loss = tape.play(models)
        if not leaves or not loss.requires_grad:
            return None
        first = leaves[0]
        leaf = first if isinstance(first, Tensor) else first.data
        gradient: Tensor | None = torch.autograd.grad(loss, leaf, allow_unused=True)[0]
    laboratory.seconds += time.thread_time() - began
    if gradient is None:
        return None
    norms: Tensor = gradient.float().norm(dim=-1)
    if not isinstance(first, Tensor):  # the first step of all examples, then the second of those that have one, ...
        return torch.stack([step.mean() for step in torch.split(norms, first.batch_sizes.tolist())])
    if norms.ndim != 2:
        return None
    return norms.mean(0 if layer is None or layer.batch_first else 1)


def first_recurrent(models: Iterable[nn.Module]) -> nn.RNNBase | None:
    """The first recurrent layer of PyTorch's own, in the order in which they were built."""
    layers = (module for model in models for module in model.modules() if isinstance(module, nn.RNNBase))
    return next(layers, None)


def over_time(seen: Seen) -> dict[str, list[float]]:
    """The same for a network with recurrent layers, by the weights of the `start` and of the `end`; else empty."""
    if not seen.laboratory.tapes or first_recurrent([seen.model]) is None:
        return {}
    weights = {"start": seen.laboratory.start or None, "end": None}
    measured = {name: gradient_over_time(seen.laboratory, own) for name, own in weights.items() if own or name == "end"}
    return {
        name: norms.tolist() for name, norms in measured.items() if norms is not None and bool(norms.isfinite().all())
    }
