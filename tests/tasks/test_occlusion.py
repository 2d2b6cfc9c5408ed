"""What moves a distance, where that is known by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sounding.tasks.occlusion import by_column, by_pixel


class Squares(nn.Module):
    """(B, 1): weighted squares of numbers, and 5 for each category that is known."""

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        weights = torch.tensor([1.0, 2.0, 3.0])
        return (numbers.square() * weights).sum(1, keepdim=True) + 5 * (categories > 0).sum(1, keepdim=True)


def test_a_column_counts_by_what_the_distance_loses_without_it() -> None:
    numbers = torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 0.0]])
    categories = torch.tensor([[3], [0]])
    found = by_column(Squares(), numbers, categories, [1, 2])  # a column of one feature, and one of two
    assert found.tolist() == [[1.0, 8.0 + 27.0, 5.0], [0.0, 2.0, 0.0]]


def test_nothing_is_written_into_the_rows() -> None:
    numbers, categories = torch.ones(2, 3), torch.ones(2, 1, dtype=torch.int32)
    by_column(Squares(), numbers, categories, [1, 1, 1])
    assert torch.equal(numbers, torch.ones(2, 3))
    assert torch.equal(categories, torch.ones(2, 1, dtype=torch.int32))


def test_a_pixel_counts_by_its_gradient() -> None:
    class Corner(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return -3 * pictures[:, 1, 0, :1] + pictures[:, 0, 0, :1] + pictures[:, 0, 2, 1:2].square()

    pictures = torch.full((1, 2, 3, 2), 51, dtype=torch.uint8)  # 0.2 of white
    (found,) = by_pixel(Corner(), pictures)
    torch.testing.assert_close(found, torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 0.4]]))
