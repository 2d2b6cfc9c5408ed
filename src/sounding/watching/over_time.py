"""How much of the gradient reaches the early steps of a sequence."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from sounding.watching.experiments import Laboratory, apart

CALLS = 5
"""Times that a layer is called in one forward pass, from which on a network written by hand counts as recurrent."""


def is_recurrent(model: nn.Module, called: list[str]) -> bool:
    """Whether a network goes step by step: by its modules, or by layers that are called again and again.

    called: the layer of each call in one forward pass.
    """
    if any(isinstance(module, (nn.RNNBase, nn.RNNCellBase)) for module in model.modules()):
        return True
    return any(called.count(layer) >= CALLS for layer in set(called))


def gradient_over_time(laboratory: Laboratory) -> Tensor | None:
    """(T,) the mean norm of the gradient with respect to each step of the latest batch, (N, T, features).

    None where the inputs are no such sequences of numbers, or no gradient comes back to them.
    """
    tape = laboratory.tapes[-1]
    steps: list[Tensor] = []

    def followed(tensor: Tensor) -> Tensor:
        leaf = tensor.detach().clone().requires_grad_()
        steps.append(leaf)
        return leaf

    began = time.thread_time()
    with apart():
        models = copy.deepcopy(dict(laboratory.models))
        loss = tape.play(models, followed)
        if not steps or steps[0].ndim != 3 or not loss.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(loss, steps[0], allow_unused=True)
    laboratory.seconds += time.thread_time() - began
    norms: Tensor | None = None if gradient is None else gradient.float().norm(dim=2).mean(0)
    return norms
