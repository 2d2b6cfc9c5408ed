"""What networks that recommend promise; and matrix factorisation against the formula of its paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from sounding.networks import NETWORKS, MatrixFactorization

USERS, ITEMS = (2, (7, 3)), (1, (9, 4))
ROWS = 6


def make(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return NETWORKS[name].build(USERS, ITEMS)


def some(rows: int = ROWS) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    sides = []
    for numbers, cardinalities in (USERS, ITEMS):
        codes = torch.stack([torch.randint(1, count, (rows,)) for count in cardinalities], 1)
        sides += [torch.randn(rows, numbers), codes.int()]
    return tuple(sides)


@pytest.fixture(params=sorted(name for name, family in NETWORKS.items() if family.takes == "interactions"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_all_pairs_are_the_pairs(name: str) -> None:
    network, inputs = make(name).eval(), some()
    scores = network(*inputs)
    assert scores.shape == (ROWS, network.members)
    users, items = network.encode_users(*inputs[:2]), network.encode_items(*inputs[2:])
    pairs = network.match_all(users, items)
    assert pairs.shape == (ROWS, ROWS, network.members)
    torch.testing.assert_close(pairs[torch.arange(ROWS), torch.arange(ROWS)], scores)
    for row in range(ROWS):
        torch.testing.assert_close(network.match(users[row : row + 1], items), pairs[row])


def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = make(name)
    network(*some()).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_rows_are_apart_and_weights_are_all_there_is(name: str) -> None:
    network, inputs = make(name).eval(), some()
    other = make(name, seed=2).eval()
    other.load_state_dict(load(save(network.state_dict())))
    torch.testing.assert_close(other(*(tensor[:1] for tensor in inputs)), network(*inputs)[:1])


def test_unknown_users_are_told_by_their_columns_alone(name: str) -> None:
    network = make(name).eval()
    inputs = list(some())
    inputs[1] = inputs[1].clone()
    inputs[1][:, 0] = 0
    before = network(*inputs)
    with torch.no_grad():
        if network.users.own is not None:
            network.users.own.add_(1.0)
        if hasattr(network, "more_users"):
            network.more_users.own.add_(1.0)
    torch.testing.assert_close(network(*inputs), before)
    inputs[0] = inputs[0] + 1
    assert not torch.equal(network(*inputs), before)


def test_factors_and_biases() -> None:
    """Equation 4 of Koren, Bell and Volinsky 2009: mean, what both are worth, and the product of their factors."""
    torch.manual_seed(0)
    network = MatrixFactorization((0, (5,)), (0, (6,)), members=2, size=3).eval()
    none = torch.zeros(1, 0)
    for member in range(2):
        user = network.users.own.detach().view(5, 2, 4)[3, member]
        item = network.items.own.detach().view(6, 2, 4)[4, member]
        by_hand = sum(float(user[k] * item[k]) for k in range(3)) + float(user[3] + item[3])
        score = network(none, torch.tensor([[3]]), none, torch.tensor([[4]]))[0, member].detach()
        assert float(score) == pytest.approx(by_hand, rel=1e-5)


def test_while_training_some_are_taken_for_unknown() -> None:
    network = MatrixFactorization((0, (5,)), (0, (6,)), members=1, size=3, unknown=0.5)
    torch.manual_seed(0)
    vectors = network.users(torch.zeros(2000, 0), torch.full((2000, 1), 2))
    share = float((vectors == 0).all(-1).float().mean())
    assert 0.45 < share < 0.55
