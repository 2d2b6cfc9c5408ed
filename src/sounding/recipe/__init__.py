"""Everything that defines a run. Every default lives here, once.

A recipe is complete: what the user did not set is filled in by what the task is and what the inputs are (`chosen.py`),
and is written out with the run.
"""

from __future__ import annotations

from sounding.recipe.chosen import before_reading, complete, is_pretrained
from sounding.recipe.of_tasks import (
    AnomalyRecipe,
    DetectionRecipe,
    ForecastingRecipe,
    GenerationRecipe,
    LanguageRecipe,
    PretrainingRecipe,
    RecommendationRecipe,
    StyleRecipe,
    TransferRecipe,
    TranslationRecipe,
)
from sounding.recipe.reading import parse_duration, parse_setting
from sounding.recipe.recipe import (
    DataRecipe,
    EvaluationRecipe,
    NetworkRecipe,
    OptimizerRecipe,
    Recipe,
    Settings,
    TrainingRecipe,
    settings_from_toml,
)

__all__ = [
    "AnomalyRecipe",
    "DataRecipe",
    "DetectionRecipe",
    "EvaluationRecipe",
    "ForecastingRecipe",
    "GenerationRecipe",
    "LanguageRecipe",
    "NetworkRecipe",
    "OptimizerRecipe",
    "PretrainingRecipe",
    "Recipe",
    "RecommendationRecipe",
    "Settings",
    "StyleRecipe",
    "TrainingRecipe",
    "TransferRecipe",
    "TranslationRecipe",
    "before_reading",
    "complete",
    "is_pretrained",
    "parse_duration",
    "parse_setting",
    "settings_from_toml",
]
