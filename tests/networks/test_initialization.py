from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import INITIALIZATIONS, initialize

IN, OUT = 400, 600
VARIANCES = {
    "default": 1 / (3 * IN),
    "xavier": 2 / (IN + OUT),
    "glorot": 2 / (IN + OUT),
    "he": 2 / IN,
    "kaiming": 2 / IN,
    "lecun": 1 / IN,
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
