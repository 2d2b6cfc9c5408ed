"""Programs in which nothing is wrong, as different from one another as people's programs are.

Among them is what careless rules take for faults: gradients added up on purpose, frozen layers, sparse but living
units, held-out rows that do better than the training rows, standardised inputs far outside of [-1, 1], near-perfect
accuracy, logarithms of a softmax taken twice, weighted classes, rates that warm up, deep networks of ReLU, GANs whose
losses swing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim import Optimizer

from benchmarks.watch import data, networks
from benchmarks.watch import programs as p
from benchmarks.watch.cases.case import Family, Healthy
from benchmarks.watch.data import changed
from benchmarks.watch.generative import RING, SQUARE, Autoencoder, Gan, Vae
from benchmarks.watch.networks import dense
from benchmarks.watch.programs import Run

SOURCE = "healthy"
FLAT = Family(name="H-flat-digits", source=SOURCE, data="digits as tables", part="tune")
TABLES = Family(name="H-table", source=SOURCE, data="tables", part="report")
PLANES = Family(name="H-plane", source=SOURCE, data="points in the plane", part="tune")
REGRESSION = Family(name="H-regression", source=SOURCE, data="regression", part="report")
PICTURES = Family(name="H-digits", source=SOURCE, data="digits", part="report")
TEXTURES = Family(name="H-textures", source=SOURCE, data="textures", part="tune")
SERIES = Family(name="H-series", source=SOURCE, data="series", part="tune")
TEXTS = Family(name="H-text", source=SOURCE, data="texts", part="report")
GANS = Family(name="H-gan", source=SOURCE, data="points in the plane", part="tune")
ENCODERS = Family(name="H-autoencoder", source=SOURCE, data="digits", part="report")
TUNED = Family(name="H-fine-tuned", source=SOURCE, data="digits", part="tune")

CASES: list[Healthy] = []


def add(family: Family, floor: float, programs: dict[str, Run]) -> None:
    """Programs by name, and what each of them reaches at least."""
    for name, program in programs.items():
        CASES.append(Healthy(family=family, name=name, program=program, floor=floor))


def of(base: p.Program) -> Callable[..., p.Program]:
    """A program that differs from the base in some fields."""
    return partial(replace, base)


# Digits as rows of 64 numbers: the choice of optimizer, schedule, width, norm and penalty.

flat = of(p.Program(data=data.flat_digits, network=partial(dense, 64, 64, 10), optimizer=p.adam(2e-3), epochs=8))
wide = partial(dense, 64, 256, 10)


def twice_log_softmax(outputs: Tensor, y: Tensor) -> Tensor:
    """Harmless: the second logarithm of the softmax changes nothing."""
    return F.cross_entropy(outputs.log_softmax(1), y)


def focal(outputs: Tensor, y: Tensor) -> Tensor:
    """Lin et al. 2017."""
    entropy = F.cross_entropy(outputs, y, reduction="none")
    return ((1 - (-entropy).exp()).square() * entropy).mean()


def margin(outputs: Tensor, y: Tensor) -> Tensor:
    return F.multi_margin_loss(outputs, y)


def of_every_class(outputs: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, F.one_hot(y, outputs.shape[1]).float())


def squared_from_one_hot(outputs: Tensor, y: Tensor) -> Tensor:
    """Hui and Belkin 2021: squares do as well as cross-entropy."""
    return F.mse_loss(outputs, F.one_hot(y, outputs.shape[1]).float())


def deep_he(layers: int, width: int = 48) -> Callable[[], nn.Module]:
    return lambda: networks.he(dense(64, *[width] * (layers - 1), 10))


def orthogonal_tanh() -> nn.Module:
    return networks.filled(dense(64, *[48] * 6, 10, activation=nn.Tanh), partial(nn.init.orthogonal_, gain=1.2))


def standard_normal_inputs(seed: int) -> data.Data:
    return data.scaled(data.flat_digits(seed))


def sparse_units() -> nn.Module:
    """Biases below zero: most units are silent for most digits, and each speaks for some."""
    model = dense(64, 256, 10)
    with torch.no_grad():
        model[0].bias.fill_(-0.4)  # type: ignore[union-attr, operator]
    return model


add(
    FLAT,
    0.85,
    {
        "sgd": flat(optimizer=p.sgd(0.3)),
        "sgd-momentum": flat(optimizer=p.sgd(0.05, momentum=0.9)),
        "sgd-nesterov-decay": flat(optimizer=p.sgd(0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)),
        "adam-loader": flat(loader=True),
        "adamw-decay": flat(optimizer=p.adamw(3e-3, weight_decay=0.1)),
        "rmsprop": flat(optimizer=p.optimizer(torch.optim.RMSprop, lr=1e-3)),
        "adagrad": flat(optimizer=p.optimizer(torch.optim.Adagrad, lr=0.03)),
        "nadam": flat(optimizer=p.optimizer(torch.optim.NAdam, lr=2e-3)),
        "radam": flat(optimizer=p.optimizer(torch.optim.RAdam, lr=3e-3), epochs=10),
        "adamax": flat(optimizer=p.optimizer(torch.optim.Adamax, lr=5e-3)),
        "amsgrad-large-epsilon": flat(optimizer=p.adam(3e-3, amsgrad=True, eps=1e-4)),
        "cosine": flat(optimizer=p.adam(5e-3), schedule=p.cosine),
        "cosine-by-step": flat(optimizer=p.sgd(0.2, momentum=0.9), schedule=p.cosine_by_step, scheduled_per_step=True),
        "warm-up": flat(optimizer=p.adam(5e-3), schedule=p.warm_up(0.3), scheduled_per_step=True),
        "one-cycle": flat(optimizer=p.sgd(0.1, momentum=0.9), schedule=p.one_cycle(0.4), scheduled_per_step=True),
        "stairs": flat(optimizer=p.sgd(0.2, momentum=0.9), schedule=p.stairs(4, 0.1)),
        "linear-model": flat(network=partial(nn.Linear, 64, 10), optimizer=p.adam(1e-2)),
        "deep-he-relu-8": flat(network=deep_he(8), optimizer=p.adam(1e-3), epochs=10),
        "deep-he-relu-14": flat(network=deep_he(14), optimizer=p.adam(1e-3), epochs=10),
        "sparse-relu": flat(network=sparse_units),
        "wide": flat(network=partial(dense, 64, 1024, 10), optimizer=p.adam(1e-3)),
        "deep-orthogonal-tanh": flat(network=orthogonal_tanh, optimizer=p.adam(1e-3)),
        "sigmoid-one-layer": flat(network=partial(dense, 64, 64, 10, activation=nn.Sigmoid), optimizer=p.adam(1e-2)),
        "selu": flat(network=partial(dense, 64, 48, 48, 48, 10, activation=nn.SELU)),
        "gelu-layer-norm": flat(network=partial(dense, 64, 64, 64, 10, activation=nn.GELU, norm=nn.LayerNorm)),
        "batch-norm": flat(network=partial(dense, 64, 64, 64, 10, norm=nn.BatchNorm1d), optimizer=p.sgd(0.1)),
        "batch-norm-dropout": flat(network=partial(dense, 64, 96, 96, 10, norm=nn.BatchNorm1d, dropout=0.5), epochs=12),
        "dropout-half": flat(network=partial(dense, 64, 256, 10, dropout=0.5), epochs=10),
        "dropout-heavy": flat(network=partial(dense, 64, 512, 10, dropout=0.7), epochs=12),
        "standardised-inputs": flat(data=standard_normal_inputs, epochs=6),
        "pixels-centred": flat(data=changed(data.flat_digits, data.shifted(-0.5), data.rescaled(2)), epochs=6),
        "label-smoothing": flat(loss=partial(F.cross_entropy, label_smoothing=0.1)),
        "log-softmax-into-cross-entropy": flat(loss=twice_log_softmax),
        "log-softmax-into-nll": flat(network=partial(dense, 64, 64, 10, last=[nn.LogSoftmax(1)]), loss=F.nll_loss),
        "focal": flat(loss=focal),
        "margin": flat(loss=margin),
        "one-against-all": flat(loss=of_every_class),
        "squares-of-one-hot": flat(loss=squared_from_one_hot),
        "mixup": flat(network=wide, step=p.mixed_up(0.4, 10), epochs=10),
        "input-noise": flat(network=wide, step=p.augmented(lambda x: x + 0.15 * torch.randn_like(x))),
        "l1-penalty": flat(step=p.penalised(1e-4, 1)),
        "accumulate-4": flat(step=p.accumulated(4), batch_size=8, optimizer=p.adam(3e-3)),
        "accumulate-8-undivided": flat(step=p.accumulated(8, divided=False), batch_size=8, optimizer=p.adam(5e-3)),
        "zeroed-last": flat(step=p.zeroed_last, optimizer=p.sgd(0.2)),
        "clip-norm": flat(step=p.clipped(1.0), optimizer=p.sgd(0.3)),
        "clip-values": flat(step=p.clipped_values(0.1), optimizer=p.sgd(0.3)),
        "small-batch": flat(batch_size=4, optimizer=p.sgd(0.05), epochs=3),
        "large-batch": flat(batch_size=400, optimizer=p.adam(1e-2), epochs=40),
        "whole-batch-lbfgs": flat(
            *(), batch_size=1200, epochs=6, step=p.by_closure, optimizer=p.optimizer(torch.optim.LBFGS, lr=0.5)
        ),
        "average-at-the-side": flat(step=p.averaged_after(0.99)),
        "half-precision": flat(step=p.in_half(256.0, torch.bfloat16)),
        "long-after-perfect": flat(optimizer=p.adam(5e-3), epochs=25, network=wide),
        "weight-norm": flat(
            network=lambda: nn.Sequential(weight_norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 10))
        ),
        "bottleneck-8": flat(network=partial(dense, 64, 64, 8, 10), epochs=12),
        "low-rank-factors": flat(
            network=lambda: nn.Sequential(
                nn.Linear(64, 12, bias=False), nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 10)
            )
        ),
        "residual-dense": flat(network=partial(networks.DenseResidual, 64, 48, 4, 10)),
        "leaky-noise-10-percent": flat(
            data=changed(data.flat_digits, data.noisy_labels(0.03, 10)),
            network=partial(dense, 64, 64, 10, activation=lambda: nn.LeakyReLU(0.1), dropout=0.3),
        ),
    },
)

# Tables.

many = of(p.Program(data=data.table, network=partial(dense, 20, 64, 64, 4), optimizer=p.adam(3e-3), epochs=8))
wine = of(
    p.Program(data=data.wine, network=partial(dense, 13, 24, 3), optimizer=p.adam(5e-3), epochs=20, batch_size=16)
)
cancer = of(
    p.Program(
        **{"data": changed(data.cancer, data.binary), "network": partial(dense, 30, 24, 1), "optimizer": p.adam(3e-3)},
        **{"loss": F.binary_cross_entropy_with_logits, "metric": p.sign_accuracy, "epochs": 12},
    )
)
uneven = changed(partial(data.table, rows=1600), data.rare((0, 2), 60))
weights = torch.tensor([8.0, 1.0, 8.0, 1.0])

add(
    TABLES,
    0.75,
    {
        "adam": many(),
        "momentum-cosine": many(optimizer=p.sgd(0.1, momentum=0.9), schedule=p.cosine),
        "dropout": many(network=partial(dense, 20, 128, 128, 4, dropout=0.3), epochs=12),
        "batch-norm": many(network=partial(dense, 20, 64, 64, 4, norm=nn.BatchNorm1d), loader=True),
        "deep-residual": many(network=partial(networks.DenseResidual, 20, 32, 6, 4), optimizer=p.adamw(2e-3)),
        "weighted-classes": many(
            data=uneven, loss=partial(F.cross_entropy, weight=weights), metric=p.balanced_accuracy, epochs=5
        ),
        "accumulate-2": many(step=p.accumulated(2), batch_size=16),
        "mild-noise-strong-decay": many(
            data=changed(data.table, data.noisy_labels(0.05, 4)), optimizer=p.adamw(3e-3, weight_decay=0.5)
        ),
        "silu-warm-up": many(
            network=partial(dense, 20, 64, 64, 4, activation=nn.SiLU), schedule=p.warm_up(), scheduled_per_step=True
        ),
    },
)
add(
    TABLES,
    0.9,
    {
        "wine": wine(),
        "wine-linear": wine(network=partial(nn.Linear, 13, 3), optimizer=p.sgd(0.1)),
        "wine-tanh": wine(network=partial(dense, 13, 16, 3, activation=nn.Tanh), optimizer=p.sgd(0.1, momentum=0.9)),
        "cancer": cancer(),
        "cancer-logistic": cancer(network=partial(nn.Linear, 30, 1), optimizer=p.sgd(0.1)),
        "cancer-sigmoid-bce": cancer(
            network=partial(dense, 30, 24, 1, last=[nn.Sigmoid()]), loss=F.binary_cross_entropy, metric=p.half_accuracy
        ),
        "cancer-two-outputs": cancer(
            data=data.cancer, network=partial(dense, 30, 24, 2), loss=F.cross_entropy, metric=p.accuracy
        ),
        "cancer-weighted": cancer(loss=partial(F.binary_cross_entropy_with_logits, pos_weight=torch.tensor(0.6))),
    },
)

# Points in the plane: small and deep networks, two classes and three.

moons = of(
    p.Program(
        **{
            "data": changed(data.moons, data.binary),
            "network": partial(dense, 2, 32, 32, 1),
            "optimizer": p.adam(1e-2),
        },
        **{"loss": F.binary_cross_entropy_with_logits, "metric": p.sign_accuracy, "epochs": 10},
    )
)
circles = of(p.Program(data=data.circles, network=partial(dense, 2, 24, 24, 2), optimizer=p.adam(1e-2), epochs=12))
blobs = of(p.Program(data=data.blobs, network=partial(dense, 2, 16, 3), optimizer=p.sgd(0.1), epochs=8))

add(
    PLANES,
    0.85,
    {
        "moons": moons(),
        "moons-tanh-sgd": moons(
            network=partial(dense, 2, 24, 24, 1, activation=nn.Tanh), optimizer=p.sgd(0.3, momentum=0.9)
        ),
        "moons-noisy": moons(data=changed(partial(data.moons, noise=0.3), data.binary)),
        "circles-relu": circles(),
        "circles-six-tanh": circles(
            network=partial(dense, 2, *[24] * 5, 2, activation=nn.Tanh), optimizer=p.adam(3e-3)
        ),
        "circles-eight-he-relu": circles(network=lambda: networks.he(dense(2, *[24] * 7, 2)), optimizer=p.adam(2e-3)),
        "circles-elu-small-batch": circles(
            network=partial(dense, 2, 24, 24, 2, activation=nn.ELU), batch_size=8, epochs=5
        ),
        "circles-squares-as-inputs": circles(
            network=lambda: networks.Piped(nn.Identity(), lambda x: torch.cat([x, x * x], 1), nn.Linear(4, 2)),
            optimizer=p.adam(0.05),
        ),
    },
)
add(
    PLANES,
    0.75,
    {
        "blobs": blobs(),
        "blobs-softplus": blobs(network=partial(dense, 2, 24, 24, 3, activation=nn.Softplus), optimizer=p.adam(5e-3)),
        "blobs-logistic": blobs(network=partial(nn.Linear, 2, 3)),
        "blobs-ten-tanh": blobs(network=partial(dense, 2, *[24] * 9, 3, activation=nn.Tanh), optimizer=p.adam(2e-3)),
        "blobs-maximum-norm": blobs(step=p.clipped(0.5), optimizer=p.sgd(0.5)),
    },
)

# Regression.

friedman = of(
    p.Program(
        **{"data": data.scaled_machines, "network": partial(dense, 10, 64, 64, 1), "optimizer": p.adam(3e-3)},
        **{"loss": F.mse_loss, "metric": p.explained, "epochs": 10},
    )
)
plane = of(
    p.Program(
        **{"data": data.linear_table, "network": partial(nn.Linear, 12, 1), "optimizer": p.sgd(0.05)},
        **{"loss": F.mse_loss, "metric": p.explained, "epochs": 8},
    )
)
waves = of(
    p.Program(
        **{"data": data.waves, "network": partial(dense, 1, 48, 48, 1), "optimizer": p.adam(5e-3)},
        **{"loss": F.mse_loss, "metric": p.explained, "epochs": 15},
    )
)


def gaussian(outputs: Tensor, y: Tensor) -> Tensor:
    """A mean and a log-variance for each row."""
    return F.gaussian_nll_loss(outputs[:, :1], y, outputs[:, 1:].clamp(-6, 6).exp())


def quantile(outputs: Tensor, y: Tensor) -> Tensor:
    error = y - outputs
    return torch.maximum(0.5 * error, -0.5 * error).mean()


def first_column(outputs: Tensor, y: Tensor) -> float:
    return p.explained(outputs[:, :1], y)


class Fourier(nn.Module):
    """Tancik et al. 2020: random sines of the input, then a network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rates", torch.randn(1, 16) * 2)
        self.head = dense(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([(x @ self.rates).sin(), (x @ self.rates).cos()], 1))


add(
    REGRESSION,
    0.7,
    {
        "friedman": friedman(),
        "friedman-huber": friedman(loss=F.smooth_l1_loss),
        "friedman-absolute": friedman(loss=F.l1_loss, optimizer=p.adam(5e-3)),
        "friedman-gaussian": friedman(network=partial(dense, 10, 64, 64, 2), loss=gaussian, metric=first_column),
        "friedman-quantile": friedman(loss=quantile, optimizer=p.adam(5e-3)),
        "friedman-batch-norm": friedman(network=partial(dense, 10, 64, 64, 1, norm=nn.BatchNorm1d), epochs=15),
        "friedman-sgd-cosine": friedman(optimizer=p.sgd(0.05, momentum=0.9), schedule=p.cosine),
        "friedman-dropout": friedman(network=partial(dense, 10, 128, 128, 1, dropout=0.1), epochs=15),
        "friedman-flat-outputs": friedman(
            data=lambda seed: data.scaled_machines(seed).with_targets(lambda y: y[:, 0]),
            network=lambda: nn.Sequential(dense(10, 64, 64, 1), nn.Flatten(0)),
        ),
        "friedman-weight-decay": friedman(optimizer=p.adamw(3e-3, weight_decay=0.1), loader=True),
        "friedman-offset-targets": friedman(
            data=lambda seed: data.scaled_machines(seed).with_targets(lambda y: y + 2), epochs=12
        ),
        "friedman-positive-softplus": friedman(
            data=lambda seed: data.scaled_machines(seed).with_targets(lambda y: (y / 2).exp()),
            network=partial(dense, 10, 64, 64, 1, last=[nn.Softplus()]),
        ),
        "linear": plane(),
        "linear-adam": plane(optimizer=p.adam(2e-2)),
        "linear-ridge": plane(optimizer=p.sgd(0.05, weight_decay=1e-2)),
        "waves-tanh": waves(
            network=partial(dense, 1, 48, 48, 1, activation=nn.Tanh), optimizer=p.adam(1e-2), epochs=20
        ),
        "waves-relu": waves(),
        "waves-fourier": waves(network=Fourier),
        "waves-bounded-tanh": waves(
            data=lambda seed: data.waves(seed).with_targets(lambda y: y / 3),
            network=partial(dense, 1, 48, 48, 1, last=[nn.Tanh()]),
        ),
    },
)
add(
    REGRESSION,
    0.3,
    {
        "diabetes": plane(
            data=data.diabetes, network=partial(dense, 10, 16, 1), optimizer=p.adam(3e-3, weight_decay=1e-2), epochs=20
        ),
        "diabetes-linear": plane(
            data=data.diabetes, network=partial(nn.Linear, 10, 1), optimizer=p.sgd(0.01), epochs=20
        ),
    },
)

# Pictures.

cnn = of(p.Program(data=data.digits, network=networks.convolutional, optimizer=p.adam(3e-3), epochs=6))
uneven_digits = changed(data.digits, data.rare((1, 4, 7), 25))


def shifts(x: Tensor) -> Tensor:
    """By up to a point to each side."""
    across, down = torch.randint(-1, 2, (2,)).tolist()
    return x.roll((across, down), (2, 3))


def digit_weights() -> Tensor:
    weights = torch.ones(10)
    weights[[1, 4, 7]] = 5.0
    return weights


add(
    PICTURES,
    0.88,
    {
        "adam": cnn(),
        "sgd-loader": cnn(optimizer=p.sgd(0.1, momentum=0.8), loader=True),
        "momentum-stairs": cnn(optimizer=p.sgd(0.05, momentum=0.9), schedule=p.stairs(3, 0.3)),
        "dropout": cnn(network=partial(networks.convolutional, dropout=0.4), epochs=8),
        "tanh": cnn(network=partial(networks.convolutional, activation=nn.Tanh)),
        "residual": cnn(network=partial(networks.residual, 1, 10, 12), epochs=4),
        "group-norm": cnn(
            network=lambda: nn.Sequential(
                *(
                    nn.Conv2d(1, 16, 3),
                    nn.GroupNorm(4, 16),
                    nn.ReLU(),
                    nn.Conv2d(16, 16, 3, stride=2),
                    nn.GroupNorm(4, 16),
                ),
                *(nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)),
            )
        ),
        "augmented-shifts": cnn(
            network=partial(networks.convolutional, dropout=0.3), step=p.augmented(shifts), epochs=12
        ),
        "mixup": cnn(step=p.mixed_up(0.2, 10), epochs=8),
        "weighted-imbalance": cnn(
            data=uneven_digits,
            loss=partial(F.cross_entropy, weight=digit_weights()),
            metric=p.balanced_accuracy,
            epochs=8,
        ),
        "accumulate-4": cnn(step=p.accumulated(4), batch_size=8),
        "half-precision-scaled": cnn(step=p.in_half(1024.0)),
        "label-smoothing-warm-up": cnn(
            loss=partial(F.cross_entropy, label_smoothing=0.1), schedule=p.warm_up(0.25), scheduled_per_step=True
        ),
        "global-mean": cnn(
            network=lambda: nn.Sequential(
                *(nn.Conv2d(1, 24, 3), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
                *(nn.Flatten(), nn.Linear(24, 10)),
            ),
            optimizer=p.adam(5e-3),
            epochs=14,
        ),
        "spectral-norm": cnn(
            network=lambda: nn.Sequential(
                *(spectral_norm(nn.Conv2d(1, 16, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)),
            )
        ),
        "deep-he-relu": cnn(
            network=lambda: networks.he(
                nn.Sequential(
                    *(layer for k in range(8) for layer in (nn.Conv2d(12 if k else 1, 12, 3, padding=1), nn.ReLU())),
                    *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 16, 10)),
                )
            ),
            optimizer=p.adam(1e-3),
            epochs=4,
        ),
        "small-set-stopped-early": cnn(
            data=partial(data.digits, rows=500), epochs=10, network=partial(networks.convolutional, dropout=0.3)
        ),
    },
)

textures = of(
    p.Program(
        **{"data": data.textures, "network": networks.deep_convolutional, "optimizer": p.adamw(5e-3), "epochs": 8}
    )
)

add(
    TEXTURES,
    0.65,
    {
        "batch-norm-dropout": textures(),
        "momentum-one-cycle": textures(
            optimizer=p.sgd(0.05, momentum=0.9), schedule=p.one_cycle(0.2), scheduled_per_step=True
        ),
        "residual": textures(network=partial(networks.residual, width=12), epochs=5),
        "plain-small": textures(network=partial(networks.convolutional, 3, 6, size=12), optimizer=p.adam(3e-3)),
        "leaky": textures(
            network=partial(networks.deep_convolutional, activation=lambda: nn.LeakyReLU(0.1), dropout=0.0)
        ),
        "instance-norm": textures(network=partial(networks.deep_convolutional, norm=nn.InstanceNorm2d), epochs=14),
        "batch-of-eight": textures(batch_size=8, epochs=3),
        "noise-augmented": textures(step=p.augmented(lambda x: x + 0.3 * torch.randn_like(x))),
        "flipped-channels": textures(step=p.augmented(lambda x: x[:, torch.randperm(3)])),
        "half-brain": textures(step=p.in_half(1.0, torch.bfloat16), epochs=6),
        "dropout-heavy": textures(network=partial(networks.deep_convolutional, dropout=0.5), epochs=12),
    },
)

# Sequences.

sums = of(
    p.Program(
        **{"data": data.adding, "network": partial(networks.Recurrent, nn.GRU, 2, 24, 1), "optimizer": p.adam(1e-2)},
        **{"loss": F.mse_loss, "metric": p.explained, "epochs": 6, "step": p.clipped(1.0)},
    )
)
rhythm = of(
    p.Program(data=data.signs, network=partial(networks.Recurrent, nn.GRU, 1, 24, 3), optimizer=p.adam(1e-2), epochs=6)
)
rows = of(
    p.Program(
        **{"data": data.digit_rows, "network": partial(networks.Recurrent, nn.LSTM, 8, 32, 10)},
        **{"optimizer": p.adam(5e-3), "epochs": 6},
    )
)


class Convolved(nn.Module):
    """Dilated convolutions over time (N, length, features), the largest answer of each."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv1d(features, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 3, dilation=2), nn.ReLU()),
            *(nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2))


add(
    SERIES,
    0.75,
    {
        "adding-gru": sums(),
        "adding-lstm": sums(network=partial(networks.Recurrent, nn.LSTM, 2, 32, 1), epochs=12),
        "adding-transformer": sums(
            network=partial(networks.Attentive, 2, 24, 1), optimizer=p.adam(3e-3), step=p.plain, epochs=8
        ),
        "rhythm-gru": rhythm(),
        "rhythm-vanilla-rnn-clipped": rhythm(
            network=partial(networks.Recurrent, nn.RNN, 1, 32, 3),
            optimizer=p.adam(3e-3),
            step=p.clipped(1.0),
            epochs=10,
        ),
        "rhythm-convolution": rhythm(network=partial(Convolved, 1, 3), optimizer=p.adam(5e-3)),
        "rhythm-transformer-dropout": rhythm(
            network=partial(networks.Attentive, 1, 32, 3, dropout=0.1), optimizer=p.adamw(3e-3), epochs=18
        ),
        "rows-lstm": rows(),
        "rows-two-ways": rows(network=partial(networks.Recurrent, nn.GRU, 8, 24, 10, bidirectional=True)),
        "rows-two-layers-dropout": rows(
            network=partial(networks.Recurrent, nn.GRU, 8, 32, 10, num_layers=2, dropout=0.2), epochs=8
        ),
        "rows-transformer-warm-up": rows(
            network=partial(networks.Attentive, 8, 32, 10, layers=2),
            schedule=p.warm_up(),
            scheduled_per_step=True,
            epochs=8,
        ),
        "first-word-gru": rhythm(
            data=partial(data.first_word, length=20), network=partial(networks.Recurrent, nn.GRU, 4, 16, 4)
        ),
    },
)

letters = len(data.ALPHABET)


def every_place(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.argmax(1) == targets).float().mean())


text = of(
    p.Program(
        **{"data": data.text, "optimizer": p.adamw(3e-3), "metric": every_place, "epochs": 6},
        network=lambda: networks.Letters(networks.Transformer(32, 2, causal=True), letters, 32, outputs=32),
    )
)

add(
    TEXTS,
    0.6,
    {
        "transformer": text(),
        "transformer-warm-up-clipped": text(
            schedule=p.warm_up(), scheduled_per_step=True, step=p.clipped(1.0), optimizer=p.adamw(5e-3)
        ),
        "transformer-dropout": text(
            network=lambda: networks.Letters(
                networks.Transformer(32, 1, causal=True, dropout=0.1), letters, 32, outputs=32
            )
        ),
        "transformer-norm-last": text(
            network=lambda: networks.Letters(
                networks.Transformer(32, 1, causal=True, norm_first=False), letters, 32, outputs=32
            )
        ),
        "lstm": text(
            network=lambda: networks.Letters(nn.LSTM(16, 48, batch_first=True), letters, 16, outputs=48),
            optimizer=p.adam(1e-2),
        ),
        "gru-clipped": text(
            network=lambda: networks.Letters(nn.GRU(16, 48, batch_first=True), letters, 16, outputs=48),
            optimizer=p.adam(1e-2),
            step=p.clipped(0.5),
        ),
        "rnn": text(
            network=lambda: networks.Letters(nn.RNN(16, 64, batch_first=True), letters, 16, outputs=64),
            optimizer=p.adam(5e-3),
        ),
        "reversal-transformer": text(
            data=data.reversal,
            network=lambda: networks.Letters(networks.Transformer(32, 2, causal=False), 8, 32, outputs=32),
            epochs=10,
        ),
        "reversal-two-ways": text(
            data=data.reversal,
            network=lambda: networks.Letters(nn.GRU(16, 48, batch_first=True, bidirectional=True), 8, 16, outputs=96),
            optimizer=p.adam(1e-2),
            epochs=10,
        ),
    },
)

# Without labels.

add(
    GANS,
    0.7,
    {
        "ring": Gan(centres=RING),
        "square": Gan(centres=SQUARE),
        "ring-two-rates-tanh": Gan(
            centres=RING, steps=1000, rates=(1e-3, 3e-3), latent=16, width=96, activation=nn.Tanh
        ),
        "square-smoothed": Gan(centres=SQUARE, smooth=0.9),
        "ring-wasserstein": Gan(centres=RING, steps=350, wasserstein=True, discriminator_steps=3),
        "ring-without-momentum": Gan(
            centres=RING, rates=(5e-4, 5e-4), latent=16, width=128, discriminator_width=128, betas=(0.0, 0.9)
        ),
        "ring-two-judgements": Gan(centres=RING, steps=800, discriminator_steps=2),
    },
)
add(
    ENCODERS,
    0.4,
    {
        "vae": Vae(),
        "vae-warmed": Vae(warm_epochs=6),
        "vae-gaussian": Vae(gaussian=True, latent=6),
        "vae-half-weight": Vae(weight=0.5, latent=12),
        "bottleneck": Autoencoder(network=partial(dense, 64, 48, 12, 48, 64), epochs=25),
        "denoising": Autoencoder(network=partial(dense, 64, 96, 64), noise=0.3),
        "linear": Autoencoder(network=partial(dense, 64, 16, 64, activation=None), lr=1e-2),
        "of-points-as-probabilities": Autoencoder(
            network=partial(dense, 64, 48, 16, 48, 64), loss=F.binary_cross_entropy_with_logits
        ),
        "convolutional": Autoencoder(
            network=lambda: nn.Sequential(
                *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
                *(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)),
            ),
            source=data.digits,
        ),
    },
)

# What was learned on the digits below 5 helps with those above.


def half(first: bool) -> Callable[[int], data.Data]:
    def rows(seed: int) -> data.Data:
        given = data.digits(seed)
        train, held = ((y < 5) == first for y in (given.y, given.held_y))
        low = 0 if first else 5
        return data.Data(given.x[train], given.y[train] - low, given.held_x[held], given.held_y[held] - low)

    return rows


def pretrained(build: Callable[..., nn.Sequential] = networks.convolutional) -> nn.Sequential:
    """A network that knows the digits below 5, with a new last layer."""
    with torch.random.fork_rng():
        kept: list[nn.Sequential] = []

        def network() -> nn.Module:
            kept[:] = [build(classes=5)]
            return kept[0]

        p.Program(data=half(True), network=network, optimizer=p.adam(3e-3), epochs=4)(p.unwatched, 0)
    model = kept[0]
    model[-1] = nn.Linear(model[-1].in_features, 5)  # type: ignore[arg-type]
    return model


def frozen_front(model: nn.Sequential, layers: int = 7) -> nn.Sequential:
    model[:layers].requires_grad_(False)
    return model


def two_rates(model: nn.Module) -> Optimizer:
    """The new layer learns ten times as fast as the others."""
    *front, weight, bias = model.parameters()
    return torch.optim.Adam([{"params": front, "lr": 1e-3}, {"params": [weight, bias], "lr": 5e-3}])


class Adapted(nn.Module):
    """Hu et al. 2022: a frozen layer, and beside it a product of two small matrices that begins at zero."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


def adapted() -> nn.Module:
    model = frozen_front(pretrained())
    model[7] = Adapted(model[7], 4)  # type: ignore[arg-type]
    return model


class Normalised(nn.Module):
    """Batch norm whose statistics are kept as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = pretrained(partial(networks.residual, 1))

    def train(self, mode: bool = True) -> Normalised:
        super().train(mode)
        for module in self.layers.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


tuned = of(p.Program(data=half(False), network=pretrained, optimizer=p.adam(2e-3), epochs=6))

add(
    TUNED,
    0.85,
    {
        "all": tuned(),
        "frozen-front": tuned(
            network=lambda: frozen_front(pretrained()), optimizer=p.trainable(torch.optim.Adam, lr=5e-3)
        ),
        "frozen-front-all-in-optimizer": tuned(network=lambda: frozen_front(pretrained()), optimizer=p.adam(5e-3)),
        "two-rates": tuned(optimizer=two_rates),
        "low-rank-adapters": tuned(network=adapted, optimizer=p.trainable(torch.optim.AdamW, lr=1e-2), epochs=8),
        "frozen-batch-norm": tuned(network=Normalised, optimizer=p.adam(5e-3), epochs=4),
        "small-rate-cosine": tuned(optimizer=p.adam(1e-3), schedule=p.cosine, epochs=12),
    },
)
