from __future__ import annotations

import math
import re
import subprocess
import sys
import textwrap

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from sounding.batches import Batches
from sounding.errors import RecipeError
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import Trainer
from sounding.training.clipping import Clipping
from sounding.training.finders import (
    BatchSize,
    _efficient,
    _usable,
    find_batch_size,
    find_learning_rate,
    smooth,
)
from sounding.training.machine import OUT_OF_MEMORY

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(256, 4, generator=DRAW)
Y = X.sum(1) + 0.1 * torch.randn(256, generator=DRAW)
SGD = OptimizerRecipe(name="sgd", weight_decay=0.0)


def batches(**options) -> Batches:
    return Batches((X,), Y, **{"batch_size": 32, "shuffle": True, **options})


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 1)


# The learning rate


@pytest.mark.parametrize("find", [find_learning_rate, find_batch_size])
def test_nothing_is_left_changed(find):
    network = small_network().eval()
    network[0].weight.grad = torch.ones_like(network[0].weight)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    find(network, "mse", batches())
    assert torch.get_rng_state().equal(state)
    assert all(tensor.equal(weights[name]) for name, tensor in network.state_dict().items())
    assert network[0].weight.grad.equal(torch.ones(8, 4))
    assert network[4].weight.grad is None
    assert not any(module.training for module in network.modules())


def test_the_losses_are_those_of_gradient_descent_by_hand():
    found = find_learning_rate(
        linear(), "mse", Batches((X,), Y, batch_size=256), optimizer=SGD, lowest=1e-4, highest=0.1, steps=31
    )
    rates = [1e-4 * 1000 ** (step / 30) for step in range(31)]
    assert found.rates == pytest.approx(rates)
    weight, bias = (parameter.detach().double() for parameter in linear().parameters())
    x, y = X.double(), Y.double()
    for rate, loss in zip(rates, found.losses, strict=True):
        error = x @ weight[0] + bias - y
        assert loss == pytest.approx(error.square().mean().item(), rel=1e-5)
        weight = weight - rate * 2 * (error @ x) / 256
        bias = bias - rate * 2 * error.mean()


def test_the_same_again_gives_the_same():
    first, second = (find_learning_rate(small_network(), "mse", batches()) for _ in range(2))
    assert first == second
    assert find_learning_rate(small_network(), "mse", batches(), seed=1) != first


def test_smoothing_equals_that_of_pandas():
    values = torch.randn(50, generator=DRAW).tolist()
    assert smooth(values) == pytest.approx(pd.Series(values).ewm(alpha=0.1, adjust=True).mean().tolist())


def test_the_rate_is_a_third_of_where_the_smoothed_loss_is_lowest():
    found = find_learning_rate(linear(), "mse", batches(), optimizer=SGD)
    lowest = min(range(10, len(found.smoothed)), key=lambda at: found.smoothed[at])
    assert found.rate == pytest.approx(found.rates[lowest] / 3, rel=0.05)
    assert found.reason.startswith("the loss falls from")
    assert len(found.losses) < 200  # beyond, it diverges: for nothing


class Recurrent(nn.Module):
    """Reads a picture of 8 by 8 row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x):
        return self.head(self.lstm(x.view(-1, 8, 8))[0][:, -1])


DIGIT_NETWORKS = {
    "feedforward": (lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), "adamw"),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        ),
        "nesterov",
    ),
    "recurrent": (Recurrent, "adamw"),
}


@pytest.mark.parametrize("name", DIGIT_NETWORKS)
def test_training_with_the_rate_found_does_nearly_as_well_as_with_the_best_of_a_grid(name):
    build, optimizer = DIGIT_NETWORKS[name]
    pictures, digits = load_digits(return_X_y=True)
    x, y = torch.from_numpy(pictures / 16).float(), torch.from_numpy(digits)
    held_out, training = (x[:400], y[:400]), Batches((x[400:],), y[400:], batch_size=64, shuffle=True)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return build()

    def validation_loss(rate: float) -> float:
        recipe = TrainingRecipe(epochs=8, schedule="cosine", patience=0, clip_norm=0.0)
        trainer = Trainer(network(), optimizer=optimizer, lr=rate, recipe=recipe, progress=False)
        return trainer.fit(training, held_out)[-1].validation["loss"]

    found = find_learning_rate(network(), "cross_entropy", training, optimizer=OptimizerRecipe(name=optimizer))
    best = min(validation_loss(rate) for rate in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1))
    untrained = math.log(10)
    assert found.rate is not None
    assert validation_loss(found.rate) - best < 0.05 * (untrained - best)


class Fixed(nn.Module):
    """Has a parameter, and answers regardless of it."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return 0 * self.parameter + x[:, :1]


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_never_falls_gives_no_rate(seed):
    found = find_learning_rate(Fixed(), "mse", batches(seed=seed))
    assert found.rate is None
    assert "does not fall clearly" in found.reason
    assert len(found.losses) == 200


def test_a_constant_loss_gives_no_rate():
    assert find_learning_rate(Fixed(), lambda outputs, target: 0 * outputs.sum() + 1.3, batches()).rate is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"highest": 3e-2}, "still falls at the end"),
        ({"steps": 19}, "19 steps are too few"),
        ({"lowest": 1e3, "highest": 1e6}, "diverges after .* give a lower lowest rate"),
        ({"highest": 1e-4}, "does not fall clearly"),
        ({"lowest": 0.2}, "does not fall clearly"),
    ],
)
def test_what_the_curve_does_not_tell_is_not_invented(options, reason):
    found = find_learning_rate(linear(), "mse", batches(), optimizer=SGD, **options)
    assert found.rate is None
    assert re.search(reason, found.reason)


def test_a_rate_below_all_that_were_tried_is_not_given():
    losses = [1.0] * 15 + [0.5] * 10 + [3.0] * 10
    rates = [0.3 * 1.01**step for step in range(35)]
    rate, reason = _usable(rates, losses, smooth(losses), stopped=True)
    assert rate is None
    assert re.search("lowest almost at once .* give a lower lowest rate", reason)


def test_a_loss_that_is_lowest_just_before_it_is_infinite_has_been_seen_to_rise():
    losses = [1.0] * 15 + [0.5] * 10
    rates = [1e-3 * 1.5**step for step in range(25)]
    assert _usable(rates, losses, smooth(losses), stopped=False)[0] is None
    assert _usable(rates, losses, smooth(losses), stopped=True)[0] == pytest.approx(rates[-1] / 3, rel=0.05)


def test_a_gradient_that_is_not_finite_ends_the_trying():
    def loss(outputs, target):
        return (0 * outputs).sqrt().sum() + 1

    found = find_learning_rate(linear(), loss, batches(), clipping=Clipping(norm=1.0))
    assert (found.rate, found.losses) == (None, (1.0,))


def test_a_loss_that_is_not_finite_at_once():
    found = find_learning_rate(linear(), "mse", Batches((X * math.nan,), Y, batch_size=32))
    assert (found.rate, found.losses, found.rates) == (None, (), ())
    assert "not finite at once" in found.reason


def test_losses_below_zero_are_no_divergence():
    found = find_learning_rate(linear(), lambda o, y: F.mse_loss(o[:, 0], y) - 100, batches(), optimizer=SGD)
    assert found.rate == find_learning_rate(linear(), "mse", batches(), optimizer=SGD).rate


def test_the_factors_of_rates_hold():
    frozen = OptimizerRecipe(name="sgd", rates={"*": 0.0})
    assert "does not fall clearly" in find_learning_rate(linear(), "mse", batches(), optimizer=frozen).reason


def test_weights_of_rows_go_into_the_loss():
    seen = []

    def loss(outputs, target, weight):
        seen.append(weight)
        return (weight * (outputs[:, 0] - target) ** 2).mean()

    weighted = Batches((X,), Y, torch.full((256,), 2.0), batch_size=32)
    find_learning_rate(linear(), loss, weighted, steps=20)
    find_batch_size(linear(), loss, weighted, limit=4)
    assert {(float(weight[0]), len(weight)) for weight in seen} == {(2.0, 32), (2.0, 2), (2.0, 4)}


def test_clipping_as_in_training_and_untouched():
    clipping = Clipping(percentile=50.0)
    clipped = find_learning_rate(linear(), "mse", batches(), optimizer=SGD, clipping=clipping)
    assert clipping.recent == []
    assert clipped.losses != find_learning_rate(linear(), "mse", batches(), optimizer=SGD).losses


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_finds_about_the_same(precision):
    lower = find_learning_rate(linear(), "mse", batches(), optimizer=SGD, precision=precision)
    higher = find_learning_rate(linear(), "mse", batches(), optimizer=SGD)
    assert lower.losses[0] != higher.losses[0]
    assert lower.rate == pytest.approx(higher.rate, rel=0.5)


def test_small_gradients_are_not_lost_in_float16():
    def tiny(outputs, target):
        return 1e-7 * F.mse_loss(outputs[:, 0], target)

    smoothed = find_learning_rate(linear(), tiny, batches(), precision="float16").smoothed
    assert min(smoothed) < 0.1 * smoothed[0]


@pytest.mark.parametrize(
    "options", [{"lowest": 0.0}, {"lowest": 1.0, "highest": 0.1}, {"highest": math.inf}, {"steps": 1}]
)
def test_refused_ranges(options):
    with pytest.raises(RecipeError, match="the rate"):
        find_learning_rate(linear(), "mse", batches(), **options)


# The batch size


def test_sizes_are_powers_of_two_within_rows_and_limit():
    found = find_batch_size(small_network(), "mse", batches())
    assert [row.rows for row in found.table] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert found.largest == 256
    assert "256 rows" in found.reason
    assert all(row.rows_per_second > 0 and row.peak is None and not row.failure for row in found.table)
    assert find_batch_size(small_network(), "mse", batches(), limit=31).largest == 16


def test_steps_are_whole_and_of_the_size_they_say():
    seen = []

    class Seeing(nn.Linear):
        def forward(self, x):
            seen.append((len(x), self.training, self.weight.tolist(), x.clone()))
            return super().forward(x)

    updates = []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: updates.append(optimizer))
    found = find_batch_size(Seeing(4, 1), "mse", batches(batch_size=3, shuffle=False), optimizer=SGD, limit=8)
    handle.remove()
    assert len(updates) == 12
    assert [rows for rows, *_ in seen] == [rows for rows in (2, 4, 8) for _ in range(4)]
    assert all(training and weight == seen[0][2] for _, training, weight, _ in seen)
    assert seen[-1][3].equal(torch.cat([X[:3], X[:3], X[:2]]))
    assert found.largest == 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        *(RuntimeError(f"[...] {t}") for t in OUT_OF_MEMORY),
    ],
)
def test_out_of_memory_ends_the_trying(error):
    def loss(outputs, target):
        if len(target) > 8:
            raise error
        return F.mse_loss(outputs[:, 0], target)

    found = find_batch_size(small_network(), loss, batches())
    assert [row.rows for row in found.table] == [2, 4, 8, 16]
    assert found.table[-1] == BatchSize(16, None, None, str(error) or "MemoryError")
    assert found.largest == 8
    assert found.efficient in (2, 4, 8)
    assert found.reason == "a batch of 16 does not fit into memory"


def test_nothing_fits():
    def loss(outputs, target):
        raise MemoryError

    found = find_batch_size(small_network(), loss, batches())
    assert (found.largest, found.efficient, len(found.table)) == (None, None, 1)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        find_batch_size(nn.Linear(5, 1), "mse", batches())


def test_the_efficient_size_is_the_smallest_near_the_top_speed():
    speeds = {2: 100.0, 4: 200.0, 8: 390.0, 16: 760.0, 32: 900.0, 64: 980.0, 128: 1000.0, 256: 950.0}
    assert _efficient([BatchSize(rows, speed, None) for rows, speed in speeds.items()]) == 32
    assert _efficient([]) is None


def test_no_further_size_is_begun_when_time_is_over():
    found = find_batch_size(small_network(), "mse", batches(), seconds=0.0)
    assert [row.rows for row in found.table] == [2]
    assert found.reason == "0 seconds were over before a batch of 4"


@pytest.mark.parametrize("options", [{"limit": 1}, {"limit": 0}])
def test_refused_limits(options):
    with pytest.raises(RecipeError, match="give at least 2 of both"):
        find_batch_size(small_network(), "mse", batches(), **options)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS")
def test_memory_that_really_runs_out():
    program = """
        import resource
        import torch
        from torch import nn
        from sounding.batches import Batches
        from sounding.training.finders import find_batch_size

        torch.set_num_threads(1)
        network = nn.Sequential(nn.Linear(8, 2048), nn.ReLU(), nn.Linear(2048, 1))
        batches = Batches((torch.randn(40_000, 8),), torch.randn(40_000), batch_size=64)
        find_batch_size(network, "mse", batches, limit=4)  # what is loaded at first use
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
        found = find_batch_size(network, "mse", batches, seconds=600)
        print(found.largest, found.table[-1].failure)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=True
    )
    largest, _, failure = done.stdout.partition(" ")
    # 2048 floats of a row, kept at least twice: 16 KiB a row must fit into 200 MiB
    assert 512 <= int(largest) <= 200 * 2**20 // (16 * 2**10)
    assert "can't allocate memory" in failure
