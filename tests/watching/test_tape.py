"""What a penalty adds is told apart from what the data say."""

from __future__ import annotations

import copy

import pytest
import torch
from programs import blobs
from torch import nn
from torch.nn import functional as F

from sounding.watching import watch
from sounding.watching.seen import Seen


def step(penalty: float) -> tuple[Seen, float, float]:
    """One step of a linear model: what was seen, the loss of the data before it and after it."""
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(8, 3), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        data = F.cross_entropy(model(x), y)
        loss = data + penalty * model.weight.abs().sum() if penalty else data
        loss.backward()
        optimizer.step()
    return w.players["model"], data.item(), F.cross_entropy(model(x), y).item()


def test_a_penalty_is_seen_and_left_out():
    seen, _, after = step(0.5)
    tape = seen.tapes[0]
    models = {"model": seen.model}
    assert tape.has_penalty
    assert tape.without_penalty(models).play(models).item() == pytest.approx(after)
    assert tape.play(models).item() == pytest.approx(after + 0.5 * seen.model.weight.abs().sum().item())
    assert not tape.without_penalty(models).has_penalty


def test_a_loss_of_outputs_alone_has_no_penalty():
    seen, _, _ = step(0.0)
    assert not seen.tapes[0].has_penalty


def test_playing_tells_of_each_call():
    seen, data, _ = step(0.0)
    heard = []
    seen.tapes[0].play({"model": seen.model}, heard=lambda run, args, kwargs, outcome: heard.append((run, outcome)))
    assert [run for run, _ in heard] == ["model", F.cross_entropy]
    assert heard[0][1].shape == (32, 3)
    assert heard[1][1].item() < data  # the weights are those after the step


def test_what_is_held_out_is_not_trained_on():
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(8, 3), blobs(128)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        for rows in torch.arange(128).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    laboratory = w.players["model"].laboratory
    assert laboratory.held_out(steps=0) == pytest.approx(F.cross_entropy(model(x[96:]), y[96:]).item())
    expected = nn.Linear(8, 3)
    expected.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    for step in range(10):
        rows = torch.arange(96).split(32)[step % 3]
        optimizer.zero_grad()
        F.cross_entropy(expected(x[rows]), y[rows]).backward()
        optimizer.step()
    assert laboratory.held_out(steps=10) == pytest.approx(F.cross_entropy(expected(x[96:]), y[96:]).item())


def test_a_penalty_that_is_computed_before_the_forward_pass_is_seen_from_the_second_step_on():
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(8, 3), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = []
    with watch(model, optimizer, say=None) as w:
        for _ in range(3):
            optimizer.zero_grad()
            penalty = model.weight.abs().sum()
            kept.append(copy.deepcopy(model))  # as of the best epoch
            loss = F.cross_entropy(model(x), y) + 0.5 * penalty
            loss.backward()
            optimizer.step()
            w.validation(1.0)  # where rules judge
    first, *later = w.players["model"].tapes
    assert not first.has_penalty
    data, penalty = F.cross_entropy(model(x), y).item(), 0.5 * model.weight.abs().sum().item()
    for tape in later:
        assert tape.play({"model": model}).item() == pytest.approx(data + penalty)
        assert tape.without_penalty({"model": model}).play({"model": model}).item() == pytest.approx(data)
        names = [entry.run if isinstance(entry.run, str) else entry.run.__name__ for entry in tape.entries]
        assert names == ["abs", "sum", "model", "cross_entropy", "mul", "add"]


def test_random_draws_are_those_of_the_step_or_others():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3)), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer, say=None) as w:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    (tape,), models = w.players["model"].tapes, {"model": model}
    assert tape.play(models).item() == loss.item()
    others = [tape.redrawn(seed).play(models).item() for seed in (1, 2, 1)]
    assert others[0] == others[2]
    assert len({loss.item(), *others}) == 3


def test_the_loss_of_ignoring_the_inputs_where_losses_are_sums():
    torch.manual_seed(0)
    found = []
    for reduction in ("mean", "sum"):
        model, x = nn.Linear(8, 3), torch.randn(16, 8)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        y = x[:, :3] + 1
        with watch(model, optimizer, say=None) as w:
            (F.mse_loss(model(x), y, reduction=reduction) / (16 if reduction == "sum" else 1)).backward()
            optimizer.step()
        found.append((w.players["model"].baseline, y.var(0, correction=0).mean().item()))
    (mean, expected), (total, other) = found
    assert mean == pytest.approx(expected, rel=1e-5)
    assert total == pytest.approx(3 * other, rel=1e-5)  # a sum over three outputs, a mean over rows
