from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.networks import ACTIVATIONS, FeedForward, PictureFeedForward


def test_without_hidden_layers_it_is_linear() -> None:
    network = FeedForward(4, 3, hidden_sizes=[])
    x = torch.randn(5, 4)
    assert network.num_features == 4
    torch.testing.assert_close(network(x), x @ network.head.weight.T + network.head.bias)


def test_two_hidden_layers_are_the_textbook_formula() -> None:
    network = FeedForward(4, 3, hidden_sizes=[6, 5], activation="tanh")
    w1, b1, w2, b2, w3, b3 = network.parameters()
    x = torch.randn(7, 4)
    expected = torch.tanh(torch.tanh(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    torch.testing.assert_close(network(x), expected)


def test_skip_connections_add_the_input() -> None:
    network = FeedForward(4, 3, hidden_sizes=[4, 6], skip_connections=True)
    (w1, b1), (w2, b2, shortcut) = (list(layer.parameters()) for layer in network.layers)
    x = torch.randn(7, 4)
    first = x + torch.relu(x @ w1.T + b1)
    second = first @ shortcut.T + torch.relu(first @ w2.T + b2)
    torch.testing.assert_close(network.forward_features(x), second)


def test_skip_connections_let_the_gradient_through_forty_layers() -> None:
    norms = {}
    for skip in (False, True):
        torch.manual_seed(0)
        network = FeedForward(16, 1, hidden_sizes=[16] * 40, activation="sigmoid", skip_connections=skip)
        network(torch.randn(8, 16)).sum().backward()
        norms[skip] = next(network.parameters()).grad.norm().item()
    assert norms[False] < 1e-12
    assert norms[True] > 1e-3


@pytest.mark.parametrize(("name", "module"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_normalization_stands_between_map_and_activation(name: str, module: type[nn.Module]) -> None:
    network = FeedForward(4, 3, hidden_sizes=[6], normalization=name, activation="gelu")
    linear, norm, activation, _ = network.layers[0].inner
    assert isinstance(norm, module)
    assert (linear.bias is None) == (name == "batch")
    x = torch.randn(7, 4)
    hidden = linear(x)
    mean, variance = (
        (hidden.mean(0), hidden.var(0, unbiased=False))
        if name == "batch"
        else (hidden.mean(1, keepdim=True), hidden.var(1, unbiased=False, keepdim=True))
    )
    expected = nn.functional.gelu((hidden - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(network.forward_features(x), expected)
    assert isinstance(activation, nn.GELU)


def test_dropout_blanks_its_share_in_training_alone() -> None:
    network = FeedForward(4, 3, hidden_sizes=[10_000], activation="softplus", dropout=0.3)
    x = torch.randn(1, 4)
    assert (network.forward_features(x) == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (network.eval().forward_features(x) != 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_learns_exclusive_or(activation: str) -> None:
    torch.manual_seed(0)
    network = FeedForward(2, 2, hidden_sizes=[32], activation=activation, initialization="xavier")
    x = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    y = torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert network(x).argmax(1).equal(y)


@pytest.mark.parametrize("name", ["none", "layer", "group", "rms"])
def test_other_normalizations_stand_there_too_and_keep_the_bias(name: str) -> None:
    network = FeedForward(4, 3, hidden_sizes=[6], normalization=name)
    linear, norm, activation, _ = network.layers[0].inner
    assert linear.bias is not None
    kinds = {"none": nn.Identity, "layer": nn.LayerNorm, "group": nn.GroupNorm, "rms": nn.RMSNorm}
    assert isinstance(norm, kinds[name])
    x = torch.randn(7, 4)
    assert torch.equal(network.forward_features(x), activation(norm(linear(x))))


def test_rows_have_no_instances_to_normalize() -> None:
    with pytest.raises(ValueError, match='"instance" needs more than one number'):
        FeedForward(4, 3, normalization="instance")


def test_defaults_are_the_layers_they_have_always_been() -> None:
    """Weights that were saved by older versions must find their names, and draws stay where they were."""
    network = FeedForward(4, 3, hidden_sizes=[6, 5], dropout=0.5)
    names = ["layers.0.inner.0.weight", "layers.0.inner.0.bias", "layers.1.inner.0.weight", "layers.1.inner.0.bias"]
    assert list(network.state_dict()) == [*names, "head.weight", "head.bias"]
    torch.manual_seed(0)
    w1, b1, w2, b2, w3, b3 = (draw for n, m in ((4, 6), (6, 5), (5, 3)) for draw in nn.Linear(n, m).parameters())
    torch.manual_seed(0)
    network = FeedForward(4, 3, hidden_sizes=[6, 5], dropout=0.5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), (w1, b1, w2, b2, w3, b3), strict=True))
    x = torch.randn(7, 4)
    torch.manual_seed(1)
    found = network(x)
    torch.manual_seed(1)
    hidden = nn.functional.dropout(nn.functional.linear(x, w1, b1).relu(), 0.5)
    hidden = nn.functional.dropout(nn.functional.linear(hidden, w2, b2).relu(), 0.5)
    assert torch.equal(found, nn.functional.linear(hidden, w3, b3))


@pytest.mark.parametrize("option", ["activation", "normalization", "initialization"])
def test_unknown_names_are_told(option: str) -> None:
    with pytest.raises(ValueError, match=f'unknown {option} "batchh"'):
        FeedForward(2, 2, **{option: "batchh"})


def test_pictures_are_read_as_rows_of_pixels() -> None:
    network = PictureFeedForward(2, 3, picture_size=(4, 5), hidden_sizes=[6], normalization="none", dropout=0.0)
    plain = FeedForward(40, 3, hidden_sizes=[6])
    plain.load_state_dict(network.state_dict())
    x = torch.randn(7, 2, 4, 5)
    assert torch.equal(network(x), plain(x.reshape(7, 40)))
