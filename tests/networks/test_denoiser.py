"""Denoisers at many strengths: what they tell of densities that are known."""

from __future__ import annotations

import pytest
import torch

from sounding.networks import TableDenoiser


def trained(
    numbers: torch.Tensor, categories: torch.Tensor, cardinalities: list[int], steps: int = 400
) -> TableDenoiser:
    torch.manual_seed(0)
    network = TableDenoiser(numbers.shape[1], cardinalities, 1, hidden_sizes=[64, 64], strengths=4)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(steps):
        rows = torch.randint(len(numbers), (256,))
        optimizer.zero_grad()
        network(numbers[rows], categories[rows]).mean().backward()
        optimizer.step()
    return network.eval()


def test_of_a_normal_distribution_the_distance_is_known() -> None:
    """The best denoiser of x ~ N(0, 1) moves x by x s^2 / (1 + s^2), which is the unit: x^2 at each strength."""
    draw = torch.Generator().manual_seed(1)
    network = trained(torch.randn(4000, 1, generator=draw), torch.empty(4000, 0), [])
    x = torch.linspace(-2.0, 2.0, 9)[:, None]
    torch.testing.assert_close(network(x, torch.empty(9, 0)), x.square(), atol=0.25, rtol=0.25)


def test_rows_whose_columns_do_not_go_together_are_strange() -> None:
    draw = torch.Generator().manual_seed(2)
    one = torch.randn(4000, 1, generator=draw)
    network = trained(torch.cat([one, one], 1), torch.empty(4000, 0), [], steps=600)
    together, apart = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -1.0]])
    nothing = torch.empty(1, 0)
    assert network(apart, nothing).mean() > 3 * network(together, nothing).mean()


def test_a_rare_category_is_strange_and_told_by_its_own_column() -> None:
    draw = torch.Generator().manual_seed(3)
    codes = (torch.rand(4000, 1, generator=draw) < 0.05).long()
    network = trained(torch.randn(4000, 1, generator=draw), torch.cat([codes, codes * 0], 1), [2, 3])
    usual = network(torch.zeros(1, 1), torch.tensor([[0, 0]]))[0]
    rare = network(torch.zeros(1, 1), torch.tensor([[1, 0]]))[0]
    assert rare[1] > usual[1] + 0.5
    assert rare.argmax() == 1
    assert abs(rare[2] - usual[2]) < 0.1


def test_evaluation_draws_nothing_and_training_does() -> None:
    network = TableDenoiser(2, [3], 1, hidden_sizes=[8])
    inputs = torch.ones(4, 2), torch.ones(4, 1, dtype=torch.int64)
    assert not torch.equal(network(*inputs), network(*inputs))
    network.eval()
    assert torch.equal(network(*inputs), network(*inputs))


def test_impossible_strengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from 2.0 to 1.0"):
        TableDenoiser(2, [], 1, weakest=2.0, strongest=1.0)
