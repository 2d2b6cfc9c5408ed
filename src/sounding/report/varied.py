"""What the page shows of augmentation: training examples beside what the network gets of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.kinds import SILENCE, Audio, Text
from sounding.report import words
from sounding.report.sounds import clip
from sounding.tasks import Task, Thumbnail
from sounding.tasks.build import TENSORS, inputs_of
from sounding.tasks.prepared import Prepared
from sounding.tasks.varying import variation

EXAMPLES, VARIANTS = 8, 6
LARGEST_SIDE = 128
"""Pixels of a picture on the page; larger ones are made smaller."""
MOST_SHARES = 3
"""Classes of an example that is mixed, the largest shares first."""


def varied_examples(prepared: Prepared) -> dict[str, Any] | None:
    """Some training examples as they are, and as they are in the first step of the first epochs.

    The batch is the first that the network gets, and what is shown of the first epoch are the very values that it gets;
    for the others the same examples are varied with the draws of these epochs. None where nothing is varied, or
    nothing that can be shown.
    """
    batches = prepared.batches(prepared.split.train, training=True)
    transform, plain = batches.transform, copy.copy(batches)
    shown = _shown_input(prepared)
    if transform is None or shown is None:
        return None
    plain.transform = None
    first = next(iter(plain.epoch(0)))
    place, show = shown

    def seen(batch: Batch, row: int) -> Any:
        values = batch.inputs[place][row]
        if show is picture and batch.target is not None:
            values = prepared.task.marked(values, batch.target[row])
        return show(values)

    count = min(EXAMPLES, len(first.rows))
    epochs = [transform(first, epoch, 0) for epoch in range(VARIANTS)]
    own = prepared.task.transform(prepared.recipe.seed) is not None
    labels = _labels(prepared, first.rows[:count].numpy())
    return {
        "policy": prepared.recipe.training.augment,
        "told": "" if own else variation(prepared.blocks, prepared.task, prepared.recipe)[1],
        "examples": [
            {
                "label": labels[row] if labels else "",
                "original": seen(first, row),
                "variants": [
                    {"seen": seen(batch, row), "label": _shares(prepared.task, batch.target, row)} for batch in epochs
                ],
            }
            for row in range(count)
        ],
    }


def _shown_input(prepared: Prepared) -> tuple[int, Callable[[Tensor], Any]] | None:
    """Which of the inputs is shown, and how: pictures, else recordings, else texts."""
    at, found = 0, dict[str, tuple[int, Any]]()
    for form, blocks in inputs_of(prepared.blocks).values():
        if form in ("pictures", "sound", "tokens"):
            kind = prepared.schema[blocks[0].columns[0]].fitted
            found.setdefault(form, (at, kind))
        at += TENSORS.get(form, 1)
    if "pictures" in found:
        return found["pictures"][0], picture
    for place, kind in found.values():
        if isinstance(kind, Audio):
            return place, partial(_clip, rate=kind.rate)
        if isinstance(kind, Text):
            return place, partial(_text, kind=kind)
    return None


def picture(values: Tensor) -> Thumbnail:
    """A picture as the network gets it, (C, H, W) uint8 or float in [0, 1]."""
    pixels = values.float() if values.dtype == torch.uint8 else values.float() * 255
    side = max(pixels.shape[1:])
    if side > LARGEST_SIDE:
        size = [max(1, round(length * LARGEST_SIDE / side)) for length in pixels.shape[1:]]
        pixels = torch.nn.functional.interpolate(pixels[None], size=size, mode="area")[0]
    return Thumbnail(pixels.round().clamp(0, 255).to(torch.uint8).numpy())


def _clip(samples: Tensor, rate: int) -> dict[str, Any]:
    return clip(samples[samples != SILENCE].numpy(), rate)


def _text(codes: Tensor, kind: Text) -> str:
    """The tokens that are left; one that training met too seldom is a square."""
    tokens = ("", "□", *kind.vocabulary)
    return " ".join(tokens[code] for code in (codes if codes.ndim == 1 else codes[:, 0]).tolist() if code)


def _labels(prepared: Prepared, rows: np.ndarray) -> list[str]:
    targets = prepared.schema.targets
    if len(targets) != 1 or prepared.stored:
        return []
    column = targets[0].column(prepared.table).take(prepared.split.train[rows])
    cells = column.cells
    if not column.is_word:  # pictures, boxes
        return []
    return [words.shorten(words.as_text(cell), 40) for cell in cells.to_pylist()]


def _shares(task: Task, target: Tensor | None, row: int) -> str:
    """What a mixed example is of, and in which shares."""
    classes = getattr(task, "classes", ())
    if target is None or target.ndim != 2 or not target.is_floating_point() or target.shape[1] != len(classes):
        return ""
    shares = target[row].tolist()
    order = sorted(range(len(classes)), key=lambda code: -shares[code])[:MOST_SHARES]
    return ", ".join(f"{classes[code]} {shares[code]:.0%}" for code in order if shares[code] >= 0.005)


def varied(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """The values of the section."""
    known = results.get("varied")
    if not isinstance(known, Mapping) or not known.get("examples"):
        return None
    examples = [one for one in known["examples"] if isinstance(one, Mapping)]
    sounds = any(isinstance(one.get("original"), Mapping) for one in examples)
    texts = not sounds and not any(words.is_picture(one.get("original")) for one in examples)
    epochs = max((len(one.get("variants") or []) for one in examples), default=0)
    return {
        "told": words.sentence(str(known.get("told") or "")),
        "examples": examples,
        "sounds": sounds,
        "texts": texts,
        "epochs": range(1, epochs + 1),
    }
