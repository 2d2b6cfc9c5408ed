"""Boxes stay around what they are drawn around, whatever is done to the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.data.box_augmentation import GREY, BoxAugmentation, empty, gathered, moved
from sounding.data.geometry import identity, shifted

SIZE = (60, 80)


def coloured(rows: int, seed: int = 0) -> Batch:
    """Grey pictures with a red, a green and a blue rectangle each; the code of a box is its channel."""
    draw = np.random.default_rng(seed)
    pictures = torch.full((rows, 3, *SIZE), GREY, dtype=torch.uint8)
    boxes = torch.zeros(rows, 3, 5)
    for row in range(rows):
        for channel in range(3):
            left, top = int(draw.integers(25 * channel, 25 * channel + 8)), int(draw.integers(0, 30))
            right, bottom = left + int(draw.integers(8, 16)), top + int(draw.integers(8, 28))
            pictures[row, :, top:bottom, left:right] = 0
            pictures[row, channel, top:bottom, left:right] = 255
            boxes[row, channel] = torch.tensor([channel, left, top, right, bottom])
    return Batch((pictures,), boxes, None, torch.arange(rows))


def found(picture: Tensor, channel: int) -> Tensor:
    """Left, top, right and bottom of the pixels of a colour."""
    others = picture.float().sum(0) - picture[channel].float()
    mask = (picture[channel] > 190) & (others < 190)
    down, across = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return torch.tensor([across[0], down[0], across[-1] + 1, down[-1] + 1]).float()


@pytest.mark.parametrize(
    "options", [{}, {"flip": True, "upside_down": True}, {"scale": 0.3, "shift": 0.1}, {"scale": 0.2, "flip": True}]
)
def test_boxes_follow_their_pixels(options: dict[str, object]) -> None:
    batch = BoxAugmentation(**options, seed=1)(coloured(16), 0, 0)  # type: ignore[arg-type]
    assert batch.target is not None
    assert batch.inputs[0].dtype == torch.uint8
    kept = batch.target[..., 0] >= 0
    assert kept.sum() > 30
    for picture, boxes in zip(batch.inputs[0], batch.target, strict=True):
        for code, *edges in boxes[boxes[:, 0] >= 0].tolist():
            torch.testing.assert_close(torch.tensor(edges), found(picture, int(code)), atol=1.0, rtol=0)


def test_mosaics_hold_four_pictures_with_boxes_around_their_parts() -> None:
    source = coloured(8)
    batch = BoxAugmentation(mosaic=1.0, until=1, seed=2)(source, 0, 0)
    assert batch.target is not None
    kept = batch.target[batch.target[..., 0] >= 0]
    assert len(kept) > 8 * 3
    for picture, boxes in zip(batch.inputs[0].float(), batch.target, strict=True):
        for code, left, top, right, bottom in boxes[boxes[:, 0] >= 0].tolist():
            inside = picture[:, round(top) : round(bottom), round(left) : round(right)]
            share = (inside[int(code)] > 190).float().mean()
            assert share > 0.75  # blended at its border, and now and then touched by a neighbour
        outside = torch.ones(SIZE, dtype=torch.bool)
        for _, left, top, right, bottom in boxes[boxes[:, 0] >= 0].tolist():
            outside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = False
        strange = (picture[:, outside] - GREY).abs().amax(0) > 60
        assert strange.float().mean() < 0.06  # parts too small to be called a box


def test_there_are_no_mosaics_from_an_epoch_on() -> None:
    source = coloured(6)
    plain = BoxAugmentation(scale=0.2, seed=3)(source, 5, 0)
    late = BoxAugmentation(scale=0.2, mosaic=1.0, until=5, seed=3)(source, 5, 0)
    early = BoxAugmentation(scale=0.2, mosaic=1.0, until=5, seed=3)(source, 4, 0)
    assert torch.equal(late.inputs[0], plain.inputs[0])
    assert early.target is not None
    assert (early.target[..., 0] >= 0).sum(1).max() > 3


def test_draws_are_a_function_of_seed_epoch_and_step() -> None:
    vary = BoxAugmentation(mosaic=0.5, scale=0.2, shift=0.1, flip=True, colour=0.2, until=9, seed=4)
    first, again = vary(coloured(8), 1, 2), vary(coloured(8), 1, 2)
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert first.target is not None
    assert again.target is not None
    assert torch.equal(first.target, again.target)
    for other in (vary(coloured(8), 1, 3), vary(coloured(8), 2, 2)):
        assert not torch.equal(first.inputs[0], other.inputs[0])


def test_the_batch_itself_is_left_as_it_was() -> None:
    source = coloured(4)
    pictures, boxes = source.inputs[0].clone(), source.target.clone()  # type: ignore[union-attr]
    BoxAugmentation(mosaic=1.0, until=1, colour=0.3, flip=True, seed=5)(source, 0, 0)
    assert torch.equal(source.inputs[0], pictures)
    assert torch.equal(source.target, boxes)  # type: ignore[arg-type]


def test_what_is_mostly_cut_off_is_no_box_any_more() -> None:
    boxes = torch.tensor([[[0.0, 0, 0, 10, 10], [1.0, 70, 0, 80, 10], [-1.0, 0, 0, 0, 0]]])
    right = moved(boxes, shifted(torch.tensor([7.4]), torch.tensor([0.0])), SIZE)
    assert right[0, :, 0].tolist() == [0, 1, -1]
    torch.testing.assert_close(right[0, 1, 1:], torch.tensor([77.4, 0, 80, 10]))
    assert moved(boxes, shifted(torch.tensor([7.6]), torch.tensor([0.0])), SIZE)[0, :, 0].tolist() == [0, -1, -1]
    limits = torch.tensor([[5.0, 0, 80, 60]])
    assert moved(boxes, identity(1), SIZE, limits)[0, 0].tolist() == [0, 5, 0, 10, 10]


def test_boxes_are_gathered_in_front_in_their_order() -> None:
    boxes = torch.full((2, 4, 5), -1.0)
    boxes[0, 1], boxes[0, 3] = 3.0, 4.0
    few = gathered(boxes)
    assert few.shape == (2, 32, 5)
    assert few[:, :3, 0].tolist() == [[3, 4, -1], [-1, -1, -1]]
    assert (few[:, 2:, 0] == -1).all()
    assert gathered(empty(2, 3, boxes)).shape == (2, 32, 5)
    assert gathered(torch.zeros(1, 33, 5)).shape == (1, 64, 5)
