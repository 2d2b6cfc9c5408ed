"""Simple models of strangeness: against what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from sounding.tasks import conformal
from sounding.trust.outliers import OUTLIERS, flat_inputs
from sounding.trust.problem import Problem


@pytest.fixture
def problem(make_case: Any) -> Problem:
    draw = np.random.default_rng(0)
    a = draw.normal(size=300)
    columns = {"a": a, "b": a + 0.1 * draw.normal(size=300), "c": draw.choice(["x", "y"], 300).tolist()}
    columns["y"] = ["fine"] * 290 + ["broken"] * 10
    case = make_case(columns, settings={"task": "anomaly"})
    return Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0)


def test_all_are_calibrated_on_the_validation_rows(problem: Problem) -> None:
    for name, model in OUTLIERS.items():
        answer = model(problem)
        assert answer is not None
        values, note = answer
        assert values.shape == (300, 2)
        assert note == ""
        expected = conformal.p_values(values[:, 0], values[problem.split.validation, 0])
        assert np.array_equal(values[:, 1], expected), name


def test_they_see_numbers_and_categories(problem: Problem) -> None:
    inputs = flat_inputs(problem)
    counts = [count for block in problem.schema.blocks() for count in block.cardinalities]
    assert inputs.shape == (300, 2 + sum(counts))
    assert np.array_equal(inputs[:, 2:].sum(1), np.ones(300))


def test_pca_is_that_of_scikit_learn(problem: Problem) -> None:
    inputs, train = flat_inputs(problem), problem.split.train
    models = OUTLIERS
    kept = PCA(0.9, svd_solver="full").fit(inputs[train])
    error = np.square(inputs - kept.inverse_transform(kept.transform(inputs))).mean(1)
    answer = models["PCA, what it cannot give back"](problem)
    assert answer is not None
    np.testing.assert_allclose(answer[0][:, 0], error, rtol=1e-3, atol=1e-5)
    white = PCA(3, whiten=True, svd_solver="full").fit(inputs[train])  # one-hot: no fourth direction
    answer = models["PCA, distance in all components"](problem)
    assert answer is not None
    np.testing.assert_allclose(answer[0][:, 0], np.square(white.transform(inputs)).mean(1), rtol=1e-2)


def test_the_forest_is_that_of_scikit_learn(problem: Problem) -> None:
    answer = OUTLIERS["an isolation forest"](problem)
    assert answer is not None
    other = IsolationForest(random_state=7).fit(flat_inputs(problem)[problem.split.train])
    score = -other.score_samples(flat_inputs(problem))
    assert np.corrcoef(answer[0][:, 0], score)[0, 1] > 0.9
