"""Maps of pictures, masks and boxes, against single pixels that are followed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sounding.data import geometry
from sounding.data.geometry import about, identity, scaled, shifted, smooth, then, turned, warp, warp_boxes

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


def cubic(distance: float) -> float:
    """The weight of a neighbour in cubic convolution (Keys 1981), with a = -0.75 as in PyTorch."""
    a, far = -0.75, abs(distance)
    if far <= 1:
        return (a + 2) * far**3 - (a + 3) * far**2 + 1
    return a * far**3 - 5 * a * far**2 + 8 * a * far - 4 * a if far < 2 else 0.0


def at(vectors: np.ndarray, row: int, column: int, size: tuple[int, int]) -> np.ndarray:
    """The displacement (2,) of one pixel: the sixteen vectors around it, those at the border repeated beyond it."""
    height, width = vectors.shape[1:]
    down, right = row * (height - 1) / (size[0] - 1), column * (width - 1) / (size[1] - 1)
    total = np.zeros(2)
    for y in range(int(np.floor(down)) - 1, int(np.floor(down)) + 3):
        for x in range(int(np.floor(right)) - 1, int(np.floor(right)) + 3):
            near = vectors[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
            total += cubic(down - y) * cubic(right - x) * near
    return total


def test_displacements_are_those_of_a_loop_over_pixels():
    vectors = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (2, 2, 3, 4)))
    found = smooth(vectors, (9, 13))
    for number in range(2):
        for row in range(9):
            for column in range(13):
                expected = at(vectors[number].numpy(), row, column, (9, 13))
                np.testing.assert_allclose(found[number, :, row, column], expected, atol=1e-5)


@pytest.mark.parametrize("nearest", [False, True])
def test_deformed_pictures_are_those_of_a_loop_over_pixels(nearest):
    """Each pixel of the result is looked up where it was displaced to, under the inverse of its map."""
    draws, size, fill = np.random.default_rng(1), (10, 14), 9
    shown = torch.from_numpy(draws.uniform(0, 100, (2, 1, 12, 16)))
    maps = then(
        about((8.0, 6.0), turned(torch.tensor([20.0, -35.0]))), scaled(torch.tensor([1.3, -0.8]), torch.ones(2))
    )
    maps = then(maps, shifted(torch.tensor([-1.0, 13.0]), torch.tensor([-2.0, 0.5])))
    moved = smooth(torch.from_numpy(draws.normal(0, 2, (2, 2, 3, 3))), size)
    found = warp(shown, maps, size, nearest=nearest, fill=fill, moved=moved)

    def look(number: int, row: int, column: int) -> float:
        inside = 0 <= row < 12 and 0 <= column < 16
        return float(shown[number, 0, row, column]) if inside else float(fill)

    for number in range(2):
        back = np.linalg.inv(np.vstack([maps[number].numpy(), [0, 0, 1]]))
        for row in range(size[0]):
            for column in range(size[1]):
                right, down = moved[number, :, row, column].tolist()
                x, y, _ = back @ [column + 0.5 + right, row + 0.5 + down, 1.0] - [0.5, 0.5, 0.0]
                if nearest:
                    expected = look(number, round(y), round(x))
                else:
                    top, left = int(np.floor(y)), int(np.floor(x))
                    expected = sum(
                        (1 - abs(y - r)) * (1 - abs(x - c)) * look(number, r, c)
                        for r in (top, top + 1)
                        for c in (left, left + 1)
                    )
                assert float(found[number, 0, row, column]) == pytest.approx(expected, abs=1e-2)
