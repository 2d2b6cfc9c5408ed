"""Average precision against pycocotools, the reference implementation, and weights against copies of pictures."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from sounding.tasks.detection_metrics import OVERLAPS, average_precisions, counts, matched, precisions, ranked, shares

CLASSES = 3
SIZE = 100.0


def make(pictures: int, seed: int, most: int = 12, found: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and boxes that are partly moved truths, partly made up; scores have ties."""
    draw = np.random.default_rng(seed)
    truth = np.zeros((pictures, most, 5))
    answer = np.zeros((pictures, found, 6))
    truth[..., 0] = answer[..., 0] = -1
    for row in range(pictures):
        count = draw.integers(0, most + 1)
        corner = draw.uniform(0, SIDE, (count, 2))
        truth[row, :count, 0] = draw.integers(0, CLASSES, count)
        truth[row, :count, 1:] = np.concatenate([corner, corner + draw.uniform(3, 30, (count, 2))], 1)
        told = draw.integers(0, found + 1)
        for at in range(told):
            if count and draw.random() < 0.7:
                source = truth[row, draw.integers(count)]
                edges = source[1:] + draw.normal(0, 1.5, 4)
                code = source[0] if draw.random() < 0.9 else draw.integers(CLASSES)
            else:
                corner = draw.uniform(0, SIDE, 2)
                edges, code = np.concatenate([corner, corner + draw.uniform(3, 30, 2)]), draw.integers(CLASSES)
            edges[2:] = np.maximum(edges[2:], edges[:2] + 1)
            answer[row, at] = [code, round(draw.random(), 1 if draw.random() < 0.5 else 3), *edges]
    return answer, truth


SIDE = SIZE - 30


def as_coco(found: np.ndarray, truth: np.ndarray) -> Any:
    """The evaluation of pycocotools, done."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def boxes(rows: np.ndarray, scored: bool) -> list[dict[str, Any]]:
        listed = []
        for row, of_row in enumerate(rows):
            for one in of_row[of_row[:, 0] >= 0]:
                left, top, right, bottom = (float(edge) for edge in one[-4:])
                area = (right - left) * (bottom - top)
                listed.append(
                    {
                        "id": len(listed) + 1,
                        "image_id": row,
                        "category_id": int(one[0]),
                        "bbox": [left, top, right - left, bottom - top],
                        "area": area,
                        "iscrowd": 0,
                        **({"score": float(one[1])} if scored else {}),
                    }
                )
        return listed

    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": row} for row in range(len(truth))],
            "categories": [{"id": code, "name": str(code)} for code in range(CLASSES)],
            "annotations": boxes(truth, scored=False),
        }
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(boxes(found, scored=True)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(5))
def test_it_is_exactly_that_of_pycocotools(seed: int) -> None:
    found, truth = make(20, seed)
    reference = as_coco(found, truth)
    of_reference = reference.eval["precision"][:, :, :, 0, 2]  # overlaps, recalls, classes; all areas, 100 boxes
    for code in range(CLASSES):
        np.testing.assert_array_equal(precisions(ranked(found, truth, code))[0], of_reference[:, :, code])
    each = average_precisions(found, truth, CLASSES)[0]
    assert each.mean() == pytest.approx(reference.stats[0], abs=1e-12)
    assert each[0].mean() == pytest.approx(reference.stats[1], abs=1e-12)
    assert each[OVERLAPS.index(0.75)].mean() == pytest.approx(reference.stats[2], abs=1e-12)


def test_more_than_a_hundred_boxes_of_a_class_are_cut_as_there() -> None:
    found, truth = make(6, 3, most=60, found=400)
    found[..., 0] = np.where(found[..., 0] >= 0, 0, -1)
    assert (found[..., 0] == 0).sum(1).max() > 100
    reference = as_coco(found, truth)
    np.testing.assert_array_equal(precisions(ranked(found, truth, 0))[0], reference.eval["precision"][:, :, 0, 0, 2])


def test_a_class_that_is_nowhere_is_not_measured() -> None:
    found, truth = make(10, 7)
    truth[truth[..., 0] == 2, 0] = -1
    each = average_precisions(found, truth, CLASSES)[0]
    assert np.isnan(each[:, 2]).all()
    reference = as_coco(found, truth)
    assert np.nanmean(each) == pytest.approx(reference.stats[0], abs=1e-12)


def test_a_perfect_answer_has_1_and_none_has_0() -> None:
    _, truth = make(10, 1)
    perfect = np.concatenate([truth[..., :1], np.ones_like(truth[..., :1]), truth[..., 1:]], 2)
    assert (average_precisions(perfect, truth, CLASSES) == 1).all()
    nothing = np.full((10, 1, 6), -1.0)
    assert (average_precisions(nothing, truth, CLASSES) == 0).all()


def test_by_hand() -> None:
    # Two boxes to be found; in the order of scores: right, wrong, right. Precision 1 up to recall 1/2, then 2/3.
    truth = np.array([[[0, 0, 0, 10, 10], [0, 50, 50, 60, 60]]], dtype=float)
    found = np.array([[[0, 0.9, 0, 0, 10, 10], [0, 0.8, 80, 80, 90, 90], [0, 0.7, 50, 50, 60, 60]]], dtype=float)
    expected = (51 * 1.0 + 50 * 2 / 3) / 101
    assert average_precisions(found, truth, 1, None, (0.5,)).item() == pytest.approx(expected)


def test_weights_are_copies_of_pictures() -> None:
    found, truth = make(12, 5)
    found[..., 1] += np.arange(12)[:, None] * 1e-6 + np.arange(found.shape[1]) * 1e-9  # no ties between pictures
    weight = np.random.default_rng(0).integers(0, 4, (3, 12)).astype(float)
    weighted = average_precisions(found, truth, CLASSES, weight)
    for row, times in enumerate(weight.astype(int)):
        copies = np.repeat(np.arange(12), times)
        np.testing.assert_allclose(weighted[row], average_precisions(found[copies], truth[copies], CLASSES)[0])


def test_each_box_finds_the_best_that_is_left() -> None:
    overlap = np.array([[0.6, 0.9], [0.7, 0.95], [0.5, 0.5]])
    assert matched(overlap, 0.5).tolist() == [1, 0, -1]
    assert matched(overlap, 0.8).tolist() == [1, -1, -1]
    assert matched(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]
    assert matched(np.array([[0.8, 0.8]]), 0.5).tolist() == [1]  # the last of equal ones, as in pycocotools


def test_shares_are_those_of_pixels() -> None:
    assert shares(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [0, 0, 0, 0]])).tolist() == [[1 / 3, 0.0]]


def test_counts_are_of_scores_that_are_enough() -> None:
    found = np.array([[[0, 0.9, *[0] * 4], [0, 0.4, *[0] * 4], [1, 0.4, *[0] * 4], [-1, 0, *[0] * 4]]])
    assert counts(found, 2, np.array([0.5, 0.3])).tolist() == [[1, 1]]
