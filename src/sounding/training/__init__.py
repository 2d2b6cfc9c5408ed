"""Training any module with any loss: exact, resumable, and with its arithmetic in plain sight."""

from sounding.training.checkpoint import verify_manifest as verify_manifest
from sounding.training.checkpoint import write_manifest as write_manifest
from sounding.training.clipping import Clipping as Clipping
from sounding.training.finders import BatchSizes as BatchSizes
from sounding.training.finders import LearningRates as LearningRates
from sounding.training.finders import find_batch_size as find_batch_size
from sounding.training.finders import find_learning_rate as find_learning_rate
from sounding.training.gradients import GradientReport as GradientReport
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
from sounding.training.transfer import CarriedOver as CarriedOver
from sounding.training.transfer import Release as Release
from sounding.training.transfer import carry_over as carry_over
from sounding.training.transfer import gradually as gradually
from sounding.training.transfer import layer_groups as layer_groups

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "BatchSizes",
    "CarriedOver",
    "Clipping",
    "EpochRecord",
    "GradientReport",
    "History",
    "LearningRates",
    "Player",
    "Release",
    "StepRecord",
    "Trainer",
    "build_optimizer",
    "build_schedule",
    "carry_over",
    "find_batch_size",
    "find_learning_rate",
    "gradient_check",
    "gradually",
    "layer_groups",
    "train",
    "verify_manifest",
    "write_manifest",
]
