"""Hugging Face Trainer, with reports, saving and printing off."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.networks import LOSSES, build, held_out_loss, outputs_of
from benchmarks.speed.workloads import LEARNING_RATE


class WithLoss(nn.Module):
    """The network as Hugging Face's Trainer wants one: it computes its own loss."""

    def __init__(self, network: nn.Module, loss: str) -> None:
        super().__init__()
        self.network, self.loss_of = network, LOSSES[loss]

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.loss_of(self.network(x), labels)}


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        return {"x": self.x[at], "labels": self.y[at]}


class Epochs(TrainerCallback):  # type: ignore[misc]
    def __init__(self, job: Job, network: nn.Module) -> None:
        self.job, self.network = job, network

    def on_epoch_end(self, *arguments: Any, **keywords: Any) -> None:
        self.job.epoch_ended(lambda x: outputs_of(self.network, x))


def prepare(job: Job) -> Callable[[], Trained]:
    network = build(job.workload.name, job.seed)
    folder = tempfile.TemporaryDirectory()
    trainer = Trainer(
        WithLoss(network, job.workload.loss),
        TrainingArguments(
            folder.name,
            num_train_epochs=job.epochs,
            per_device_train_batch_size=job.workload.batch_size,
            learning_rate=LEARNING_RATE,
            weight_decay=0.0,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            optim="adamw_torch_fused",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            use_cpu=True,
            seed=job.seed,
        ),
        train_dataset=Rows(torch.from_numpy(job.arrays.x), torch.from_numpy(job.arrays.y)),
        callbacks=[Epochs(job, network)],
    )
    trainer.remove_callback(PrinterCallback)

    def train() -> Trained:
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        held_out = torch.from_numpy(job.arrays.held_out_x), torch.from_numpy(job.arrays.held_out_y)
        folder.cleanup()
        return Trained(losses, lambda: held_out_loss(network, job.workload.loss, *held_out))

    return train
