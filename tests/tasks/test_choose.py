from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sounding.errors import DataError, RecipeError
from sounding.tasks import choose_task


def test_reasons_are_said(make_case: Any, columns: Any) -> None:
    assert choose_task(make_case(columns("two")).schema) == ("classification", '"y" is a category')
    assert choose_task(make_case(columns("amount")).schema) == ("regression", '"y" is a number')


def test_an_unknown_task(make_case: Any, columns: Any) -> None:
    schema = make_case(columns("two")).schema
    with pytest.raises(RecipeError, match=r'no task "clasification"; did you mean "classification"'):
        choose_task(schema, "clasification")


def test_a_task_that_does_not_fit(make_case: Any, columns: Any) -> None:
    schema = make_case(columns("two")).schema
    with pytest.raises(
        RecipeError, match=r'"regression" does not fit the target "y" \(category\); take classification'
    ):
        choose_task(schema, "regression")


def test_several_numbers_are_not_understood_yet(make_case: Any) -> None:
    with pytest.raises(DataError, match="no task fits the targets"):
        make_case({"x": np.arange(50) * 0.5, "a": np.arange(50) * 0.1, "b": np.arange(50) * 0.3}, ["a", "b"])
