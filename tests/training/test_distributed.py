"""Several processes under torchrun against a single one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))

import _together

from sounding.batches import Batches
from sounding.errors import RecipeError
from sounding.recipe import OptimizerRecipe, TrainingRecipe
from sounding.training import distributed
from sounding.training.distributed import Processes, check_together
from sounding.training.loop import Player

SAME = ["plain", "weighted", "normalized", "early", "players", "sharded", "narrow"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(distributed.__file__).parents[2])}

Launch = Callable[[int], Path]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """The folder in which so many processes have left what they end with."""
    folders: dict[int, Path] = {}

    def launched(count: int) -> Path:
        if count not in folders:
            cases = [*SAME, "drawing", "stopped"]
            folder = tmp_path_factory.mktemp(f"{count}-processes")
            if count != 2:  # what two have begun
                shutil.copytree(launched(2) / "stopped" / "checkpoints", folder / "resumed" / "checkpoints")
                cases.append("resumed")
            if count == 1:
                for case in cases:
                    _together.run(case, folder / case)
            else:
                words = [f"{case}={folder / case}" for case in cases]
                command = [*TORCHRUN, f"--nproc-per-node={count}", _together.__file__, *words]
                done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, done.stderr
                assert "Warning" not in done.stderr
            folders[count] = folder
        return folders[count]

    return launched


def differ(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The greatest difference, relative to the greatest entry of its tensor."""
    assert first.keys() == second.keys()
    return max(((first[name] - second[name]).abs().max() / first[name].abs().max()).item() for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("case", SAME)
def test_the_result_is_that_of_one_process(launch: Launch, case: str, count: int) -> None:
    weights, story = _together.outcome(case, launch(1) / case)
    for rank in range(count):
        theirs, told = _together.outcome(case, launch(count) / case, rank)
        # Adam divides the gradient by its own size, and that of a bias before a batch norm is all rounding.
        limit = {"sharded": 1e-8, "narrow": 1e-5}.get(case, 1e-13)
        assert differ(weights, theirs) < limit
        assert told["losses"] == pytest.approx(story["losses"], rel=10 * limit)
        assert told["validation"] == [pytest.approx(values, rel=10 * limit) for values in story["validation"]]
        assert (told["best"], told["ending"]) == (story["best"], story["ending"])


@pytest.mark.slow
@pytest.mark.parametrize("case", SAME)
def test_all_processes_end_with_the_same_bits(launch: Launch, case: str) -> None:
    (weights, story), *others = (_together.outcome(case, launch(3) / case, rank) for rank in range(3))
    for theirs, told in others:
        assert all(torch.equal(weights[name], theirs[name]) for name in weights)
        assert told["validation"] == story["validation"]


@pytest.mark.slow
def test_training_stops_early_at_the_same_epoch(launch: Launch) -> None:
    _, story = _together.outcome("early", launch(2) / "early", 1)
    assert story["ending"].startswith("no better loss for 3 epochs")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_every_process_reads_only_its_share(launch: Launch, count: int) -> None:
    read = [_together.outcome("plain", launch(count) / "plain", rank)[1]["touched"] for rank in range(count)]
    expected = sorted([*range(_together.ROWS)] * _together.EPOCHS)
    assert sorted(row for rows in read for row in rows) == expected  # each row once an epoch, in one of them
    assert max(map(len, read)) <= len(expected) / count + _together.EPOCHS * 5  # a row more or less in each batch


@pytest.mark.slow
def test_only_the_first_process_draws_what_one_would(launch: Launch) -> None:
    name = "layers.1.drawn"
    drawn = [_together.outcome("drawing", launch(3) / "drawing", rank)[0][name] for rank in range(3)]
    assert torch.equal(drawn[0], _together.outcome("drawing", launch(1) / "drawing")[0][name])
    assert len({tuple(numbers.tolist()) for numbers in drawn}) == 3


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(launch: Launch) -> None:
    told = [(launch(3) / "stopped" / f"stopped.{rank}.interrupted").read_text() for rank in range(3)]
    assert set(told) == {told[0]}
    assert told[0].startswith("interrupted in epoch 2, after step 3; saved to")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_sharded_checkpoint_of_two_processes_is_read_by_another_number(launch: Launch, count: int) -> None:
    weights, story = _together.outcome("sharded", launch(1) / "sharded")
    theirs, told = _together.outcome("resumed", launch(count) / "resumed")
    assert differ(weights, theirs) < 1e-8
    assert told["losses"] == pytest.approx(story["losses"], rel=1e-8)
    assert "resumed-elsewhere" in told["findings"]


@pytest.mark.slow
def test_a_sharded_checkpoint_holds_a_piece_of_each_process(launch: Launch) -> None:
    (place,) = (launch(3) / "stopped" / "checkpoints").iterdir()
    shards = [load_file(path) for path in sorted(place.glob("*.safetensors"))]
    rows = [shard["network/layers.0.weight"].shape for shard in shards]
    assert rows == [(3, 4), (3, 4), (2, 4)]  # of 8 rows
    assert {path.suffix for path in place.iterdir()} == {".safetensors", ".json"}


def write_table(path: Path) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 400)).round(3)
    label = np.where(a * b > 0.1, "yes", "no")
    path.write_text("a,b,y\n" + "".join(f"{x},{y},{z}\n" for x, y, z in zip(a, b, label, strict=True)))


def fit_command(folder: Path, out: str) -> list[str]:
    settings = ["training.checkpoint_every=0.05", "training.patience=0", "evaluation.bootstrap=20"]
    words = [word for setting in settings for word in ("--set", setting)]
    fit = [
        "-m",
        "sounding",
        "fit",
        str(folder / "t.csv"),
        "--target",
        "y",
        "--epochs",
        "20",
        "--out",
        str(folder / out),
    ]
    return [*TORCHRUN, "--nproc-per-node=2", "--max-restarts=1", *fit, "--json", *words]


def worker(agent: int, rank: int) -> int:
    """The process of a rank that torchrun has started."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    wanted = f"\0RANK={rank}\0".encode()
    return next(int(child) for child in children if wanted in Path(f"/proc/{child}/environ").read_bytes())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks processes up in /proc")
def test_a_killed_process_is_started_again_and_the_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv")
    left_alone = subprocess.run(fit_command(tmp_path, "alone"), env=ENVIRONMENT, capture_output=True, text=True)
    assert left_alone.returncode == 0, left_alone.stderr
    lines = left_alone.stdout.splitlines()
    assert json.loads(lines[-1])["epochs"] == 20
    assert sum(line.startswith("model: ") for line in lines) == 1  # one process speaks

    with subprocess.Popen(
        fit_command(tmp_path, "killed"), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        checkpoints = tmp_path / "killed" / "checkpoints"
        until = time.monotonic() + 120
        while not (checkpoints.is_dir() and any(path.name >= "000003" for path in checkpoints.glob("0*"))):
            assert run.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(worker(run.pid, 1), signal.SIGKILL)
        _, told = run.communicate(timeout=120)
    assert run.returncode == 0, told

    weights = [load_file(tmp_path / name / "model" / "network.safetensors") for name in ("alone", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    events = [json.loads(line) for line in (tmp_path / "killed" / "events.jsonl").read_text().splitlines()]
    epochs = [event["epoch"] for event in events if event["kind"] == "epoch"]
    assert set(epochs) == set(range(20))
    assert len(epochs) < 40  # it went on, and did not begin anew


# Alone.


def test_shares_of_a_batch_in_parts_add_up() -> None:
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0])
    (batch,) = Batches((torch.arange(4.0),), weight=weight, batch_size=4).epoch(0)
    network = nn.Linear(1, 1)
    player = Player("p", network, lambda batch: torch.zeros(()), torch.optim.SGD(network.parameters()), parts=2)
    parts = [(part.rows.tolist(), share) for part, share in player.split(batch, Processes(), 4)]
    assert parts == [([0, 1], 0.25), ([2, 3], 0.75)]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"compile": True}, "compiled"),
        ({"sharding": "full", "averaging": "ema"}, "averaging"),
        ({"sharding": "full", "precision": "float16"}, "float16"),
        ({"sharding": "full", "optimizer": OptimizerRecipe(name="muon")}, "muon"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        check_together(TrainingRecipe(**settings), has_optimizer=False, has_players=False)


def test_players_and_optimizers_of_their_own_are_not_sharded() -> None:
    check_together(TrainingRecipe(), has_optimizer=True, has_players=True)
    for own in ("players", "optimizer"):
        with pytest.raises(RecipeError, match=own):
            check_together(
                TrainingRecipe(sharding="full"), has_optimizer=own == "optimizer", has_players=own == "players"
            )


def test_a_launch_has_the_same_name_in_all_processes_and_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.launch() == ""
    assert not distributed.restarted()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert distributed.launch() == "job-7"
    assert distributed.restarted()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # every start of torchrun is called so
    assert str(os.getppid()) in distributed.launch()
