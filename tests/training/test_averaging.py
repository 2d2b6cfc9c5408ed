from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from sounding.errors import DamagedError
from sounding.recipe import TrainingRecipe
from sounding.training.averaging import (
    ExponentialMovingAverage,
    StochasticWeightAverage,
    WeightAverage,
    build_average,
    recompute_batch_norm,
)


def normed() -> nn.Module:
    """A network with batch statistics, a counter, a table with infinities and tied weights."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    network.register_buffer("table", torch.tensor([-torch.inf, 0.0, 1.0]))
    return network


def wander(network: nn.Module, seed: int) -> None:
    """Change all that training changes."""
    torch.manual_seed(seed)
    network.train()(torch.randn(8, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


def floating(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.double().clone()
        for name, value in network.state_dict().items()
        if name not in ("table", "1.num_batches_tracked")
    }


def kept(average: WeightAverage) -> nn.Module:
    network = normed()
    average.copy_to(network)
    return network


def test_ema_is_the_recursion_with_a_decay_that_rises() -> None:
    network = normed()
    average, expected = ExponentialMovingAverage(network, 0.6), floating(network)
    for step in range(12):
        wander(network, step)
        average.update()
        decay = min(0.6, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * now for name, now in floating(network).items()}
    found = floating(kept(average))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_ema_that_has_run_for_long_agrees_with_torch() -> None:
    network = normed()
    average = ExponentialMovingAverage(network, 0.9)
    average.updates = 1_000_000
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.update_parameters(network)  # the first only copies
    for step in range(5):
        wander(network, step)
        average.update()
        theirs.update_parameters(network)
    for name, value in floating(kept(average)).items():
        torch.testing.assert_close(value, theirs.module.state_dict()[name].double(), rtol=1e-5, atol=1e-6)


def test_swa_is_the_mean_of_the_states_that_were_due_and_agrees_with_torch() -> None:
    network = normed()
    average = StochasticWeightAverage(network, every=3, after=4)
    theirs, taken = AveragedModel(network), []
    for step in range(1, 15):
        wander(network, step)
        average.update()
        if step in (7, 10, 13):
            theirs.update_parameters(network)
            taken.append(floating(network))
    assert average.updates == 3
    for name, value in floating(kept(average)).items():
        torch.testing.assert_close(value, torch.stack([state[name] for state in taken]).mean(0), rtol=1e-5, atol=1e-6)
    for name, parameter in kept(average).named_parameters():
        torch.testing.assert_close(parameter, theirs.module.get_parameter(name))


def test_the_first_state_of_swa_is_taken_as_it_is() -> None:
    network = normed()
    average = StochasticWeightAverage(network)
    wander(network, 1)
    average.update()
    assert all(torch.equal(a, b) for a, b in zip(kept(average).parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize("rule", ["ema", "swa"])
def test_counters_and_tables_are_copied(rule: str) -> None:
    network = normed()
    average = ExponentialMovingAverage(network, 0.9) if rule == "ema" else StochasticWeightAverage(network)
    for step in range(3):
        wander(network, step)
        network.table[2] = float(step)
        average.update()
    found = kept(average)
    assert found[1].num_batches_tracked == 3
    assert found.table.tolist() == [-torch.inf, 0.0, 2.0]


def test_the_network_itself_is_left_alone() -> None:
    network = normed()
    average = ExponentialMovingAverage(network, 0.9)
    wander(network, 1)
    before = copy.deepcopy(network.state_dict())
    average.update()
    average.update()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_applied_weights_are_the_average_and_leave_no_trace() -> None:
    network = normed()
    average = ExponentialMovingAverage(network, 0.9)
    wander(network, 1)
    average.update()
    before, tensors = copy.deepcopy(network.state_dict()), dict(network.named_parameters())
    expected = kept(average).state_dict()
    with pytest.raises(KeyError, match="out"), average.applied_to(network):  # noqa: PT012
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
        wander(network, 2)  # moves batch statistics and weights
        raise KeyError("out")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(tensors[name] is parameter for name, parameter in network.named_parameters())


@pytest.mark.parametrize("rule", ["ema", "swa"])
def test_it_goes_on_from_a_checkpoint_in_the_same_bits(rule: str) -> None:
    def make(network: nn.Module) -> WeightAverage:
        if rule == "ema":
            return ExponentialMovingAverage(network, 0.999)
        return StochasticWeightAverage(network, every=2, after=1)

    network = normed()
    alone = make(network)
    for step in range(6):
        wander(network, step)
        alone.update()
    tensors, values = load(save(alone.tensors())), json.loads(json.dumps(alone.values()))
    resumed = make(network)
    resumed.restore(tensors, values)
    for step in range(6, 11):
        wander(network, step)
        alone.update()
        resumed.update()
    assert all(torch.equal(value, resumed.tensors()[name]) for name, value in alone.tensors().items())
    assert resumed.values() == alone.values()


def test_what_was_saved_is_not_changed_by_going_on() -> None:
    network = normed()
    average = ExponentialMovingAverage(network, 0.9)
    saved = {name: tensor.clone() for name, tensor in average.tensors().items()}
    other = ExponentialMovingAverage(network, 0.9)
    other.restore(average.tensors(), average.values())
    wander(network, 1)
    other.update()
    assert all(torch.equal(value, saved[name]) for name, value in average.tensors().items())


def test_the_average_of_another_network_is_refused() -> None:
    average = ExponentialMovingAverage(normed(), 0.9)
    with pytest.raises(DamagedError, match="missing"):
        average.restore(ExponentialMovingAverage(nn.Linear(3, 3), 0.9).tensors(), {"updates": 1})


def test_a_recipe_names_the_average() -> None:
    network = nn.Linear(1, 1)
    assert build_average(network, TrainingRecipe(), steps=10, epochs=8) is None
    ema = build_average(network, TrainingRecipe(averaging="ema", average_decay=0.95), steps=10, epochs=8)
    assert isinstance(ema, ExponentialMovingAverage)
    assert ema.decay == 0.95


@pytest.mark.parametrize(("start", "epochs", "taken"), [(0.75, 8, 2), (0.0, 8, 8), (0.75, 3, 1), (1.0, 5, 1)])
def test_swa_by_recipe_takes_the_ends_of_the_last_epochs(start: float, epochs: int, taken: int) -> None:
    network = nn.Linear(1, 1, bias=False)
    average = build_average(network, TrainingRecipe(averaging="swa", average_start=start), steps=5, epochs=epochs)
    assert average is not None
    for step in range(1, 5 * epochs + 1):
        nn.init.constant_(network.weight, float(step))
        average.update()
    assert average.updates == taken
    ends = [5 * epoch for epoch in range(epochs - taken + 1, epochs + 1)]
    assert average.tensors()["weight"].item() == pytest.approx(sum(ends) / taken)


# Batch norms


def test_batch_norms_measured_anew_agree_with_torch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.BatchNorm1d(2))
    batches = [torch.randn(rows, 3) * 2 + 1 for rows in (16, 16, 7)]
    other = copy.deepcopy(network)
    network.eval()
    recompute_batch_norm(network, network, batches)
    update_bn(batches, other)
    for name, value in other.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert not any(module.training for module in network.modules())
    assert network[1].momentum == 0.1


def test_nothing_is_drawn_at_random_while_they_are_measured() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.3), nn.InstanceNorm1d(3)).train()
    batch = torch.randn(32, 3)
    state = torch.get_rng_state()
    recompute_batch_norm(network, lambda rows: network[:2](rows), [batch])
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(network[1].running_mean, batch.mean(0))
    torch.testing.assert_close(network[1].running_var, batch.var(0))
    assert network[0].training
    assert network[1].momentum == 0.3


def test_those_of_frozen_layers_stay_as_they_are() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    network[0].requires_grad_(False)
    network[0].running_mean.fill_(0.5)
    batch = torch.randn(32, 3)
    recompute_batch_norm(network, network, [batch])
    assert torch.equal(network[0].running_mean, torch.full((3,), 0.5))
    expected = network[0].eval()(batch).mean(0)
    torch.testing.assert_close(network[1].running_mean, expected)


def test_modes_come_back_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        recompute_batch_norm(network, network, [torch.zeros(1, 3)])
    assert all(module.training for module in network.modules())
    assert network[0].momentum == 0.1


def test_without_batch_norms_no_batch_is_looked_at() -> None:
    def never() -> None:
        raise AssertionError

    recompute_batch_norm(nn.Linear(2, 2), lambda _: never(), [1])
