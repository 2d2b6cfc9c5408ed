"""How weights begin, by name.

What a name promises is the variance of a weight with `fan_in` inputs and `fan_out` outputs:

    xavier, glorot   2 / (fan_in + fan_out)   keeps the variance through a symmetric activation, both ways
    he, kaiming      2 / fan_in               the same through a ReLU, which silences half of its inputs
    lecun            1 / fan_in               the same through no activation; what SELU needs
    orthogonal       orthonormal rows or columns: every singular value is 1
    lsuv             orthogonal, for a start: `initialize_from_data` then scales each layer by what comes out of it

Sources: Glorot and Bengio 2010, section 4.2; He et al. 2015, arXiv:1502.01852, section 2.2; LeCun et al. 1998,
"Efficient BackProp", section 4.6; Saxe et al. 2014, arXiv:1312.6120; Mishkin and Matas 2016, arXiv:1511.06422.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.batchnorm import _BatchNorm

from sounding.networks._choice import choose

_he_normal = partial(init.kaiming_normal_, nonlinearity="relu")
_he_uniform = partial(init.kaiming_uniform_, nonlinearity="relu")
_lecun_normal = partial(init.kaiming_normal_, nonlinearity="linear")
_lecun_uniform = partial(init.kaiming_uniform_, nonlinearity="linear")

INITIALIZATIONS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "default": None,
    "xavier": init.xavier_uniform_,
    "xavier_normal": init.xavier_normal_,
    "xavier_uniform": init.xavier_uniform_,
    "glorot": init.xavier_uniform_,
    "glorot_normal": init.xavier_normal_,
    "glorot_uniform": init.xavier_uniform_,
    "he": _he_normal,
    "he_normal": _he_normal,
    "he_uniform": _he_uniform,
    "kaiming": _he_normal,
    "kaiming_normal": _he_normal,
    "kaiming_uniform": _he_uniform,
    "lecun": _lecun_normal,
    "lecun_normal": _lecun_normal,
    "lecun_uniform": _lecun_uniform,
    "orthogonal": init.orthogonal_,
    "lsuv": init.orthogonal_,
}
"""`default` leaves what PyTorch drew: uniform, with variance 1 / (3 fan_in)."""


MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that are linear in their weights."""


def initialize(network: nn.Module, name: str) -> None:
    """Draw the weights of every linear, convolutional and recurrent layer anew; their biases become zero.

    A recurrent layer holds the weights of its gates in one matrix; each gate is drawn by itself.

    Raises:
        ValueError: for an unknown name, naming the nearest known one.

    >>> layer = nn.Linear(100, 50)
    >>> initialize(layer, "orthogonal")
    >>> torch.dist(layer.weight @ layer.weight.T, torch.eye(50)) < 1e-4
    tensor(True)
    """
    draw = choose("initialization", name, INITIALIZATIONS)
    if draw is None:
        return
    for layer in network.modules():
        if isinstance(layer, MAPS):
            draw(layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)
        elif isinstance(layer, nn.RNNBase):
            for kind, values in layer.named_parameters():
                if kind.startswith("weight"):
                    for gate in torch.split(values.detach(), layer.hidden_size):
                        draw(gate)
                else:
                    init.zeros_(values)


@torch.no_grad()
def initialize_from_data(network: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> None:
    """Draw orthogonal weights, and scale each linear and convolutional layer so that its outputs have variance 1: LSUV.

    One forward pass does it, for a layer is linear in its weights: each is scaled as the values come through, before
    they reach the next. It measures as in evaluation (nothing is drawn at random), but batch norms take the statistics
    of the batch; their running ones stay as they are.

    A layer that is called several times is scaled by its first call. Layers whose outputs do not vary, or that are not
    called as modules, keep their orthogonal weights, and so do recurrent ones. Where a skip connection adds its input
    to what a layer gave, the sum has a variance of more than 1.

    inputs:  a batch of training rows; some hundred measure a variance well.
    Source:  Mishkin and Matas 2016, arXiv:1511.06422, algorithm 1.

    >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> rows = torch.randn(256, 8)
    >>> initialize_from_data(network, rows)
    >>> round(network(rows).var(correction=0).item(), 4)
    1.0
    """
    initialize(network, "lsuv")
    scaled: set[nn.Module] = set()

    def scale(layer: nn.Module, _: object, outputs: Tensor) -> Tensor | None:
        variance = outputs.float().var(correction=0)
        if layer in scaled or not 0.0 < variance < float("inf"):
            return None
        scaled.add(layer)
        deviation = variance.sqrt().to(outputs.dtype)
        layer.get_parameter("weight").div_(deviation)
        return outputs / deviation

    hooks = [layer.register_forward_hook(scale) for layer in network.modules() if isinstance(layer, MAPS)]
    try:
        with _measuring(network):
            network(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _measuring(network: nn.Module) -> Iterator[None]:
    """Batch norms take the statistics of the batch, all else is as in evaluation; nothing of it stays."""
    modes = {module: module.training for module in network.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.eval()
    for module in modes:
        if isinstance(module, _BatchNorm):
            module.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for buffer, value in buffers:
            buffer.copy_(value)
