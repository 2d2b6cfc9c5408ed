"""How much of the gradient reaches the early steps of a sequence."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

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
    steps: list[Tensor] = []

    def followed(tensor: Tensor) -> Tensor:
        leaf = tensor.detach().clone().requires_grad_()
        steps.append(leaf)
        return leaf

    began = time.thread_time()
    with apart(), torch.backends.cudnn.flags(enabled=False):  # whose backward passes want training mode
        models = copy.deepcopy(dict(laboratory.models))
        if weights is not None:
            models[laboratory.seen.name].load_state_dict(dict(weights))
        layer = first_recurrent(models.values())
        if layer is None:
            loss = tape.play(models, followed)
        else:
            layer.register_forward_pre_hook(lambda _, args: (_followed(args[0], followed), *args[1:]))
            loss = tape.play(models)
        if not steps or steps[0].ndim != 3 or not loss.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(loss, steps[0], allow_unused=True)
    laboratory.seconds += time.thread_time() - began
    example = 0 if layer is None or layer.batch_first else 1
    norms: Tensor | None = None if gradient is None else gradient.float().norm(dim=2).mean(example)
    return norms


def over_time(seen: Seen) -> dict[str, list[float]]:
    """The same for a network with recurrent layers, by the weights of the `start` and of the `end`; else empty."""
    if not seen.laboratory.is_ready or first_recurrent([seen.model]) is None:
        return {}
    weights = {"start": seen.laboratory.start or None, "end": None}
    measured = {name: gradient_over_time(seen.laboratory, own) for name, own in weights.items() if own or name == "end"}
    return {
        name: norms.tolist() for name, norms in measured.items() if norms is not None and bool(norms.isfinite().all())
    }


def first_recurrent(models: Iterable[nn.Module]) -> nn.RNNBase | None:
    """The first recurrent layer of PyTorch's own, in the order in which they were built."""
    layers = (module for model in models for module in model.modules() if isinstance(module, nn.RNNBase))
    return next(layers, None)


def _followed(values: object, followed: Callable[[Tensor], Tensor]) -> object:
    """Packed sequences stay as they are."""
    return followed(values) if isinstance(values, Tensor) else values
