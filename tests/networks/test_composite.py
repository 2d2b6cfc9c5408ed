from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import (
    CompositeNetwork,
    ConvolutionalNetwork,
    TabularEnsemble,
    TabularFeedForward,
    TextConvolution,
)


def make_inputs() -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    tokens = torch.randint(1, 30, (4, 6))
    return torch.randn(4, 2), torch.randint(3, (4, 1)), torch.randn(4, 1, 8, 8), tokens


def make_network(table: type[nn.Module] = TabularFeedForward) -> CompositeNetwork:
    torch.manual_seed(0)
    return CompositeNetwork(
        [
            (table(2, [3], 1, hidden_sizes=[8]), 2),
            (ConvolutionalNetwork(1, 1, picture_size=(8, 8), hidden_sizes=[4, 6]), 1),
            (TextConvolution(30, 1, hidden_size=5), 1),
        ],
        3,
    )


def test_features_stand_side_by_side() -> None:
    network, inputs = make_network().eval(), make_inputs()
    table, picture, text = network.parts
    expected = torch.cat(
        [
            table.forward_features(*inputs[:2]),
            picture.forward_features(inputs[2]),
            text.forward_features(inputs[3]),
        ],
        1,
    )
    assert network.num_features == 8 + 6 + 15
    assert torch.equal(network.forward_features(*inputs), expected)
    assert torch.equal(network(*inputs), network.head(expected))


def test_members_of_an_ensemble_are_averaged() -> None:
    network, inputs = make_network(TabularEnsemble).eval(), make_inputs()
    ensemble = network.parts[0].forward_features(*inputs[:2])
    assert ensemble.shape == (4, 8, 8)
    assert torch.equal(network.forward_features(*inputs)[:, :8], ensemble.mean(1))


def test_every_parameter_is_trained_since_the_parts_lose_their_heads() -> None:
    network, inputs = make_network(), make_inputs()
    network(*inputs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not any("parts" in name and "head" in name for name, _ in network.named_parameters())


def test_every_input_is_read() -> None:
    network, inputs = make_network().eval(), make_inputs()
    before = network(*inputs)
    for place, tensor in enumerate(inputs):
        changed = list(inputs)
        changed[place] = tensor.flip(0)
        assert not torch.allclose(network(*changed), before)


def test_a_wrong_number_of_inputs_is_told() -> None:
    with pytest.raises(ValueError, match=r"there are 2 inputs, and the parts take \[2, 1, 1\]"):
        make_network()(*make_inputs()[:2])
