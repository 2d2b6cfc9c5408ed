"""Faults that practitioners report and no published benchmark has, each in programs of two kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from benchmarks.watch import data, networks
from benchmarks.watch import programs as p
from benchmarks.watch.cases.case import Family, Faulty, variants
from benchmarks.watch.data import changed
from benchmarks.watch.generative import RING, SQUARE, Gan, Vae
from benchmarks.watch.programs import Outcome, Watched

SOURCE = "NEW"
TABLES = Family(name="NEW-mlp", source=SOURCE, data="tables", part="tune")
PICTURES = Family(name="NEW-cnn", source=SOURCE, data="digits, textures", part="report")
SERIES = Family(name="NEW-series", source=SOURCE, data="series", part="report")
TEXTS = Family(name="NEW-text", source=SOURCE, data="texts", part="tune")
RINGS = Family(name="NEW-ring", source=SOURCE, data="clouds in a ring", part="report")
SQUARES = Family(name="NEW-square", source=SOURCE, data="clouds in a square", part="tune")
DRAWN = Family(name="NEW-vae", source=SOURCE, data="digits", part="tune")
SQUARED = Family(name="NEW-gaussian-vae", source=SOURCE, data="digits", part="report")


def of_another(build: Callable[[], nn.Module], kind: type[Optimizer], lr: float) -> Callable[[nn.Module], Optimizer]:
    """An optimizer that got the parameters of another network."""
    return lambda model: kind(build().parameters(), lr=lr)


def renewed(model: nn.Module) -> nn.Module:
    """Layers are made anew after the optimizer took hold of the old ones."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.Linear(module.in_features, module.out_features))
    return model


def detached(x: Tensor) -> Tensor:
    return x.detach()


def keep_few_ones(rows: data.Data, draw: torch.Generator) -> data.Data:
    """One positive training row in about forty."""
    ones = rows.y.flatten() > 0
    keep = ~ones | (ones.cumsum(0) <= 15)
    return rows.with_training(rows.x[keep], rows.y[keep])


# Tables.

mlp = p.Program(
    data=data.table,
    network=partial(networks.dense, 20, 64, 64, 4),
    optimizer=p.sgd(0.1, momentum=0.9),
    epochs=10,
)
little = replace(mlp, data=changed(data.table, data.fewer(150)), epochs=15)
hinted = replace(mlp, network=partial(networks.dense, 21, 64, 64, 4), data=changed(data.table, data.useless_column))
two = p.Program(
    data=changed(data.moons, data.binary),
    network=partial(networks.dense, 2, 32, 32, 1),
    optimizer=p.adam(1e-2),
    loss=F.binary_cross_entropy_with_logits,
    metric=p.sign_accuracy,
    epochs=10,
)
rare = replace(
    two,
    data=changed(partial(data.moons, rows=1200, noise=0.35), data.binary, keep_few_ones),
    metric=p.balanced_sign_accuracy,
    loss=partial(F.binary_cross_entropy_with_logits, pos_weight=torch.tensor(40.0)),
)
growing = p.Program(
    data=data.diabetes,
    network=partial(networks.dense, 10, 16, 1),
    optimizer=p.adam(3e-3, weight_decay=1e-2),
    loss=F.mse_loss,
    metric=p.explained,
    epochs=12,
    batch_size=16,
)


@dataclass(frozen=True, kw_only=True)
class Honest:
    """How far what the program reports of held-out rows holds for rows that nobody has seen."""

    program: p.Program
    leaks: bool

    def __call__(self, watched: Watched, seed: int) -> Outcome:
        fresh: list[float] = []
        source = self.program.data

        def rows(seed: int) -> data.Data:
            given = source(seed)
            half = len(given.held_x) // 2
            held = replace(given, held_x=given.held_x[:half], held_y=given.held_y[:half])
            fresh[:] = [half]
            return data.held_rows_among_training(held, torch.Generator()) if self.leaks else held

        kept: list[nn.Module] = []

        def build() -> nn.Module:
            kept[:] = [self.program.network()]
            return kept[0]

        reported = replace(self.program, data=rows, network=build)(watched, seed).metric
        given = source(seed)
        with torch.no_grad():
            outputs = kept[0].eval()(given.held_x[fresh[0] :])
        return Outcome(1 - max(reported - self.program.metric(outputs, given.held_y[fresh[0] :]), 0))


CASES: list[Faulty] = (
    variants(
        TABLES,
        mlp,
        0.75,
        {
            "zero_grad-missing": ("zero_grad_missing", replace(mlp, step=p.never_zeroed)),
            "zero_grad-before-step": ("no_update", replace(mlp, step=p.zeroed_before_step)),
            "optimizer-wrong-params": (
                "no_update",
                replace(mlp, optimizer=of_another(mlp.network, torch.optim.SGD, 0.1)),
            ),
            "not-in-graph": ("no_update", replace(mlp, step=p.never_stepped)),
            "detached": (
                "no_update",
                replace(
                    *(mlp,),
                    network=lambda: networks.Piped(
                        networks.dense(20, 64, 3, last=[nn.Tanh()]), detached, networks.dense(3, 4)
                    ),
                ),
            ),
            "lr-too-low": ("lr_too_low too_few_steps", replace(mlp, optimizer=p.sgd(1e-5))),
            "lr-too-high": ("lr_too_high", replace(mlp, optimizer=p.sgd(20.0, momentum=0.9))),
            "no-shuffle": ("order_bug", replace(mlp, data=changed(data.table, data.ordered), shuffles=False)),
            "scheduler-per-step": (
                "scheduler_per_step lr_too_low too_few_steps",
                replace(mlp, schedule=p.exponential(0.7), scheduled_per_step=True),
            ),
            "label-shuffle": (
                "labels_shuffled corrupt_labels",
                replace(mlp, data=changed(data.table, data.shuffled_labels)),
            ),
            "label-noise-50": (
                "label_noise corrupt_labels overfit",
                replace(mlp, data=changed(data.table, data.noisy_labels(0.5, 4)), epochs=10),
            ),
            "linear-only": (
                "missing_nonlinearity underfit",
                replace(mlp, network=partial(networks.dense, 20, 64, 64, 4, activation=None)),
            ),
            "nan-rows": ("bad_data numerics", replace(mlp, data=changed(data.table, data.not_a_number(0.01)))),
            "constant-inputs": ("bad_data", replace(mlp, data=changed(data.table, data.constant_inputs))),
            "one-epoch": ("too_few_steps lr_too_low", replace(mlp, optimizer=p.sgd(0.01), epochs=1)),
        },
    )
    + variants(
        TABLES,
        Honest(program=little, leaks=False),
        0.75,
        {"val-leak": ("leak", Honest(program=little, leaks=True))},
        twin_is_healthy=False,  # so few rows are memorised
    )
    + variants(
        TABLES,
        hinted,
        0.75,
        {"telling-column": ("leak", replace(hinted, data=changed(data.table, data.telling_column)))},
    )
    + variants(
        TABLES,
        two,
        0.9,
        {
            "bce-on-logits": (
                "wrong_output_loss_pair numerics",
                replace(two, loss=lambda outputs, y: F.binary_cross_entropy(outputs.clamp(0, 1), y)),
            ),
            "sigmoid-twice": (
                "wrong_output_loss_pair",
                replace(
                    two,
                    network=partial(networks.dense, 2, 32, 32, 1, last=[nn.Sigmoid()]),
                    metric=p.half_accuracy,
                    optimizer=p.sgd(0.5),
                ),
                replace(two, optimizer=p.sgd(0.5)),
            ),
            "one-unit-softmax": (
                "wrong_output_loss_pair no_update",
                replace(
                    two,
                    network=partial(networks.dense, 2, 32, 32, 1, last=[nn.Softmax(1)]),
                    loss=F.binary_cross_entropy,
                    metric=p.half_accuracy,
                ),
            ),
        },
    )
    + variants(
        TABLES,
        rare,
        0.7,
        {"imbalance": ("class_imbalance", replace(rare, loss=F.binary_cross_entropy_with_logits))},
    )
    + variants(
        TABLES,
        growing,
        0.35,
        {
            "broadcast": (
                "shape_broadcast",
                replace(growing, loss=lambda outputs, y: F.mse_loss(outputs.squeeze(1), y)),
            ),
            "overfit": (
                "overfit",
                replace(growing, network=partial(networks.dense, 10, 256, 256, 1), optimizer=p.adam(3e-3), epochs=50),
            ),
            "outliers": (
                "bad_data corrupt_labels label_noise targets_not_normalised",
                replace(growing, data=changed(data.diabetes, data.outlying_targets)),
            ),
        },
    )
)


# Pictures.


def log_of_zero(outputs: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of every class by hand: nothing keeps a probability from 0 and 1."""
    probability, truth = outputs.softmax(1), F.one_hot(y, outputs.shape[1])
    return -(truth * probability.log() + (1 - truth) * (1 - probability).log()).sum(1).mean()


cnn = p.Program(data=data.digits, network=networks.convolutional, optimizer=p.adam(3e-3), epochs=6)
by_momentum = replace(
    cnn, optimizer=p.sgd(0.05, momentum=0.9), network=partial(networks.convolutional, activation=nn.GELU)
)
bn = p.Program(
    data=data.textures,
    network=partial(networks.deep_convolutional, dropout=0.3),
    optimizer=p.adamw(5e-3),
    epochs=8,
    loader=True,
)
mislabelled = replace(
    cnn,
    data=changed(partial(data.flat_digits, rows=500), data.noisy_labels(0.4, 10)),
    network=partial(networks.dense, 64, 256, 256, 10, dropout=0.6),
    optimizer=p.adam(1e-3),
    epochs=40,
)
dropping = replace(cnn, network=partial(networks.convolutional, dropout=0.7), epochs=12)
in_half = replace(cnn, step=p.in_half(1024.0))
stairs = replace(by_momentum, schedule=p.stairs(2, 0.5), optimizer=p.sgd(0.1, momentum=0.9), epochs=8)

CASES += (
    variants(
        PICTURES,
        by_momentum,
        0.9,
        {
            "zero_grad-missing": ("zero_grad_missing", replace(by_momentum, step=p.never_zeroed)),
            "zero_grad-per-epoch": ("zero_grad_missing", replace(by_momentum, step=p.zeroed_every(38))),
            "zero_grad-before-step": ("no_update", replace(by_momentum, step=p.zeroed_before_step)),
            "optimizer-of-head-only": (
                "no_update",
                replace(
                    by_momentum, optimizer=lambda model: torch.optim.SGD(model[-1].parameters(), 0.05, momentum=0.9)
                ),
            ),
            "optimizer-before-new-layers": ("no_update", replace(by_momentum, before=renewed)),
            "no-shuffle-sorted": (
                "order_bug",
                replace(by_momentum, data=changed(data.digits, data.ordered), shuffles=False),
            ),
        },
    )
    + variants(
        PICTURES,
        cnn,
        0.9,
        {
            "label-shuffle": (
                "labels_shuffled corrupt_labels",
                replace(cnn, data=changed(data.digits, data.shuffled_labels)),
            ),
            "label-noise-40": (
                "label_noise corrupt_labels overfit",
                replace(cnn, data=changed(data.digits, data.noisy_labels(0.5, 10)), epochs=30),
            ),
            "class-mislabelled": (
                "corrupt_labels label_noise bad_data",
                replace(cnn, data=changed(data.digits, data.swapped_labels(3, 8))),
            ),
            "lr-too-low": ("lr_too_low too_few_steps", replace(cnn, optimizer=p.adam(1e-7))),
            "lr-too-high-adam": ("lr_too_high dead_relu", replace(cnn, optimizer=p.adam(0.3))),
            "loss-on-probs-nll": (
                "wrong_output_loss_pair",
                replace(cnn, network=partial(networks.convolutional, last=[nn.Softmax(1)]), loss=F.nll_loss),
            ),
            "raw-into-nll": ("wrong_output_loss_pair numerics lr_too_high", replace(cnn, loss=F.nll_loss)),
            "log-of-zero": (
                "numerics wrong_output_loss_pair",
                replace(cnn, loss=log_of_zero, optimizer=p.adam(1e-2), epochs=12),
            ),
            "underfit-capacity": (
                "underfit",
                replace(cnn, data=data.flat_digits, network=partial(networks.dense, 64, 2, 10)),
            ),
            "l2-penalty": ("over_regularised", replace(cnn, step=p.penalised(0.1))),
            "dropout-90": (
                "over_regularised underfit",
                replace(cnn, data=data.flat_digits, network=partial(networks.dense, 64, 32, 32, 10, dropout=0.9)),
            ),
            "one-epoch": ("too_few_steps lr_too_low", replace(cnn, optimizer=p.adam(3e-4), epochs=1)),
        },
    )
    + variants(
        PICTURES,
        stairs,
        0.9,
        {
            "scheduler-per-step": (
                "scheduler_per_step lr_too_low too_few_steps",
                replace(stairs, scheduled_per_step=True),
            ),
        },
    )
    + variants(
        PICTURES,
        in_half,
        0.9,
        {
            "amp-fp16-underflow": (
                "numerics no_update vanishing_gradient lr_too_low",
                replace(cnn, step=p.in_half(1e-7)),
            )
        },
    )
    + variants(
        PICTURES,
        bn,
        0.7,
        {
            "bn-tiny-batch": (
                "batch_mixing eval_mode_forgotten lr_too_high",
                replace(bn, batch_size=2, epochs=1, optimizer=p.adamw(2e-2)),
            ),
        },
    )
    + variants(
        PICTURES,
        dropping,
        0.85,
        {"eval-missing": ("eval_mode_forgotten", replace(dropping, calls_eval=False))},
    )
    + variants(
        PICTURES,
        mislabelled,
        0.6,
        {
            "overfit": (
                "overfit label_noise corrupt_labels",
                replace(mislabelled, network=partial(networks.dense, 64, 256, 256, 10)),
            ),
            "train-missing-after-eval": (
                "train_mode_not_restored overfit label_noise",
                replace(mislabelled, calls_train=False),
            ),
        },
        twin_is_healthy=False,
    )
)


# Sequences.

sums = p.Program(
    data=data.adding,
    network=partial(networks.Recurrent, nn.GRU, 2, 24, 1),
    optimizer=p.adam(1e-2),
    loss=F.mse_loss,
    metric=p.explained,
    epochs=6,
    step=p.clipped(1.0),
)
first = p.Program(
    data=partial(data.first_word, length=20),
    network=partial(networks.Recurrent, nn.GRU, 4, 16, 4),
    optimizer=p.adam(1e-2),
    epochs=6,
)
rows_of_digits = p.Program(
    data=data.digit_rows, network=partial(networks.Attentive, 8, 32, 10), optimizer=p.adam(3e-3), epochs=8
)


def wide_memory(model: networks.ByHand) -> networks.ByHand:
    """The recurrent matrix makes a state grow, step by step."""
    nn.init.orthogonal_(model.turn.weight, 1.4)
    return model


class Viewed(nn.Module):
    """`view` where `transpose` is meant: the numbers of one example come to stand in another."""

    def __init__(self, length: int, model: nn.Module) -> None:
        super().__init__()
        self.length, self.model = length, model

    def forward(self, x: Tensor) -> Tensor:
        mixed = x.transpose(0, 1).reshape(len(x), self.length, -1)
        return self.model(mixed)


class Centred(nn.Module):
    """Takes the mean over the batch where that over the features is meant."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        states = self.model[0](x)
        states = states - states.mean(0) + states.flip(0)
        return self.model[1:](states.relu())


CASES += (
    variants(
        SERIES,
        sums,
        0.8,
        {
            "RNN-explode": (
                "exploding_gradient bad_init lr_too_high",
                replace(sums, network=lambda: wide_memory(networks.ByHand(2, 24, 1, torch.relu)), step=p.plain),
            ),
            "lr-too-low": ("lr_too_low too_few_steps", replace(sums, optimizer=p.adam(1e-6))),
        },
    )
    + variants(
        SERIES,
        first,
        0.9,
        {
            "RNN-vanish": (
                "vanishing_gradient saturation",
                replace(first, network=partial(networks.ByHand, 4, 16, 4, torch.sigmoid)),
            ),
        },
    )
    + variants(
        SERIES,
        rows_of_digits,
        0.8,
        {
            "batch-mix-view": (
                "batch_mixing",
                replace(rows_of_digits, network=lambda: Viewed(8, networks.Attentive(8, 32, 10))),
            ),
        },
    )
)

letters = len(data.ALPHABET)
text = p.Program(
    data=data.text,
    network=lambda: networks.Letters(networks.Transformer(32, 2, causal=True), letters, 32, outputs=32),
    optimizer=p.adamw(3e-3),
    metric=p.last_place,
    epochs=8,
)
rows = p.Program(data=data.flat_digits, network=partial(networks.dense, 64, 48, 10), optimizer=p.adam(3e-3), epochs=6)

CASES += variants(
    TEXTS,
    text,
    0.5,
    {
        "future-leak": (
            "leak",
            replace(
                text,
                network=lambda: networks.Letters(networks.Transformer(32, 2, causal=False), letters, 32, outputs=32),
            ),
        ),
        "future-leak-both-ways": (
            "leak",
            replace(
                text,
                network=lambda: networks.Letters(
                    nn.GRU(32, 32, batch_first=True, bidirectional=True), letters, 32, outputs=64
                ),
            ),
        ),
        "lr-too-high": ("lr_too_high exploding_gradient", replace(text, optimizer=p.adamw(0.5))),
    },
) + variants(
    TEXTS,
    rows,
    0.9,
    {"batch-mix-mean": ("batch_mixing", replace(rows, network=lambda: Centred(networks.dense(64, 48, 10))))},
)

# Generators.

ring, square = Gan(centres=RING), Gan(centres=SQUARE)

CASES += (
    variants(
        RINGS,
        ring,
        0.8,
        {
            "mode-collapse": ("gan_collapse", replace(ring, rates=(1e-2, 1e-4), generator_steps=3, steps=400)),
            "discriminator-wins": (
                "gan_collapse vanishing_gradient",
                replace(ring, rates=(1e-4, 2e-2), discriminator_steps=5, saturates=True, steps=300),
            ),
        },
    )
    + variants(
        SQUARES,
        square,
        0.8,
        {
            "mode-collapse": (
                "gan_collapse",
                replace(square, rates=(1e-2, 5e-4), discriminator_width=8, generator_steps=4, steps=600),
            ),
            "discriminator-wins": (
                "gan_collapse vanishing_gradient",
                replace(square, rates=(1e-4, 2e-2), discriminator_steps=5, saturates=True, steps=250),
            ),
        },
    )
    + variants(
        DRAWN,
        Vae(),
        0.4,
        {
            "posterior-collapse": ("vae_collapse over_regularised", Vae(weight=30.0)),
            "no-reparametrisation-of-deviation": (
                "numerics wrong_output_loss_pair exploding_gradient vae_collapse",
                Vae(logarithm=False, scale=20.0, lr=3e-2),
            ),
        },
    )
    + variants(
        SQUARED,
        Vae(gaussian=True, latent=6),
        0.4,
        {"posterior-collapse": ("vae_collapse over_regularised", Vae(gaussian=True, latent=6, weight=50.0))},
    )
)
