from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.data.mask_augmentation import MaskAugmentation
from sounding.kinds.mask import UNLABELLED


def batch(count: int = 6, size: tuple[int, int] = (20, 30), seed: int = 0) -> Batch:
    """Pictures whose first channel is their mask, times 50."""
    masks = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (count, *size), dtype=np.uint8))
    masks = masks.repeat_interleave(4, 1)[:, : size[0]].repeat_interleave(4, 2)[:, :, : size[1]]
    pictures = torch.stack([masks * 50, masks * 0, masks * 0], 1)
    return Batch((pictures,), masks, None, torch.arange(count))


def target_of(varied: Batch) -> Tensor:
    assert varied.target is not None
    return varied.target


def test_without_anything_a_piece_is_cut() -> None:
    before, varied = batch(), MaskAugmentation(crop=(8, 10))(batch(), 0, 0)
    assert (varied.inputs[0].shape, target_of(varied).shape) == ((6, 3, 8, 10), (6, 8, 10))
    assert torch.equal(varied.inputs[0][:, 0], target_of(varied) * 50)
    for row in range(6):
        windows = target_of(before)[row].unfold(0, 8, 1).unfold(1, 10, 1)
        assert (windows == target_of(varied)[row]).all(2).all(2).any()


@pytest.mark.parametrize(
    "varied",
    [
        {"flip": "sideways"},
        {"flip": "all"},
        {"scale": 2.0},
        {"turn": 30.0},
        {"elastic": 2.0},
        {"flip": "all", "turn": 5.0, "scale": 1.5},
    ],
)
def test_masks_follow_their_pictures(varied: dict[str, Any]) -> None:
    change = MaskAugmentation(crop=(16, 16), **varied)
    after = change(batch(size=(40, 40)), 3, 5)
    masks = target_of(after)
    inside = masks != UNLABELLED
    seen = (after.inputs[0][:, 0].float() / 50).round()
    # Between blocks a picture has means of four pixels, a mask the nearest one.
    assert (seen == masks)[inside].float().mean() > 0.75
    assert set(masks.unique().tolist()) <= {0, 1, 2, 3, UNLABELLED}
    assert not torch.equal(masks, target_of(change(batch(size=(40, 40)), 3, 6)))
    assert torch.equal(masks, target_of(change(batch(size=(40, 40)), 3, 5)))


def test_mirrors_and_quarters_lose_nothing() -> None:
    square = batch(size=(16, 16))
    after = target_of(MaskAugmentation(crop=(16, 16), flip="all")(square, 0, 0))
    for old, new in zip(target_of(square), after, strict=True):
        turned = [torch.rot90(one, k) for one in (old, old.flip(1)) for k in range(4)]
        assert any(torch.equal(new, one) for one in turned)
    assert len({tuple(one.flatten().tolist()) for one in after}) == 6


def test_what_is_outside_has_no_class_and_is_black() -> None:
    small = MaskAugmentation(crop=(40, 40), scale=1.0)(batch(), 0, 0)
    outside = target_of(small) == UNLABELLED
    assert outside.float().mean().item() == pytest.approx(1 - 20 * 30 / 1600)
    assert small.inputs[0].movedim(1, 3)[outside].max() == 0


def test_scales_lie_within_the_factor_and_pictures_fill_the_crop() -> None:
    maps = MaskAugmentation(crop=(10, 10), scale=2.0).maps(500, (20, 30), 0, 0)
    factors = maps[:, 0, 0]
    assert 0.5 <= factors.min() < 0.55
    assert 1.8 < factors.max() <= 2.0
    corners = torch.tensor([[0.0, 0, 1], [30, 20, 1]], dtype=torch.float64).T
    placed = maps @ corners  # (500, 2, 2): where the corners of the picture come to lie
    assert (placed[:, :, 0] <= 1e-9).all()
    assert (placed[:, :, 1] >= 10 - 1e-9).all()


def test_deforming_moves_pixels_by_what_was_drawn_and_changes_no_other_draw() -> None:
    change = MaskAugmentation(crop=(40, 30), elastic=4.0, spacing=10)
    moved = change.moved(400, 1, 2)
    assert moved is not None
    assert moved.shape == (400, 2, 40, 30)
    assert moved[:, :, ::39, ::29].std().item() == pytest.approx(4.0, rel=0.05)  # on the points of the grid
    assert moved.mean().item() == pytest.approx(0.0, abs=0.1)
    step = moved.diff(dim=3).abs().max().item()
    assert step < 4.0 * 4 / 10 * 2  # neighbours stay neighbours: between points 10 pixels apart it is smooth
    few, other = change.moved(3, 1, 2), change.moved(3, 1, 3)
    assert few is not None
    assert other is not None
    assert torch.equal(moved[:3], few)
    assert not torch.equal(few, other)
    plain = MaskAugmentation(crop=(8, 8), flip="all", scale=1.5)
    deformed = MaskAugmentation(crop=(8, 8), flip="all", scale=1.5, elastic=3.0)
    assert plain.moved(3, 0, 0) is None
    assert torch.equal(plain.maps(5, (20, 30), 0, 0), deformed.maps(5, (20, 30), 0, 0))


def test_colours_leave_masks_alone_and_give_values_up_to_one() -> None:
    plain, coloured = (MaskAugmentation(crop=(8, 8), colour=colour)(batch(), 1, 1) for colour in (0.0, 0.5))
    assert torch.equal(target_of(plain), target_of(coloured))
    pictures = coloured.inputs[0]
    assert not pictures.is_floating_point() or pictures.max() <= 1.0


def test_draws_depend_on_the_place_in_the_batch_alone() -> None:
    change = MaskAugmentation(crop=(8, 8), scale=1.5, turn=10.0, flip="all", seed=3)
    one, other = batch(seed=0), batch(seed=1)
    other.inputs[0][2], target_of(other)[2] = one.inputs[0][2], target_of(one)[2]
    assert torch.equal(target_of(change(one, 0, 1))[2], target_of(change(other, 0, 1))[2])
