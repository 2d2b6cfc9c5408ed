from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import (
    INITIALIZATIONS,
    ConvolutionalNetwork,
    FeedForward,
    ResNet,
    TransformerNetwork,
    initialize,
    initialize_from_data,
)

IN, OUT = 400, 600
VARIANCES = {
    "default": 1 / (3 * IN),
    "xavier": 2 / (IN + OUT),
    "glorot": 2 / (IN + OUT),
    "he": 2 / IN,
    "kaiming": 2 / IN,
    "lecun": 1 / IN,
    "lsuv": 1 / OUT,  # as orthogonal, before it sees data
    "orthogonal": 1 / OUT,  # the longer side: IN orthonormal columns of OUT entries
}


def is_normal(weight: Tensor) -> bool:
    """A uniform draw ends at the square root of 3 deviations; a normal one of this many does not."""
    return bool(weight.abs().max() > 2 * weight.std())


@pytest.mark.parametrize("name", INITIALIZATIONS)
def test_variances_are_the_closed_forms(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(IN, OUT)
    initialize(layer, name)
    assert abs(layer.weight.mean().item()) < 1e-3
    assert layer.weight.var().item() == pytest.approx(VARIANCES[name.split("_")[0]], rel=0.02)
    if "_" in name:
        assert is_normal(layer.weight) == name.endswith("normal")
    if name != "default":
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("name", "variance"), [("he", 2 / (16 * 9)), ("lecun", 1 / (16 * 9)), ("xavier", 2 / (80 * 9))]
)
def test_a_convolution_counts_its_window(name: str, variance: float) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 64, 3)
    initialize(layer, name)
    assert layer.weight.var().item() == pytest.approx(variance, rel=0.05)


def test_he_keeps_the_size_of_a_signal_through_relu_and_xavier_loses_it() -> None:
    sizes = {}
    for name in ("he", "xavier"):
        torch.manual_seed(0)
        network = nn.Sequential(*(layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.ReLU())))
        initialize(network, name)
        sizes[name] = network(torch.randn(64, 256)).square().mean().item()
    assert 0.3 < sizes["he"] < 3.0
    assert sizes["xavier"] < 1e-4


def test_each_gate_of_a_recurrent_layer_is_orthogonal_by_itself() -> None:
    layer = nn.LSTM(16, 16, num_layers=2, bidirectional=True)
    initialize(layer, "orthogonal")
    for gate in layer.weight_hh_l1_reverse.split(16):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)
    assert not layer.bias_ih_l0.any()


def test_default_leaves_everything_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Conv1d(2, 2, 3), nn.GRU(2, 3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    initialize(network, "default")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_norms_and_embeddings_are_left_alone() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Embedding(5, 3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    initialize(network, "he")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'unknown initialization "xaver"; did you mean "xavier"\?'):
        initialize(nn.Linear(2, 2), "xaver")


# From data


def outputs_of(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """What each linear and convolutional layer gives, batch norms taking the statistics of the batch."""
    found: dict[str, Tensor] = {}
    for name, layer in network.named_modules():
        layer.train(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d))
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(lambda _, __, outputs, name=name: found.setdefault(name, outputs.detach()))
    network(inputs)
    return found


ROWS = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 5, 0.1, 1, 1]) + 1
PICTURES = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(1, 50, (32, 9), generator=torch.Generator().manual_seed(0))
FROM_DATA: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "deep": (lambda: FeedForward(6, 3, hidden_sizes=[32] * 12, dropout=0.5), ROWS),
    "sigmoid": (lambda: FeedForward(6, 3, hidden_sizes=[32] * 5, activation="sigmoid"), ROWS),
    "normed": (lambda: FeedForward(6, 3, hidden_sizes=[32] * 3, normalization="batch", skip_connections=True), ROWS),
    "convolutional": (lambda: ConvolutionalNetwork(3, 5, picture_size=(12, 12), hidden_sizes=[8, 16]), PICTURES),
    "residual": (lambda: ResNet(3, 5, picture_size=(12, 12), hidden_sizes=[8, 16], depths=[1, 1]), PICTURES),
    "transformer": (lambda: TransformerNetwork(50, 2, hidden_size=32), TOKENS),
}


@pytest.mark.parametrize("name", FROM_DATA)
def test_from_data_every_layer_gives_variance_one(name: str) -> None:
    torch.manual_seed(0)
    build, inputs = FROM_DATA[name]
    network = build()
    initialize_from_data(network, inputs)
    found = outputs_of(network, inputs)
    assert len(found) == sum(isinstance(layer, nn.Linear | nn.Conv2d) for layer in network.modules())
    for layer, outputs in found.items():
        assert outputs.double().var(correction=0).item() == pytest.approx(1.0, abs=1e-3), layer


def test_from_data_weights_are_orthogonal_up_to_a_factor() -> None:
    network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    initialize_from_data(network, torch.randn(100, 8))
    for layer in (network[0], network[2]):
        product = layer.weight @ layer.weight.T
        torch.testing.assert_close(product, product[0, 0] * torch.eye(len(product)), rtol=1e-4, atol=1e-5)
        assert not layer.bias.any()


def test_from_data_only_weights_change() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)).train()
    network[1].eval()
    statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
    initialize_from_data(network, (ROWS,))
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in network.named_buffers())
    assert [module.training for module in network] == [True, False, True, True]
    assert not any(module._forward_hooks for module in network.modules())


def test_from_data_a_shared_layer_is_scaled_by_its_first_call_and_a_silent_one_not() -> None:
    shared, silent = nn.Linear(6, 6), nn.Linear(6, 2)
    network = nn.Sequential(shared, shared, nn.Threshold(1e9, 0.0), silent)
    initialize_from_data(network, ROWS)
    assert shared(ROWS).var(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(silent.weight @ silent.weight.T, torch.eye(2), rtol=0, atol=1e-5)
