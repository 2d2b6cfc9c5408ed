"""The simple answers where boxes are to be found."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import shapes, table

from sounding.fitting import check
from sounding.tasks.detection_metrics import average_precisions
from sounding.trust.detectors import coloured_patches, usual_boxes
from sounding.trust.problem import Problem


@pytest.fixture(scope="module")
def problem() -> Problem:
    pictures, boxes = shapes(70, seed=5)
    parts = {"train": (0, 40), "validation": (40, 50), "test": (50, 70)}
    source = {part: table(pictures[low:high], boxes[low:high]) for part, (low, high) in parts.items()}
    known = check(source, "boxes", settings={"training.plan": "given"})
    return Problem(known.task, known.table, known.schema, known.split, known.encoded, known.target, 0)


def test_the_usual_boxes_are_the_same_in_every_picture_and_as_many_as_there_are(problem: Problem) -> None:
    values, _ = usual_boxes(problem)
    assert values.shape[0] == 70
    assert (values == values[0]).all()
    truth = problem.target[problem.split.train]
    for code in range(2):
        own = values[0][values[0][:, 0] == code]
        assert len(own) == max(round((truth[..., 0] == code).sum() / len(truth)), 1)
        assert own[:, 1].sum() == pytest.approx((truth[..., 0] == code).sum() / len(truth))
    single = np.median(truth[truth[..., 0] == 0][:, 1:], 0)
    assert np.abs(values[0][values[0][:, 0] == 0][0, 2:] - single).max() < 15


def test_patches_of_two_plain_colours_are_found(problem: Problem) -> None:
    values, note = coloured_patches(problem)
    test = problem.split.test
    assert note == ""
    assert average_precisions(values[test], problem.target[test], 2, None, (0.5,)).mean() > 0.6
    assert (values[problem.split.train][..., 0] == -1).all()  # not asked for
    again, _ = coloured_patches(problem)
    assert np.array_equal(values, again)
