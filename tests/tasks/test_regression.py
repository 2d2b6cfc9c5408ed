from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sounding.tasks import Predictions


@pytest.fixture
def case(make_case: Any, columns: Any) -> Any:
    return make_case(columns("amount"))


def test_truth_is_in_the_users_units(case: Any) -> None:
    np.testing.assert_allclose(case.truth, case.table.data["y"].to_numpy(), rtol=1e-12)


def test_the_network_learns_standardised_numbers(case: Any) -> None:
    target = case.task.to_tensor(case.truth)[torch.from_numpy(case.split.train)]
    assert target.dtype == torch.float32
    assert target.mean().abs() < 1e-5
    assert target.std(correction=0) == pytest.approx(1, abs=1e-5)


def test_predictions_are_in_the_users_units(case: Any) -> None:
    perfect = case.task.to_tensor(case.truth)[:, None]
    predictions = case.task.decode(perfect)
    assert predictions.values.shape == (200,)
    np.testing.assert_allclose(predictions.values, case.truth, rtol=1e-5)
    members = torch.stack([perfect - 1, perfect + 1], dim=1)
    np.testing.assert_allclose(case.task.decode(members).values, case.truth, rtol=1e-5)


def test_loss_is_the_squared_error_of_each_member(case: Any) -> None:
    target = torch.tensor([0.0, 1.0])
    assert case.task.loss(torch.tensor([[0.5], [0.0]]), target) == pytest.approx((0.25 + 1) / 2)
    members = torch.tensor([[[-1.0], [1.0]], [[1.0], [1.0]]])  # the mean of the first row's members would be perfect
    assert case.task.loss(members, target) == pytest.approx(0.5)


def test_tg_11_a_target_over_many_magnitudes_stays_finite(make_case: Any) -> None:
    amounts = np.exp(np.random.default_rng(0).normal(size=300) * 12)
    case = make_case({"x": np.arange(300) * 0.5, "y": amounts})
    target = case.task.to_tensor(case.truth)
    assert torch.isfinite(target).all()
    assert torch.isfinite(case.task.loss(torch.zeros(300, 1), target))


def test_large_offsets_keep_their_digits(make_case: Any) -> None:
    small = np.random.default_rng(0).normal(size=100)
    case = make_case({"x": np.arange(100) * 0.5, "y": 1e9 + small})
    spread = case.task.to_tensor(case.truth).numpy()
    assert np.corrcoef(spread, small)[0, 1] > 0.999999


def test_figures_are_bounded(case: Any) -> None:
    truth = np.arange(5000.0)
    residuals = np.random.default_rng(0).normal(size=5000)
    residuals[0] = 1e9
    figures = case.task.figures(Predictions(truth + residuals), truth)
    assert len(figures["scatter"]["truth"]) == len(figures["scatter"]["prediction"]) == 500
    assert sum(figures["residuals"]["counts"]) == 5000
    assert max(figures["residuals"]["edges"]) < 10


def test_examples_and_columns(case: Any) -> None:
    predictions = Predictions(np.array([1.0, 5.0]))
    rows, losses = case.task.worst(predictions, np.array([2.0, 9.0]), 1)
    assert (rows.tolist(), losses.tolist()) == ([1], [4.0])
    assert case.task.examples(predictions, np.array([2.0, 9.0]), rows) == [
        {"truth": 9.0, "prediction": 5.0, "confidence": None}
    ]
    assert case.task.to_columns(predictions)["prediction"].tolist() == [1.0, 5.0]
