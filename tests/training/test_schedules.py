from __future__ import annotations

import math

import pytest
import torch

from sounding.errors import RecipeError
from sounding.training.schedules import SCHEDULES, WARMUP_START, build_schedule

STEPS = 40


def rates_of(scheduler_of, *, lr: float = 1.0) -> list[float]:
    """The rates that one of PyTorch's schedulers gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = scheduler_of(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(name: str, *, warmup: float = 0.0, steps: int = STEPS) -> list[float]:
    schedule = build_schedule(name, warmup=warmup)
    return [schedule(step / steps) for step in range(STEPS)]


S = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("constant", lambda o: S.ConstantLR(o, factor=1.0)),
        ("linear", lambda o: S.LinearLR(o, 1.0, 0.0, total_iters=STEPS)),
        ("cosine", lambda o: S.CosineAnnealingLR(o, T_max=STEPS)),
        ("step", lambda o: S.MultiStepLR(o, milestones=[STEPS // 2, 3 * STEPS // 4])),
    ],
)
def test_equals_torch(name, theirs):
    assert ours(name) == pytest.approx(rates_of(theirs), abs=1e-12)


def test_one_cycle_equals_torch_which_counts_to_the_last_step():
    theirs = rates_of(lambda o: S.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1, pct_start=12 / (STEPS + 1)))
    # torch puts the peak at pct_start * total_steps - 1, and progress 1 at step total_steps - 1
    schedule = build_schedule("one_cycle", warmup=(12 - 1) / STEPS)
    assert [schedule(step / STEPS) for step in range(STEPS)] == pytest.approx(theirs, abs=1e-12)


def test_warmup_equals_torch_and_the_shape_gets_the_rest():
    warm = ours("cosine", warmup=0.25)
    ramp = rates_of(lambda o: S.LinearLR(o, WARMUP_START, 1.0, total_iters=STEPS // 4))
    assert warm[:10] == pytest.approx(ramp[:10], abs=1e-12)
    assert warm[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 30)) for k in range(30)], abs=1e-12)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
def test_warmup_out_of_range(warmup):
    with pytest.raises(RecipeError, match="fraction of all steps"):
        build_schedule("linear", warmup=warmup)


def test_unknown_name_answers_with_the_nearest():
    with pytest.raises(RecipeError, match='did you mean "cosine"'):
        build_schedule("cosin")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_factors_stay_in_range_and_reach_the_peak(name, warmup):
    schedule = build_schedule(name, warmup=warmup)
    factors = [schedule(step / 1000) for step in range(1001)]
    assert all(0.0 <= factor <= 1.0 for factor in factors)
    assert max(factors) == pytest.approx(1.0, abs=1e-4)
