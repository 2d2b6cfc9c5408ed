"""Lightning, with logger, checkpoints, progress bar and summary off."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import lightning
import torch
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.networks import LOSSES, build, held_out_loss, outputs_of
from benchmarks.speed.workloads import LEARNING_RATE


class Module(lightning.LightningModule):
    def __init__(self, network: nn.Module, job: Job) -> None:
        super().__init__()
        self.network, self.job, self.loss_of = network, job, LOSSES[job.workload.loss]
        self.losses: list[float] = []
        self.total = 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], at: int) -> Tensor:
        inputs, target = batch
        loss = self.loss_of(self.network(inputs), target)
        self.total += loss.item() * len(inputs)  # self.log would cost it time
        return loss

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def on_train_epoch_end(self) -> None:
        self.losses.append(self.total / len(self.job.arrays.x))
        self.total = 0.0
        self.job.epoch_ended(lambda x: outputs_of(self.network, x))


def prepare(job: Job) -> Callable[[], Trained]:
    module = Module(build(job.workload.name, job.seed), job)
    rows = TensorDataset(torch.from_numpy(job.arrays.x), torch.from_numpy(job.arrays.y))
    loader = DataLoader(rows, batch_size=job.workload.batch_size, shuffle=True)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=job.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    def train() -> Trained:
        trainer.fit(module, loader)
        held_out = torch.from_numpy(job.arrays.held_out_x), torch.from_numpy(job.arrays.held_out_y)
        return Trained(module.losses, lambda: held_out_loss(module.network, job.workload.loss, *held_out))

    return train
