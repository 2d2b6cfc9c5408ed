"""Training any module with any loss: exact, resumable, and with its arithmetic in plain sight."""

from sounding.training.averaging import ExponentialMovingAverage as ExponentialMovingAverage
from sounding.training.averaging import StochasticWeightAverage as StochasticWeightAverage
from sounding.training.averaging import recompute_batch_norm as recompute_batch_norm
from sounding.training.checkpoint import verify_manifest as verify_manifest
from sounding.training.checkpoint import write_manifest as write_manifest
from sounding.training.gradients import GradientReport as GradientReport
from sounding.training.gradients import checkpoint_activations as checkpoint_activations
from sounding.training.gradients import gradient_check as gradient_check
from sounding.training.history import History as History
from sounding.training.loop import EpochRecord as EpochRecord
from sounding.training.loop import Player as Player
from sounding.training.loop import StepRecord as StepRecord
from sounding.training.loop import train as train
from sounding.training.optimizers import OPTIMIZERS as OPTIMIZERS
from sounding.training.optimizers import build_optimizer as build_optimizer
from sounding.training.schedules import SCHEDULES as SCHEDULES
from sounding.training.schedules import build_schedule as build_schedule
from sounding.training.trainer import Trainer as Trainer

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "EpochRecord",
    "ExponentialMovingAverage",
    "GradientReport",
    "History",
    "Player",
    "StepRecord",
    "StochasticWeightAverage",
    "Trainer",
    "build_optimizer",
    "build_schedule",
    "checkpoint_activations",
    "gradient_check",
    "recompute_batch_norm",
    "train",
    "verify_manifest",
    "write_manifest",
]
