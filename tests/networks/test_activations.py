from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from sounding.networks import ACTIVATIONS, build_activation

X = [-3.0, -0.5, 0.0, 0.5, 3.0]

FORMULAS: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_computes_its_formula(name: str) -> None:
    expected = torch.tensor([FORMULAS[name](x) for x in X])
    torch.testing.assert_close(build_activation(name)(torch.tensor(X)), expected)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'unknown activation "rellu"; did you mean "relu"\? There are: relu, '):
        build_activation("rellu")


def test_a_name_like_none_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match=r'unknown activation "zzz"; there are: relu, '):
        build_activation("zzz")
