"""Which places answer for a box, against a slow version, and what answers cost."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sounding.data.box_geometry import overlaps
from sounding.networks import Detections
from sounding.networks.detector import middles
from sounding.tasks.detection_losses import ANSWERING, assign, row_losses

CLASSES = 2


def answers(rows: int, seed: int) -> Detections:
    draw = torch.Generator().manual_seed(seed)
    middle = torch.cat([middles(6, 6, 8, torch.zeros(1)), middles(3, 3, 16, torch.zeros(1))])
    stride = torch.tensor([8.0] * 36 + [16.0] * 9)[:, None]
    places = torch.cat([middle, stride], 1).expand(rows, -1, -1)
    reach = 2 + torch.rand(rows, 45, 4, generator=draw) * 16
    boxes = torch.cat([places[..., :2] - reach[..., :2], places[..., :2] + reach[..., 2:]], 2)
    return Detections(4 * torch.randn(rows, 45, CLASSES, generator=draw), boxes, places)


def truth(rows: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed + 100)
    corner = torch.rand(rows, 3, 2, generator=draw) * 14
    edges = torch.cat([corner, corner + 4 + torch.rand(rows, 3, 2, generator=draw) * 16], 2)
    code = torch.randint(0, CLASSES, (rows, 3, 1), generator=draw).float()
    boxes = torch.cat([code, edges], 2)
    boxes[0, 2], boxes[0, 2, 0] = 0.0, -1.0
    return boxes


def slowly(outputs: Detections, boxes: Tensor, row: int) -> tuple[dict[int, int], dict[int, float]]:
    """Box and goal of each place that answers for one."""
    wants: dict[int, list[tuple[float, int, float]]] = {}
    for number, (code, *edges) in enumerate(boxes[row].tolist()):
        if code < 0:
            continue
        left, top, right, bottom = edges
        ranked = []
        for at, (x, y, stride) in enumerate(outputs.places[row].tolist()):
            near = True
            for place, low, high in ((x, left, right), (y, top, bottom)):
                near &= low <= place <= high or abs(place - (low + high) / 2) <= stride / 2
            share = overlaps(boxes[row, number : number + 1, 1:], outputs.boxes[row, at : at + 1]).item()
            score = torch.sigmoid(outputs.logits[row, at, int(code)]).item()
            aligned = score**0.5 * share**6
            if near and aligned > 0:
                ranked.append((aligned, at, share))
        for aligned, at, share in sorted(ranked, reverse=True)[:ANSWERING]:
            wants.setdefault(at, []).append((share, number, aligned))
    box = {at: max(asked)[1] for at, asked in wants.items()}
    goal = {}
    for number in set(box.values()):
        own = [(at, *next((s, a) for s, n, a in wants[at] if n == number)) for at in box if box[at] == number]
        best_share, best_aligned = max(share for _, share, _ in own), max(aligned for *_, aligned in own)
        goal |= {at: aligned / best_aligned * best_share for at, _, aligned in own}
    return box, goal


@pytest.mark.parametrize("seed", range(4))
def test_the_best_aligned_places_answer(seed: int) -> None:
    outputs, boxes = answers(3, seed), truth(3, seed)
    assigned = assign(outputs, boxes)
    for row in range(3):
        box, goal = slowly(outputs, boxes, row)
        assert set(assigned.goal[row].nonzero().flatten().tolist()) == set(goal)
        for at, expected in goal.items():
            assert assigned.goal[row, at].item() == pytest.approx(expected, rel=1e-4)
            assert assigned.box[row, at].item() == box[at]


def test_the_best_place_is_to_have_its_overlap_as_score() -> None:
    outputs, boxes = answers(2, 0), truth(2, 0)[:, :1]
    assigned = assign(outputs, boxes)
    for row in range(2):
        at = int(assigned.goal[row].argmax())
        share = overlaps(boxes[row, :1, 1:], outputs.boxes[row]).max()
        assert assigned.goal[row, at].item() <= share.item() + 1e-6
        assert (assigned.goal[row] > 0).sum() <= ANSWERING


def test_a_place_between_two_boxes_answers_for_the_one_it_overlaps_most() -> None:
    place = torch.tensor([[[16.0, 16.0, 8.0]]])
    logits = torch.tensor([[[-6.0, 6.0]]])  # it says the class of the second
    boxes = torch.tensor([[[0.0, 8, 8, 24, 24], [1.0, 9, 9, 25, 25]]])
    assigned = assign(Detections(logits, torch.tensor([[[8.0, 8, 24, 24.5]]]), place), boxes)
    assert assigned.box.item() == 0
    assert assigned.goal.item() == pytest.approx(256 / 264)


def test_without_boxes_every_score_is_to_be_0() -> None:
    outputs = answers(1, 1)
    nothing = torch.full((1, 2, 5), -1.0)
    assert (assign(outputs, nothing).goal == 0).all()
    score = outputs.logits.sigmoid()
    expected = (-torch.log1p(-score) * score**2).sum()
    cost, goals = row_losses(outputs, nothing)
    torch.testing.assert_close(cost[0], expected, rtol=1e-4, atol=0)
    assert goals.item() == 0


def test_a_tiny_box_between_the_places_has_one() -> None:
    outputs = answers(1, 2)
    tiny = torch.tensor([[[0.0, 15.5, 15.5, 16.5, 16.5]]])
    assert assign(outputs, tiny).goal.sum() > 0


def test_padding_and_order_of_boxes_change_nothing() -> None:
    outputs, boxes = answers(3, 3), truth(3, 3)
    none = boxes.clone()
    none[..., 0], none[..., 1:] = -1.0, none[..., 1:] + 3  # whatever its edges are
    cost, goals = row_losses(outputs, boxes)
    torch.testing.assert_close(row_losses(outputs, torch.cat([boxes, none], 1)), (cost, goals))
    torch.testing.assert_close(row_losses(outputs, boxes.flip(1)), (cost, goals))
    alone = Detections(*(part[1:2] for part in outputs))
    torch.testing.assert_close(row_losses(alone, boxes[1:2]), (cost[1:2], goals[1:2]))


def test_an_answer_that_is_right_costs_less_and_gradients_are_finite() -> None:
    outputs, boxes = answers(2, 4), truth(2, 4)
    logits, edges = (part.clone().requires_grad_() for part in (outputs.logits, outputs.boxes))
    found = outputs._replace(logits=logits, boxes=edges)
    loss = row_losses(found, boxes)[0].sum()
    loss.backward()
    for part in (found.logits, found.boxes):
        assert part.grad is not None
        assert part.grad.isfinite().all()
    assert (found.logits.grad != 0).all()
    answering = assign(outputs, boxes).goal > 0
    assert ((found.boxes.grad != 0).any(2) == answering).all()
    box = boxes.gather(1, assign(outputs, boxes).box[..., None].expand(-1, -1, 5))
    right = outputs._replace(
        logits=torch.where(answering[..., None] & (torch.arange(CLASSES) == box[..., :1]), 5.0, -8.0),
        boxes=torch.where(answering[..., None], box[..., 1:], outputs.boxes),
    )
    cost, goals = row_losses(right, boxes)
    assert (cost / goals).sum() < 0.1 * loss.detach()
    assert math.isfinite(loss.item())
