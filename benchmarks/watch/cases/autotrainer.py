"""The faulty models of AUTOTRAINER (Zhang et al. 2021), rebuilt after its published architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from benchmarks.watch import data, networks
from benchmarks.watch import programs as p
from benchmarks.watch.cases.case import Family, Faulty, variants

SOURCE = "AT"
BLOBS = Family(name="AT-Blob", source=SOURCE, data="blobs", part="tune")
CIRCLES = Family(name="AT-Circle", source=SOURCE, data="circles", part="report")
DIGITS = Family(name="AT-MNIST", source=SOURCE, data="digits", part="tune")
TEXTURES = Family(name="AT-Cifar", source=SOURCE, data="textures", part="report")


def uniform(limit: float) -> Callable[[nn.Module], nn.Module]:
    """Weights drawn from so narrow an interval that nothing of the signal is left after some layers."""
    return lambda model: networks.filled(model, partial(nn.init.uniform_, a=-limit, b=limit))


def stack(inputs: int, width: int, layers: int, outputs: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    return networks.dense(inputs, *[width] * (layers - 1), outputs, activation=activation)


def in_layers(
    program: p.Program, layers: int, activation: Callable[[], nn.Module], sizes: tuple[int, int, int]
) -> p.Program:
    inputs, width, outputs = sizes
    return replace(program, network=partial(stack, inputs, width, layers, outputs, activation))


def deep_relu(program: p.Program, layers: int, sizes: tuple[int, int, int], limit: float) -> p.Program:
    inputs, width, outputs = sizes
    return replace(program, network=lambda: uniform(limit)(stack(inputs, width, layers, outputs, nn.ReLU)))


EXPLODING = "exploding_gradient numerics saturation bad_init lr_too_high"
VANISHING = "vanishing_gradient saturation bad_init"
DYING = "bad_init vanishing_gradient dead_relu"

blob = (2, 32, 3)
on_blobs = p.Program(data=data.blobs, network=partial(stack, 2, 32, 4, 3, nn.ReLU), optimizer=p.adam(3e-3), epochs=10)

CASES: list[Faulty] = variants(
    BLOBS,
    on_blobs,
    0.75,
    {
        "10-exponential": (EXPLODING, in_layers(on_blobs, 10, networks.Exponential, blob)),
        "12-sigmoid": (VANISHING, in_layers(on_blobs, 12, nn.Sigmoid, blob)),
        "9-tiny-relu": (DYING, deep_relu(on_blobs, 9, blob, 0.05)),
        "16-relu": (DYING, deep_relu(on_blobs, 16, blob, 0.1)),
        "oscillating": (
            "lr_too_high",
            replace(
                on_blobs, optimizer=p.sgd(0.2, momentum=0.9), batch_size=2, epochs=1, data=partial(data.blobs, rows=699)
            ),
        ),
        "improper-activation": (
            "wrong_output_loss_pair dead_relu",
            replace(on_blobs, network=partial(networks.dense, 2, 50, 50, 3, last=[nn.ReLU()]), optimizer=p.adam(1e-3)),
        ),
    },
)

circle = (2, 24, 2)
on_circles = p.Program(
    data=data.circles, network=partial(stack, 2, 24, 4, 2, nn.Tanh), optimizer=p.adam(5e-3), epochs=12
)

CASES += variants(
    CIRCLES,
    on_circles,
    0.9,
    {
        "9-exponential": (EXPLODING, in_layers(on_circles, 9, networks.Exponential, circle)),
        "12-sigmoid": (VANISHING, in_layers(on_circles, 12, nn.Sigmoid, circle)),
        "9-tiny-relu": (DYING, deep_relu(on_circles, 9, circle, 0.05)),
        "GV-8-sigmoid-sgd": (
            VANISHING + " lr_too_low",
            replace(in_layers(on_circles, 8, nn.Sigmoid, circle), optimizer=p.sgd(0.05)),
        ),
        "saturated-tanh": (
            "bad_init saturation vanishing_gradient",
            replace(
                on_circles,
                network=lambda: networks.filled(stack(2, 24, 6, 2, nn.Tanh), partial(nn.init.normal_, std=4.0)),
            ),
        ),
    },
)

digit = (64, 32, 10)
on_digits = p.Program(
    data=data.flat_digits, network=partial(stack, 64, 32, 3, 10, nn.ReLU), optimizer=p.adam(3e-3), epochs=8
)

CASES += variants(
    DIGITS,
    on_digits,
    0.9,
    {
        "13-sigmoid": (VANISHING, in_layers(on_digits, 13, nn.Sigmoid, digit)),
        "DR-20-relu": (DYING, deep_relu(on_digits, 20, digit, 0.1)),
        "8-exponential": (EXPLODING, in_layers(on_digits, 8, networks.Exponential, digit)),
        "saturated-tanh": (
            "bad_init saturation vanishing_gradient",
            replace(
                on_digits,
                network=lambda: networks.filled(stack(64, 32, 8, 10, nn.Tanh), partial(nn.init.normal_, std=2.0)),
            ),
        ),
        "OL-20-relu-high-rate": (
            "lr_too_high dead_relu exploding_gradient",
            replace(in_layers(on_digits, 8, nn.ReLU, digit), optimizer=p.adam(0.1)),
        ),
    },
)

on_textures = p.Program(
    data=data.textures,
    network=partial(networks.convolutional, 3, 6, size=12),
    optimizer=p.adam(3e-3),
    epochs=8,
)


def long_head(layers: int, activation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Two convolutions, then so many linear layers."""
    front = partial(networks.convolutional, 3, 32, size=12, activation=activation)
    return lambda: nn.Sequential(front(), activation(), stack(32, 32, layers, 6, activation))


CASES += variants(
    TEXTURES,
    on_textures,
    0.7,
    {
        "12-sigmoid": (VANISHING, replace(on_textures, network=long_head(12, nn.Sigmoid))),
        "9-exponential": (EXPLODING, replace(on_textures, network=long_head(9, networks.Exponential))),
        "15-tiny-relu": (DYING, replace(on_textures, network=lambda: uniform(0.05)(long_head(15, nn.ReLU)()))),
        "relu-output": (
            "wrong_output_loss_pair dead_relu",
            replace(on_textures, network=partial(networks.convolutional, 3, 6, size=12, last=[nn.ReLU()])),
        ),
    },
)
