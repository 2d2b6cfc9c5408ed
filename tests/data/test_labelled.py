"""`data.labels` that say nothing about the data are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import shapes, table

from sounding.errors import RecipeError
from sounding.fitting import check

ROWS = {"x": np.arange(40.0), "y": np.array(["yes", "no", "Yes", "no"] * 10), "z": np.arange(40) * 1.5}
MASKS = np.kron(np.random.default_rng(0).integers(0, 2, (12, 4, 4), dtype=np.uint8), np.ones((4, 4), np.uint8))
CELLS = {"image": MASKS * 100, "mask": MASKS}


def labelled(source: Any, target: str, labels: dict[str, str]) -> tuple[str, ...]:
    """The classes that there are then."""
    prepared = check(source, target, settings={"data.labels": labels})
    return tuple(prepared.schema[target].fitted.classes)  # type: ignore[union-attr]


def test_values_that_the_target_holds_are_read_as_others() -> None:
    assert labelled(ROWS, "y", {"Yes": "yes"}) == ("no", "yes")
    later = {"0": "dark", "1": "light", "7": ""}  # 7 may come in pictures of later
    assert set(labelled(CELLS, "mask", later)) == {"dark", "light"}


@pytest.mark.parametrize(
    ("source", "target", "labels", "said"),
    [
        (ROWS, "y", {"Yes": "yes", "yess": "yes"}, r'names "yess", which the target does not hold: "y" \(category\)'),
        (ROWS, "z", {"1.5": "few"}, r'names "1\.5", which the target does not hold: "z" \(number\)'),
        (CELLS, "mask", {"dark": "night", "0": "dark"}, r'names "dark", which .* "mask" \(mask\)'),
        (table(*shapes(20, seed=0)), "boxes", {"disc": "ball"}, r'names "disc", which .* "boxes" \(boxes\)'),
    ],
)
def test_others_are_named(source: Any, target: str, labels: dict[str, str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        labelled(source, target, labels)
