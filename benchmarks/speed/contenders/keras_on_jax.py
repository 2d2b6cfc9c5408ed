"""Keras on its JAX backend: the same networks in Keras layers, compiled as is its default.

Pictures are brought to channels last before the clock starts, as JAX likes them on a CPU. Weights are drawn from
PyTorch's distribution of them, not from its generator. Several steps for each call of the compiled program
(`steps_per_execution`) were tried: no faster on the small table network, and slower on the autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.workloads import ADULT_COLUMNS, LEARNING_RATE, SEQUENCE, VOCABULARY


def drawn() -> keras.Initializer:
    """Uniform, with variance 1 / (3 fan_in): PyTorch's default for linear and convolutional layers."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def dense(size: int, activation: str | None = None) -> layers.Layer:
    return layers.Dense(size, activation=activation, kernel_initializer=drawn())


def convolution(channels: int, size: int = 3, stride: int = 1, *, bias: bool = True) -> layers.Layer:
    return layers.Conv2D(channels, size, stride, padding="same", use_bias=bias, kernel_initializer=drawn())


class EnsembleDense(layers.Layer):  # type: ignore[misc]
    """The layer of TabM: `((x * r_k) @ W) * s_k + b_k`; (B, members, inputs) to (B, members, size)."""

    def __init__(self, size: int, members: int, *, first: bool) -> None:
        super().__init__()
        self.size, self.members, self.first = size, members, first

    def build(self, shape: tuple[int, ...]) -> None:
        bound = float(shape[-1]) ** -0.5
        near_zero = keras.initializers.RandomUniform(-bound, bound)
        self.kernel = self.add_weight(shape=(shape[-1], self.size), initializer=near_zero)
        signs = np.random.default_rng(8).choice([-1.0, 1.0], (self.members, shape[-1])).astype(np.float32)
        self.inward = self.add_weight(
            shape=(self.members, shape[-1]),
            initializer=(lambda shape, dtype: ops.convert_to_tensor(signs, dtype)) if self.first else "ones",
        )
        self.outward = self.add_weight(shape=(self.members, self.size), initializer="ones")
        self.bias = self.add_weight(shape=(self.members, self.size), initializer=near_zero)

    def call(self, x: Any) -> Any:
        return ops.matmul(x * self.inward, self.kernel) * self.outward + self.bias


class EnsembleHead(layers.Layer):  # type: ignore[misc]
    """A linear layer for each member: (B, members, inputs) to (B, members, size)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def build(self, shape: tuple[int, ...]) -> None:
        bound = float(shape[-1]) ** -0.5
        near_zero = keras.initializers.RandomUniform(-bound, bound)
        self.kernel = self.add_weight(shape=(shape[1], shape[-1], self.size), initializer=near_zero)
        self.bias = self.add_weight(shape=(shape[1], self.size), initializer=near_zero)

    def call(self, x: Any) -> Any:
        return ops.einsum("bki,kio->bko", x, self.kernel) + self.bias


class LearnedPositions(layers.Layer):  # type: ignore[misc]
    """Adds a row of numbers to each place; (B, T, size) to the same."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.places = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02))

    def call(self, x: Any) -> Any:
        return x + self.places


def table(*sizes: int, columns: int = 14) -> keras.Model:
    return keras.Sequential([keras.Input((columns,)), *(dense(size, "relu") for size in sizes), dense(2)])


def ensemble() -> keras.Model:
    members = 8
    return keras.Sequential(
        [
            keras.Input((14,)),
            layers.RepeatVector(members),
            *(EnsembleDense(192, members, first=True), layers.ReLU(), layers.Dropout(0.1)),
            *(EnsembleDense(192, members, first=False), layers.ReLU(), layers.Dropout(0.1)),
            EnsembleHead(2),
        ]
    )


def small_convolutional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(convolution(32), layers.ReLU(), layers.MaxPooling2D()),
            *(convolution(64), layers.ReLU(), layers.MaxPooling2D()),
            *(layers.Flatten(), dense(128, "relu"), dense(10)),
        ]
    )


def digits_convolutional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *(convolution(32), layers.ReLU(), convolution(64), layers.ReLU(), layers.MaxPooling2D()),
            *(layers.Flatten(), dense(128, "relu"), dense(10)),
        ]
    )


def resnet() -> keras.Model:
    """The default `sounding.networks.ResNet`: a stem of 32 channels, three blocks that each halve the picture."""

    def norm(x: Any, silent: bool = False) -> Any:
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer="zeros" if silent else "ones")(x)

    inputs = keras.Input((32, 32, 3))
    x = layers.ReLU()(norm(convolution(32, bias=False)(inputs)))
    for channels in (64, 128, 256):
        change = layers.ReLU()(norm(convolution(channels, stride=2, bias=False)(x)))
        change = norm(convolution(channels, bias=False)(change), silent=True)
        shortcut = norm(convolution(channels, 1, bias=False)(layers.AveragePooling2D(2)(x)))
        x = layers.ReLU()(shortcut + change)
    return keras.Model(inputs, dense(10)(layers.GlobalAveragePooling2D()(x)))


def lstm() -> keras.Model:
    uniform = keras.initializers.RandomUniform(-1 / 16, 1 / 16)
    return keras.Sequential(
        [
            keras.Input((SEQUENCE,), dtype="int32"),
            layers.Embedding(VOCABULARY, 128, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0)),
            layers.LSTM(
                256,
                return_sequences=True,
                kernel_initializer=uniform,
                recurrent_initializer=uniform,
                bias_initializer="zeros",
                unit_forget_bias=False,
            ),
            dense(VOCABULARY),
        ]
    )


def transformer() -> keras.Model:
    inputs = keras.Input((SEQUENCE,), dtype="int32")
    x = layers.Embedding(VOCABULARY, 128, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02))(inputs)
    x = LearnedPositions()(x)
    for _ in range(3):
        normed = layers.LayerNormalization(epsilon=1e-5)(x)
        x = x + layers.MultiHeadAttention(4, 32, kernel_initializer=drawn())(normed, normed, use_causal_mask=True)
        normed = layers.LayerNormalization(epsilon=1e-5)(x)
        x = x + dense(128)(keras.activations.gelu(dense(512)(normed), approximate=False))
    return keras.Model(inputs, dense(VOCABULARY)(layers.LayerNormalization(epsilon=1e-5)(x)))


def autoencoder() -> keras.Model:
    return keras.Sequential([keras.Input((784,)), *(dense(size, "relu") for size in (256, 32, 256)), dense(784)])


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "fashion-mnist": small_convolutional,
    "digits": digits_convolutional,
    "adult": lambda: table(256, 256, columns=ADULT_COLUMNS),
    "table-small": lambda: table(256, 256),
    "table-wide": lambda: table(1024, 1024),
    "table-ensemble": ensemble,
    "conv-small": small_convolutional,
    "resnet": resnet,
    "lstm": lstm,
    "transformer": transformer,
    "autoencoder": autoencoder,
}


def prepare(job: Job) -> Callable[[], Trained]:
    keras.utils.set_random_seed(job.seed)
    model = NETWORKS[job.workload.name]()
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=0.0, epsilon=1e-8)
    model.compile(optimizer, loss_for(job.workload.loss))
    x, held_out_x = (laid_out(pictures) for pictures in (job.arrays.x, job.arrays.held_out_x))
    ended = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: job.epoch_ended(
            lambda x: model.predict(laid_out(x), batch_size=1024, verbose=0)
        )
    )

    def train() -> Trained:
        history = model.fit(
            x, job.arrays.y, batch_size=job.workload.batch_size, epochs=job.epochs, verbose=0, callbacks=[ended]
        )
        return Trained(
            history.history["loss"],
            lambda: float(model.evaluate(held_out_x, job.arrays.held_out_y, batch_size=256, verbose=0)),
        )

    return train


def loss_for(name: str) -> Any:
    if name == "mse":
        return keras.losses.MeanSquaredError()
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if name != "members_cross_entropy":
        return cross_entropy

    def members_cross_entropy(target: Any, outputs: Any) -> Any:
        each = ops.broadcast_to(ops.reshape(target, (-1, 1)), ops.shape(outputs)[:2])
        return cross_entropy(each, outputs)

    return members_cross_entropy


def laid_out(values: Any) -> Any:
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)) if values.ndim == 4 else values
