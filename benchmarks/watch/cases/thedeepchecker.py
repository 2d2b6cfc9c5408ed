"""The synthetic faults of TheDeepChecker (Ben Braiek and Khomh 2022), on three programs like its own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.watch import data, networks
from benchmarks.watch import programs as p
from benchmarks.watch.cases.case import Family, variants
from benchmarks.watch.data import changed

SOURCE = "TDC"
PICTURES = Family(name="TDC-baseCNN", source=SOURCE, data="digits", part="tune")
REGRESSION = Family(name="TDC-regrNN", source=SOURCE, data="regression table", part="report")
DEEP = Family(name="TDC-deepCNN", source=SOURCE, data="textures", part="report")


# A small convolutional network on digits.


def lenet(**options: object) -> nn.Module:
    return networks.he(networks.convolutional(**options))  # type: ignore[arg-type]


base = p.Program(data=data.digits, network=lenet, optimizer=p.sgd(0.1, weight_decay=1e-5), epochs=8)


def by_hand(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy as it is written by hand, of probabilities."""
    return -(F.one_hot(y, outputs.shape[1]) * outputs.clamp(1e-7, 1).log()).sum(1).mean()


def by_hand_of_logits(outputs: Tensor, y: Tensor) -> Tensor:
    """The logarithm of logits."""
    return -(F.one_hot(y, outputs.shape[1]) * outputs.log()).sum(1).mean()


def over_the_batch(outputs: Tensor, y: Tensor) -> Tensor:
    """The softmax along the wrong axis."""
    return F.nll_loss(outputs.log_softmax(0), y)


def squared_from_one_hot(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, F.one_hot(y, outputs.shape[1]).float())


def summed(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs, y, reduction="sum")


def ascending(outputs: Tensor, y: Tensor) -> Tensor:
    return -F.cross_entropy(outputs, y)


def erased(x: Tensor) -> Tensor:
    """Noise that leaves nothing of the picture to be seen."""
    return torch.where(torch.rand_like(x) < 0.85, torch.rand_like(x) * 3, x)


def with_weights(network: object, fill: object) -> object:
    return lambda: networks.filled(network(), fill)  # type: ignore[operator, arg-type]


CASES = variants(
    PICTURES,
    base,
    0.9,
    {
        "dbl_norm": (
            "inputs_not_normalised lr_too_low",
            replace(base, data=changed(data.digits, data.rescaled(1 / 1000))),
        ),
        "flip_sign": ("wrong_output_loss_pair lr_too_high exploding_gradient", replace(base, loss=ascending)),
        "high_lr": ("lr_too_high", replace(base, optimizer=p.sgd(3.0))),
        "low_lr": ("lr_too_low too_few_steps", replace(base, optimizer=p.sgd(1e-4))),
        "low_eps": ("lr_too_high numerics", replace(base, optimizer=p.adam(0.1, eps=1e-16))),
        "miss_norm": (
            "inputs_not_normalised lr_too_high",
            replace(base, data=changed(data.digits, data.rescaled(255))),
        ),
        "over_reg": ("over_regularised", replace(base, optimizer=p.sgd(0.1, weight_decay=0.1))),
        "wrong_act": (
            "saturation vanishing_gradient missing_nonlinearity lr_too_low",
            replace(base, network=partial(lenet, activation=partial(nn.Softmax, dim=1))),
        ),
        "constant": (
            "bad_init",
            replace(base, network=with_weights(lenet, partial(nn.init.constant_, val=0.01))),
        ),
        "random": (
            "bad_init exploding_gradient saturation lr_too_high",
            replace(base, network=with_weights(lenet, partial(nn.init.normal_, std=1.0))),
        ),
        "wrong_lbl": ("labels_shuffled corrupt_labels", replace(base, data=changed(data.digits, data.shuffled_labels))),
        "wrong_loss": ("lr_too_high wrong_output_loss_pair exploding_gradient", replace(base, loss=summed)),
        "wrong_soft": ("batch_mixing wrong_output_loss_pair", replace(base, loss=over_the_batch)),
        "inap_loss": (
            "wrong_output_loss_pair lr_too_low",
            replace(base, loss=squared_from_one_hot, optimizer=p.sgd(0.05), epochs=16),
            replace(base, optimizer=p.sgd(0.05), epochs=16),
        ),
        "miss_soft": ("wrong_output_loss_pair numerics", replace(base, loss=by_hand_of_logits)),
        "clamped": ("wrong_output_loss_pair numerics", replace(base, loss=by_hand)),
        "red_soft": (
            "wrong_output_loss_pair",
            replace(base, network=partial(lenet, last=[nn.Softmax(1)])),
        ),
        "unb_data": (
            "class_imbalance",
            replace(*(base,), data=changed(data.digits, data.rare((1, 2, 3, 5, 8, 9), 4)), metric=p.balanced_accuracy),
        ),
        "wrong_augm": ("bad_data over_regularised underfit label_noise", replace(base, step=p.augmented(erased))),
    },
) + variants(
    PICTURES,
    replace(base, data=data.small_digits, network=partial(lenet, dropout=0.3), epochs=30),
    0.75,
    {
        "miss_reg": (
            "overfit",
            replace(
                *(base,),
                data=data.small_digits,
                network=partial(lenet, widths=(32, 64), hidden=256),
                epochs=30,
            ),
        )
    },
    harmless="miss_reg",
)


# A small network on a regression table.


def regressor(**options: object) -> nn.Module:
    return networks.he(networks.dense(10, 48, 48, 1, **options))  # type: ignore[arg-type]


table = p.Program(
    **{"data": data.scaled_machines, "network": regressor, "optimizer": p.adam(3e-3), "loss": F.mse_loss},
    **{"metric": p.explained, "epochs": 12, "batch_size": 32},
)


def broadcast(outputs: Tensor, y: Tensor) -> Tensor:
    """A column of outputs against a row of targets: every one with every other."""
    return F.mse_loss(outputs, y.flatten())


def replace_inputs(given: data.Data, raw: data.Data) -> data.Data:
    """The targets of the one, the inputs of the other."""
    return replace(given, x=raw.x, held_x=raw.held_x)


def unscaled_targets(seed: int) -> data.Data:
    """Inputs are scaled, targets are not, and far from zero: as prices are."""
    return data.scaled_machines(seed).with_targets(lambda y: 5000 * y + 30000)


def entropy_of_one(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs, y)


def added(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y, reduction="sum")


by_sgd = replace(table, optimizer=p.sgd(0.03))

CASES += variants(
    REGRESSION,
    table,
    0.8,
    {
        "dbl_norm": (
            "inputs_not_normalised lr_too_low",
            replace(table, data=changed(data.scaled_machines, data.rescaled(1e-3))),
        ),
        "flip_sign": (
            "wrong_output_loss_pair lr_too_high exploding_gradient",
            replace(table, loss=lambda outputs, y: -F.mse_loss(outputs, y)),
        ),
        "high_lr": ("lr_too_high dead_relu", replace(table, optimizer=p.adam(1.0))),
        "low_lr": ("lr_too_low too_few_steps", replace(table, optimizer=p.adam(1e-6))),
        "low_eps": ("lr_too_high numerics dead_relu", replace(table, optimizer=p.adam(0.5, eps=1e-16))),
        "miss_norm": (
            "inputs_not_normalised",
            replace(table, data=lambda seed: replace_inputs(data.scaled_machines(seed), data.machines(seed))),
        ),
        "miss_reg": (
            "overfit",
            replace(
                table,
                data=partial(data.scaled_machines, rows=60, noise=3.0),
                network=lambda: networks.he(networks.dense(10, 256, 256, 1)),
                epochs=60,
            ),
        ),
        "over_reg": ("over_regularised", replace(table, optimizer=p.adam(3e-3, weight_decay=1.0))),
        "wrong_act": (
            "wrong_output_loss_pair no_update",
            replace(table, network=partial(regressor, last=[nn.Softmax(1)])),
        ),
        "constant": (
            "bad_init",
            replace(table, network=with_weights(regressor, partial(nn.init.constant_, val=0.01))),
        ),
        "random": (
            "bad_init exploding_gradient lr_too_low",
            replace(table, network=with_weights(regressor, partial(nn.init.normal_, std=1.0))),
        ),
        "wrong_lbl": (
            "labels_shuffled corrupt_labels overfit",
            replace(table, data=changed(data.scaled_machines, data.shuffled_labels)),
        ),
        "wrong_loss2": ("shape_broadcast", replace(table, loss=broadcast)),
        "inap_loss": ("wrong_output_loss_pair no_update", replace(table, loss=entropy_of_one)),
        "inapp_act": ("wrong_output_loss_pair", replace(table, network=partial(regressor, last=[nn.Sigmoid()]))),
        "over_scaled_outputs": ("targets_not_normalised lr_too_low", replace(table, data=unscaled_targets)),
    },
) + variants(
    REGRESSION,
    by_sgd,
    0.7,
    {
        "wrong_loss": ("lr_too_high wrong_output_loss_pair exploding_gradient", replace(by_sgd, loss=added)),
        "miss_norm_sgd": (
            "inputs_not_normalised lr_too_high exploding_gradient",
            replace(by_sgd, data=lambda seed: replace_inputs(data.scaled_machines(seed), data.machines(seed))),
        ),
        "over_scaled_outputs_sgd": (
            "targets_not_normalised lr_too_high exploding_gradient",
            replace(by_sgd, data=unscaled_targets),
        ),
    },
)


# A deeper convolutional network with batch norm and dropout.

deep = p.Program(
    **{"data": data.textures, "network": networks.deep_convolutional, "optimizer": p.sgd(0.05, momentum=0.9)},
    **{"epochs": 8, "batch_size": 32},
)

CASES += variants(
    DEEP,
    deep,
    0.7,
    {
        "flip_sign": ("wrong_output_loss_pair lr_too_high exploding_gradient", replace(deep, loss=ascending)),
        "high_lr": ("lr_too_high", replace(deep, optimizer=p.sgd(10.0, momentum=0.9))),
        "low_lr": ("lr_too_low too_few_steps", replace(deep, optimizer=p.sgd(1e-5, momentum=0.9))),
        "over_reg": ("over_regularised", replace(deep, optimizer=p.sgd(0.05, momentum=0.9, weight_decay=0.3))),
        "wrong_act": (
            "saturation vanishing_gradient lr_too_low underfit",
            replace(
                deep, network=partial(networks.deep_convolutional, norm=None, activation=partial(nn.Softmax, dim=1))
            ),
        ),
        "constant": (
            "bad_init",
            replace(deep, network=with_weights(networks.deep_convolutional, partial(nn.init.constant_, val=0.01))),
        ),
        "wrong_lbl": (
            "labels_shuffled corrupt_labels",
            replace(deep, data=changed(data.textures, data.shuffled_labels)),
        ),
        "wrong_loss": ("lr_too_high wrong_output_loss_pair", replace(deep, loss=summed)),
        "wrong_soft": ("batch_mixing wrong_output_loss_pair", replace(deep, loss=over_the_batch)),
        "miss_soft": ("wrong_output_loss_pair numerics", replace(deep, loss=by_hand_of_logits)),
        "red_soft": (
            "wrong_output_loss_pair",
            replace(deep, network=partial(networks.deep_convolutional, last=[nn.Softmax(1)])),
        ),
        "unb_data": (
            "class_imbalance",
            replace(deep, data=changed(data.textures, data.rare((0, 2, 4), 4)), metric=p.balanced_accuracy),
        ),
        "wrong_augm": (
            "bad_data over_regularised underfit label_noise",
            replace(deep, step=p.augmented(lambda x: x + 20 * torch.randn_like(x))),
        ),
        "miss_batchnorm": (
            "vanishing_gradient bad_init lr_too_low lr_too_high",
            replace(deep, network=partial(networks.deep_convolutional, norm=None, blocks=8)),
        ),
        "miss_infer_bn": (
            "eval_mode_forgotten",
            replace(
                deep, network=partial(networks.deep_convolutional, dropout=0.5), calls_eval=False, validation_batch=4
            ),
        ),
    },
    harmless="red_soft",
)
