"""What every kind that can be predicted promises of its truth."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from tests.contracts.test_kinds import CELLS, ROWS, SETTINGS, TRAIN, column

from sounding.errors import DataError
from sounding.kinds import TARGETS, Target


@pytest.fixture(params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cells(name: str) -> pa.Array:
    """Typical ones, without gaps."""
    present = CELLS[name]().drop_null()
    return pa.concat_arrays([present, present.slice(0, ROWS - len(present))])


@pytest.fixture
def target(name: str, cells: pa.Array) -> Target:
    return TARGETS[name].fit_target(column(cells), TRAIN, SETTINGS)[0]


def test_each_row_has_a_truth_of_its_own(target: Target, cells: pa.Array) -> None:
    whole = target.encode_target(column(cells))
    order = np.random.default_rng(0).permutation(ROWS)
    assert len(whole) == ROWS
    assert np.array_equal(target.encode_target(column(cells.take(pa.array(order)))), whole[order])
    assert len({one.tobytes() if isinstance(one, np.ndarray) else one for one in whole}) > 1


def test_the_truth_is_learned_from_training_rows_alone(target: Target, cells: pa.Array) -> None:
    elsewhere = cells.take(pa.array([*TRAIN, *([0] * (ROWS - len(TRAIN)))]))
    assert type(target).fit_target(column(elsewhere), TRAIN, SETTINGS)[0] == target


def test_json_keeps_the_truth(target: Target, cells: pa.Array) -> None:
    again = type(target).from_json(json.loads(json.dumps(target.to_json(), allow_nan=False)))
    assert np.array_equal(again.encode_target(column(cells)), target.encode_target(column(cells)))


def test_a_row_without_a_truth_is_named(target: Target, cells: pa.Array) -> None:
    gap = pa.concat_arrays([cells.slice(0, 3), pa.nulls(1, cells.type), cells.slice(4)])
    with pytest.raises(DataError, match=r"x\.csv.*x"):
        target.encode_target(column(gap))
