"""The watch itself: what it leaves behind, what it sees, and how it tells."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

from sounding.errors import UserError
from sounding.watching import Watch, watch
from sounding.watching.experiments import apart
from sounding.watching.rule import Rule


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_watched_model_ends_in_the_same_bits(optimizer):
    ends = []
    for watched in (True, False):
        model = network()
        train(model, blobs(), optimizer=optimizer, validation=blobs(seed=1), watched=watched)
        ends.append((model.state_dict(), torch.get_rng_state()))
    (one, random), (other, other_random) = ends
    assert all(one[name].equal(other[name]) for name in one)
    assert random.equal(other_random)


def test_a_healthy_run_hears_nothing_and_is_told_what_was_looked_at():
    x, y = blobs(384)
    w = train(network(), (x[:256], y[:256]), validation=(x[256:], y[256:]), epochs=10)
    assert alarms(w) == []
    assert "nothing found in 80 steps" in w.summary()
    assert "validation in training mode" in " ".join(w.summary().split())


def test_every_hook_is_taken_off_again():
    model, said = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    backward = torch.autograd.backward
    with watch(model, optimizer, say=said.append):
        assert torch.autograd.backward is not backward
        x, y = blobs(32)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert torch.autograd.backward is backward
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert torch.overrides._len_torch_function_stack() == 0
    assert said[-1].startswith("watch: ")


def test_hooks_are_taken_off_after_an_error_too():
    model = network()

    def fail() -> None:
        with watch(model, torch.optim.SGD(model.parameters(), lr=0.1), say=None):
            model(blobs(4)[0])
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert torch.overrides._len_torch_function_stack() == 0
    assert not model._forward_hooks


def test_losses_steps_and_validations_are_seen():
    model = network()
    x, y = blobs(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected, measured = [], []
    with watch(model, optimizer, say=None) as w:
        for _ in range(3):
            for rows in torch.arange(64).split(32):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                expected.append(loss.item())
            model.eval()
            with torch.no_grad():
                measured.append(F.cross_entropy(model(x), y).item())
            model.train()
    seen = w.players["model"]
    assert seen.losses == expected
    assert [validation.step for validation in seen.validations] == [2, 4, 6]
    assert [validation.loss for validation in seen.validations] == pytest.approx(measured)
    assert seen.validations[0].training_modules == []
    step = seen.steps[0]
    assert set(step.gradients) == {name for name, _ in model.named_parameters()}
    assert step.updates["0.weight"] == pytest.approx(0.1 * step.gradients["0.weight"], rel=1e-5)
    assert [one.layer for one in step.inputs] == ["0", "4"]
    assert step.inputs[0].rms == pytest.approx(x[:32].square().mean().sqrt().item(), rel=1e-5)
    assert [(one.layer, one.kind) for one in step.activations if one.kind == "relu"] == [("0", "relu")]


def test_a_step_can_be_done_again_on_a_copy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3))
    x, y = blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        penalty = 0.01
        outputs = model(x)
        loss = (outputs.logsumexp(1) - outputs[torch.arange(32), y]).mean() + penalty * model[0].weight.square().sum()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        loss.backward()
        optimizer.step()
        seen = w.players["model"]
        after = [parameter.detach().clone() for parameter in model.parameters()]
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), before, strict=True):
                parameter.copy_(value)
        twin = seen.laboratory.twin()
        with apart():
            assert twin.step(seen.tapes[0]) == pytest.approx(loss.item(), rel=1e-6)
        for parameter, value in zip(twin.model.parameters(), after, strict=True):
            torch.testing.assert_close(parameter.detach(), value)
        assert all(p.equal(value) for p, value in zip(model.parameters(), before, strict=True))


def test_the_loss_of_a_model_that_computes_it_itself_is_seen():
    class OwnLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x, labels=None):
            logits = self.layer(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    model, (x, y) = OwnLoss(), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        loss = model(x, labels=y)["loss"]
        loss.backward()
        optimizer.step()
    seen = w.players["model"]
    assert seen.losses == [loss.item()]
    assert seen.tapes[0].is_whole


def test_accumulation_is_one_step():
    model, (x, y) = perceptron(8, 16, 3), blobs(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        for _ in range(4):
            optimizer.zero_grad()
            for part in torch.arange(64).split(16):
                (F.cross_entropy(model(x[part]), y[part]) / 4).backward()
            optimizer.step()
    seen = w.players["model"]
    assert seen.done == 4
    assert seen.last.backwards == 4
    assert alarms(w) == []


def test_models_and_optimizers_have_to_match():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="generator"):
        watch({"generator": model}, {"discriminator": optimizer})


def test_what_follows_from_another_finding_comes_behind_it():
    from sounding.finding import Finding
    from sounding.watching.rules import in_order

    symptom = Finding(rule="lr_too_low", severity="error", title="")
    cause = Finding(rule="scheduler_per_step", severity="warning", title="")
    ordered = in_order([symptom, cause])
    assert [finding.rule for finding in ordered] == ["scheduler_per_step", "lr_too_low"]
    assert ordered[1].evidence["follows_from"] == "scheduler_per_step"


@pytest.mark.parametrize("name", ["adamw", "muon", "schedule_free", "momentum"])
def test_a_copy_makes_the_same_step_with_any_optimizer(name):
    from sounding.recipe import OptimizerRecipe
    from sounding.training.optimizers import build_optimizer

    torch.manual_seed(0)
    model = perceptron(8, 16, 3)
    optimizer = build_optimizer(model, OptimizerRecipe(name=name, lr=0.01))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    x, y = blobs(32)
    with watch(model, optimizer, say=None) as w:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        seen = w.players["model"]
        twin = seen.laboratory.twin()
        with apart():
            twin.step(seen.tapes[-1])
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    for parameter, value in zip(twin.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach(), value.detach())


def test_statistics_of_large_layers_are_taken_from_some_examples():
    from sounding.watching.probes import EXAMPLES, _by_unit

    draws = torch.Generator().manual_seed(0)
    pictures = torch.randn(64, 3, 40, 40, generator=draws) + torch.arange(3.0)[:, None, None]
    units = _by_unit(pictures, channels_second=True)
    assert units.shape[1] == 3
    assert EXAMPLES / 3 < len(units) < 2 * EXAMPLES
    torch.testing.assert_close(units.mean(0), torch.arange(3.0), atol=0.3, rtol=0)
    sequences = torch.arange(4.0).expand(2, 5, 4)
    assert _by_unit(sequences, channels_second=False).equal(torch.arange(4.0).expand(10, 4))
    assert len(_by_unit(torch.zeros(100_000, 2), channels_second=False)) == pytest.approx(EXAMPLES, rel=0.1)


def test_large_batches_are_kept_no_longer_than_memory_allows(monkeypatch):
    monkeypatch.setattr("sounding.watching.watcher.KEPT_BYTES", 3 * 32 * 8 * 4 + 100)
    w = train(perceptron(8, 16, 3), blobs())
    seen = w.players["model"]
    assert seen.tapes[0].size == 32 * 8 * 4 + 32 * 8  # a batch of floats, and its labels
    assert len(seen.tapes) == 2


@pytest.mark.parametrize(("sparing", "rate", "may"), [(True, 1e-1, False), (True, 0.0, True), (False, 1e-1, True)])
def test_a_sparing_watch_experiments_only_in_trouble(sparing, rate, may):
    allowed = []

    class Asking(Rule):
        name, looks_at = "asking", "nothing"

        def check(self, seen):
            allowed.append(seen.laboratory.is_open)

    torch.manual_seed(0)
    model, (x, y) = perceptron(8, 32, 3), blobs()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with Watch({"model": model}, {"model": optimizer}, rules=[Asking], sparing=sparing):
        for _ in range(100):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert allowed[-1] is may


def test_a_watch_that_is_told_each_step_has_no_hooks_between_looks():
    torch.manual_seed(0)
    model, (x, y) = perceptron(8, 32, 3), blobs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attached, losses, backward = [], [], torch.autograd.backward
    with Watch({"model": model}, {"model": optimizer}, sparing=True, is_told=True) as w:
        for step in range(30):
            attached += [step] if model._forward_hooks else []
            assert bool(model._forward_hooks) == bool(optimizer._optimizer_step_post_hooks)
            assert bool(model._forward_hooks) == (torch.autograd.backward is not backward)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            w.stepped("model", losses[-1], 0.1)
        with torch.no_grad(), w.attached():
            F.cross_entropy(model(x), y)
    seen = w.players["model"]
    assert attached == [0, 1, 2, 6, 14] == [step.number for step in seen.steps]
    assert seen.losses == losses
    assert len(seen.validations) == 1


def told_watch() -> tuple[nn.Module, torch.optim.Optimizer, Watch]:
    torch.manual_seed(0)
    model = perceptron(8, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, optimizer, Watch({"model": model}, {"model": optimizer}, sparing=True, is_told=True)


def test_steps_that_are_told_several_at_once_count_once():  # as on a GPU
    (x, y), losses = blobs(), []
    model, optimizer, w = told_watch()
    with w:
        for _ in range(3):
            for _ in range(10):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            for loss in losses[-10:]:
                w.stepped("model", loss, 0.1)
    assert w.players["model"].losses == losses


def test_a_step_that_the_optimizer_leaves_out_is_no_part_of_the_next_one():  # as a scaler has it
    (x, y), losses = blobs(), []
    model, optimizer, w = told_watch()
    with w:
        for step in range(6):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if step > 1:
                optimizer.step()
            losses.append(loss.item())
            w.stepped("model", losses[-1], 0.1)
    seen = w.players["model"]
    assert seen.losses == losses
    assert (seen.steps[0].number, seen.steps[0].loss, seen.steps[0].backwards) == (2, losses[2], 1)
    assert len(seen.tapes[0].roots) == 1


@pytest.mark.parametrize("experiment", ["descend", "held_out"])
def test_an_experiment_is_broken_off_where_the_loop_is_urgent(experiment):
    asked = []

    class Endless(Rule):
        name, looks_at = "endless", "nothing"

        def check(self, seen):
            if seen.done >= 2:
                getattr(seen.laboratory, experiment)(steps=10**9)

    class After(Rule):
        name, looks_at = "after", "nothing"

        def check(self, seen):
            asked.append(seen.done)

    model, (x, y) = network(), blobs(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    turns = iter(range(10**9))
    with Watch({"model": model}, {"model": optimizer}, rules=[Endless, After]) as w:
        w.is_urgent = lambda: next(turns) > 20
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        assert w.players["model"].done == 4
    assert asked == [1]
    assert apart.depth == 0
