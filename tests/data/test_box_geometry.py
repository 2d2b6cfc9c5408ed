"""Overlaps of boxes, and which of them suppress which: against slow versions that go through them one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sounding.data.box_geometry import areas, generalised_overlaps, overlaps, suppressed


def some_boxes(count: int, seed: int, side: float = 8.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * side
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=draw) * 15], 1)


def pixels(box: Tensor) -> set[tuple[int, int]]:
    left, top, right, bottom = (int(edge) for edge in box)
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def slow_overlap(one: Tensor, other: Tensor) -> float:
    first, second = pixels(one), pixels(other)
    return len(first & second) / len(first | second)


def test_overlaps_count_pixels() -> None:
    first, second = some_boxes(12, 0).floor(), some_boxes(9, 1).floor()
    expected = torch.tensor([[slow_overlap(one, other) for other in second] for one in first])
    torch.testing.assert_close(overlaps(first, second), expected)


def test_overlaps_of_batches_are_those_of_each() -> None:
    first, second = torch.stack([some_boxes(5, 0), some_boxes(5, 1)]), torch.stack([some_boxes(4, 2), some_boxes(4, 3)])
    for row in range(2):
        torch.testing.assert_close(overlaps(first, second)[row], overlaps(first[row], second[row]))


def test_boxes_without_an_area_overlap_nothing() -> None:
    point, inverted, box = (torch.tensor([[*edges]]) for edges in ((1.0, 1, 1, 1), (3.0, 3, 2, 2), (0.0, 0, 4, 4)))
    assert areas(inverted).item() == 0
    for one in (point, inverted):
        assert overlaps(one, box).item() == 0
        assert overlaps(one, one).item() == 0


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0.0, 0.0, 2.0, 2.0), 1.0),
        ((1.0, 0.0, 3.0, 2.0), 1 / 3),  # the box around both is full
        ((2.0, 2.0, 4.0, 4.0), -0.5),  # 8 of 16 pixels around both are of neither
        ((8.0, 0.0, 10.0, 2.0), -12 / 20),
    ],
)
def test_generalised_overlaps_by_hand(other: tuple[float, ...], expected: float) -> None:
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert generalised_overlaps(box, torch.tensor(other)).item() == pytest.approx(expected)


def one_by_one(boxes: Tensor, scores: Tensor, classes: Tensor, limit: float) -> list[bool]:
    stay = [False] * len(boxes)
    for at in sorted(range(len(boxes)), key=lambda at: (-scores[at].item(), at)):
        rivals = [other for other in range(len(boxes)) if stay[other] and classes[other] == classes[at]]
        stay[at] = all(overlaps(boxes[at : at + 1], boxes[[other]]).item() <= limit for other in rivals)
    return stay


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_suppression_is_that_of_going_through_them_one_by_one(seed: int, limit: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    boxes = torch.stack([some_boxes(40, seed), some_boxes(40, seed + 10)])
    scores = (torch.rand(2, 40, generator=draw) * 20).round() / 20  # with ties
    classes = torch.randint(0, 3, (2, 40), generator=draw)
    found = suppressed(boxes, scores, classes, limit)
    for row in range(2):
        assert found[row].tolist() == one_by_one(boxes[row], scores[row], classes[row], limit)
    assert 0 < found.sum() < found.numel()


def test_a_chain_is_settled_link_by_link() -> None:
    left = torch.arange(9.0)
    boxes = torch.stack([left, torch.zeros(9), left + 3, torch.ones(9)], 1)[None]
    scores, classes = torch.linspace(1, 0.1, 9)[None], torch.zeros(1, 9)
    assert suppressed(boxes, scores, classes, 0.4)[0].tolist() == [at % 2 == 0 for at in range(9)]
