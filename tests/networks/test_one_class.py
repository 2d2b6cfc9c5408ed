"""Deep one-class networks: the centre, and what the paper asks of the layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.networks import NETWORKS, OneClass, Standardize, centre_on
from sounding.networks.one_class import NEAR_ZERO


def rows(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(count, 4, generator=draw)
    numbers[:, 1] = numbers[:, 0] + 0.1 * numbers[:, 1]
    return numbers, torch.randint(3, (count, 1), generator=draw)


def test_the_centre_is_the_mean_of_the_features_and_away_from_zero() -> None:
    torch.manual_seed(0)
    network = NETWORKS["one_class"].build(4, [3], 64).train()
    centre_on(network, *rows(100))
    mean = network.forward_features(*rows(100)).mean(0)
    far = mean.abs() >= NEAR_ZERO
    assert 0 < far.sum() < 64
    torch.testing.assert_close(network.head.centre[far], mean[far])
    torch.testing.assert_close(network.head.centre.abs(), mean.abs().clamp(min=NEAR_ZERO))
    assert network.training
    before = network.head.centre.clone()
    network(*rows(10, seed=1))
    assert torch.equal(network.head.centre, before)


def test_the_centre_is_found_inside_a_wrapper_and_others_are_left_alone() -> None:
    inner = NETWORKS["picture_one_class"].build(1, 4, picture_size=(8, 8))
    pictures = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    centre_on(nn.Sequential(Standardize([0.5], [0.25]), inner), pictures)
    assert not torch.equal(inner.head.centre, torch.ones(4))
    linear = nn.Linear(3, 2)
    centre_on(linear, torch.zeros(2, 3))
    assert not linear._forward_pre_hooks


@pytest.mark.parametrize("name", ["one_class", "picture_one_class"])
def test_there_are_no_biases_and_no_shifts(name: str) -> None:
    options = {"picture_size": (8, 8)} if name == "picture_one_class" else {}
    network = NETWORKS[name].build(*((2, 4) if options else (2, [3], 4)), **options)
    assert isinstance(network, OneClass)
    assert not any(key.endswith("bias") for key, _ in network.named_parameters())


def test_trained_it_tells_strange_rows_from_usual_ones() -> None:
    torch.manual_seed(0)
    network = NETWORKS["one_class"].build(4, [3], 16)
    inputs = rows(500)
    centre_on(network, *inputs)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        network(*inputs).sum(1).mean().backward()
        optimizer.step()
    fresh = rows(200, seed=1)
    numbers = fresh[0].clone()
    numbers[:, 1] = -numbers[:, 1].sign() * (1 + numbers[:, 1].abs())  # each column is usual, the pair is not
    usual, strange = network(*fresh).sum(1), network(numbers, fresh[1]).sum(1)
    assert (strange[:, None] > usual).float().mean() > 0.7
