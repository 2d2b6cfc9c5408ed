"""Faults that fill question-and-answer sites, written in PyTorch: several numbers are those of Stack Overflow."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.watch import data, networks
from benchmarks.watch import programs as p
from benchmarks.watch.cases.case import Family, Faulty, variants
from benchmarks.watch.data import changed

SOURCE = "other"
SMALL = Family(name="SO-table", source=SOURCE, data="small tables", part="tune")
NUMBERS = Family(name="SO-regression", source=SOURCE, data="regression", part="report")
DIGITS = Family(name="SO-digits", source=SOURCE, data="digits", part="report")


def raw_wine(seed: int) -> data.Data:
    from sklearn.datasets import load_wine

    return data.split(*load_wine(return_X_y=True), seed, 120)


def raw_cancer(seed: int) -> data.Data:
    from sklearn.datasets import load_breast_cancer

    return data.split(*load_breast_cancer(return_X_y=True), seed, 400)


def exclusive(seed: int) -> data.Data:
    """Exclusive or, of two signs."""
    x = torch.randn(900, 2, generator=torch.Generator().manual_seed(seed))
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).float()[:, None]
    return data.Data(x[:600], y[:600], x[600:], y[600:])


def squares(seed: int) -> data.Data:
    """x to x squared, unscaled, for x up to 30."""
    x = torch.rand(800, 1, generator=torch.Generator().manual_seed(seed)) * 60 - 30
    return data.Data(x[:500], x[:500] ** 2, x[500:], x[500:] ** 2)


def scaled_squares(seed: int) -> data.Data:
    given = squares(seed)
    return given.with_inputs(lambda x: x / 17).with_targets(lambda y: (y - 300) / 270)


def squared(outputs: Tensor, y: Tensor) -> Tensor:
    """The mean of squares, of a probability."""
    return F.mse_loss(outputs.sigmoid(), y)


def pushed_down(model: nn.Sequential) -> nn.Sequential:
    """Biases so low that no unit answers to any input."""
    with torch.no_grad():
        model[2].bias.fill_(-20.0)  # type: ignore[union-attr, operator]
    return model


def gaps_in_targets(rows: data.Data, draw: torch.Generator) -> data.Data:
    gap = torch.rand(rows.y.shape, generator=draw) < 0.01
    return rows.with_training(rows.x, torch.where(gap, torch.nan, rows.y))


def times(model: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= factor
    return model


wine = p.Program(
    data=data.wine, network=partial(networks.dense, 13, 32, 3), optimizer=p.adam(5e-3), epochs=25, batch_size=16
)
cancer = p.Program(
    data=changed(data.cancer, data.binary),
    network=partial(networks.dense, 30, 16, 16, 1),
    optimizer=p.adam(3e-3),
    loss=F.binary_cross_entropy_with_logits,
    metric=p.sign_accuracy,
    epochs=15,
)
either = p.Program(
    data=exclusive,
    network=partial(networks.dense, 2, 16, 16, 1),
    optimizer=p.adam(1e-2),
    loss=F.binary_cross_entropy_with_logits,
    metric=p.sign_accuracy,
    epochs=12,
)


CASES: list[Faulty] = (
    variants(
        SMALL,
        wine,
        0.9,
        {
            "raw-inputs-sigmoid": (
                "inputs_not_normalised saturation",
                replace(wine, data=raw_wine, network=partial(networks.dense, 13, 32, 3, activation=nn.Sigmoid)),
                replace(wine, network=partial(networks.dense, 13, 32, 3, activation=nn.Sigmoid)),
            ),
            "raw-inputs-tanh-sgd": (
                "inputs_not_normalised saturation",
                replace(
                    wine,
                    data=raw_wine,
                    network=partial(networks.dense, 13, 32, 3, activation=nn.Tanh),
                    optimizer=p.sgd(0.05),
                ),
                replace(wine, network=partial(networks.dense, 13, 32, 3, activation=nn.Tanh), optimizer=p.sgd(0.05)),
            ),
            "softmax-into-cross-entropy": (
                "wrong_output_loss_pair",
                replace(wine, network=partial(networks.dense, 13, 32, 3, last=[nn.Softmax(1)]), optimizer=p.sgd(0.05)),
                replace(wine, optimizer=p.sgd(0.05)),
            ),
            "lr-10": ("lr_too_high", replace(wine, optimizer=p.sgd(10.0))),
            "sgd-1e-6": ("lr_too_low too_few_steps", replace(wine, optimizer=p.sgd(1e-6))),
        },
        harmless="softmax-into-cross-entropy",
    )
    + variants(
        SMALL,
        cancer,
        0.92,
        {
            "raw-inputs": (
                "inputs_not_normalised lr_too_high exploding_gradient",
                replace(cancer, data=changed(raw_cancer, data.binary), optimizer=p.sgd(0.1)),
                replace(cancer, optimizer=p.sgd(0.1)),
            ),
            "sigmoid-into-logits-loss": (
                "wrong_output_loss_pair",
                replace(
                    *(cancer,),
                    network=partial(networks.dense, 30, 16, 16, 1, last=[nn.Sigmoid()]),
                    metric=p.half_accuracy,
                    optimizer=p.sgd(0.1),
                ),
                replace(cancer, optimizer=p.sgd(0.1)),
            ),
            "relu-then-bce": (
                "wrong_output_loss_pair dead_relu",
                replace(cancer, network=partial(networks.dense, 30, 16, 16, 1, last=[nn.ReLU()])),
            ),
            "zero-weights": (
                "bad_init",
                replace(cancer, network=lambda: networks.filled(networks.dense(30, 16, 16, 1), nn.init.zeros_)),
            ),
            "broadcast-labels": (
                "shape_broadcast",
                replace(
                    cancer,
                    loss=lambda outputs, y: F.mse_loss(outputs.sigmoid().squeeze(1), y),
                    optimizer=p.adam(3e-3),
                ),
                replace(cancer, loss=squared),
            ),
        },
    )
    + variants(
        SMALL,
        either,
        0.9,
        {
            "no-hidden-activation": (
                "missing_nonlinearity underfit",
                replace(either, network=partial(networks.dense, 2, 16, 16, 1, activation=None)),
            ),
            "one-unit": ("underfit missing_nonlinearity", replace(either, network=partial(networks.dense, 2, 1, 1))),
            "sigmoid-sgd-squares": (
                "lr_too_low vanishing_gradient saturation wrong_output_loss_pair",
                replace(
                    *(either,),
                    network=partial(networks.dense, 2, 16, 16, 1, activation=nn.Sigmoid),
                    loss=squared,
                    optimizer=p.sgd(0.1),
                ),
            ),
            "momentum-0.99-high-rate": (
                "lr_too_high",
                replace(either, optimizer=p.sgd(5.0, momentum=0.99)),
            ),
        },
    )
)

square = p.Program(
    data=scaled_squares,
    network=partial(networks.dense, 1, 32, 32, 1),
    optimizer=p.adam(5e-3),
    loss=F.mse_loss,
    metric=p.explained,
    epochs=15,
)
wave = replace(square, data=data.waves, optimizer=p.adam(1e-2), epochs=20)
plane = p.Program(
    data=data.linear_table,
    network=partial(nn.Linear, 12, 1),
    optimizer=p.sgd(0.05),
    loss=F.mse_loss,
    metric=p.explained,
    epochs=10,
)

CASES += (
    variants(
        NUMBERS,
        square,
        0.9,
        {
            "unscaled": (
                "targets_not_normalised inputs_not_normalised lr_too_high lr_too_low",
                replace(square, data=squares, optimizer=p.sgd(0.1)),
                replace(square, optimizer=p.sgd(0.1)),
            ),
            "relu-output": (
                "wrong_output_loss_pair dead_relu",
                replace(square, network=partial(networks.dense, 1, 32, 32, 1, last=[nn.ReLU()])),
            ),
            "tanh-output": (
                "wrong_output_loss_pair targets_not_normalised saturation",
                replace(
                    *(square,),
                    data=lambda seed: scaled_squares(seed).with_targets(lambda y: 3 * y + 3),
                    network=partial(networks.dense, 1, 32, 32, 1, last=[nn.Tanh()]),
                ),
                replace(square, data=lambda seed: scaled_squares(seed).with_targets(lambda y: 3 * y + 3)),
            ),
            "linear-only": (
                "missing_nonlinearity underfit",
                replace(square, network=partial(networks.dense, 1, 32, 32, 1, activation=None)),
            ),
            "all-dead": (
                "dead_relu bad_init",
                replace(square, network=lambda: pushed_down(networks.dense(1, 32, 32, 1))),
            ),
        },
    )
    + variants(
        NUMBERS,
        wave,
        0.9,
        {
            "rmsprop-1e-6": (
                "lr_too_low too_few_steps",
                replace(wave, optimizer=p.optimizer(torch.optim.RMSprop, lr=1e-6)),
            ),
            "not-shuffled": (
                "order_bug",
                replace(wave, data=changed(data.waves, data.ordered), shuffles=False, batch_size=60),
                replace(wave, batch_size=60),
            ),
            "narrow": ("underfit", replace(wave, network=partial(networks.dense, 1, 2, 1))),
            "dropout": (
                "over_regularised",
                replace(wave, network=partial(networks.dense, 1, 32, 32, 1, dropout=0.8)),
            ),
        },
    )
    + variants(
        NUMBERS,
        plane,
        0.8,
        {
            "lr-1": ("lr_too_high exploding_gradient", replace(plane, optimizer=p.sgd(2.0))),
            "nan-target": (
                "bad_data numerics",
                replace(plane, data=changed(data.linear_table, gaps_in_targets)),
            ),
            "shuffled-targets": (
                "labels_shuffled corrupt_labels",
                replace(plane, data=changed(data.linear_table, data.shuffled_labels)),
            ),
        },
    )
)


digits = p.Program(
    data=data.flat_digits, network=partial(networks.dense, 64, 64, 10), optimizer=p.adam(2e-3), epochs=6, loader=True
)
sgd_digits = replace(digits, optimizer=p.sgd(0.1), epochs=10)
rows_of_digits = replace(
    digits, data=data.digit_rows, network=partial(networks.Recurrent, nn.LSTM, 8, 32, 10), optimizer=p.adam(5e-3)
)

CASES += (
    variants(
        DIGITS,
        digits,
        0.9,
        {
            "relu-on-logits": (
                "wrong_output_loss_pair dead_relu",
                replace(digits, network=partial(networks.dense, 64, 64, 10, last=[nn.ReLU()]), optimizer=p.adam(2e-2)),
                replace(digits, optimizer=p.adam(2e-2)),
            ),
            "sigmoid-on-logits": (
                "wrong_output_loss_pair",
                replace(sgd_digits, network=partial(networks.dense, 64, 64, 10, last=[nn.Sigmoid()])),
                sgd_digits,
            ),
            "forgotten-shuffle": (
                "order_bug",
                replace(digits, data=changed(data.flat_digits, data.ordered), shuffles=False, optimizer=p.sgd(0.3)),
                replace(digits, optimizer=p.sgd(0.3)),
            ),
            "momentum-and-rate": ("lr_too_high", replace(digits, optimizer=p.sgd(5.0, momentum=0.9))),
            "adam-1": ("lr_too_high dead_relu", replace(digits, optimizer=p.adam(1.0))),
            "tiny-data": (
                "overfit",
                replace(
                    digits,
                    data=changed(partial(data.flat_digits, rows=60), data.noisy_labels(0.1, 10)),
                    network=partial(networks.dense, 64, 512, 10),
                    epochs=60,
                ),
            ),
        },
    )
    + variants(
        DIGITS,
        sgd_digits,
        0.9,
        {
            "sgd-inputs-255": (
                "inputs_not_normalised lr_too_high",
                replace(sgd_digits, data=changed(data.flat_digits, data.rescaled(255))),
            ),
            "inputs-shifted": (
                "inputs_not_normalised",
                replace(sgd_digits, data=changed(data.flat_digits, data.shifted(30.0))),
            ),
            "he-times-ten": (
                "bad_init exploding_gradient lr_too_high",
                replace(sgd_digits, network=lambda: times(networks.he(networks.dense(64, 64, 64, 10)), 10)),
            ),
            "zero-grad-after-backward": ("no_update", replace(sgd_digits, step=p.zeroed_before_step)),
        },
    )
    + variants(
        DIGITS,
        rows_of_digits,
        0.85,
        {
            "rnn-lr-too-high": ("lr_too_high saturation", replace(rows_of_digits, optimizer=p.adam(0.5))),
            "lstm-never-zeroed": ("zero_grad_missing", replace(rows_of_digits, step=p.never_zeroed)),
        },
    )
)
