"""Dictionaries of the parts of a split."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe


def test_two_keys_of_one_part_are_refused() -> None:
    rows = pa.table({"x": [1.0, 2.0]})
    with pytest.raises(DataError, match='"validation" and "dev" are both the validation part'):
        read_source({"train": rows, "validation": rows, "dev": rows}, DataRecipe())
