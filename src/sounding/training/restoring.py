"""What is done to a network for a while, and then put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def copied(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the network's state."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode; afterwards each in the mode it was in (a frozen one stays frozen)."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def batch_norms_kept(network: nn.Module) -> Iterator[None]:
    """Whatever happens to the statistics of batch norms, they are afterwards as they were."""
    before = [
        (buffer, buffer.clone())
        for norm in network.modules()
        if isinstance(norm, _NormBase)
        for buffer in norm.buffers()
    ]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
