"""Every loss against its formula, written out row by row, and penalties against slopes that are known."""

from __future__ import annotations

import math

import pytest
import torch

from sounding.tasks.adversarial_losses import LOSSES, gradient_penalty, zero_centred_penalty

REAL, MADE = torch.tensor([0.3, -1.5, 2.0]), torch.tensor([-0.2, 1.2, -3.0])


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXPECTED = {
    "non_saturating": (
        mean([-math.log(sigmoid(r)) for r in REAL.tolist()]) + mean([-math.log(1 - sigmoid(m)) for m in MADE.tolist()]),
        mean([-math.log(sigmoid(m)) for m in MADE.tolist()]),
    ),
    "wasserstein": (mean(MADE.tolist()) - mean(REAL.tolist()), -mean(MADE.tolist())),
    "hinge": (
        mean([max(0.0, 1 - r) for r in REAL.tolist()]) + mean([max(0.0, 1 + m) for m in MADE.tolist()]),
        -mean(MADE.tolist()),
    ),
    "relativistic": (
        mean([-math.log(sigmoid(r - m)) for r, m in zip(REAL.tolist(), MADE.tolist(), strict=True)]),
        mean([-math.log(sigmoid(m - r)) for r, m in zip(REAL.tolist(), MADE.tolist(), strict=True)]),
    ),
}


def test_every_loss_has_its_formula_here() -> None:
    assert set(LOSSES) == set(EXPECTED)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_papers(name: str) -> None:
    loss, (discriminator, generator) = LOSSES[name], EXPECTED[name]
    assert loss.discriminator(REAL, MADE).item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(REAL, MADE).item() == pytest.approx(generator, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_players_want_opposite_things(name: str) -> None:
    real, made = REAL.clone().requires_grad_(), MADE.clone().requires_grad_()
    LOSSES[name].discriminator(real, made).backward()
    assert (real.grad <= 0).all()
    assert (made.grad >= 0).all()
    made.grad = None
    LOSSES[name].generator(REAL, made).backward()
    assert (made.grad < 0).all()


def test_the_zero_centred_penalty_is_half_the_mean_squared_slope_at_both() -> None:
    real, made = torch.randn(5, 3), torch.randn(7, 3)
    matrix = torch.randn(3, 3)
    found = zero_centred_penalty(lambda x: ((x @ matrix) ** 2).sum(1), real, made)
    slopes = [2 * x @ matrix @ matrix.T for x in (real, made)]
    torch.testing.assert_close(found, sum(0.5 * slope.square().sum(1).mean() for slope in slopes))


def test_the_gradient_penalty_wants_slopes_of_one() -> None:
    real, made = torch.randn(5, 2, 3, 3), torch.randn(5, 2, 3, 3)
    for slope in (1.0, 3.0):
        direction = torch.randn(18)
        direction = slope * direction / direction.norm()
        found = gradient_penalty(lambda x, d=direction: x.flatten(1) @ d, real, made)
        assert found.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_the_gradient_penalty_looks_between_the_two() -> None:
    real, made = torch.zeros(400, 1), torch.full((400, 1), 4.0)
    torch.manual_seed(0)
    places: list[torch.Tensor] = []

    def judge(x: torch.Tensor) -> torch.Tensor:
        places.append(x.detach())
        return (x**2).sum(1)

    gradient_penalty(judge, real, made)
    assert 0 <= places[0].min() < 0.1
    assert 3.9 < places[0].max() <= 4
    assert places[0].mean().item() == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("penalty", [zero_centred_penalty, gradient_penalty])
def test_penalties_have_a_gradient_in_the_weights_and_none_in_the_examples(penalty) -> None:
    judge = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    real = torch.randn(5, 3, requires_grad=True)
    penalty(lambda x: judge(x)[:, 0], real, torch.randn(5, 3)).backward()
    assert judge[0].weight.grad.abs().sum() > 0
    assert real.grad is None
    with torch.no_grad():  # as in a validation
        assert penalty(lambda x: judge(x)[:, 0], real, torch.randn(5, 3)).item() > 0
