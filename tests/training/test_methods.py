"""Training methods through the trainer, each against what it must equal."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.batches import Batch, Batches
from sounding.errors import InterruptedRunError, UserError
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import Trainer
from sounding.training.checkpoint import load, load_newest
from sounding.training.interruption import StopRequested
from sounding.training.loop import Player, StepRecord, train

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(101, 6, generator=GENERATOR)
Y = (X[:, :2].sum(1) > 0).long()
WEIGHT = torch.rand(101, generator=GENERATOR) + 0.1


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def fitted(module: nn.Module | None = None, *, data=(X, Y), validation=None, **settings) -> tuple[Trainer, Tensor]:
    module = module if module is not None else network()
    settings = {"optimizer": "sgd", "lr": 0.3, "weight_decay": 0.0, "epochs": 3, "batch_size": 32, **settings}
    trainer = Trainer(module, **{"clip_norm": 0.0, "patience": 0, "progress": False, **settings})
    trainer.fit(data, validation)
    return trainer, torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


# Accumulation


@pytest.mark.parametrize("parts", [2, 3, 5, 64])
@pytest.mark.parametrize("weight", [None, WEIGHT.double()])
def test_parts_of_a_batch_make_the_step_of_the_whole(parts, weight):
    """101 rows in batches of 32 leave a last one of 5: parts are uneven, and may be more than there are rows."""

    def loss(outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        losses = F.cross_entropy(outputs.double(), target, reduction="none")
        return losses.mean() if weight is None else (losses * weight).sum() / weight.sum()

    results = []
    for accumulate in (1, parts):
        batches = Batches((X.double(),), Y, weight, batch_size=32, shuffle=True)
        _, weights = fitted(network().double(), data=batches, accumulate=accumulate, loss=loss, clip_norm=0.05)
        results.append(weights)
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-13)
    assert not results[0].equal(torch.cat([p.detach().flatten() for p in network().double().parameters()]))


def test_parts_are_weighted_by_what_the_loss_is_the_mean_over():
    """Sequences of several lengths: a mean over tokens is not the mean of the means over parts."""
    lengths = torch.randint(1, 9, (40,), generator=GENERATOR)
    tokens = torch.randint(1, 11, (40, 8), generator=GENERATOR)
    tokens[torch.arange(8) >= lengths[:, None]] = 0  # padding
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 11)).double()

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), target.flatten(), ignore_index=0)

    def count(batch: Batch) -> float:
        return float((batch.target != 0).sum())

    def run(accumulate: int, units) -> Tensor:
        settings = {"loss": loss, "units": units, "batch_size": 16, "accumulate": accumulate}
        return fitted(copy.deepcopy(model), data=(tokens, tokens), **settings)[1]

    torch.testing.assert_close(run(3, count), run(1, None), rtol=1e-12, atol=1e-13)
    assert (run(3, None) - run(1, None)).abs().max() > 1e-4


def test_powers_of_two_are_equal_to_the_bit():
    """Where no rounding happens the sums are the same in any order."""
    x = torch.randint(-4, 5, (64, 3), generator=GENERATOR).double()
    y = torch.randint(-4, 5, (64, 1), generator=GENERATOR).double()
    results = []
    for parts in (1, 2, 4, 8):
        model = nn.Linear(3, 1).double()
        nn.init.ones_(model.weight), nn.init.zeros_(model.bias)
        batches = Batches((x,), y, batch_size=32, shuffle=True)
        results.append(fitted(model, data=batches, loss="mse", lr=0.0625, accumulate=parts, epochs=1)[1])
    assert all(result.equal(results[0]) for result in results)


# Full-batch gradient descent


def test_gradient_descent_takes_all_rows_in_each_step():
    steps: list[StepRecord] = []
    onlooker = lambda record: steps.append(record) if isinstance(record, StepRecord) else None  # noqa: E731
    settings = {"optimizer": "gradient_descent", "batch_size": 0, "onlookers": [onlooker]}
    _, ours = fitted(network().double(), data=Batches((X.double(),), Y, batch_size=101, shuffle=True), **settings)
    module = network().double()
    for _ in range(3):
        gradients = torch.autograd.grad(F.cross_entropy(module(X.double()), Y), list(module.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter -= 0.3 * gradient
    assert [len(step.rows) for step in steps] == [101] * 3
    torch.testing.assert_close(ours, torch.cat([p.detach().flatten() for p in module.parameters()]))


# Penalties and noise


def test_l2_is_the_weight_decay_of_plain_gradient_descent():
    torch.testing.assert_close(fitted(l2=0.1)[1], fitted(weight_decay=0.1)[1])
    assert (fitted(l2=0.1)[1] - fitted()[1]).abs().max() > 0.01


def test_l1_makes_weights_zero_that_are_of_no_use():
    """The first two columns decide; proximity to zero of the others is what l1 is for."""
    settings = {"epochs": 60, "lr": 0.3, "schedule": "linear"}
    useless = {}
    for l1 in (0.0, 0.05):
        model = nn.Linear(6, 2)
        torch.manual_seed(0), nn.init.normal_(model.weight)
        fitted(model, l1=l1, **settings)
        useless[l1] = (model.weight[0] - model.weight[1])[2:].abs().max().item()
    assert useless[0.05] < 0.05 < useless[0.0]


def test_penalties_are_not_in_the_validation_loss():
    trainer, _ = fitted(l2=10.0, lr=1e-9, epochs=1, validation=(X, Y))
    outputs = trainer.predict(X)
    expected = F.cross_entropy(outputs, Y).item()
    records = trainer.fit((X, Y), (X, Y))
    assert records[-1].validation["loss"] == pytest.approx(expected, rel=1e-4)
    assert records[-1].train_loss > expected + 1


def test_noise_is_drawn_while_training_only_and_the_same_again():
    assert fitted(noise=0.5)[1].equal(fitted(noise=0.5)[1])
    assert not fitted(noise=0.5)[1].equal(fitted()[1])
    trainer, _ = fitted(noise=0.5)
    with torch.no_grad():
        assert trainer.predict(X).equal(trainer.network(X))


# Averages


def test_the_moving_average_is_validated_and_kept():
    decay, updates = 0.5, []

    def follow(record: object) -> None:  # called after the update of the step before the record comes out
        if isinstance(record, StepRecord):
            updates.append([p.detach().double().clone() for p in module.parameters()])

    module = network()
    start = [p.detach().double().clone() for p in module.parameters()]
    settings = {"averaging": "ema", "average_decay": decay, "onlookers": [follow]}
    trainer, kept = fitted(module, validation=(X, Y), **settings)
    average = start
    for t, weights in enumerate(updates):
        keep = min(decay, (1 + t) / (10 + t))
        average = [keep * a + (1 - keep) * w for a, w in zip(average, weights, strict=True)]
    torch.testing.assert_close(kept.double(), torch.cat([a.flatten() for a in average]), rtol=1e-5, atol=1e-6)
    last = torch.cat([w.flatten() for w in updates[-1]])
    assert (kept.double() - last).abs().max() > 1e-3
    assert trainer.predict(X).isfinite().all()


def test_the_stochastic_average_is_that_of_torch_with_batch_norm_measured_anew():
    def build() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))

    averaged, ends = torch.optim.swa_utils.AveragedModel(build()), []

    def follow(record: object) -> None:
        if isinstance(record, StepRecord) and (record.step + 1) % 4 == 0 and record.epoch >= 2:
            averaged.update_parameters(module)
            ends.append(record.epoch)

    module = build()
    fitted(module, averaging="swa", average_start=0.5, epochs=5, batch_size=26, onlookers=[follow])
    assert ends == [2, 3, 4]
    torch.optim.swa_utils.update_bn(X.split(101), averaged)
    for name, parameter in averaged.module.named_parameters():
        torch.testing.assert_close(module.get_parameter(name), parameter, rtol=1e-5, atol=1e-6)
    expected = averaged.module[1]
    torch.testing.assert_close(module[1].running_mean, expected.running_mean, rtol=0.05, atol=0.05)


# Schedules that depend on validation


def test_reduce_on_plateau_is_the_one_of_torch():
    rates: list[float] = []
    onlooker = lambda record: rates.append(record.learning_rate) if isinstance(record, StepRecord) else None  # noqa: E731
    settings = {"schedule": "reduce_on_plateau", "lr": 1.0, "epochs": 40, "onlookers": [onlooker]}
    module = network()
    trainer = Trainer(module, optimizer="sgd", weight_decay=0.0, clip_norm=0.0, patience=0, batch_size=101,
                      progress=False, **settings)  # fmt: skip
    values = [record.validation["loss"] for record in trainer.fit((X, Y), (X, torch.flip(Y, (0,))))]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=5)
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    assert rates == pytest.approx(expected)
    assert len(set(expected)) > 2


# Precision


def test_float16_scales_the_loss_and_leaves_out_steps_that_overflow():
    scales: list[float] = []
    module = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=4)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def loss(batch: Batch) -> Tensor:
        scales.append(scaler.get_scale())
        return 100 * F.cross_entropy(module(batch.inputs[0]), batch.target)

    before = [p.detach().clone() for p in module.parameters()]
    player = Player("network", module, loss, optimizer, scaler=scaler)
    records = train([player], Batches((X,), Y, batch_size=101), epochs=20, precision="float16")
    first = next(records)
    next(records)
    if scales[-1] < scales[0]:  # the first one overflowed: its update was left out
        assert first.is_finite
    list(records)
    assert min(scales) < scales[0]  # some overflowed
    assert max(scales[10:]) > min(scales)  # and the scale grew again
    assert not all(a.equal(b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(p.isfinite().all() for p in module.parameters())


def test_float16_learns_what_float32_learns():
    losses = {}
    for precision in ("float32", "float16"):
        trainer = Trainer(network(), lr=0.05, epochs=10, batch_size=32, precision=precision, progress=False)
        losses[precision] = trainer.fit((X, Y))[-1].train_loss
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.05)


# Bits that do not depend on how it was done


@pytest.mark.parametrize("settings", [{"workers": 1}, {"workers": 4}, {"activation_checkpointing": True}])
def test_the_same_bits_with_workers_and_with_recomputed_activations(settings):
    def build() -> nn.Module:
        torch.manual_seed(1)
        block = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.BatchNorm1d(6), nn.ReLU())
        return nn.Sequential(*[copy.deepcopy(block) for _ in range(3)], nn.Linear(6, 2))

    assert fitted(build(), **settings)[1].equal(fitted(build())[1])


def test_a_compiled_step_learns_the_same():
    losses = {}
    for compile in (False, True):
        recipe = TrainingRecipe(
            epochs=2, batch_size=32, compile=compile, clip_norm=0.5, optimizer=OptimizerRecipe(name="sgd", lr=0.1)
        )
        module = network()
        history = Trainer(module, recipe=recipe, progress=False).fit((X, Y), (X, Y))
        losses[compile] = [history[-1].train_loss, history[-1].validation["loss"]]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


# Which checkpoints are kept


def test_the_best_and_every_so_many_are_kept(tmp_path):
    trainer = Trainer(network(), lr=0.05, epochs=7, batch_size=32, checkpoints=tmp_path, checkpoint_every=0.0,
                      keep_checkpoints=1, keep_best=True, keep_every=3, progress=False)  # fmt: skip
    history = trainer.fit((X, Y), (X, Y))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert sum("epoch3" in name for name in names) == 1
    assert sum("epoch6" in name for name in names) == 1
    assert load_newest(tmp_path).state["position"]["epoch"] == 7
    best = [name for name in names if "best" in name][-1]
    (_, state) = load(tmp_path / best)
    assert state["position"]["epoch"] == history.best + 1
    assert len(names) <= 4


# Memory


class Hungry(nn.Module):
    """Has memory for so many rows at once, and a statistic that a failed attempt must not change."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.linear, self.norm = rows, nn.Linear(6, 2), nn.BatchNorm1d(6, affine=False, momentum=0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        if len(x) > self.rows:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you "
                               "tried to allocate 42 bytes. Error code 12 (Cannot allocate memory)\nmore")  # fmt: skip
        return self.linear(x)


def hungry(rows: int) -> Hungry:
    torch.manual_seed(0)
    return Hungry(rows)


def test_a_batch_that_does_not_fit_passes_in_parts():
    module, expected = hungry(rows=10), hungry(rows=1000)
    trainer = Trainer(module, lr=0.1, epochs=2, batch_size=32, progress=False)
    history = trainer.fit((X, Y))
    Trainer(expected, lr=0.1, epochs=2, batch_size=32, accumulate=4, progress=False).fit((X, Y))
    assert trainer.recipe.accumulate == 4
    assert trainer.flow["players"]["network"]["steps"][0] == 1  # the watch goes on with the new optimizer
    assert [finding.evidence["parts"] for finding in history.findings if finding.rule == "batch-in-parts"] == [4]
    assert all(a.equal(b) for a, b in zip(module.state_dict().values(), expected.state_dict().values(), strict=True))


def test_the_watch_sees_the_losses_that_float16_scales_as_they_are():
    told: list[float] = []

    def compare(record: object) -> None:
        if isinstance(record, StepRecord):
            told.append(record.loss)
            assert trainer._watch.players["network"].losses == pytest.approx(told, rel=1e-6)

    torch.manual_seed(0)
    trainer = Trainer(nn.Linear(6, 2), epochs=1, batch_size=32, precision="float16", onlookers=[compare],
                      progress=False)  # fmt: skip
    trainer.fit((X, Y))
    assert len(told) > 3


def test_a_plan_does_not_stop_at_a_batch_that_does_not_fit():
    trainer = Trainer(hungry(rows=10), lr=0.1, epochs=2, batch_size=32, plan="measure", progress=False)
    history = trainer.fit((X, Y))
    assert trainer.recipe.accumulate == 4
    assert len(history) == 2


def test_a_run_in_parts_is_resumed_in_parts(tmp_path):
    def build(rows: int, **more) -> Trainer:
        return Trainer(hungry(rows), lr=0.1, epochs=3, batch_size=32, progress=False, **more)

    def stop(record: object) -> None:
        if isinstance(record, StepRecord) and (record.epoch, record.step) == (1, 1):
            raise StopRequested

    alone, stopped, resumed = (
        build(10),
        build(10, checkpoints=tmp_path, onlookers=[stop]),
        build(10, checkpoints=tmp_path),
    )
    alone.fit((X, Y))
    with pytest.raises(InterruptedRunError):
        stopped.fit((X, Y))
    resumed.fit((X, Y), resume=True)
    pairs = zip(resumed.network.state_dict().values(), alone.network.state_dict().values(), strict=True)
    assert all(ours.equal(theirs) for ours, theirs in pairs)


def test_memory_that_never_suffices_is_told_in_one_line():
    with pytest.raises(UserError, match=r"memory ran out in epoch 1, step 1, .*you tried to allocate 42 bytes") as told:
        Trainer(hungry(rows=0), epochs=1, batch_size=32, progress=False).fit((X, Y))
    assert "\n" not in str(told.value)
    assert "smaller training.batch_size" in str(told.value)


def test_memory_that_runs_out_later_is_told_and_the_checkpoint_stays(tmp_path):
    module = hungry(rows=1000)

    def shrink(record: object) -> None:
        if isinstance(record, StepRecord) and (record.epoch, record.step) == (1, 1):
            module.rows = 1

    trainer = Trainer(module, epochs=3, batch_size=32, checkpoints=tmp_path, checkpoint_every=0.0, onlookers=[shrink],
                      progress=False)  # fmt: skip
    with pytest.raises(UserError, match=r"epoch 2, step 3.*training\.accumulate=2"):
        trainer.fit((X, Y))
    assert load_newest(tmp_path) is not None


def test_other_errors_of_a_network_go_their_way():
    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("a fault of its own")

    with pytest.raises(RuntimeError, match="a fault of its own"):
        Trainer(Broken(6, 2), epochs=1, progress=False).fit((X, Y))
