"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sounding.networks._choice import choose

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def build_activation(name: str) -> nn.Module:
    """A new module for an activation function.

    Raises:
        ValueError: for an unknown name, naming the nearest known one.

    >>> build_activation("leaky_relu")
    LeakyReLU(negative_slope=0.01)
    """
    return choose("activation", name, ACTIVATIONS)()
