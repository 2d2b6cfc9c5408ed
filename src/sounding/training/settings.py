"""The recipe of a trainer from the settings given to it, refused where it means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sounding.errors import RecipeError, nearest
from sounding.recipe import TrainingRecipe
from sounding.training.plan import Way


def overruled(recipe: TrainingRecipe, settings: Mapping[str, Any], optimizer: Mapping[str, Any]) -> TrainingRecipe:
    """A copy of a recipe in which settings count more than what it says; the reference plan counts more than they.

    settings:   fields of the recipe by name.
    optimizer:  fields of its optimizer by name.

    Raises:
        RecipeError: naming the field, and what there is instead.
    """
    names = [field.name for field in fields(recipe) if field.name != "optimizer"]
    for name in settings:
        if name not in names:
            raise RecipeError(f'there is no setting "{name}"', nearest(name, names))
    recipe = replace(recipe, **settings, optimizer=replace(recipe.optimizer, **optimizer))
    if recipe.plan == "reference":
        recipe = Way(threads=recipe.threads).applied(recipe)
    _check(recipe)
    return recipe


def _check(recipe: TrainingRecipe) -> None:
    """Refuse what a recipe cannot mean.

    Raises:
        RecipeError: naming the field and the values it may have.
    """
    hints = get_type_hints(TrainingRecipe)
    for name, hint in hints.items():
        value = getattr(recipe, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise RecipeError(f'there is no {name} "{value}"', nearest(str(value), get_args(hint)))
    if recipe.epochs < 1 or recipe.batch_size < 0 or recipe.accumulate < 1:
        raise RecipeError(
            f"epochs is {recipe.epochs}, batch_size {recipe.batch_size}, accumulate {recipe.accumulate}",
            "give at least 1 of each; a batch_size of 0 takes all rows",
        )
    if recipe.heal and (not recipe.watch or recipe.compile):
        raise RecipeError(
            "healing goes by what the watch finds, and it does not "
            + ("see compiled steps" if recipe.watch else "look"),
            "set training.watch=true and training.compile=false, or leave heal out",
        )
    if not 0.0 <= recipe.clip_percentile < 100.0:
        raise RecipeError(f"clip_percentile is {recipe.clip_percentile}", "give a number from 0 (off) to below 100")
