"""Boxes: what is recognised, what counts as one, what is said of those that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sounding.errors import DataError
from sounding.kinds import Boxes, Column, recognise
from sounding.kinds.boxes import CELL
from sounding.recipe import DataRecipe


def box(label: str | None, *edges: float | None) -> dict[str, Any]:
    return dict(zip(("label", "left", "top", "right", "bottom"), (label, *edges), strict=True))


def column(cells: list[Any]) -> Column:
    return Column("boxes", pa.array(cells, CELL), frozenset(), None, lambda row: (f"{row}.xml", None))


CELLS = [
    [box("dog", 1, 2, 3, 4), box("cat", 5, 5, 9, 9), box("dog", 0, 0, 2, 2)],
    [],
    [box("bird", 1, 1, 2, 2)],
    [box("cat", 3, 3, 3, 8), box("cat", 8, 3, 2, 8), box("cat", 1, 1, 4, 4)],
]


def fit(cells: list[Any], rows: list[int]) -> Boxes:
    return Boxes.fit_target(column(cells), np.array(rows), DataRecipe())[0]


def test_lists_of_labelled_edges_are_boxes_and_other_lists_are_not() -> None:
    assert recognise(column(CELLS))[0] == "boxes"
    assert recognise(Column("x", pa.array([[1.0, 2.0]]), frozenset()))[0] == "series"
    with pytest.raises(DataError, match="not understood"):
        recognise(Column("x", pa.array([[{"label": "dog"}]]), frozenset()))


def test_classes_and_counts_are_those_of_the_training_rows() -> None:
    kind = fit(CELLS, [0, 1, 3])
    assert kind.classes == ("cat", "dog")
    assert kind.most == 3
    assert kind.usual == pytest.approx((3 + 0 + 1) / 3)
    assert kind.describe() == "1.33 boxes in a picture: cat, dog"


def test_boxes_are_in_their_order_and_padded() -> None:
    encoded, _ = fit(CELLS, [0, 1, 3]).encode(column(CELLS[:2]))
    assert encoded.tolist() == [
        [[1, 1, 2, 3, 4], [0, 5, 5, 9, 9], [1, 0, 0, 2, 2]],
        [[-1, 0, 0, 0, 0]] * 3,
    ]
    assert fit(CELLS, [1, 3]).encode(column([[box("cat", 0, 0, 1, 1)] * 5]))[0].shape == (1, 5, 5)


def test_boxes_without_an_area_are_left_out_and_named() -> None:
    encoded, (finding,) = fit(CELLS, [0, 1, 3]).encode(column([*CELLS[:2], CELLS[3]]))
    assert encoded[2].tolist() == [[0, 1, 1, 4, 4], [-1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]]
    assert finding.rule == "boxes-no-area"
    assert finding.title == (
        '2 of 6 boxes have no area, left out: 2.xml: object 1, "cat" (3, 3, 3, 8); 2.xml: object 2, "cat" (8, 3, 2, 8)'
    )


def test_an_unknown_label_is_named_with_its_file() -> None:
    said = r'^2.xml \(column "boxes"\): the label "bird" is in no training row; .*cat, dog'
    with pytest.raises(DataError, match=said):
        fit(CELLS, [0]).encode(column(CELLS))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([[], None], r"^1.xml .*1 of 2 rows have no list of boxes"),
        ([[box("dog", 0, 0, 1, 1)], [box(None, 0, 0, 1, 1)]], r"^1.xml .*1 boxes have no label .*here object 1"),
        ([[box("dog", 0, 0, 1, 1), box("dog", 0, None, 1, 1)]], r"^0.xml .*here object 2"),
        ([[box("dog", 0, 0, float("inf"), 1)]], r"^0.xml .*here object 1"),
        ([[], [box("dog", 1, 1, 1, 1)]], "no training picture has a box"),
    ],
)
def test_what_is_no_box_is_refused(cells: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        fit(cells, list(range(len(cells))))


def test_it_says_what_is_in_a_picture() -> None:
    kind = fit(CELLS, [0])
    assert [kind.show(column(CELLS), row) for row in (0, 1)] == ["1 cat, 2 dog", "nothing"]
