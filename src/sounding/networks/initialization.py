"""How weights begin, by name.

What a name promises is the variance of a weight with `fan_in` inputs and `fan_out` outputs:

    xavier, glorot   2 / (fan_in + fan_out)   keeps the variance through a symmetric activation, both ways
    he, kaiming      2 / fan_in               the same through a ReLU, which silences half of its inputs
    lecun            1 / fan_in               the same through no activation; what SELU needs
    orthogonal       orthonormal rows or columns: every singular value is 1

Sources: Glorot and Bengio 2010, section 4.2; He et al. 2015, arXiv:1502.01852, section 2.2; LeCun et al. 1998,
"Efficient BackProp", section 4.6; Saxe et al. 2014, arXiv:1312.6120.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import init

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
}
"""`default` leaves what PyTorch drew: uniform, with variance 1 / (3 fan_in)."""


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
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
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
