"""Sounding: measuring the plan and compiling are inside the time of training."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.speed.contenders import Job, Trained
from benchmarks.speed.networks import LOSSES, build, held_out_loss, outputs_of
from benchmarks.speed.workloads import LEARNING_RATE
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import Trainer
from sounding.training.loop import EpochRecord, StepRecord


def prepare(job: Job, *, plan: str) -> Callable[[], Trained]:
    recipe = TrainingRecipe(
        epochs=job.epochs,
        batch_size=job.workload.batch_size,
        optimizer=OptimizerRecipe(name="adamw", lr=LEARNING_RATE, weight_decay=0.0),
        clip_norm=0.0,
        patience=0,
        plan=plan,  # type: ignore[arg-type]
    )

    network = build(job.workload.name, job.seed)

    def note(record: StepRecord | EpochRecord) -> None:
        if isinstance(record, EpochRecord):
            job.epoch_ended(lambda x: outputs_of(network, x))

    def train() -> Trained:
        trainer = Trainer(
            network, loss=LOSSES[job.workload.loss], recipe=recipe, seed=job.seed, onlookers=[note], progress=False
        )
        history = trainer.fit((job.arrays.x, job.arrays.y))
        held_out = torch.from_numpy(job.arrays.held_out_x), torch.from_numpy(job.arrays.held_out_y)
        taken = {name: getattr(trainer.recipe, name) for name in ("precision", "channels_last", "compile", "threads")}
        return Trained(
            [record.train_loss for record in history],
            lambda: held_out_loss(network, job.workload.loss, *held_out),
            {**taken, "optimizer": trainer.recipe.optimizer.implementation},
        )

    return train
