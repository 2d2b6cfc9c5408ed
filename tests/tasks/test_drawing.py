from __future__ import annotations

import numpy as np
import pytest
import torch

from sounding.tasks.drawing import evenly, framed, in_colours, map_of, small


def clouds(size: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    groups = np.arange(90) % 3
    return draw.normal(size=(90, size)) + 20 * np.eye(3, size)[groups], groups


@pytest.mark.parametrize("size", [2, 5])
def test_rows_with_like_codes_are_neighbours(size: int) -> None:
    codes, groups = clouds(size)
    drawn = map_of(codes, None, groups, ["a", "b", "c"])
    assert drawn is not None
    assert drawn["laid_out"] is (size != 2)
    places = np.stack([drawn["x"], drawn["y"]], 1)
    assert places.min() == 0
    assert places.max() == 1
    distances = np.square(places[:, None] - places[None]).sum(2) + 9 * np.eye(90)
    assert (groups[distances.argmin(1)] == groups).mean() > 0.95


def test_codes_of_two_numbers_are_the_map() -> None:
    codes = np.array([[0.0, 3.0], [1.0, 5.0], [2.0, 4.0]] * 4)
    drawn = map_of(codes, None, None, [])
    assert drawn is not None
    assert drawn["x"][:3].tolist() == [0.0, 0.5, 1.0]
    assert drawn["y"][:3].tolist() == [0.0, 1.0, 0.5]


def test_of_many_rows_some_are_drawn_and_of_few_none() -> None:
    draw = np.random.default_rng(0)
    drawn = map_of(draw.normal(size=(5000, 2)), None, np.arange(5000), [])
    assert drawn is not None
    assert len(drawn["x"]) == 1000
    assert drawn["group"][[0, -1]].tolist() == [0, 4999]
    assert map_of(draw.normal(size=(7, 2)), None, None, []) is None
    assert map_of(np.zeros((20, 2)), None, None, []) is not None  # a network that collapsed


def test_pictures_do_not_cover_each_other() -> None:
    draw = np.random.default_rng(0)
    drawn = map_of(draw.normal(size=(500, 2)), draw.integers(0, 255, (500, 1, 4, 4), np.uint8), None, [])
    assert drawn is not None
    places = np.array([[one["x"], one["y"]] for one in drawn["pictures"]])
    distances = np.abs(places[:, None] - places[None]).max(2) + np.eye(len(places))
    assert distances.min() > 0.08
    assert len(places) > 30


def test_large_pictures_are_shown_small() -> None:
    picture = np.zeros((3, 200, 100), np.uint8)
    picture[:, 100:] = 200
    assert small(picture).shape == (3, 64, 32)
    assert small(picture)[0, [0, -1], 0].tolist() == [0, 200]
    assert small(picture[:1, :10, :10]).shape == (1, 10, 10)


def test_places_are_spread_evenly() -> None:
    assert evenly(3, 10).tolist() == [0, 1, 2]
    assert evenly(0, 10).tolist() == []
    assert evenly(101, 3).tolist() == [0, 50, 100]


def test_the_frame_of_a_box_lies_on_its_border() -> None:
    drawn = framed(torch.full((1, 8, 10), 9, dtype=torch.uint8), [((2.0, 1.0, 6.0, 4.0), (200, 100, 50))])
    expected = np.full((8, 10, 3), 9)
    expected[1, 2:7] = expected[4, 2:7] = expected[1:5, 2] = expected[1:5, 6] = (200, 100, 50)
    np.testing.assert_array_equal(drawn.movedim(0, 2).numpy(), expected)


def test_a_frame_that_reaches_out_of_its_picture_is_drawn_at_its_border() -> None:
    drawn = framed(torch.zeros(3, 6, 6), [((-3.0, -3.0, 2.0, 20.0), (255, 255, 255))])
    expected = np.zeros((6, 6), dtype=np.uint8)
    expected[:, 0] = expected[:, 2] = expected[0, :3] = expected[5, :3] = 255
    np.testing.assert_array_equal(drawn[0].numpy(), expected)


def test_pictures_get_three_colours_of_0_to_255() -> None:
    assert in_colours(torch.full((1, 2, 2), 7, dtype=torch.uint8)).tolist() == torch.full((3, 2, 2), 7.0).tolist()
    assert in_colours(torch.ones(5, 2, 2)).tolist() == torch.full((3, 2, 2), 255.0).tolist()
