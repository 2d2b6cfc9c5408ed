"""Maps of pictures, masks and boxes, against single pixels that are followed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sounding.data import geometry
from sounding.data.geometry import about, identity, scaled, shifted, then, turned, warp, warp_boxes

ONE = torch.ones(1)


def picture(height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.arange(height * width, dtype=torch.uint8).reshape(1, 1, height, width)


def test_the_identity_changes_no_bit():
    assert torch.equal(warp(picture(), identity(1), (6, 8)), picture())


@pytest.mark.parametrize("nearest", [False, True])
def test_whole_pixels_move_as_they_are(nearest):
    moved = warp(picture(), shifted(2 * ONE, ONE), (6, 8), nearest=nearest, fill=99)
    expected = torch.full_like(picture(), 99)
    expected[:, :, 1:, 2:] = picture()[:, :, :-1, :-2]
    assert torch.equal(moved, expected)


def test_mirrors_and_quarter_turns_are_those_of_numpy():
    mirrored = about((4.0, 3.0), scaled(-ONE, ONE))
    assert torch.equal(warp(picture(), mirrored, (6, 8)), picture().flip(3))
    square = picture(6, 6)
    quarter = warp(square, about((3.0, 3.0), turned(90 * ONE)), (6, 6), nearest=True)
    np.testing.assert_array_equal(quarter[0, 0].numpy(), np.rot90(square[0, 0].numpy()))


def test_twice_the_size_repeats_each_pixel():
    doubled = warp(picture(), scaled(2 * ONE, 2 * ONE), (12, 16), nearest=True)
    assert torch.equal(doubled, picture().repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_each_picture_has_its_own_map():
    two = picture().repeat(2, 1, 1, 1)
    both = warp(two, torch.cat([identity(1), about((4.0, 3.0), scaled(-ONE, ONE))]), (6, 8))
    assert torch.equal(both[0], picture()[0])
    assert torch.equal(both[1], picture()[0].flip(2))


def test_maps_follow_each_other():
    first, second = shifted(3 * ONE, ONE), scaled(2 * ONE, 0.5 * ONE)
    point = torch.tensor([[1.0], [2.0], [1.0]], dtype=torch.float64)
    assert (then(first, second)[0] @ point)[:, 0].tolist() == [8.0, 1.5]


@pytest.mark.parametrize("name", ["shift", "scale", "turn"])
def test_boxes_go_where_their_pixels_go(name):
    """A box is drawn into a mask; what is left of it under the map has the box's borders."""
    centre = (20.0, 16.0)
    change = {
        "shift": shifted(torch.tensor([5.0]), torch.tensor([-4.0])),
        "scale": about(centre, scaled(torch.tensor([1.5]), torch.tensor([0.75]))),
        "turn": about(centre, turned(torch.tensor([90.0]))),
    }[name]
    mask = torch.zeros(1, 1, 32, 40, dtype=torch.uint8)
    mask[:, :, 10:20, 14:26] = 1
    (box,) = warp_boxes(torch.tensor([[[14.0, 10.0, 26.0, 20.0]]]), change, (32, 40))[0].tolist()
    rows, columns = torch.nonzero(warp(mask, change, (32, 40), nearest=True)[0, 0], as_tuple=True)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, [float(edge) for edge in found], atol=0.51)


def test_boxes_outside_have_no_area():
    away = geometry.shifted(torch.tensor([100.0]), torch.tensor([0.0]))
    left, top, right, bottom = warp_boxes(torch.tensor([[[1.0, 1.0, 3.0, 3.0]]]), away, (10, 10))[0, 0].tolist()
    assert (right - left) * (bottom - top) == 0
