"""What is asked of a network: where data, networks and losses meet."""

from __future__ import annotations

from sounding.data.schema import Schema
from sounding.errors import DataError, RecipeError, nearest
from sounding.tasks.anomaly import Anomaly
from sounding.tasks.build import arrange, build_network, choose_network, lengths_of, measure_on
from sounding.tasks.classification import Classification
from sounding.tasks.compression import Compressed, Compression
from sounding.tasks.detection import Detection
from sounding.tasks.forecasting import Forecasting, Forecasts
from sounding.tasks.generation import Generation
from sounding.tasks.language_modeling import LanguageModeling
from sounding.tasks.multilabel import Multilabel
from sounding.tasks.pretraining import Features, Pretraining
from sounding.tasks.recommendation import Recommendation, Recommended
from sounding.tasks.regression import Regression
from sounding.tasks.segmentation import Segmentation
from sounding.tasks.style import Style
from sounding.tasks.task import Predictions, Task, Thumbnail
from sounding.tasks.transcription import Transcription
from sounding.tasks.translation import Translation

__all__ = [
    "TASKS",
    "Anomaly",
    "Classification",
    "Compressed",
    "Compression",
    "Detection",
    "Features",
    "Forecasting",
    "Forecasts",
    "Generation",
    "LanguageModeling",
    "Multilabel",
    "Predictions",
    "Pretraining",
    "Recommendation",
    "Recommended",
    "Regression",
    "Segmentation",
    "Style",
    "Task",
    "Thumbnail",
    "Transcription",
    "Translation",
    "arrange",
    "asks_for_target",
    "build_network",
    "choose_network",
    "choose_task",
    "lengths_of",
    "measure_on",
]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
    "multilabel": Multilabel,
    "segmentation": Segmentation,
    "compression": Compression,
    "anomaly": Anomaly,
    "detection": Detection,
    "pretraining": Pretraining,
    "generation": Generation,
    "translation": Translation,
    "forecasting": Forecasting,
    "transcription": Transcription,
    "language-modeling": LanguageModeling,
    "style": Style,
    "recommendation": Recommendation,  # type: ignore[type-abstract]  # its `for_schema` gives one of two whole ones
}
"""Every task by the name that recipes use."""


def asks_for_target(name: str) -> bool:
    """Whether a task has something to predict; `auto` has.

    Raises:
        RecipeError: for a name that does not exist.
    """
    if name == "auto":
        return True
    if name not in TASKS:
        raise RecipeError(f'there is no task "{name}"', nearest(name, TASKS))
    return TASKS[name].needs_target


def choose_task(schema: Schema, name: str = "auto") -> tuple[str, str]:
    """The name of the task, and why, in words that are printed; one that needs no target has to be asked for.

    Raises:
        RecipeError: for a name that does not exist, or a task that does not fit the target.
        DataError: if no task fits the target.
    """
    needed = asks_for_target(name)
    offered = {task: kind for task, kind in TASKS.items() if task == name or (needed and kind.needs_target)}
    claims = {task: reason for task, kind in offered.items() if (reason := kind.claims(schema)) is not None}
    if name in claims:
        return name, claims[name]
    targets = ", ".join(f'"{field.name}" ({field.kind})' for field in schema.targets)
    if name != "auto":
        raise RecipeError(
            f'the task "{name}" does not fit the target {targets}',
            f"take {', '.join(claims) or 'another target'}",
        )
    if not claims:
        raise DataError(
            f"no task fits the targets {targets}",
            "several targets are understood when each is a category of two values; else predict them one by one",
        )
    return next(iter(claims.items()))
