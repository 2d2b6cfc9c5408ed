"""Networks that read histories: nothing later changes what was known before, and the order counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sounding.networks import NETWORKS, HistoryTransformer

USERS, ITEMS = (2, (7, 3)), (1, (9, 4))


@pytest.fixture(params=sorted(name for name, family in NETWORKS.items() if family.answers == "next_items"))
def network(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return NETWORKS[request.param].build(USERS, ITEMS, size=16).eval()


def some(rows: int, steps: int) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    users = torch.randn(rows, 2), torch.ones(rows, 2, dtype=torch.int32)
    codes = torch.stack([torch.randint(1, count, (rows, steps)) for count in ITEMS[1]], -1)
    return (*users, torch.randn(rows, steps, 1), codes)


def test_nothing_later_changes_what_was_known_before(network: Any) -> None:
    numbers, categories, items, codes = some(3, 6)
    met = network.encode_items(items, codes)
    states = network.encode_histories(numbers, categories, met)
    assert states.shape == (3, 7, 1, 17)
    changed = met.clone()
    changed[:, 4:] += 1.0
    after = network.encode_histories(numbers, categories, changed)
    torch.testing.assert_close(after[:, :5], states[:, :5])
    assert not torch.allclose(after[:, 5:], states[:, 5:], atol=1e-3)
    torch.testing.assert_close(network.encode_histories(numbers, categories, met[:, :4]), states[:, :5])
    torch.testing.assert_close(network.encode_users(numbers, categories), states[:, 0])


def test_the_order_of_what_was_met_counts(network: Any) -> None:
    numbers, categories, items, codes = some(2, 5)
    met = network.encode_items(items, codes)
    last = network.encode_histories(numbers, categories, met)[:, -1]
    turned = torch.cat([met[:, [1, 0]], met[:, 2:]], 1)
    assert not torch.allclose(network.encode_histories(numbers, categories, turned)[:, -1], last, atol=1e-4)


def test_every_parameter_learns_from_histories(network: Any) -> None:
    numbers, categories, items, codes = some(4, 5)
    network.train()
    met = network.encode_items(items, codes)
    states = network.encode_histories(numbers, categories, met)
    network.match_all(states[:, -1], met[:, 0]).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="multiple of twice the 2 heads"):
        HistoryTransformer(USERS, ITEMS, size=6)
    with pytest.raises(ValueError, match="give 2 items or more"):
        HistoryTransformer(USERS, ITEMS, longest=1)
