"""Which policy means what for which inputs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sounding.errors import RecipeError
from sounding.tasks.prepare import Prepared, prepare

DRAW = np.random.default_rng(0)
LABELS = np.array(["a", "b"] * 30)
GREY = DRAW.integers(0, 256, (60, 9, 9), dtype=np.uint8)
COLOURS = DRAW.integers(0, 256, (60, 9, 9, 3), dtype=np.uint8)
NUMBERS = DRAW.normal(size=(60, 3))
WORDS = "one two three four five six seven eight nine ten".split()
TEXTS = [" ".join(DRAW.choice(WORDS, 12)) + f" {row}" for row in range(60)]
SENTENCES = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS.tolist(), strict=True)]


def prepared(x: Any, **settings: Any) -> Prepared:
    source = x if isinstance(x, list) else (x, LABELS)
    target = {"target": ["label"]} if isinstance(x, list) else {}
    return prepare(source, {**target, **{f"training.{key}": value for key, value in settings.items()}})


def told(of: Prepared) -> str:
    return next((line for line in of.decisions if line.startswith("while training")), "")


def test_the_same_word_means_something_else_for_grey_pictures_and_for_colours() -> None:
    assert "mirrored" not in told(prepared(GREY))
    assert "(default): moved by up to 0.125 of the side, mirrored" in told(prepared(COLOURS))
    assert told(prepared(COLOURS, augment="none")) == ""
    assert "as they are, pairs blended" in told(prepared(COLOURS, augment="none", mixup=0.2))
    assert "a rectangle blanked in 50% of them" in told(prepared(GREY, erase=0.5))


def test_texts_lose_tokens_where_asked_and_nothing_else_does() -> None:
    plain, varied = prepared(SENTENCES), prepared(SENTENCES, augment="strong")
    assert told(plain) == ""
    assert "20% of the tokens left out" in told(varied)
    before, after = (next(iter(one.batches(one.split.train, training=True).epoch(0))) for one in (plain, varied))
    assert torch.equal(before.target, after.target)
    share = 1 - (after.inputs[0][..., 0] != 0).sum() / (before.inputs[0][..., 0] != 0).sum()
    assert 0.1 < share < 0.3
    check = next(iter(varied.batches(varied.split.validation).epoch(0)))
    expected = next(iter(plain.batches(plain.split.validation).epoch(0)))
    assert torch.equal(check.inputs[0], expected.inputs[0])


@pytest.mark.parametrize("task", ["compression", "anomaly"])
def test_what_is_to_be_given_back_is_what_was_varied(task: str) -> None:
    settings = {"task": task, "training.augment": "light", "training.batch_size": 20}
    case = prepare(GREY, settings)
    batch = next(iter(case.batches(case.split.train, training=True).epoch(0)))
    alone = case.task.goals(case.target[:0], batch.inputs)
    assert torch.equal(batch.target, alone)
    as_they_are = {picture.tobytes() for picture in GREY}
    assert any(picture.numpy().tobytes() not in as_they_are for picture in batch.inputs[0])


@pytest.mark.parametrize(
    ("x", "settings", "message"),
    [
        (NUMBERS, {"augment": "light"}, "of table varies nothing; .*training.noise"),
        (NUMBERS, {"mixup": 0.2}, "training.mixup is for pictures"),
        (SENTENCES, {"augment": "randaugment"}, '"randaugment" is for pictures; take light, default or strong'),
        (SENTENCES, {"erase": 0.5}, "training.erase is for pictures"),
        (GREY, {"augment": "photo"}, "light"),
    ],
)
def test_what_the_inputs_have_no_use_for_is_refused_before_training(x: Any, settings: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepared(x, **settings)


def test_tasks_whose_texts_are_written_refuse_it() -> None:
    pairs = [{"en": text, "de": text[::-1]} for text in TEXTS]
    settings = {"task": "translation", "target": ["de"], "training.augment": "light", "translation.subwords": 280}
    with pytest.raises(RecipeError, match="translation of tokens varies nothing"):
        prepare(pairs, settings)
