from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from sounding.batches import Batch, Batches
from sounding.errors import DamagedError, DataError, DivergedError, InterruptedRunError, RecipeError
from sounding.recipe import TrainingRecipe
from sounding.training import EpochRecord, Player, StepRecord, Trainer
from sounding.training.checkpoint import load_newest
from sounding.training.clipping import Clipping
from sounding.watching.rules import NoUpdate

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(120, 6, generator=GENERATOR)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).long()
TRAIN, HELD_OUT = (X[:90], Y[:90]), (X[90:], Y[90:])


def classifier(dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2)]
    return nn.Sequential(*layers)


def trainer(network: nn.Module | None = None, **settings) -> Trainer:
    defaults = {
        "lr": 0.02,
        "epochs": 6,
        "batch_size": 16,
        "schedule": "cosine",
        "warmup": 0.1,
        "progress": False,
    }
    return Trainer(network if network is not None else classifier(), **{**defaults, **settings})


def same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


class StopAfter:
    """An onlooker that presses Ctrl-C when so many steps are done."""

    def __init__(self, steps: int, number: signal.Signals = signal.SIGINT) -> None:
        self.left, self.number = steps, number

    def __call__(self, record: StepRecord | EpochRecord) -> None:
        if isinstance(record, StepRecord):
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(self.number)


# Training


def test_learns_and_predicts():
    t = trainer(epochs=60, lr=0.02)
    history = t.fit(TRAIN)
    assert len(history) == 60
    assert history.ending == "all 60 epochs are done"
    assert history[-1].train_loss < 0.5 * history[0].train_loss
    outputs = t.predict(X[:90])
    assert outputs.shape == (90, 2)
    assert (outputs.argmax(1) == Y[:90]).float().mean() > 0.9


def test_defaults_are_the_recipe():
    assert Trainer(classifier()).recipe == TrainingRecipe()
    recipe = TrainingRecipe(epochs=3, schedule="linear")
    t = Trainer(classifier(), recipe=recipe, lr=0.5, epochs=4)
    assert (t.recipe.epochs, t.recipe.schedule, t.recipe.optimizer.lr) == (4, "linear", 0.5)
    assert (recipe.epochs, recipe.optimizer.lr) == (3, 1e-3)  # the one given is left alone


def test_arrays_tuples_and_single_columns_are_understood():
    t = Trainer(nn.Linear(6, 1), loss="mse", epochs=1, progress=False)
    t.fit((X.double().numpy(), Y.double().numpy()))  # outputs (B, 1), target (B,)
    assert t.predict(X.double().numpy()).dtype == torch.float32

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 2)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.head(a + b)

    t = Trainer(Sum(), epochs=1, progress=False)
    t.fit(((X, X.numpy()), Y.to(torch.int32)))
    assert t.predict((X, X)).shape == (120, 2)
    read_only = np.zeros((4, 6), dtype=np.float32)
    read_only.flags.writeable = False
    assert Trainer(nn.Linear(6, 1), progress=False).predict(read_only).shape == (4, 1)


def test_mse_never_broadcasts():
    with pytest.raises(DataError, match=r"outputs have shape \(16, 3\), the target \(16,\)"):
        trainer(nn.Linear(6, 3), loss="mse").fit((X, Y.float()))


def test_any_loss_and_weights_as_a_third_argument():
    seen = []

    def loss(outputs: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.append(weight)
        return (F.cross_entropy(outputs, target, reduction="none") * weight).sum() / weight.sum()

    weight = torch.arange(120.0) + 1
    batches = Batches((X,), Y, weight, batch_size=60)
    trainer(loss=loss, epochs=1).fit(batches)
    assert torch.equal(torch.cat(seen), weight)

    by_hand, built_in = trainer(loss=loss), trainer()
    by_hand.fit(batches)
    built_in.fit(batches)
    for a, b in zip(by_hand.network.parameters(), built_in.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_validation_loss_and_metrics_are_those_of_all_rows_at_once():
    t = trainer(metrics=lambda outputs, target: {"accuracy": (outputs.argmax(1) == target).float().mean()}, patience=0)
    t.recipe.batch_size = 7  # evaluation in batches of 28, the last one of 2
    history = t.fit(TRAIN, HELD_OUT)
    outputs = t.predict(HELD_OUT[0])
    assert history[-1].validation["loss"] == pytest.approx(F.cross_entropy(outputs, HELD_OUT[1]).item(), rel=1e-5)
    assert history[-1].validation["accuracy"] == pytest.approx((outputs.argmax(1) == HELD_OUT[1]).float().mean())


def test_same_seed_same_bits_and_the_callers_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = trainer(), trainer(), trainer(seed=1)
    torch.manual_seed(5)
    first.fit(TRAIN)
    assert torch.rand(3).equal(expected)
    second.fit(TRAIN)
    other.fit(TRAIN)
    assert same_state(first.network, second.network)
    assert not same_state(first.network, other.network)


def test_modes_are_restored_and_frozen_modules_stay_frozen():
    t = trainer()
    t.fit(TRAIN, HELD_OUT)
    t.network.train()
    t.network[1].eval()
    t.predict(X)
    assert [module.training for module in t.network] == [True, False, True, True, True]


def test_threads_are_restored():
    before = torch.get_num_threads()
    seen = []
    t = trainer(threads=2, epochs=1, batch_size=90, onlookers=[lambda r: seen.append(torch.get_num_threads())])
    t.fit(TRAIN)
    assert set(seen) == {2}
    assert torch.get_num_threads() == before


def test_onlookers_get_every_record():
    seen = []
    trainer(epochs=2, onlookers=[seen.append]).fit(TRAIN, HELD_OUT)
    assert [type(record) for record in seen] == [*[StepRecord] * 6, EpochRecord] * 2


def test_channels_last_and_bfloat16_train_as_well():
    pictures = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    target = (pictures[:, 0].float().mean((1, 2)) > 127).long()
    seen = []

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            return self.head(self.convolution(x.float() / 255).mean((2, 3)))

    t = Trainer(Small(), channels_last=True, precision="bfloat16", epochs=2, batch_size=16, progress=False)
    history = t.fit((pictures, target))
    assert all(seen)
    assert t.network.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert history[-1].train_loss > 0
    assert t.predict(pictures).dtype == torch.float32


# Early stopping


def scripted(values: list[float]):
    """Metrics that say what they are told, one value an epoch."""
    said = iter(values)
    return lambda outputs, target: {"score": next(said)}


def test_stops_after_its_patience_with_the_best_weights():
    states = []
    t = trainer(epochs=20, patience=3, monitor="score", metrics=scripted([5, 4, 2, 3, 2, 9, 9, 9]))
    t._onlookers = (lambda r: states.append(copy.deepcopy(t.network)) if isinstance(r, EpochRecord) else None,)
    history = t.fit(TRAIN, HELD_OUT)
    assert (len(history), history.best) == (6, 2)  # an equal value is not a better one
    assert history.ending == "no better score for 3 epochs after epoch 3"
    assert same_state(t.network, states[2])
    assert not same_state(t.network, states[-1])


def test_larger_can_be_better_and_what_is_not_finite_never_is():
    t = trainer(epochs=4, monitor="score", maximize=True, metrics=scripted([1, float("nan"), 3, 2]))
    assert t.fit(TRAIN, HELD_OUT).best == 2


def test_without_patience_the_last_weights_stay():
    states = []
    t = trainer(epochs=3, patience=0, monitor="score", metrics=scripted([1, 2, 3]))
    t._onlookers = (lambda r: states.append(copy.deepcopy(t.network)),)
    t.fit(TRAIN, HELD_OUT)
    assert same_state(t.network, states[-1])


def test_a_monitor_that_is_not_measured():
    with pytest.raises(RecipeError, match=r'"los" is not measured.*did you mean "loss"'):
        trainer(monitor="los").fit(TRAIN, HELD_OUT)


# Interruption and resuming


SETTINGS = {
    "adamw": {},
    "momentum": {"optimizer": "momentum"},
    "muon": {"optimizer": "muon"},
    "early": {"epochs": 30, "patience": 2, "lr": 0.1},
    "one_cycle": {"schedule": "one_cycle", "warmup": 0.0, "clip_norm": 0.1, "optimizer": "rmsprop"},
    "percentile": {"clip_norm": 0.0, "clip_percentile": 30.0, "accumulate": 2},
    "moving average": {"averaging": "ema", "average_decay": 0.9, "patience": 3, "epochs": 8},
    "stochastic average": {"averaging": "swa", "average_start": 0.3, "noise": 0.1},
    "plateau": {"schedule": "reduce_on_plateau", "warmup": 0.0, "epochs": 12, "lr": 0.3},
    "schedule_free": {"optimizer": "schedule_free", "schedule": "constant", "l1": 1e-3, "l2": 1e-3},
    "float16": {"precision": "float16"},
    "recomputed": {"activation_checkpointing": True, "workers": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_interrupted_and_resumed_ends_in_the_same_bits(name, tmp_path):
    settings = SETTINGS[name]
    straight = trainer(checkpoints=tmp_path / "straight", **settings)
    expected = straight.fit(TRAIN, HELD_OUT)
    steps = 6 * len(expected)
    for stop in (1, 5, 6, 7, steps - 1, steps):
        folder = tmp_path / str(stop)
        with pytest.raises(InterruptedRunError):
            trainer(checkpoints=folder, onlookers=[StopAfter(stop)], **settings).fit(TRAIN, HELD_OUT)
        torch.manual_seed(stop)
        again = trainer(
            nn.Sequential(*[copy.deepcopy(layer) for layer in classifier()]), checkpoints=folder, **settings
        )
        history = again.fit(TRAIN, HELD_OUT, resume=True)
        assert same_state(again.network, straight.network), stop
        assert [r._replace(seconds=0) for r in history] == [r._replace(seconds=0) for r in expected]
        assert (history.best, history.ending, history.findings) == (expected.best, expected.ending, [])
        assert_same_tensors(tmp_path / "straight", folder)


def assert_same_tensors(one: Path, other: Path) -> None:
    first, second = load_newest(one), load_newest(other)
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensors in first.tensors.items():
        assert tensors.keys() == second.tensors[name].keys()
        assert all(tensor.equal(second.tensors[name][key]) for key, tensor in tensors.items()), name


def test_interrupted_many_times(tmp_path):
    straight = trainer()
    straight.fit(TRAIN, HELD_OUT)
    for _ in range(100):
        again = trainer(checkpoints=tmp_path, onlookers=[StopAfter(7)])
        try:
            again.fit(TRAIN, HELD_OUT, resume=True)
            break
        except InterruptedRunError:
            continue
    assert same_state(again.network, straight.network)


def test_a_finished_run_resumes_to_what_it_was(tmp_path):
    first = trainer(checkpoints=tmp_path, patience=2, epochs=30, lr=0.1)
    history = first.fit(TRAIN, HELD_OUT)
    names = sorted(path.name for path in tmp_path.iterdir())
    again = trainer(checkpoints=tmp_path, patience=2, epochs=30, lr=0.1)
    assert again.fit(TRAIN, HELD_OUT, resume=True).epochs == history.epochs
    assert same_state(first.network, again.network)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_the_message_says_where_and_how_to_go_on(tmp_path):
    with pytest.raises(InterruptedRunError) as caught:
        trainer(checkpoints=tmp_path, onlookers=[StopAfter(8, signal.SIGTERM)]).fit(TRAIN)
    place = tmp_path / "000001"
    assert str(caught.value) == (
        f"interrupted in epoch 2, after step 2; saved to {place}; go on with fit(..., resume=True)"
    )
    with pytest.raises(InterruptedRunError, match="nothing was saved"):
        trainer(onlookers=[StopAfter(1)]).fit(TRAIN)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_an_experiment_of_the_watch_does_not_keep_a_signal_waiting(at_the_end, tmp_path, monkeypatch):
    straight = trainer()
    straight.fit(TRAIN, HELD_OUT)

    def check(self, seen) -> None:
        if seen.ended if at_the_end else seen.done == 3:
            seen.laboratory.descend(lambda twin: signal.raise_signal(signal.SIGTERM), steps=10**9)

    monkeypatch.setattr(NoUpdate, "check", check)
    where = "after the last epoch" if at_the_end else "in epoch 1, after step 3"
    with pytest.raises(InterruptedRunError, match=f"interrupted {where}; saved to"):
        trainer(checkpoints=tmp_path).fit(TRAIN, HELD_OUT)
    monkeypatch.undo()
    again = trainer(checkpoints=tmp_path)
    again.fit(TRAIN, HELD_OUT, resume=True)
    assert same_state(again.network, straight.network)


def test_handlers_are_put_back():
    def mine(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, mine)
    try:
        trainer(epochs=1).fit(TRAIN)
        assert signal.getsignal(signal.SIGTERM) is mine
        with pytest.raises(InterruptedRunError):
            trainer(onlookers=[StopAfter(1)]).fit(TRAIN)
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = trainer(epochs=2, onlookers=[lambda record: signal.raise_signal(signal.SIGINT)]).fit(TRAIN)
        assert len(history.epochs) == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_exits_at_once_and_the_earlier_checkpoint_stays(tmp_path):
    with pytest.raises(InterruptedRunError):
        trainer(checkpoints=tmp_path, onlookers=[StopAfter(3)]).fit(TRAIN)

    def twice(record):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer(checkpoints=tmp_path, onlookers=[twice]).fit(TRAIN, resume=True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert load_newest(tmp_path).findings == []


def test_works_off_the_main_thread():
    problems = []

    def work():
        try:
            trainer(epochs=1).fit(TRAIN)
        except BaseException as problem:  # noqa: BLE001
            problems.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert problems == []


SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
sys.path[:0] = sys.argv[2:]
from test_trainer import HELD_OUT, TRAIN, trainer
from safetensors.torch import save_file

for after in (4, 3):
    child = os.fork()
    if child == 0:
        left = after
        def kill(record):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        doomed = trainer(checkpoints=sys.argv[1], onlookers=[kill])
        doomed.recipe.checkpoint_every = 0.0
        doomed.fit(TRAIN, HELD_OUT, resume=True)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
heir = trainer(checkpoints=sys.argv[1])
heir.fit(TRAIN, HELD_OUT, resume=True)
save_file(heir.network.state_dict(), sys.argv[1] + "/end.safetensors")
"""


def test_killed_without_warning_and_resumed_in_another_process(tmp_path):
    source = Path(__file__).parents[2] / "src"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    straight = trainer()
    straight.fit(TRAIN, HELD_OUT)
    end = load_file(tmp_path / "end.safetensors")
    assert all(tensor.equal(end[name]) for name, tensor in straight.network.state_dict().items())


def test_resuming_with_other_settings_is_refused(tmp_path):
    trainer(checkpoints=tmp_path, epochs=2).fit(TRAIN)
    with pytest.raises(RecipeError, match=r"lr of group 0 was 0\.02, is 0\.5") as caught:
        trainer(checkpoints=tmp_path, epochs=2, lr=0.5, seed=3).fit(TRAIN, resume=True)
    assert "seed was 0, is 3" in str(caught.value)
    with pytest.raises(RecipeError, match="rows was 90, is 89"):
        trainer(checkpoints=tmp_path, epochs=2).fit((X[:89], Y[:89]), resume=True)


def test_resuming_with_another_network_is_refused(tmp_path):
    trainer(nn.Linear(6, 2), checkpoints=tmp_path).fit(TRAIN)
    with pytest.raises(DamagedError, match=r"weight has shape \(2, 6\), not \(3, 6\)"):
        trainer(nn.Linear(6, 3), checkpoints=tmp_path).fit(TRAIN, resume=True)


def test_resuming_on_another_machine_is_noted(tmp_path):
    with pytest.raises(InterruptedRunError):
        trainer(checkpoints=tmp_path, onlookers=[StopAfter(5)], epochs=1).fit(TRAIN)
    history = trainer(checkpoints=tmp_path, threads=2, epochs=1).fit(TRAIN, resume=True)
    (finding,) = history.findings
    assert finding.rule == "resumed-elsewhere"
    assert finding.evidence == {"threads": {"then": 1, "now": 2}}


def test_more_epochs_go_on_and_are_noted(tmp_path):
    trainer(checkpoints=tmp_path, epochs=2).fit(TRAIN)
    history = trainer(checkpoints=tmp_path, epochs=4).fit(TRAIN, resume=True)
    assert len(history) == 4
    assert history.findings[0].evidence == {"epochs": {"then": 2, "now": 4}}


def test_a_damaged_checkpoint_costs_steps_and_not_bits(tmp_path):
    straight = trainer()
    straight.fit(TRAIN)
    for stop in (4, 3):
        with pytest.raises(InterruptedRunError):
            trainer(checkpoints=tmp_path, onlookers=[StopAfter(stop)]).fit(TRAIN, resume=True)
    (tmp_path / "000002" / "network.safetensors").write_bytes(b"")
    again = trainer(checkpoints=tmp_path)
    history = again.fit(TRAIN, resume=True)
    assert [finding.rule for finding in history.findings] == ["damaged-checkpoint"]
    assert same_state(again.network, straight.network)


def test_nothing_to_resume_starts_from_the_beginning_and_no_folder_is_an_error(tmp_path):
    assert len(trainer(checkpoints=tmp_path / "new", epochs=2).fit(TRAIN, resume=True)) == 2
    with pytest.raises(RecipeError, match="folder for checkpoints"):
        trainer().fit(TRAIN, resume=True)


def test_a_checkpoint_of_something_else(tmp_path):
    from sounding.training.checkpoint import save

    save(tmp_path, {}, {"hello": 1})
    with pytest.raises(DamagedError, match="no checkpoint of a trainer"):
        trainer(checkpoints=tmp_path).fit(TRAIN, resume=True)


# Time


def test_epochs_are_cut_to_the_time_and_a_repeat_with_that_number_is_the_same(tmp_path):
    limited = trainer(epochs=1_000_000, time=0.5, checkpoints=tmp_path)
    history = limited.fit(TRAIN, HELD_OUT)
    assert 1 <= history.planned < 1_000_000
    assert history.seconds < 3
    assert [finding.rule for finding in history.findings] == ["epochs-cut"]
    if len(history) == history.planned or history.ending.startswith("no better"):
        repeated = trainer(epochs=history.planned)
        repeated.fit(TRAIN, HELD_OUT)
        assert same_state(limited.network, repeated.network)


def test_the_cut_is_kept_when_resumed(tmp_path):
    settings = {"epochs": 1_000_000, "time": 0.6, "patience": 0, "checkpoints": tmp_path}
    with pytest.raises(InterruptedRunError):
        trainer(onlookers=[StopAfter(30)], **settings).fit(TRAIN)
    planned = load_newest(tmp_path).state["planned"]
    assert planned < 1_000_000
    assert trainer(**settings).fit(TRAIN, resume=True).planned == planned


def test_a_run_stopped_while_it_measures_is_begun_anew(tmp_path):
    def interrupting(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        signal.raise_signal(signal.SIGINT)
        return F.cross_entropy(outputs, target)

    settings = {"epochs": 1_000_000, "time": 0.5, "patience": 0, "checkpoints": tmp_path}
    stopped = trainer(loss=interrupting, **settings)
    with pytest.raises(InterruptedRunError, match="in epoch 1, after step 0"):
        stopped.fit(TRAIN)
    assert same_state(stopped.network, classifier())  # what the measuring changed is undone
    assert trainer(**settings).fit(TRAIN, resume=True).planned < 1_000_000


def test_enough_time_cuts_nothing():
    straight, timed = trainer(), trainer(time=1000.0)
    straight.fit(TRAIN, HELD_OUT)
    history = timed.fit(TRAIN, HELD_OUT)
    assert history.findings == []
    assert same_state(straight.network, timed.network)  # the trial left no trace


# Players


def test_players_train_stop_and_resume(tmp_path):
    def team() -> list[Player]:
        torch.manual_seed(0)
        maker, judge = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 1))

        def judging(batch: Batch) -> torch.Tensor:
            return (
                F.softplus(judge(maker(batch.inputs[0]).detach())).mean() + F.softplus(-judge(batch.inputs[0])).mean()
            )

        def making(batch: Batch) -> torch.Tensor:
            return F.softplus(-judge(maker(batch.inputs[0]))).mean()

        return [
            Player("judge", judge, judging, torch.optim.Adam(judge.parameters(), 0.01)),
            Player("maker", maker, making, torch.optim.Adam(maker.parameters(), 0.01), clipping=Clipping(1.0)),
        ]

    def new(**settings) -> Trainer:
        return Trainer(players=team(), epochs=3, batch_size=16, progress=False, patience=0, **settings)

    straight = new()
    history = straight.fit(TRAIN, HELD_OUT)
    assert set(history[-1].losses) == {"judge", "maker"}
    assert set(history[-1].validation) == {"loss", "loss_judge", "loss_maker"}
    with pytest.raises(InterruptedRunError):
        new(checkpoints=tmp_path, onlookers=[StopAfter(9)]).fit(TRAIN, HELD_OUT)  # between the two of a step
    again = new(checkpoints=tmp_path)
    again.fit(TRAIN, HELD_OUT, resume=True)
    assert same_state(again.network, straight.network)


# Mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "crossentropy"}, 'did you mean "cross_entropy"'),
        ({"optimizer": "adm"}, 'did you mean "adam"'),
        ({"schedule": "cosin"}, 'did you mean "cosine"'),
        ({"device": "cuda:77" if not torch.cuda.is_available() else "xpu"}, "there is no device"),
        ({"device": "gpu"}, "is not a device"),
        ({"precision": "bfloat"}, 'did you mean "bfloat16"'),
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": -1}, "at least 1"),
        ({"accumulate": 0}, "at least 1"),
        ({"averaging": "eam"}, 'did you mean "ema"'),
        ({"bach_size": 8}, 'did you mean "batch_size"'),
        ({"players": []}, "a network, or players"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(RecipeError, match=message):
        trainer(**settings).fit(TRAIN)


def test_no_rows():
    with pytest.raises(DataError, match="there are no rows"):
        trainer().fit((X[:0], Y[:0]))


def test_a_batch_larger_than_the_data_is_stated():
    (finding,) = trainer(batch_size=1000, epochs=1).fit(TRAIN).findings
    assert finding.evidence == {"rows": 90, "batch_size": 1000}


def test_optimizer_objects_and_functions():
    network = classifier()
    trainer(network, optimizer=torch.optim.SGD(network.parameters(), lr=0.1), epochs=1).fit(TRAIN)
    made = trainer(optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=0.1), epochs=1)
    made.fit(TRAIN)
    assert same_state(network, made.network)


def test_a_lost_batch_is_looked_at_in_the_parts_in_which_it_passed():
    rows = []

    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows.append(len(x))
            return super().forward(x)

    x = torch.randn(160, 3, generator=torch.Generator().manual_seed(0))
    batches = Batches((x,), (x[:, 0] > 0).long(), batch_size=8)
    x[83, 1] = math.nan
    trainer = Trainer(Counting(3, 2), lr=0.01, epochs=1, accumulate=2, progress=False)
    with pytest.raises(DivergedError):
        trainer.fit(batches)
    assert max(rows) == 4
    assert trainer.findings[0].rule == "bad_data"


def test_where_a_loss_was_lost_is_found_in_a_step_that_was_not_looked_at():
    x = torch.randn(160, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    batches = Batches((x,), y, batch_size=8)
    x[83, 1] = math.nan  # the fourth row of the eleventh batch: looked at are 1, 2, 3, 7 and 15
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    trainer = Trainer(network, lr=0.01, epochs=1, progress=False)
    with pytest.raises(DivergedError):
        trainer.fit(batches)
    found = trainer.findings[0]
    assert found.rule == "bad_data"
    assert found.evidence["where"] == "inputs"
    assert found.evidence["rows"] == [3]
    assert found.evidence["step"] == 10
    assert network[1].num_batches_tracked == 11  # the second look left no trace
