"""What every optimizer and every schedule promises; a new one is tested by being in its list."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.errors import InterruptedRunError
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import OPTIMIZERS, SCHEDULES, StepRecord, Trainer, build_optimizer, build_schedule
from sounding.training.interruption import StopRequested

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()
RATES = {"sgd": 0.3, "momentum": 0.1, "nesterov": 0.1, "adagrad": 0.1}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def trainer(name: str, schedule: str = "constant", **more) -> Trainer:
    optimizer = OptimizerRecipe(name=name, lr=RATES.get(name, 0.02))
    recipe = TrainingRecipe(epochs=8, batch_size=16, optimizer=optimizer, schedule=schedule)
    return Trainer(network(), recipe=recipe, progress=False, **more)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_learns(name):
    history = trainer(name).fit((X, Y))
    assert history[-1].train_loss < 0.8 * history[0].train_loss


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_resumes_to_the_same_bits(name, tmp_path):
    def stop(record: object) -> None:
        if isinstance(record, StepRecord) and (record.epoch, record.step) == (3, 1):
            raise StopRequested

    straight, interrupted, resumed = (trainer(name, checkpoints=tmp_path / str(i)) for i in (0, 1, 1))
    straight.fit((X, Y))
    interrupted._onlookers = (stop,)
    with pytest.raises(InterruptedRunError):
        interrupted.fit((X, Y))
    resumed.fit((X, Y), resume=True)
    ours, expected = resumed.network.state_dict(), straight.network.state_dict()
    assert all(ours[key].equal(expected[key]) for key in expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_leaves_norms_and_biases_undecayed(name):
    module = network()
    optimizer = build_optimizer(module, OptimizerRecipe(name=name, lr=0.1, weight_decay=0.5))
    before = {key: parameter.detach().clone() for key, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {key for key, parameter in module.named_parameters() if not parameter.equal(before[key])}
    assert moved == {"0.weight", "4.weight"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_a_pure_function_and_trains(name):
    schedule = build_schedule(name)
    points = [step / 64 for step in range(65)]
    assert [schedule(point) for point in points] == [schedule(point) for point in reversed(points)][::-1]
    history = trainer("adamw", name).fit((X, Y))
    assert history[-1].train_loss < history[0].train_loss
