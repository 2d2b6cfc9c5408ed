"""The simple models for tasks without a target against scikit-learn on columns made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sounding.tasks import Predictions
from sounding.tasks.prepare import prepare
from sounding.trust.baseline import compare, verdict
from sounding.trust.problem import Problem
from sounding.trust.unsupervised import principal_components, the_mean

SETTINGS = {"task": "compression", "network.code_size": 2}


def problem_of(case: Any) -> Problem:
    return Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0)


@pytest.fixture
def numbers(make_case: Any) -> Any:
    draw = np.random.default_rng(0)
    columns = dict(
        zip(
            "abcd",
            draw.normal(size=(4, 2)) @ draw.normal(size=(2, 300)) + 0.2 * draw.normal(size=(4, 300)),
            strict=True,
        )
    )
    return make_case({**columns, "y": ["u", "v"] * 150}, settings=SETTINGS)


def test_the_mean_of_numbers(numbers: Any) -> None:
    errors, note = the_mean(problem_of(numbers))
    mean = numbers.truth[numbers.split.train].mean(0)
    np.testing.assert_allclose(errors, ((numbers.truth - mean) ** 2).mean(1), rtol=1e-4)
    assert note == ""


def test_principal_components_of_numbers(numbers: Any) -> None:
    errors, _ = principal_components(problem_of(numbers))
    oracle = PCA(2).fit(numbers.truth[numbers.split.train])
    given = oracle.inverse_transform(oracle.transform(numbers.truth))
    np.testing.assert_allclose(errors, ((numbers.truth - given) ** 2).mean(1), rtol=1e-3, atol=1e-5)


def test_principal_components_of_pictures() -> None:
    x = np.random.default_rng(0).integers(0, 256, (90, 3, 4, 5), dtype=np.uint8)
    prepared = prepare({"x": x}, SETTINGS)
    problem = Problem(
        prepared.task, prepared.table, prepared.schema, prepared.split, prepared.encoded, prepared.target, 0
    )
    errors, _ = principal_components(problem)
    (block,) = prepared.schema.blocks()
    mean, std = (np.array(known)[:, None, None] for known in (block.mean, block.std))
    pixels = ((x - mean) / std).reshape(90, -1)
    oracle = PCA(2).fit(pixels[prepared.split.train])
    expected = ((oracle.inverse_transform(oracle.transform(pixels)) - pixels) ** 2).mean(1)
    np.testing.assert_allclose(errors, expected, rtol=1e-3)


def test_categories_are_read_from_components(make_case: Any) -> None:
    """Two columns that say the same, and one that says nothing: two components tell the first two."""
    draw = np.random.default_rng(0)
    first, other = draw.integers(3, size=400), draw.integers(3, size=400)
    words = np.array(["red", "green", "blue"])
    case = make_case(
        {"a": words[first], "b": words[first], "c": words[other], "y": ["u", "v"] * 200}, settings=SETTINGS
    )
    errors, _ = principal_components(problem_of(case))
    constant, _ = the_mean(problem_of(case))
    assert constant.mean() == pytest.approx(np.log(3), rel=0.05)
    assert errors.mean() == pytest.approx(np.log(3) / 3, rel=0.1)


def test_columns_of_many_or_single_categories_are_told_by_frequency(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    many = draw.integers(40, size=600).astype(str)
    case = make_case(
        {"a": np.char.add("w", many), "x": draw.normal(size=600), "y": ["u", "v"] * 300}, settings=SETTINGS
    )
    errors, _ = principal_components(problem_of(case))
    constant, _ = the_mean(problem_of(case))
    assert 0.5 * constant.mean() < errors.mean() < constant.mean()


@pytest.mark.parametrize(
    ("factor", "winner", "words"),
    [
        (0.5, "network", "The network wins: reconstruction error"),
        (1.0, "neither", "The simple model is as good"),
        (2.0, "principal components", "The simple model is better"),
        (None, "nothing", "Nothing learned: reconstruction error"),
    ],
)
def test_the_verdict_speaks_of_them(numbers: Any, factor: float | None, winner: str, words: str) -> None:
    model = the_mean if factor is None else principal_components
    errors = model(problem_of(numbers))[0][numbers.split.test] * (factor or 1.0)
    arguments = numbers.table, numbers.schema, numbers.split, numbers.encoded, numbers.truth
    results = compare(numbers.task, *arguments, Predictions(errors), numbers.recipe)
    said = verdict(numbers.task, Predictions(errors), numbers.truth[numbers.split.test], results)
    assert said.winner == winner
    assert said.headline.startswith(words)
    assert "target" not in said.advice
