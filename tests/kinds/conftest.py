from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sounding.kinds import Column
from sounding.recipe import DataRecipe

MakeColumn = Callable[..., Column]


@pytest.fixture
def make_column() -> MakeColumn:
    """A column named x of a file x.csv whose first row is line 2."""

    def make(cells: Any, root: Path | None = None) -> Column:
        array = cells if isinstance(cells, pa.Array) else pa.array(cells)
        return Column("x", array, frozenset(DataRecipe().missing), root, lambda row: ("x.csv", row + 2))

    return make


@pytest.fixture
def every() -> Callable[[Column], np.ndarray]:
    """All rows of a column."""
    return lambda column: np.arange(len(column))
