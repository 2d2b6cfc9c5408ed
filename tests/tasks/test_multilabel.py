from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch.nn import functional as F

from sounding.errors import DataError
from sounding.tasks import Predictions


@pytest.fixture
def case(make_case: Any, columns: Any) -> Any:
    every = columns()
    return make_case({name: every[name] for name in ("x", "colour", "wet", "cold")}, ["wet", "cold"])


def test_truth_and_outputs(case: Any) -> None:
    assert case.task.outputs == 2
    assert case.truth.shape == (200, 2)
    wet = np.array(case.table.data["wet"].to_pylist())
    assert case.truth[:, 0].tolist() == (wet == "yes").astype(int).tolist()


def test_loss_is_binary_cross_entropy(case: Any) -> None:
    outputs, target = torch.randn(200, 2), case.task.to_tensor(case.truth)
    by_hand = -(target * F.logsigmoid(outputs) + (1 - target) * F.logsigmoid(-outputs)).mean()
    torch.testing.assert_close(case.task.loss(outputs, target), by_hand)


def test_metrics_are_means_over_the_answers(case: Any) -> None:
    values = np.random.default_rng(0).random((200, 2))
    found = case.task.metrics(Predictions(values), case.truth)
    said = values > 0.5
    assert found["accuracy"] == pytest.approx((said == case.truth).mean())
    assert found["f1"] == pytest.approx(oracle.f1_score(case.truth, said, average="macro"))
    assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(case.truth, values, average="macro"))
    average = oracle.average_precision_score(case.truth, values, average="macro")
    assert found["average_precision"] == pytest.approx(average)


def test_class_weights_make_yes_count_as_much_as_no(make_case: Any) -> None:
    columns = {"x": np.arange(100) * 0.5, "one": ["y"] * 20 + ["n"] * 80, "two": ["y"] * 50 + ["n"] * 50}
    task = make_case(columns, ["one", "two"], settings={"training.class_weights": True}).task
    torch.testing.assert_close(task.positive_weights, torch.tensor([4.0, 1.0]))


def test_columns_and_examples(case: Any) -> None:
    predictions = Predictions(np.array([[0.9, 0.2], [0.1, 0.3]]))
    columns = {name: column.tolist() for name, column in case.task.to_columns(predictions).items()}
    assert columns == {
        "prediction_wet": ["yes", "no"],
        "probability_wet": [0.9, 0.1],
        "prediction_cold": ["no", "no"],
        "probability_cold": [0.2, 0.3],
    }
    shown = case.task.examples(predictions, np.array([[1, 1], [0, 0]]), np.array([0, 1]))
    assert shown == [
        {"truth": "wet, cold", "prediction": "wet", "confidence": 0.8},
        {"truth": "none", "prediction": "none", "confidence": 0.7},
    ]


def test_three_values_are_refused(make_case: Any) -> None:
    columns = {"x": np.arange(60) * 0.5, "one": ["a", "b", "c"] * 20, "two": ["y", "n"] * 30}
    with pytest.raises(
        DataError, match=r'\(column "one"\): with several targets each needs two values, and this has 3'
    ):
        make_case(columns, ["one", "two"])
