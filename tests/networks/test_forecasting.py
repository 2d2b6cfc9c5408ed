"""What every network that forecasts promises, and what is special about each body."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from sounding.networks import NETWORKS
from sounding.networks.forecasting import Forecaster, Linear, TemporalConvolution

LENGTH, TARGETS, COVARIATES, HORIZON, OUT, ROWS = 30, 2, 3, 5, 4, 6
SMALL: dict[str, dict[str, Any]] = {
    "lstm_forecaster": {"hidden_size": 16},
    "tcn_forecaster": {"hidden_size": 8},
    "nbeats_forecaster": {"hidden_size": 16, "blocks": 2, "layers": 2},
    "patch_transformer_forecaster": {"depth": 1},
}


def make(name: str, seed: int = 0, covariates: int = COVARIATES, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"length": LENGTH, "targets": TARGETS, "horizon": HORIZON}
    return NETWORKS[name].build(TARGETS + covariates, OUT, **sizes, **{**SMALL.get(name, {}), **options})


def series(rows: int = ROWS, covariates: int = COVARIATES) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(rows, TARGETS + covariates, LENGTH)


@pytest.fixture(params=[name for name, family in NETWORKS.items() if family.answers == "forecasts"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("covariates", [0, COVARIATES])
def test_the_documented_shape(name: str, covariates: int) -> None:
    network = make(name, covariates=covariates).eval()
    assert network(series(covariates=covariates)).shape == (ROWS, TARGETS, HORIZON, OUT)


def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network = make(name)
    network(series()).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_save_and_load_agree_bit_for_bit(name: str) -> None:
    network, other = make(name).eval(), make(name, seed=7).eval()
    assert not torch.equal(network(series()), other(series()))
    other.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(network(series()), other(series()))


def test_no_window_and_no_target_sees_another(name: str) -> None:
    network, given = make(name).eval(), series()
    changed = given.clone()
    changed[0, 0] = torch.randn(LENGTH)
    before, after = network(given), network(changed)
    assert not torch.allclose(before[0, 0], after[0, 0])
    torch.testing.assert_close(after[1:], before[1:])
    torch.testing.assert_close(after[0, 1], before[0, 1])


def test_covariates_reach_every_target(name: str) -> None:
    network, given = make(name).eval(), series()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)  # some begin with zeros
    changed = given.clone()
    changed[:, -1] += 1
    assert (network(changed) != network(given)).flatten(2).any(2).all()


@pytest.mark.parametrize(("normalization", "scale"), [("reversible", 50.0), ("last", 1.0)])
def test_shift_and_scale_of_a_window_come_out_again(name: str, normalization: str, scale: float) -> None:
    network, given = make(name, normalization=normalization).double().eval(), series().double()
    changed = given.clone()
    changed[:, :TARGETS] = given[:, :TARGETS] * scale + 300.0
    torch.testing.assert_close(network(changed), network(given) * scale + 300.0, rtol=1e-3, atol=1e-3)


def test_a_constant_window_is_no_fault(name: str) -> None:
    network = make(name).eval()
    assert network(torch.ones(2, TARGETS + COVARIATES, LENGTH)).isfinite().all()


def test_a_few_windows_can_be_learnt_by_heart(name: str) -> None:
    network, given = make(name, dropout=0.0) if "dropout" in NETWORKS[name].options else make(name), series()
    target = torch.randn(ROWS, TARGETS, HORIZON, OUT)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(150):
        loss = (network(given) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def test_it_is_exported_for_batches_of_any_size(name: str) -> None:
    network = make(name).eval()
    if name == "lstm_forecaster":
        pytest.skip("its state is made for the batch at hand")
    graph = torch.export.export(network, (series(),), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},)).module()
    torch.testing.assert_close(graph(series(9)), network(series(9)), rtol=1e-4, atol=1e-5)


def test_the_linear_body_is_a_moving_mean_and_the_rest() -> None:
    body, given = Linear(0, 10, 3, window=4), torch.randn(2, 1, 10)
    padded = np.pad(given[:, 0].numpy(), ((0, 0), (1, 2)), mode="edge")
    trend = np.stack([padded[:, at : at + 4].mean(1) for at in range(10)], 1)
    rest = given[:, 0].numpy() - trend
    expected = trend @ body.trend.weight.detach().numpy().T + body.trend.bias.detach().numpy()
    expected = expected + rest @ body.rest.weight.detach().numpy().T + body.rest.bias.detach().numpy()
    np.testing.assert_allclose(body(given).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_see_the_whole_window_and_nothing_later() -> None:
    torch.manual_seed(0)
    body = TemporalConvolution(0, 30, 3, hidden_size=8, width=3, dropout=0.0)
    given = torch.randn(1, 1, 30, requires_grad=True)
    body(given).sum().backward()
    assert given.grad is not None
    assert (given.grad != 0).float().mean() > 0.9  # from the first point on; a unit may be off
    inner = body.blocks(torch.cat([given.detach(), torch.randn(1, 1, 5)], 2))[..., :30]
    torch.testing.assert_close(inner, body.blocks(given.detach()))


def test_another_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="reversible, last or none"):
        Forecaster(nn.Identity(), 1, 1, 1, "batch")
