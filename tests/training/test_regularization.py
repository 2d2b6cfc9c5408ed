from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, Ridge
from torch import nn

from sounding.recipe import OptimizerRecipe
from sounding.training.optimizers import parameter_groups
from sounding.training.regularization import add_noise, penalty


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 6)) * [1, 2, 0.5, 1, 1, 1]
    y = x @ [1.5, -0.4, 0, 0.05, 0, 2] + 0.7 + 0.1 * draw.normal(size=60)
    return torch.from_numpy(x), torch.from_numpy(y)


def trained(l1: float, l2: float) -> nn.Linear:
    """A linear layer after full-batch gradient descent with ever smaller steps."""
    x, y = rows()
    torch.manual_seed(0)
    layer = nn.Linear(6, 1).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    for step in range(3000):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 3000) ** 2
        optimizer.zero_grad()
        loss = (layer(x).squeeze(1) - y).square().mean() + penalty([layer.weight], l1, l2)
        loss.backward()
        optimizer.step()
    return layer


def test_l1_finds_the_lasso_of_scikit_learn() -> None:
    layer = trained(0.3, 0.0)
    x, y = rows()
    oracle = Lasso(alpha=0.15, tol=1e-10).fit(x.numpy(), y.numpy())  # its squares are halved
    np.testing.assert_allclose(layer.weight[0].detach(), oracle.coef_, atol=2e-4)
    assert layer.bias.item() == pytest.approx(oracle.intercept_, abs=2e-4)
    assert (oracle.coef_ == 0).any()


def test_l2_finds_the_ridge_of_scikit_learn() -> None:
    layer = trained(0.0, 0.4)
    x, y = rows()
    oracle = Ridge(alpha=60 * 0.2).fit(x.numpy(), y.numpy())  # its squares are summed over rows, and not halved
    np.testing.assert_allclose(layer.weight[0].detach(), oracle.coef_, atol=1e-6)
    assert layer.bias.item() == pytest.approx(oracle.intercept_, abs=1e-6)


def test_gradients_are_the_closed_forms() -> None:
    weights = [torch.tensor([[1.0, -2.0], [0.0, 3.0]]).requires_grad_(), torch.tensor([-0.5]).requires_grad_()]
    value = penalty(weights, 0.1, 0.2)
    assert value.item() == pytest.approx(0.1 * 6.5 + 0.1 * 14.25)
    value.backward()
    for weight in weights:
        torch.testing.assert_close(weight.grad, 0.1 * weight.detach().sign() + 0.2 * weight.detach())


def test_l2_in_the_loss_of_plain_descent_is_the_weight_decay_of_torch() -> None:
    x, y = rows()
    ours, theirs = nn.Linear(6, 1).double(), nn.Linear(6, 1).double()
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": [theirs.weight], "weight_decay": 0.3}, {"params": [theirs.bias]}]
    optimizers = torch.optim.SGD(ours.parameters(), lr=0.05), torch.optim.SGD(groups, lr=0.05)
    for _ in range(10):
        for layer, optimizer, l2 in zip((ours, theirs), optimizers, (0.3, 0.0), strict=True):
            optimizer.zero_grad()
            ((layer(x).squeeze(1) - y).square().mean() + penalty([layer.weight], 0.0, l2)).backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_norms_biases_and_embeddings_are_no_part_of_it() -> None:
    network = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm((4, 4)), nn.BatchNorm1d(4))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 2.0)
    groups = parameter_groups(network, OptimizerRecipe())
    decayed = [p for group in groups if group["decays"] for p in group["params"]]
    assert penalty(decayed, 1.0, 0.0).item() == 2.0 * 16


def test_without_weights_or_without_a_factor_there_is_no_penalty() -> None:
    assert penalty([], 1.0, 1.0).item() == 0.0
    assert penalty([torch.ones(3)], 0.0, 0.0).item() == 0.0


# Noise


def test_noise_has_its_deviation_and_no_mean() -> None:
    torch.manual_seed(0)
    values = torch.linspace(-3, 3, 100_000)
    before = values.clone()
    noise = add_noise(values, 0.25) - values
    assert torch.equal(values, before)
    assert noise.mean().item() == pytest.approx(0.0, abs=4 * 0.25 / math.sqrt(100_000))
    assert noise.std().item() == pytest.approx(0.25, rel=0.01)
    assert (noise.abs() < 0.25).float().mean().item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.01)
    assert abs(torch.corrcoef(torch.stack([noise, values]))[0, 1]) < 0.02


def test_noise_is_a_function_of_the_seed() -> None:
    values = torch.zeros(10)
    torch.manual_seed(3)
    once, again = add_noise(values, 1.0), add_noise(values, 1.0)
    torch.manual_seed(3)
    assert torch.equal(add_noise(values, 1.0), once)
    assert not torch.equal(once, again)


def test_noise_on_the_inputs_is_the_ridge_of_bishop() -> None:
    """For a linear model the mean over the noise of the squared error is that without, plus variance times |w|²."""
    x, y = rows()
    torch.manual_seed(0)
    weight = torch.randn(6, dtype=torch.float64)
    noisy = torch.stack([(add_noise(x, 0.5) @ weight - y).square().mean() for _ in range(4000)]).mean()
    expected = (x @ weight - y).square().mean() + penalty([weight], 0.0, 2 * 0.25)
    assert noisy.item() == pytest.approx(expected.item(), rel=0.01)


# Dropout


def test_dropout_keeps_the_mean() -> None:
    """What is left is scaled up, so that evaluation needs no correction (Srivastava et al. 2014, section 10)."""
    torch.manual_seed(0)
    dropout = nn.Dropout(0.4)
    values = dropout(torch.ones(100_000))
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert values.mean().item() == pytest.approx(1.0, abs=0.01)
