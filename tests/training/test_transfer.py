from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.errors import InterruptedRunError, RecipeError
from sounding.networks import FeedForward, ResNet, TransformerNetwork
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import Release, StepRecord, Trainer, carry_over, gradually, layer_groups
from sounding.training.averaging import recompute_batch_norm
from sounding.training.distributed import check_together
from sounding.training.interruption import StopRequested

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0)) + 1
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 2).long()


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    first = [nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*first, nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


def trainer(net: nn.Module, release: dict[str, float], optimizer: str = "momentum", **settings) -> Trainer:
    recipe = TrainingRecipe(
        epochs=6, batch_size=16, release=release, optimizer=OptimizerRecipe(name=optimizer, lr=0.05)
    )
    return Trainer(net, recipe=recipe, schedule="cosine", progress=False, **settings)


# Weights by name


def test_the_features_are_those_of_the_other_network_and_the_head_is_new():
    old, new = (ResNet(1, outputs, picture_size=(8, 8), hidden_sizes=[4, 8], depths=[1, 1]) for outputs in (5, 3))
    old(torch.randn(8, 1, 8, 8))  # statistics of batch norms carry over, too
    head = copy.deepcopy(new.head.state_dict())
    outcome = carry_over(new, old)
    pictures = torch.randn(4, 1, 8, 8)
    assert torch.equal(new.eval().forward_features(pictures), old.eval().forward_features(pictures))
    assert all(torch.equal(new.head.state_dict()[name], head[name]) for name in head)
    assert outcome.anew == outcome.left == ("head.weight", "head.bias")
    assert set(outcome.carried) | set(outcome.anew) == set(new.state_dict())


def test_what_is_left_and_what_stays_is_named():
    old, new = FeedForward(4, 2, hidden_sizes=[8, 8]), FeedForward(4, 2, hidden_sizes=[8, 8, 8])
    del old.layers[1]
    outcome = carry_over(new, {**old.state_dict(), "more": torch.zeros(1)})
    assert set(outcome.carried) == {"layers.0.inner.0.weight", "layers.0.inner.0.bias"}
    assert "layers.2.inner.0.weight" in outcome.anew
    assert "more" in outcome.left


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (
            FeedForward(4, 2, hidden_sizes=[9]),
            r"layers.0.inner.0.weight is \(9, 4\) there and \(8, 4\) here \(and 1 more\)",
        ),
        (TransformerNetwork(9, 2, hidden_size=8), "have nothing in common: embedding.weight there, layers.0"),
    ],
)
def test_another_network_is_refused_and_nothing_is_changed(old, message):
    new = FeedForward(4, 2, hidden_sizes=[8])
    before = copy.deepcopy(new.state_dict())
    with pytest.raises(RecipeError, match=message):
        carry_over(new, old)
    assert all(torch.equal(new.state_dict()[name], before[name]) for name in before)


# Layers


def test_layers_come_from_input_to_head_with_their_norms():
    net = TransformerNetwork(9, 2, hidden_size=8, depth=2, positions="learned")
    expected = [
        ["embedding.*"], ["encoder.places"], ["encoder.layers.0.*"],
        ["encoder.layers.1.*", "encoder.norm.*"], ["head.*"],
    ]  # fmt: skip
    assert layer_groups(net) == expected
    assert layer_groups(network()) == [["0.*", "1.*"], ["4.*"], ["6.*"]]


def test_rates_and_releases_fall_evenly_towards_the_input():
    rates, release = gradually([["a.*", "b.*"], ["c.*"], ["d.*"]], rate=0.001, release=0.6)
    assert rates == {"a.*": 0.001, "b.*": 0.001, "c.*": 0.01, "d.*": 0.1}
    assert release == {"a.*": 0.6, "b.*": 0.6, "c.*": 0.4, "d.*": 0.2}
    assert gradually([["a.*"], ["b.*"]], release=0.0)[1] == {}
    assert gradually([["a.*"], ["b.*"]], release=1.0)[1] == {"a.*": 1.0, "b.*": 1.0}
    for wrong in ({"rate": 1.5}, {"release": -0.1}):
        with pytest.raises(RecipeError, match="from 0 to 1"):
            gradually([["a.*"]], **wrong)


# Freezing and releasing


def test_frozen_layers_and_their_statistics_do_not_move_until_they_are_released():
    net, seen = network(), []
    begun = copy.deepcopy(net.state_dict())

    def note(record: object) -> None:
        if isinstance(record, StepRecord):
            seen.append((record.progress, {name for name, t in net.state_dict().items() if not t.equal(begun[name])}))

    # with validation in between, which changes the modes of all modules for a while
    t = trainer(net, {"0.*": 0.5, "1.*": 0.5, "4.*": 0.25}, onlookers=[note])
    t.fit((X[:80], Y[:80]), (X[80:], Y[80:]))
    for progress, moved in seen:
        step = round(progress * len(seen)) - 1  # its release depended on the progress before it
        assert ("4.weight" in moved) == (step / len(seen) >= 0.25)
        lowest = {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.num_batches_tracked"}
        assert lowest & moved == (lowest if step / len(seen) >= 0.5 else set())
        assert "6.weight" in moved
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "muon", "schedule_free"])
def test_training_with_releases_is_that_of_a_plain_loop_that_rebuilds_what_it_trains(optimizer):
    """The slow version: another optimizer would forget its state, so groups are added to one by and by."""
    net, twin = network(), network()
    trainer(net, {"0.*": 0.5, "1.*": 0.5}, optimizer).fit((X, Y))
    if optimizer in ("muon", "schedule_free"):  # no oracle: frozen parts are learned from later, and the loss falls
        assert F.cross_entropy(net.eval()(X), Y) < 0.9 * F.cross_entropy(twin.eval()(X), Y)
        return
    from sounding.batches import Batches

    twin.train()
    build = {
        "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.05),
    }
    optim = build[optimizer]([*twin[4].parameters(), *twin[6].parameters()])
    batches = Batches((X,), Y, batch_size=16, shuffle=True)
    for group in optim.param_groups:
        group["weight_decay"] = 0.0
    for epoch in range(6):
        for step, batch in enumerate(batches.epoch(epoch)):
            done = (epoch * len(batches) + step) / (6 * len(batches))
            twin[1].train(done >= 0.5)
            if done == 0.5:
                optim.add_param_group({"params": [*twin[0].parameters(), *twin[1].parameters()], "weight_decay": 0.0})
            rate = 0.05 * (1 + torch.cos(torch.tensor(torch.pi * done)).item()) / 2
            for group in optim.param_groups:
                group["lr"] = rate
            optim.zero_grad()
            F.cross_entropy(twin(batch.inputs[0]), batch.target).backward()
            torch.nn.utils.clip_grad_norm_([p for group in optim.param_groups for p in group["params"]], 1.0)
            optim.step()
    net2 = network()
    recipe = TrainingRecipe(
        epochs=6, batch_size=16, release={"0.*": 0.5, "1.*": 0.5},
        optimizer=OptimizerRecipe(name=optimizer, lr=0.05, weight_decay=0.0),
    )  # fmt: skip
    Trainer(net2, recipe=recipe, schedule="cosine", progress=False).fit((X, Y))
    for name, tensor in net2.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("at", [3, 17, 30])
@pytest.mark.parametrize("optimizer", ["adamw", "nesterov", "schedule_free"])
def test_a_training_resumed_in_any_stage_ends_in_the_same_bits(at, optimizer, tmp_path):
    def stop(record: object) -> None:
        if isinstance(record, StepRecord) and record.epoch * 6 + record.step == at:
            raise StopRequested

    release = {"0.*": 0.6, "1.*": 0.6, "4.*": 0.3}
    straight, halted, resumed = (
        trainer(network(0.3), release, optimizer, checkpoints=tmp_path / str(i)) for i in (0, 1, 1)
    )
    straight.fit((X, Y))
    halted._onlookers = (stop,)
    with pytest.raises(InterruptedRunError):
        halted.fit((X, Y))
    resumed.fit((X, Y), resume=True)
    ours, expected = resumed.network.state_dict(), straight.network.state_dict()
    assert all(ours[name].equal(expected[name]) for name in expected)
    with pytest.raises(RecipeError, match="release was"):
        trainer(network(0.3), {"0.*": 0.6}, optimizer, checkpoints=tmp_path / "1").fit((X, Y), resume=True)


def test_what_is_never_released_is_no_affair_of_the_optimizer():
    net = network()
    before = copy.deepcopy(net.state_dict())
    t = trainer(net, {"0.*": 1.0, "1.*": 1.0, "4.*": 1.0}, averaging="swa", average_start=0.5)
    t.fit((X, Y))
    frozen = [name for name in before if not name.startswith("6.")]
    assert all(net.state_dict()[name].equal(before[name]) for name in frozen)
    assert not net.state_dict()["6.weight"].equal(before["6.weight"])

    # only the last layer, on features that were computed once: the same training
    with torch.no_grad():
        features = nn.Sequential(*network()[:6]).eval()(X)
    head = nn.Sequential(network()[6])
    trainer(head, {}, averaging="swa", average_start=0.5).fit((features, Y))
    torch.testing.assert_close(head[0].weight, net[6].weight)


def test_statistics_of_frozen_norms_are_not_measured_anew():
    net = network()
    net[1].requires_grad_(False)
    before = net[1].running_mean.clone()
    recompute_batch_norm(net, net, [X])
    assert torch.equal(net[1].running_mean, before)
    net[1].requires_grad_(True)
    recompute_batch_norm(net, net, [X])
    assert not torch.equal(net[1].running_mean, before)


def test_the_watch_finds_nothing_wrong_with_layers_that_are_frozen_on_purpose():
    t = trainer(network(), {"0.*": 0.8, "1.*": 0.8, "4.*": 0.4}, patience=0)
    t.attempt((X[:80], Y[:80]), (X[80:], Y[80:]))
    assert not [finding.rule for finding in t.findings if finding.rule in ("no_update", "train_mode_not_restored")]


def test_planning_and_a_time_limit_leave_the_network_as_it_was_and_train_the_same():
    planned, plain = network(), network()
    release = {"0.*": 0.5, "1.*": 0.5}
    t = trainer(planned, release)
    t.plan((X, Y), precisions=("float32",))
    assert all(p.requires_grad for p in planned.parameters())
    assert all(a.equal(b) for a, b in zip(planned.state_dict().values(), plain.state_dict().values(), strict=True))
    timed = trainer(plain, release, time=60.0)
    timed.fit((X, Y))
    trainer(planned, release).fit((X, Y))
    assert all(a.equal(b) for a, b in zip(planned.state_dict().values(), plain.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("when", "message"),
    [({"0.*": 1.5}, "released at 1.5"), ({"nothing.*": 0.5}, '"nothing.\\*" in training.release fits no parameter')],
)
def test_what_a_release_cannot_mean_is_refused(when, message):
    with pytest.raises(RecipeError, match=message):
        Release(network(), when)


def test_several_processes_are_told_that_they_cannot():
    with pytest.raises(RecipeError, match="do not release layers"):
        check_together(TrainingRecipe(release={"0.*": 0.5}), False, False)
