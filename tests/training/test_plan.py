"""Plans: that measuring changes nothing, and that the choice follows from the figures."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from sounding.batches import Batches
from sounding.errors import DivergedError
from sounding.recipe import Recipe, TrainingRecipe
from sounding.training import Trainer
from sounding.training import plan as module
from sounding.training.plan import RACE, Figures, Rehearsal, Way, candidates, choose_plan, read_table, write_table

PLAIN = Way(threads=2)
PICTURES, CLASSES = torch.rand(64, 3, 8, 8), torch.arange(64) % 2


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDING_CACHE", str(tmp_path / "cache"))


class Clock:
    """A machine whose steps take what a function says; nobody waits."""

    def __init__(self, seconds, monkeypatch, losses=lambda way, step: 1.0 + 0.1 * (step % 5)):
        self.now, self.seconds, self.losses, self.busy = 0.0, seconds, losses, 1.0
        self.rehearsed: list[Way] = []
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def __call__(self, way: Way, steps: int, limit: float) -> Rehearsal:
        self.rehearsed.append(way)
        each = self.seconds(way)
        steps = min(steps, max(int(limit / each), 1)) if limit < math.inf else steps
        first = 20.0 if way.compile and self.rehearsed.count(way) == 1 else 0.0
        self.now += steps * each + first
        seconds = [first + each] + [each] * (steps - 1)
        return Rehearsal(seconds, [self.losses(way, step) for step in range(steps)], self.busy)


def seconds_of(way: Way) -> float:
    """One thread is twice as fast, bfloat16 four times, compiled code ten times."""
    return (
        0.01 / (2 if way.threads == 1 else 1) / (4 if way.precision == "bfloat16" else 1) / (10 if way.compile else 1)
    )


def ways(**more) -> list[Way]:
    return candidates(PLAIN, precisions=("float32", "bfloat16"), threads=(1, 2), pictures=False, **more)


def test_candidates_begin_with_the_plain_way_and_try_layouts_for_pictures_only():
    assert ways()[0] == PLAIN
    assert len(ways()) == len(set(ways())) == 2 * 3
    pictured = candidates(PLAIN, precisions=("bfloat16",), threads=(1,), pictures=True)
    assert {way.channels_last for way in pictured} == {False, True}
    assert not any(way.channels_last for way in ways())


def test_the_fastest_is_taken_within_a_twentieth_of_the_run(monkeypatch):
    clock = Clock(seconds_of, monkeypatch)
    plan = choose_plan(clock, ways(), steps=100_000)
    assert (plan.way.threads, plan.way.precision) == (1, "bfloat16")
    assert plan.seconds < 0.05 * 100_000 * 0.01
    assert [row["milliseconds"] for row in plan.rows] == sorted(row["milliseconds"] for row in plan.rows)
    assert "against 10 ms the plain way" in str(plan)


def test_a_hopeless_number_of_threads_costs_little_and_is_tried_with_nothing_else(monkeypatch):
    clock = Clock(lambda way: 100 * seconds_of(way) if way.threads == 2 else seconds_of(way), monkeypatch)
    clock.busy = 0.2
    plan = choose_plan(clock, ways(), steps=1000)
    assert plan.way == replace(PLAIN, threads=1, precision="bfloat16")
    assert {way for way in clock.rehearsed if way.threads == 2} == {PLAIN}
    assert clock.now < 0.05 * 1000 * 1.0


def test_a_short_run_of_large_steps_tries_what_promises_most(monkeypatch):
    clock = Clock(lambda way: 10 * seconds_of(way), monkeypatch)
    plan = choose_plan(clock, ways(), steps=100)
    assert plan.way.precision == "bfloat16"
    assert clock.now < 2 * 0.1 + 0.06 * 100 * 0.1


def test_a_run_of_very_few_steps_compares_single_ones(monkeypatch):
    clock = Clock(lambda way: 10 * seconds_of(way), monkeypatch)
    plan = choose_plan(clock, ways(), steps=40)
    assert plan.way.precision == "bfloat16"
    assert clock.now < 0.1 + 0.06 * 40 * 0.1


def test_networks_that_attend_try_plain_products_in_reduced_precision_first():
    settings = {"precisions": ("float32", "bfloat16"), "threads": (), "pictures": False}
    (plain, first, second, *_) = candidates(PLAIN, **settings, attends=True)
    assert plain == PLAIN
    assert first == replace(PLAIN, precision="bfloat16", attention="plain")
    assert second == replace(PLAIN, precision="bfloat16")
    assert all(way.attention == PLAIN.attention for way in candidates(PLAIN, **settings))


@pytest.mark.parametrize("steps", [30, 200, 1000, 5000])
def test_short_runs_measure_less(steps, monkeypatch):
    clock = Clock(seconds_of, monkeypatch)
    choose_plan(clock, ways(), steps=steps)
    always = 2 * 4 * 0.01  # the numbers of threads
    one_turn, race = 8 * 0.01, 2 * RACE * 0.01
    assert clock.now <= always + 0.05 * steps * 0.01 + one_turn + race


def test_nothing_faster_is_the_plain_way(monkeypatch):
    plan = choose_plan(Clock(lambda way: 0.01, monkeypatch), ways(), steps=10_000)
    assert plan.way == PLAIN
    assert "against" not in str(plan)


@pytest.mark.parametrize("worse", [0.5, math.nan, math.inf])
def test_a_faster_way_whose_losses_are_worse_is_refused(worse, monkeypatch):
    losses = lambda way, step: 1.0 + 0.1 * (step % 5) + (worse if way.precision == "bfloat16" else 0.0)  # noqa: E731
    plan = choose_plan(Clock(seconds_of, monkeypatch, losses), ways(), steps=100_000)
    assert plan.way == replace(PLAIN, threads=1)
    assert any("bfloat16" in note and "loss" in note for note in plan.notes)


def test_losses_that_differ_by_less_than_their_noise_are_good(monkeypatch):
    losses = lambda way, step: 1.0 + 0.1 * (step % 5) + (0.01 if way.precision == "bfloat16" else 0.0)  # noqa: E731
    plan = choose_plan(Clock(seconds_of, monkeypatch, losses), ways(), steps=100_000)
    assert plan.way.precision == "bfloat16"


@pytest.mark.parametrize(
    "error", [RuntimeError("view size is not compatible\nmore"), DivergedError("the loss is nan", "")]
)
def test_a_way_that_fails_is_left_out_with_a_note(error, monkeypatch, tmp_path):
    clock = Clock(seconds_of, monkeypatch)

    def failing(way: Way, steps: int, limit: float) -> Rehearsal:
        if way.precision == "bfloat16":
            raise error
        return clock(way, steps, limit)

    plan = choose_plan(failing, ways(), steps=100_000)
    assert plan.way == replace(PLAIN, threads=1)
    assert any("bfloat16" in note and "does not work here" in note for note in plan.notes)
    assert not any("\n" in note for note in plan.notes)
    assert all(row["precision"] == "float32" for row in plan.rows)
    write_table("key", plan.table)
    assert all(way.precision == "float32" for way in read_table("key"))


def test_an_error_of_the_plain_way_is_raised(monkeypatch):
    def failing(way: Way, steps: int, limit: float) -> Rehearsal:
        raise RuntimeError("a fault of the network")

    with pytest.raises(RuntimeError, match="a fault of the network"):
        choose_plan(failing, ways(), steps=1000)


def test_changes_are_tried_on_the_fastest(monkeypatch):
    clock = Clock(lambda way: seconds_of(way) / (1 + way.workers), monkeypatch)
    plan = choose_plan(clock, ways(), steps=100_000, changes=[{"workers": 1}])
    assert plan.way.workers == 1
    assert all((way.threads, way.precision) == (1, "bfloat16") for way in clock.rehearsed if way.workers)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(2, 8), nn.Linear(8, 2)

    def forward(self, x):
        values = self.layer(x)[:, None].expand(-1, 3, -1)
        return self.head(nn.functional.scaled_dot_product_attention(values, values, values)).mean(1)


@pytest.mark.parametrize(("build", "attends"), [(Attending, True), (lambda: nn.Linear(2, 2), False)])
def test_ways_to_attend_are_tried_where_a_network_attends(build, attends):
    torch.manual_seed(0)
    trainer = Trainer(build(), epochs=5000, batch_size=32, progress=False)
    plan = trainer.plan((torch.randn(64, 2), torch.randint(0, 2, (64,))))
    assert any(row["attention"] == "plain" for row in plan.rows) is attends


@pytest.mark.parametrize(("gain", "taken"), [(1.2, "foreach"), (1.01, "auto")])
def test_another_implementation_of_the_optimizer_has_to_gain_something(gain, taken, monkeypatch):
    clock = Clock(lambda way: seconds_of(way) / (gain if way.implementation == "foreach" else 1), monkeypatch)
    changes = [{"implementation": "foreach"}, {"implementation": "loop"}]
    assert choose_plan(clock, ways(), steps=100_000, changes=changes).way.implementation == taken
    assert {way.implementation for way in clock.rehearsed} == {"auto", "foreach", "loop"}


def test_compilation_is_tried_only_where_the_run_pays_for_it(monkeypatch):
    for steps, pays in ((10_000, False), (1_000_000, True)):
        clock = Clock(seconds_of, monkeypatch)
        plan = choose_plan(clock, ways(), steps=steps, compiling=True)
        assert plan.way.compile is pays
        assert any(way.compile for way in clock.rehearsed) is pays


def test_known_compilation_is_taken_as_soon_as_it_saves_its_own_time(monkeypatch):
    table = choose_plan(Clock(seconds_of, monkeypatch), ways(), steps=1_000_000, compiling=True).table
    for steps, pays in ((1_000, False), (50_000, True)):
        clock = Clock(seconds_of, monkeypatch)
        plan = choose_plan(clock, ways(), steps=steps, compiling=True, known=table)
        assert plan.way.compile is pays
        compared = {plan.way, replace(PLAIN, threads=1)}  # their losses, where they were not
        assert set(clock.rehearsed) <= {PLAIN, *compared}


def test_what_is_known_is_measured_again_when_the_machine_has_changed(monkeypatch):
    table = choose_plan(Clock(seconds_of, monkeypatch), ways(), steps=100_000).table
    clock = Clock(lambda way: 3 * seconds_of(way), monkeypatch)
    choose_plan(clock, ways(), steps=100_000, known=table)
    assert set(clock.rehearsed) == set(ways())


def test_tables_are_kept_and_damaged_ones_are_none(tmp_path):
    table = {PLAIN: Figures(0.01, 0.5, [1.0, 0.5]), replace(PLAIN, threads=1): Figures(0.02, 0.1, [])}
    write_table("key", table)
    assert read_table("key") == table
    assert read_table("another") == {}
    place = tmp_path / "cache" / "plans" / "key.json"
    for text in ("", "[{}]", json.dumps([{"way": {"wrong": 1}, "figures": {}}])):
        place.write_text(text)
        assert read_table("key") == {}


def test_ways_are_recipe_keys_and_back():
    way = Way("bfloat16", "medium", "plain", True, 1, 1, True, False, "foreach")
    recipe = Recipe().with_settings(way.settings).training
    assert Way.of(recipe) == way
    assert Way.of(way.applied(TrainingRecipe())) == way


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2))


def test_measuring_leaves_everything_as_it_was():
    measured = network()
    optimizer = torch.optim.Adam(measured.parameters())
    trainer = Trainer(measured, optimizer=optimizer, epochs=50, batch_size=16, averaging="ema", progress=False)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    plan = trainer.plan((PICTURES, CLASSES))
    assert len(plan.table) > 1
    assert Way.of(trainer.recipe) == plan.way
    assert torch.random.get_rng_state().equal(state)
    assert torch.get_num_threads() == threads
    assert torch.get_float32_matmul_precision() == "highest"
    assert all(parameter.grad is None for parameter in measured.parameters())
    assert all(torch.all(entry["exp_avg"] == 0) for entry in optimizer.state.values())
    fresh = network().state_dict()
    assert all(tensor.equal(fresh[name]) for name, tensor in measured.state_dict().items())


def test_a_measured_run_is_the_run_with_what_was_measured_given():
    measured, given = network(), network()
    first = Trainer(measured, epochs=8, batch_size=16, plan="measure", progress=False)
    first.fit((PICTURES, CLASSES))
    recipe = Way.of(first.recipe).applied(TrainingRecipe(epochs=8, batch_size=16))
    Trainer(given, recipe=recipe, progress=False).fit((PICTURES, CLASSES))
    expected = measured.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in given.state_dict().items())


def test_reference_is_plain_float32_whatever_else_is_set():
    trainer = Trainer(network(), plan="reference", precision="bfloat16", channels_last=True, compile=True)
    assert Way.of(trainer.recipe) == Way()


def test_a_resumed_run_goes_the_way_it_began(tmp_path):
    def build() -> Trainer:
        return Trainer(network(), plan="measure", epochs=4, batch_size=16, checkpoints=tmp_path, progress=False)

    first, second = build(), build()
    first.plan((PICTURES, CLASSES))
    odd = replace(Way.of(first.recipe), channels_last=True, float32_matmul="medium")
    first.recipe = odd.applied(first.recipe)
    first.fit((PICTURES, CLASSES))
    second.fit((PICTURES, CLASSES), resume=True)
    assert Way.of(second.recipe) == odd


def test_batches_of_any_class_are_measured():
    trainer = Trainer(network(), epochs=2, progress=False)
    batches = Batches((PICTURES,), CLASSES, batch_size=32, shuffle=True, transform=lambda batch, epoch, step: batch)
    plan = trainer.plan(batches)
    assert asdict(plan.way)["precision"] in ("float32", "bfloat16")
