from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sounding.tasks import Predictions
from sounding.tasks.classification import Classification


@pytest.fixture
def case(make_case: Any, columns: Any) -> Any:
    return make_case(columns("three"))


def test_classes_and_codes(case: Any) -> None:
    assert case.task.classes == ("large", "medium", "small")
    assert [case.task.classes[code] for code in case.truth[:20]] == case.table.data["y"].to_pylist()[:20]


def test_loss_is_cross_entropy(case: Any) -> None:
    torch.manual_seed(0)
    outputs, target = torch.randn(200, 3), case.task.to_tensor(case.truth)
    by_hand = -outputs.log_softmax(1)[torch.arange(200), target].mean()
    torch.testing.assert_close(case.task.loss(outputs, target), by_hand)


def test_label_smoothing_mixes_in_every_class(make_case: Any, columns: Any) -> None:
    task = make_case(columns("three"), settings={"training.label_smoothing": 0.3}).task
    outputs, target = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    shares = 0.7 * F.one_hot(target, 3) + 0.1
    by_hand = -(shares * outputs.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(task.loss(outputs, target), by_hand)


def test_mixed_targets_are_shares(case: Any) -> None:
    outputs, one, other = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 2, 0, 1, 0])
    mixed = 0.3 * F.one_hot(one, 3) + 0.7 * F.one_hot(other, 3)
    expected = 0.3 * case.task.loss(outputs, one) + 0.7 * case.task.loss(outputs, other)
    torch.testing.assert_close(case.task.loss(outputs, mixed), expected)
    members = outputs[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(case.task.loss(members, mixed), expected)


def test_class_weights_make_every_class_count_the_same(make_case: Any) -> None:
    columns = {"x": np.arange(100) * 0.5, "y": ["a"] * 80 + ["b"] * 20}
    case = make_case(columns, settings={"training.class_weights": True})
    torch.testing.assert_close(case.task.class_weights, torch.tensor([0.625, 2.5]))
    outputs, target = torch.randn(100, 2), case.task.to_tensor(case.truth)
    plain = F.cross_entropy(outputs, target, reduction="none")
    by_hand = (plain[:80].mean() + plain[80:].mean()) / 2
    torch.testing.assert_close(case.task.loss(outputs, target), by_hand)


def test_probabilities_of_huge_outputs_add_up(case: Any) -> None:
    values = case.task.decode(torch.tensor([[1e4, -1e4, 0.0], [88.0, 88.0, -88.0]])).values
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-15)
    assert case.task.decide(Predictions(values)).tolist() == ["large", "large"]


def test_tg_18_with_extreme_imbalance_accuracy_is_not_the_headline(make_case: Any) -> None:
    truth = np.array([0] * 9999 + [1])
    two = Classification(None, ("no", "yes")).knowing(truth)  # type: ignore[arg-type]
    assert (two.headline, two.higher_is_better) == ("roc_auc", True)
    assert "99.99%" in two.reason
    three = Classification(None, ("a", "b", "c")).knowing(np.append(truth, 2))  # type: ignore[arg-type]
    assert three.headline == "balanced_accuracy"
    usual = Classification(None, ("no", "yes")).knowing(np.array([0] * 90 + [1] * 10))  # type: ignore[arg-type]
    assert (usual.headline, usual.reason) == ("accuracy", "")


def test_file_of_predictions(case: Any) -> None:
    columns = case.task.to_columns(Predictions(np.array([[0.2, 0.5, 0.3]])))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "prediction": ["medium"],
        "probability_large": [0.2],
        "probability_medium": [0.5],
        "probability_small": [0.3],
    }


def test_file_of_predictions_with_very_many_classes() -> None:
    task = Classification(None, tuple(f"c{i}" for i in range(101)))  # type: ignore[arg-type]
    columns = task.to_columns(Predictions(np.full((2, 101), 1 / 101)))
    assert list(columns) == ["prediction", "probability"]


def test_confusion_and_calibration(case: Any) -> None:
    values = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.2, 0.7]])
    figures = case.task.figures(Predictions(values), np.array([0, 1, 2]))
    assert figures["confusion"] == {
        "labels": ["large", "medium", "small"],
        "counts": [[1, 0, 0], [1, 0, 0], [0, 0, 1]],
    }
    bins = figures["calibration"]["bins"]
    assert [(b["accuracy"], b["count"]) for b in bins] == [(1.0, 1), (0.5, 2)]
    assert figures["calibration"]["error"] == pytest.approx((0.3 + 2 * 0.4) / 3)


def test_worst_rows_first(case: Any) -> None:
    values = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.2, 0.7]])
    rows, losses = case.task.worst(Predictions(values), np.array([0, 1, 2]), 2)
    assert rows.tolist() == [1, 2]
    assert losses == pytest.approx([-np.log(0.1), -np.log(0.7)])
    (example, _) = case.task.examples(Predictions(values), np.array([0, 1, 2]), rows)
    assert example == {"truth": "medium", "prediction": "large", "confidence": 0.9}
