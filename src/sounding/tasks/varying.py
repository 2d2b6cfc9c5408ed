"""How the examples of a task are varied while training: by what its inputs are, and what the recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sounding.batches import Batch, Transform
from sounding.data.augmentation import Augmentation
from sounding.data.sound_augmentation import SOUND_POLICIES, SoundAugmentation
from sounding.data.text_augmentation import TEXT_POLICIES, TextAugmentation
from sounding.errors import RecipeError
from sounding.kinds import Block
from sounding.recipe import Recipe
from sounding.tasks.build import TENSORS, inputs_of
from sounding.tasks.task import Task

MIXING = ("erase", "mixup", "cutmix")
"""Settings that are about pictures, whatever the policy is."""


def variation(blocks: Sequence[Block], task: Task, recipe: Recipe) -> tuple[Transform | None, str]:
    """What is done to batches that are trained on, and what that is in words; none where they stay as they are.

    Raises:
        RecipeError: for a policy that the inputs or the task have no use for.
    """
    training = recipe.training
    name, mixing = training.augment, [key for key in MIXING if getattr(training, key)]
    forms = [form for form, _ in inputs_of(blocks).values()]
    known = {"pictures": None, "sound": SOUND_POLICIES, "tokens": TEXT_POLICIES}
    varied = [form for form in forms if form in task.varies and form in known]
    if mixing and "pictures" not in varied:
        raise RecipeError(f"training.{mixing[0]} is for pictures, and there are none", "leave it out")
    if name == "none" and not mixing:
        return None, ""
    if not varied:
        noise = "; numbers get noise by training.noise" if {"table", "series"} & set(forms) else ""
        raise RecipeError(
            f'training.augment is "{name}", and {recipe.task} of {", ".join(dict.fromkeys(forms))} varies nothing',
            f'set it to "none"{noise}',
        )
    if "pictures" not in varied and all(name not in (known[form] or ()) for form in varied):
        raise RecipeError(f'"{name}" is for pictures', "take light, default or strong")
    steps, told = list[Transform](), list[str]()
    if "pictures" in varied:
        augmentation = _of_pictures(task, recipe)
        steps.append(augmentation)
        told += [_told(augmentation, block.channels) for block in blocks if block.form == "pictures"]
    if "sound" in varied and name in SOUND_POLICIES:
        sound = SOUND_POLICIES[name]
        steps.append(SoundAugmentation(sound, seed=recipe.seed))
        told.append(sound.told())
    if "tokens" in varied and name in TEXT_POLICIES:
        steps.append(TextAugmentation(TEXT_POLICIES[name], _places(blocks, "tokens"), seed=recipe.seed))
        told.append(f"{TEXT_POLICIES[name]:.0%} of the tokens left out")
    transform = steps[0] if len(steps) == 1 else _one_after_the_other(steps)
    return _given_back(transform, task) if task.gives_back else transform, "; ".join(dict.fromkeys(told))


def _of_pictures(task: Task, recipe: Recipe) -> Augmentation:
    training = recipe.training
    return Augmentation(
        training.augment,
        training.erase,
        training.mixup,
        training.cutmix,
        seed=recipe.seed,
        number_of_classes=task.outputs if recipe.task == "classification" else 0,
    )


def _told(augmentation: Augmentation, channels: int) -> str:
    policy = augmentation.policy_of(channels)
    told = [policy.told()]
    if augmentation.erase:
        told = [f"{policy.told()}, a rectangle blanked in {augmentation.erase:.0%} of them"]
    told += ["pairs blended"] * bool(augmentation.mixup) + ["patches of others pasted in"] * bool(augmentation.cutmix)
    return ", ".join(told)


def _places(blocks: Sequence[Block], form: str) -> list[int]:
    """Which of the tensors of `arrange` are of a form."""
    places, at = list[int](), 0
    for its, _ in inputs_of(blocks).values():
        if its == form:
            places.append(at)
        at += TENSORS.get(its, 1)
    return places


def _one_after_the_other(steps: Sequence[Transform]) -> Transform:
    def vary(batch: Batch, epoch: int, step: int) -> Batch:
        for transform in steps:
            batch = transform(batch, epoch, step)
        return batch

    return vary


def _given_back(transform: Transform, task: Task) -> Transform:
    """Inputs varied, and as the target the same, varied alike."""
    nothing: np.ndarray[Any, Any] = np.empty(0)

    def vary(batch: Batch, epoch: int, step: int) -> Batch:
        varied = transform(batch._replace(target=None), epoch, step)
        return varied._replace(target=task.goals(nothing, varied.inputs))

    return vary
