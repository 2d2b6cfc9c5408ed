"""Training any module with any loss: exact, resumable, and with its arithmetic in plain sight."""

from sounding.training.checkpoint import verify_manifest as verify_manifest
from sounding.training.checkpoint import write_manifest as write_manifest
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
    "History",
    "Player",
    "StepRecord",
    "Trainer",
    "build_optimizer",
    "build_schedule",
    "train",
    "verify_manifest",
    "write_manifest",
]
