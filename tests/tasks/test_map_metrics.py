from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, jaccard_score

from sounding.kinds.mask import UNLABELLED
from sounding.tasks import metrics as measures
from sounding.tasks.map_metrics import TOLERANCE, agreement, boundary_f1, map_metrics

CLASSES = ("a", "b", "c")


def maps(count: int = 4, seed: int = 0, size: tuple[int, int] = (12, 15)) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    truth = draws.integers(0, 3, (count, *size), dtype=np.uint8)
    values = np.where(draws.random(truth.shape) < 0.7, truth, draws.integers(0, 3, truth.shape)).astype(np.uint8)
    truth[draws.random(truth.shape) < 0.1] = UNLABELLED
    return values, truth


def test_counts_and_metrics_are_those_of_scikit_learn() -> None:
    values, truth = maps()
    found = agreement(values, truth, 3)
    known = truth != UNLABELLED
    true, said = truth[known], values[known]
    assert np.array_equal(found.confusion.sum(0), confusion_matrix(true, said, labels=range(3)))
    measured = map_metrics(found, CLASSES)
    each = jaccard_score(true, said, average=None)
    assert [measured[f"iou_{name}"] for name in CLASSES] == pytest.approx(each)
    assert measured["iou"] == pytest.approx(each.mean())
    assert measured["dice"] == pytest.approx(f1_score(true, said, average="macro"))
    assert measured["pixel_accuracy"] == pytest.approx(accuracy_score(true, said))
    assert measured["mean_accuracy"] == pytest.approx(balanced_accuracy_score(true, said))


def test_a_class_that_neither_holds_does_not_count() -> None:
    truth = np.array([[[0, 0, 1, 1]]], np.uint8)
    values = np.array([[[0, 0, 0, 1]]], np.uint8)
    measured = map_metrics(agreement(values, truth, 3), CLASSES)
    assert np.isnan(measured["iou_c"])
    assert measured["iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    wrong = map_metrics(agreement(np.array([[[0, 0, 2, 1]]], np.uint8), truth, 3), CLASSES)
    assert wrong["iou"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_weights_are_repeated_pictures() -> None:
    values, truth = maps(5)
    rows = np.array([0, 0, 3, 4, 4])
    weights = np.bincount(rows, minlength=5).astype(float)
    found = agreement(values, truth, 3)
    repeated = map_metrics(agreement(values[rows], truth[rows], 3), CLASSES)
    assert map_metrics(found, CLASSES, weights) == pytest.approx(repeated)
    both = map_metrics(found, CLASSES, np.stack([weights, np.ones(5)]))
    assert {name: value[0] for name, value in both.items()} == pytest.approx(repeated)
    assert {name: value[1] for name, value in both.items()} == pytest.approx(map_metrics(found, CLASSES))


def test_named_metrics_alone() -> None:
    assert set(map_metrics(agreement(*maps(), 3, boundaries=False), CLASSES, None, ["iou", "iou_b"])) == {
        "iou",
        "iou_b",
    }


def slow_boundary_f1(said: np.ndarray, true: np.ndarray, code: int) -> float:
    """Every boundary pixel against every other; a pixel is one if a neighbour by a side is of another class."""

    def boundary(inside: np.ndarray) -> list[tuple[int, int]]:
        height, width = inside.shape
        return [
            (i, j)
            for i in range(height)
            for j in range(width)
            if inside[i, j]
            and any(
                0 <= i + a < height and 0 <= j + b < width and not inside[i + a, j + b]
                for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))
            )
        ]

    near = np.ceil(TOLERANCE * np.hypot(*true.shape))
    ours, theirs = boundary(said == code), boundary(true == code)

    def share(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        return float(np.mean([any(np.hypot(i - k, j - m) <= near for k, m in others) for i, j in some]))

    precision, recall = share(ours, theirs), share(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 3, (5, 6), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8), np.uint8))


@pytest.mark.parametrize("seed", range(3))
def test_boundaries_are_those_of_the_slow_way(seed: int) -> None:
    true = blobs(seed)
    said = np.roll(true, (seed, 1), (0, 1))
    said[:6] = blobs(seed + 9)[:6]
    expected = [slow_boundary_f1(said, true, code) for code in range(3)]
    np.testing.assert_allclose(boundary_f1(said, true, 3), expected)


def test_boundaries_of_equal_and_of_missing_regions() -> None:
    true = blobs(0)
    assert boundary_f1(true, true, 4)[:3].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(boundary_f1(true, true, 4)[3])
    assert boundary_f1(np.zeros_like(true), true, 3).tolist() == [0.0, 0.0, 0.0]
    everywhere = np.ones((4, 4), np.uint8)
    assert boundary_f1(everywhere, everywhere, 2)[1] == 1.0


def test_an_interval_holds_its_value_and_draws_pictures() -> None:
    values, truth = maps(12)
    found = agreement(values, truth, 3)
    rows = np.arange(12)
    many = measures.bootstrap(
        lambda one, other, weight, /, *, names: map_metrics(found, CLASSES, weight, names),
        rows,
        rows,
        samples=200,
        seed=0,
    )
    low, high = measures.interval(many["iou"])
    assert low < map_metrics(found, CLASSES)["iou"] < high
