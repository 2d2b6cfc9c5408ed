from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from sounding.tasks.tiles import ALL, SIDEWAYS, _starts, probabilities


class OfEachPixel(nn.Module):
    """Logits that depend on the pixel alone: in any tile the same."""

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.cat([pictures, -pictures], 1)


class Sizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = list[tuple[int, ...]]()

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(tuple(pictures.shape[2:]))
        return torch.cat([pictures, -pictures], 1)


@pytest.mark.parametrize("size", [(30, 50), (64, 64), (31, 16), (17, 100)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_say_what_the_whole_says(size: tuple[int, int], overlap: float) -> None:
    picture = torch.randn(1, 1, *size)
    whole = OfEachPixel()(picture).softmax(1)
    network = Sizes()
    torch.testing.assert_close(probabilities(network, picture, tile=16, overlap=overlap), whole)
    assert set(network.seen) == {(16, 16)}
    assert len(network.seen) == len(_starts(size[0], 16, overlap)) * len(_starts(size[1], 16, overlap))


def test_small_pictures_are_not_cut() -> None:
    network, picture = Sizes(), torch.randn(1, 1, 12, 16)
    probabilities(network, picture, tile=16, overlap=0.25)
    probabilities(network, torch.randn(1, 1, 90, 40), tile=0, overlap=0.25)
    assert network.seen == [(12, 16), (90, 40)]


def test_tiles_cover_a_side_and_overlap_as_asked() -> None:
    for length in range(16, 90):
        starts = _starts(length, 16, 0.25)
        assert (starts[0], starts[-1]) == (0, length - 16)
        assert all(0 < after - before <= 12 for before, after in itertools.pairwise(starts))


class LeftOnly(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        shifted = torch.cat([pictures[..., :1], pictures[..., :-1]], 3)
        return torch.cat([shifted, -shifted], 1)


def test_mirrored_is_the_mean_of_both() -> None:
    picture, network = torch.randn(1, 1, 8, 9), LeftOnly()
    there = network(picture).softmax(1)
    back = network(picture.flip(3)).softmax(1).flip(3)
    found = probabilities(network, picture, tile=0, overlap=0.0, views=SIDEWAYS)
    torch.testing.assert_close(found, (there + back) / 2)
    torch.testing.assert_close(
        probabilities(network, picture.flip(3), tile=0, overlap=0.0, views=SIDEWAYS), found.flip(3)
    )


def test_in_eight_views_no_direction_is_another() -> None:
    """What is said of a picture that is turned or mirrored is what is said of the picture, turned or mirrored."""
    picture, network = torch.randn(1, 1, 8, 11), LeftOnly()
    found = probabilities(network, picture, tile=0, overlap=0.0, views=ALL)
    for quarters in range(4):
        for turned, expected in ((picture, found), (picture.flip(3), found.flip(3))):
            there = probabilities(network, torch.rot90(turned, quarters, (2, 3)), tile=0, overlap=0.0, views=ALL)
            torch.testing.assert_close(there, torch.rot90(expected, quarters, (2, 3)))
    neighbours = torch.stack(  # of each pixel what it is told by the one to the left, right, above and below
        [torch.roll(picture, *how) for how in ((1, 3), (-1, 3), (1, 2), (-1, 2))]
    )
    mean = torch.stack([torch.cat([one, -one], 1).softmax(1) for one in neighbours]).mean(0)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], mean[..., 1:-1, 1:-1])
