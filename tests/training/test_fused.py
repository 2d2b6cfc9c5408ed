from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sounding.training.fused import FusedAdamW

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def trained(build, change=None, steps: int = 8) -> tuple[nn.Module, torch.optim.Optimizer]:
    module = network()
    groups = [{"params": module[0].parameters(), "lr": 0.02}, {"params": module[2].parameters(), "weight_decay": 0.3}]
    optimizer = build(groups, lr=0.01, betas=(0.8, 0.95), fused=True)
    for step in range(steps):
        optimizer.zero_grad()
        module(X).square().mean().backward()
        if change is not None:
            change(step, module, optimizer)
        optimizer.step()
    return module, optimizer


def schedule(step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] = 0.02 / (1 + step)


def missing_gradient(step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if step in (2, 5):
        module[2].bias.grad = None


def loaded_state(step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if step == 4:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def another_group(step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if step == 0:
        module.extra = nn.Parameter(torch.ones(2))
    if step == 3:
        optimizer.add_param_group({"params": [module.extra]})
    if step >= 3:
        module.extra.grad = torch.full((2,), 0.5)


@pytest.mark.parametrize("change", [None, schedule, missing_gradient, loaded_state, another_group])
def test_same_bits_as_torch(change):
    (ours, our_optimizer), (theirs, their_optimizer) = trained(FusedAdamW, change), trained(torch.optim.AdamW, change)
    assert all(a.equal(b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    for entry, expected in zip(our_optimizer.state.values(), their_optimizer.state.values(), strict=True):
        assert all(entry[name].equal(expected[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_the_quick_way_is_taken(monkeypatch):
    calls = []
    fused = torch._fused_adamw_
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, **k: (calls.append(1), fused(*a, **k))[1])
    monkeypatch.setattr("sounding.training.fused._usual_step", lambda *a: pytest.fail("PyTorch's own step"))
    module = network()
    optimizer = FusedAdamW(module.parameters(), fused=True)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
        zeros = [torch.zeros_like(parameter) for _ in range(2)]
        optimizer.state[parameter] = {"step": torch.tensor(0.0), "exp_avg": zeros[0], "exp_avg_sq": zeros[1]}
    optimizer._lists = optimizer._gathered()
    optimizer.step()
    assert calls == [1]
    assert not module[0].weight.equal(network()[0].weight)


@pytest.mark.parametrize(
    "options", [{"fused": False}, {"fused": True, "amsgrad": True}, {"fused": True, "maximize": True}]
)
def test_whatever_is_not_plain_is_left_to_torch(options):
    results = []
    for build in (FusedAdamW, torch.optim.AdamW):
        module = network()
        optimizer = build(module.parameters(), lr=0.01, **options)
        for _ in range(4):
            optimizer.zero_grad()
            module(X).square().mean().backward()
            optimizer.step()
        results.append(list(module.parameters()))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_hooks_of_users_run():
    seen: list[str] = []

    def hooked(step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if step == 3:
            optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
            optimizer.register_step_post_hook(lambda *_: seen.append("after"))

    trained(FusedAdamW, hooked, steps=5)
    assert seen == ["before", "after"] * 2


def test_an_overflow_found_by_a_gradient_scaler_leaves_the_update_out():
    module = network()
    optimizer = FusedAdamW(module.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(spoil: bool) -> list[Tensor]:
        optimizer.zero_grad()
        scaler.scale(module(X).square().mean()).backward()
        if spoil:
            module[0].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        return [parameter.detach().clone() for parameter in module.parameters()]

    before, spoilt, after = step(False), step(True), step(False)
    assert all(a.equal(b) for a, b in zip(before, spoilt, strict=True))
    assert not any(a.equal(b) for a, b in zip(spoilt, after, strict=True))
