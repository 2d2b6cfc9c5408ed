from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sounding.kinds.mask import UNLABELLED
from sounding.tasks.map_losses import dice_losses, pixel_losses


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 5, 6, generator=draws)
    goals = torch.randint(0, 4, (3, 5, 6), generator=draws).to(torch.uint8)
    goals[0, :2], goals[2] = UNLABELLED, UNLABELLED
    return logits, goals


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_pytorch_picture_by_picture(smoothing: float) -> None:
    logits, goals = case()
    found = pixel_losses(logits, goals, smoothing=smoothing)
    for row in (0, 1):
        expected = F.cross_entropy(
            logits[row : row + 1], goals[row : row + 1].long(), ignore_index=UNLABELLED, label_smoothing=smoothing
        )
        torch.testing.assert_close(found[row], expected)
    assert found[2] == 0


def test_weights_of_classes_multiply() -> None:
    logits, goals = case()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    each = F.cross_entropy(logits[1:2], goals[1:2].long(), weight=weights, reduction="none")
    torch.testing.assert_close(pixel_losses(logits, goals, weights=weights)[1], each.mean())


def test_focal_loss_pixel_by_pixel() -> None:
    logits, goals = case()
    found = pixel_losses(logits, goals, focus=2.0)
    probabilities = logits.softmax(1)
    terms = []
    for i in range(5):
        for j in range(6):
            p = probabilities[1, int(goals[1, i, j]), i, j]
            terms.append(-((1 - p) ** 2) * p.log())
    torch.testing.assert_close(found[1], torch.stack(terms).mean())
    torch.testing.assert_close(pixel_losses(logits, goals, focus=0.0), pixel_losses(logits, goals))


def test_dice_class_by_class() -> None:
    logits, goals = case()
    goals[1][goals[1] == 3] = 0  # a class that the picture does not hold
    found, probabilities = dice_losses(logits, goals), logits.softmax(1)
    for row, classes in ((0, range(4)), (1, range(3))):
        known = goals[row] != UNLABELLED
        losses = []
        for code in classes:
            p, t = probabilities[row, code][known], (goals[row][known] == code).float()
            losses.append(1 - 2 * (p * t).sum() / (p.sum() + t.sum()))
        torch.testing.assert_close(found[row], torch.stack(losses).mean())
    assert found[2] == 0


def test_the_truth_itself_costs_nothing_and_pixels_without_a_class_have_no_gradient() -> None:
    logits, goals = case()
    sure = 50.0 * F.one_hot(goals.long().clamp(max=3), 4).movedim(3, 1).float()
    for loss in (pixel_losses, dice_losses):
        assert loss(sure, goals).max() < 1e-4
        asked = logits.clone().requires_grad_()
        loss(asked, goals).sum().backward()
        assert asked.grad is not None
        assert not asked.grad.movedim(1, 3)[goals == UNLABELLED].any()
        assert asked.grad.movedim(1, 3)[goals != UNLABELLED].any(1).all()
