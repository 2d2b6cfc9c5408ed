"""Simple answers for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from sounding.kinds.mask import UNLABELLED
from sounding.tasks.prepare import prepare
from sounding.trust.masks import MASKS, features, most_frequent
from sounding.trust.problem import Problem


def problem(count: int = 12) -> Problem:
    """Bright regions are one class, dark ones another."""
    draws = np.random.default_rng(0)
    masks = np.kron(draws.integers(0, 2, (count, 3, 4), dtype=np.uint8), np.ones((8, 8), np.uint8))
    pictures = (masks * 120 + draws.integers(0, 100, masks.shape)).astype(np.uint8)
    masks[:, :2] = 255
    masks[0, 2, 0] = 2  # a third value, so that 255 means no class
    known = prepare({"image": pictures, "mask": masks}, {"target": ["mask"], "data.labels": {"2": "1"}})
    return Problem(known.task, known.table, known.schema, known.split, known.encoded, known.target, 0)


def test_the_most_frequent_class_is_counted_on_training_rows_without_pixels_that_have_none() -> None:
    asked = problem()
    values, _ = most_frequent(asked)
    train = asked.target[asked.split.train]
    assert (values == np.bincount(train[train != UNLABELLED]).argmax()).all()


def test_models_find_brightness() -> None:
    asked = problem()
    rows = asked.split.test
    for name, model in list(MASKS.items())[1:]:
        found: Any = model(asked)
        known = asked.target[rows] != UNLABELLED
        assert (found[0][rows] == asked.target[rows])[known].mean() > 0.9, name
        assert "pixels" in found[1]


def test_features_are_of_each_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    found = features(picture)
    assert found.shape == (600, 3 + 4 * 5 + 2)
    np.testing.assert_allclose(found[:, :3], picture.reshape(3, -1).T / 255, rtol=1e-6)
    assert found[-1, -2:].tolist() == [1.0, 1.0]
