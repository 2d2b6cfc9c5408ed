"""Keras on its PyTorch backend: `fit` of the same PyTorch network, wrapped as Keras provides for."""

from __future__ import annotations

from collections.abc import Callable

import keras
import torch
from torch import Tensor

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.networks import LOSSES, build, held_out_loss, outputs_of
from benchmarks.speed.workloads import LEARNING_RATE


class Wrapped(keras.Model):  # type: ignore[misc]
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.inner = keras.layers.TorchModuleWrapper(network)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        return self.inner(x, training=training)  # type: ignore[no-any-return]


def prepare(job: Job) -> Callable[[], Trained]:
    network, loss_of = build(job.workload.name, job.seed), LOSSES[job.workload.loss]
    classes = job.arrays.y.dtype.kind == "i"

    def loss(target: Tensor, outputs: Tensor) -> Tensor:
        return loss_of(outputs, target.long() if classes else target)  # Keras hands classes over as float

    model = Wrapped(network)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=0.0, epsilon=1e-8)
    model.compile(optimizer, loss)
    ended = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: job.epoch_ended(lambda x: outputs_of(network, x))
    )

    def train() -> Trained:
        history = model.fit(
            job.arrays.x,
            job.arrays.y,
            batch_size=job.workload.batch_size,
            epochs=job.epochs,
            verbose=0,
            callbacks=[ended],
        )
        held_out = torch.from_numpy(job.arrays.held_out_x), torch.from_numpy(job.arrays.held_out_y)
        return Trained(history.history["loss"], lambda: held_out_loss(network, job.workload.loss, *held_out))

    return train
