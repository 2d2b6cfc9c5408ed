"""skorch, without a validation split and with nothing printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor, nn

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.networks import LOSSES, build, held_out_loss, outputs_of
from benchmarks.speed.workloads import LEARNING_RATE


class Criterion(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.loss_of = LOSSES[name]

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return self.loss_of(outputs, target)


class Net(NeuralNet):  # type: ignore[misc]
    """skorch's own network, with the two of its default callbacks that keep the history."""

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
        ]

    def on_epoch_end(self, *arguments: Any, **keywords: Any) -> None:
        super().on_epoch_end(*arguments, **keywords)
        self.epoch_ended(lambda x: outputs_of(self.module_, x))


def prepare(job: Job) -> Callable[[], Trained]:
    network = build(job.workload.name, job.seed)
    net = Net(
        network,
        criterion=Criterion,
        criterion__name=job.workload.loss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.0,
        optimizer__fused=True,
        lr=LEARNING_RATE,
        max_epochs=job.epochs,
        batch_size=job.workload.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    net.epoch_ended = job.epoch_ended
    net.initialize()

    def train() -> Trained:
        net.partial_fit(job.arrays.x, job.arrays.y)
        held_out = torch.from_numpy(job.arrays.held_out_x), torch.from_numpy(job.arrays.held_out_y)
        return Trained(
            list(net.history[:, "train_loss"]), lambda: held_out_loss(net.module_, job.workload.loss, *held_out)
        )

    return train
