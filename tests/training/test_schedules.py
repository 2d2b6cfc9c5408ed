from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sounding.errors import RecipeError
from sounding.training.schedules import SCHEDULES, WARMUP_START, build_schedule, plateau_factor

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
        ("reduce_on_plateau", lambda o: S.ConstantLR(o, factor=1.0)),  # while validation gets better
    ],
)
def test_equals_torch(name, theirs):
    assert ours(name) == pytest.approx(rates_of(theirs), abs=1e-12)


def test_one_cycle_equals_torch_which_counts_to_the_last_step():
    theirs = rates_of(lambda o: S.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1, pct_start=12 / (STEPS + 1)))
    # torch puts the peak at pct_start * total_steps - 1, and progress 1 at step total_steps - 1
    schedule = build_schedule("one_cycle", warmup=(12 - 1) / STEPS)
    assert [schedule(step / STEPS) for step in range(STEPS)] == pytest.approx(theirs, abs=1e-12)


def sequence(optimizer, lengths_and_schedulers):
    """One of PyTorch's schedulers after the other."""
    lengths, schedulers = zip(*lengths_and_schedulers, strict=True)
    milestones = [sum(lengths[:at]) for at in range(1, len(lengths))]
    return S.SequentialLR(optimizer, list(schedulers), milestones)


def test_warmup_stable_decay_equals_torch():
    theirs = rates_of(
        lambda o: sequence(o, [(32, S.ConstantLR(o, factor=1.0)), (8, S.LinearLR(o, 1.0, 0.0, total_iters=8))])
    )
    assert ours("warmup_stable_decay") == pytest.approx(theirs, abs=1e-12)


def test_warmup_stable_decay_with_its_warmup_equals_torch():
    theirs = rates_of(
        lambda o: sequence(
            o,
            [
                (10, S.LinearLR(o, WARMUP_START, 1.0, total_iters=10)),
                (24, S.ConstantLR(o, factor=1.0)),
                (6, S.LinearLR(o, 1.0, 0.0, total_iters=6)),
            ],
        )
    )
    assert ours("warmup_stable_decay", warmup=0.25) == pytest.approx(theirs, abs=1e-12)


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


def torch_plateau(values, *, mode="min", **options) -> float:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = S.ReduceLROnPlateau(optimizer, mode=mode, eps=0.0, **options)
    for value in values:
        scheduler.step(value)
    return optimizer.param_groups[0]["lr"]


OPTIONS = {
    "patience": st.integers(0, 4),
    "factor": st.sampled_from([0.1, 0.3, 0.5]),
    "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
}
FEW_VALUES = st.sampled_from([0.0, 0.1, 0.5, 0.50002, 0.9, 1.0, math.inf, math.nan])  # so that ties and plateaus occur


@given(values=st.lists(FEW_VALUES | st.floats(0, 10), max_size=40), options=st.fixed_dictionaries(OPTIONS))
@example(values=[1.0] * 20, options={"patience": 2, "factor": 0.1, "threshold": 1e-4})
def test_plateau_factor_equals_torch(values, options):
    assert plateau_factor(values, **options) == pytest.approx(torch_plateau(values, **options), rel=1e-12)


@given(values=st.lists(FEW_VALUES | st.floats(0, 1), max_size=40), options=st.fixed_dictionaries(OPTIONS))
@example(values=[0.9] * 20, options={"patience": 2, "factor": 0.1, "threshold": 1e-4})
def test_plateau_factor_of_what_should_grow_equals_torch(values, options):
    values = [value for value in values if value < math.inf]
    expected = torch_plateau(values, mode="max", **options)
    assert plateau_factor([-value for value in values], **options) == pytest.approx(expected, rel=1e-12)


def test_plateau_factor_of_losses_below_zero():
    standing = [-5.0] * 7  # torch takes each of these for an improvement by the threshold
    assert plateau_factor(standing, patience=2) == pytest.approx(0.1**2)
    assert plateau_factor([-5.0, -6.0, -7.0, -8.0], patience=0) == 1.0


def test_plateau_factor_before_any_validation():
    assert plateau_factor([]) == 1.0
