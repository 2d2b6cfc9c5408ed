"""The benchmark is fair: everybody trains the same network on the same rows, and tells the loss that it reached."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.speed import overhead, peak, table
from benchmarks.speed.contenders import BY_HAND, CONTENDERS, Job, by_hand, trainer
from benchmarks.speed.networks import LOSSES, build
from benchmarks.speed.workloads import WORKLOADS, Arrays, read, write

from sounding.randomness import generator

ROOT = Path(__file__).resolve().parents[2]
PEERS = os.environ.get("SOUNDING_PEERS_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    write(folder, list(WORKLOADS), None, batches=2)
    return folder


@pytest.fixture(autouse=True)
def _machine() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def job(data: Path, workload: str, epochs: int = 2) -> Job:
    return Job(WORKLOADS[workload], read(data, workload), epochs, seed=3)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_nobody_compiles_a_second_shape_for_a_smaller_last_batch(data: Path, workload: str) -> None:
    assert len(np.load(data / workload / "x.npy")) == 2 * WORKLOADS[workload].batch_size
    assert WORKLOADS[workload].rows % WORKLOADS[workload].batch_size == 0


def test_what_is_read_is_what_was_drawn(data: Path) -> None:
    workload = WORKLOADS["table-small"]
    drawn, found = workload.data(None, 512, 512), read(data, "table-small")
    for part in Arrays.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, part), getattr(drawn, part))


def test_a_target_of_a_language_model_is_the_next_character(data: Path) -> None:
    arrays = read(data, "transformer")
    np.testing.assert_array_equal(arrays.x.reshape(-1)[1:], arrays.y.reshape(-1)[:-1])


@pytest.mark.parametrize("workload", ["table-small", "table-wide", "autoencoder"])
def test_the_reference_plan_is_the_loop_by_hand(data: Path, workload: str) -> None:
    def order(epoch: int) -> torch.Tensor:
        return torch.from_numpy(generator(3, epoch, "order").permutation(2 * WORKLOADS[workload].batch_size))

    theirs = by_hand.prepare(job(data, workload), resident=True, fused=True, order=order)()
    ours = trainer.prepare(job(data, workload), plan="reference")()
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
    assert ours.held_out_loss() == pytest.approx(theirs.held_out_loss(), rel=1e-5)
    assert theirs.losses[1] < theirs.losses[0]


@pytest.mark.parametrize("workload", ["conv-small", "resnet", "lstm", "transformer"])
def test_one_epoch_of_the_reference_plan_is_one_of_the_loop_by_hand(data: Path, workload: str) -> None:
    def order(epoch: int) -> torch.Tensor:
        return torch.from_numpy(generator(3, epoch, "order").permutation(2 * WORKLOADS[workload].batch_size))

    theirs = by_hand.prepare(job(data, workload, 1), resident=True, fused=True, order=order)()
    ours = trainer.prepare(job(data, workload, 1), plan="reference")()
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)


@pytest.mark.parametrize("name", BY_HAND)
def test_every_loop_by_hand_visits_each_row_once_in_an_epoch(data: Path, name: str) -> None:
    """With a learning rate of almost nothing the mean over an epoch is the loss of all rows at once."""
    job_ = job(data, "table-small", 1)
    x, y = torch.from_numpy(job_.arrays.x), torch.from_numpy(job_.arrays.y)
    with torch.no_grad():
        expected = LOSSES["cross_entropy"](build("table-small", 3)(x), y).item()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_hand, "LEARNING_RATE", 1e-12)
        trained = CONTENDERS[name].prepare(job_)()
    assert trained.losses == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_trains_the_same_network_on_the_same_rows(data: Path, name: str) -> None:
    """After one epoch of two batches the losses differ by the order of the rows alone."""
    needs = "jax" if name == "keras-jax" else CONTENDERS[name].needs
    there = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{needs}') is None)"
    if CONTENDERS[name].peer and subprocess.run([PEERS, "-c", there]).returncode:
        pytest.skip(f"{needs} is not installed")
    result = worked(name, "table-small", data, epochs=1)
    by_hand = worked("pytorch-resident", "table-small", data, epochs=1)
    assert len(result["losses"]) == len(result["epoch_wall"]) == 1
    near = 0.05 if name == "keras-jax" else 0.01  # its weights are drawn from another generator
    assert result["losses"] == pytest.approx(by_hand["losses"], rel=near)
    assert result["held_out_loss"] == pytest.approx(by_hand["held_out_loss"], rel=near)
    assert 0 < result["epoch_wall"][0] <= result["wall"]
    assert result["cpu"] > 0
    assert 0 <= result["peak_above"] < result["peak"]


def worked(name: str, workload: str, data: Path, epochs: int) -> dict[str, Any]:
    words = {"contender": name, "workload": workload, "data": str(data), "epochs": epochs, "seed": 3, "started": 0.0}
    done = subprocess.run(
        [PEERS if CONTENDERS[name].peer else sys.executable, "-m", "benchmarks.speed.worker", json.dumps(words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_operations_of_a_network_counted_by_hand() -> None:
    multiplications = 14 * 256 + 256 * 256 + 256 * 2
    # forward, backward to the weights, and backward to the inputs of all layers but the first
    assert peak.operations("table-small") == 2 * 256 * (3 * multiplications - 14 * 256)
    per_character = 4 * 256 * (128 + 256) + 256 * 65
    assert peak.operations("lstm") == 3 * 2 * 32 * 64 * per_character


def test_overhead_is_the_difference_of_the_two_loops() -> None:
    found = overhead.measure(turns=1, epochs=1, steps=4)
    assert found["bare"] > 0
    assert found["overhead"] == found["sounding"] - found["bare"]


def run(contender: str, turn: int, wall: float, workload: str = "table-small", **others: Any) -> dict[str, Any]:
    return {
        **{"contender": contender, "workload": workload, "round": turn, "wall": wall, "cpu": 2 * wall},
        **{"epoch_wall": [wall / 2, wall / 2], "losses": [0.5, 0.25], "held_out_loss": 0.3, "started": 1.0},
        **{"peak": 300.0, "peak_above": 20.0, "notes": {}, "version": "1"},
        **others,
    }


FACTS = {"date": "1 January 2026", "machine": "2 CPU cores", "python": "3.11"}


def test_the_speed_is_compared_within_each_round_with_the_best_loop_by_hand() -> None:
    runs = table.Runs(
        [run("pytorch-dataloader", turn, 8.0) for turn in range(3)]
        + [run("pytorch-resident", turn, wall) for turn, wall in enumerate([4.0, 40.0, 4.0])]
        + [run("sounding", turn, wall) for turn, wall in enumerate([4.0, 20.0, 1.0])]
    )
    wall = table.per_epoch("wall")
    assert runs.best_by_hand("table-small", wall) == "pytorch-resident"
    assert runs.speed("table-small", "sounding", "pytorch-resident", wall) == 2.0
    assert runs.median("table-small", "sounding", wall) == 2.0


def test_the_mean_over_workloads_is_geometric_and_leaves_out_what_was_not_run() -> None:
    runs = table.Runs(
        [run("pytorch-resident", 0, 4.0, name) for name in ("table-small", "lstm", "resnet")]
        + [run("sounding", 0, 1.0, "table-small"), run("sounding", 0, 4.0, "lstm")]
    )
    assert runs.over_all("sounding", lambda workload: "pytorch-resident", table.per_epoch("wall")) == pytest.approx(2.0)
    assert math.isnan(runs.over_all("skorch", lambda workload: "pytorch-resident", table.per_epoch("wall")))


def test_the_report_shows_losses_like_wins_and_why_something_was_not_run() -> None:
    failed = {"contender": "skorch", "workload": "table-small", "round": 0, "error": "no module named skorch"}
    text = table.report([run("pytorch-resident", 0, 2.0), run("sounding", 0, 4.0), failed], FACTS)
    (line,) = [line for line in text.splitlines() if line.startswith("| small table") and "x)" in line][:1]
    assert line.split(" | ")[1:] == ["2 (0.50x)", "1 (1.00x)", "not run: no module named skorch |"]
    assert "0.25 / 0.3" in text
    assert "20 (300)" in text


def test_tables_are_written_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n", encoding="utf-8")
    table.write(path, "first")
    path.write_text(path.read_text(encoding="utf-8") + "\nafter\n", encoding="utf-8")
    table.write(path, "second")
    text = path.read_text(encoding="utf-8")
    assert "first" not in text
    assert text.startswith("# Results\n")
    assert text.endswith(f"{table.BEGIN}\n\nsecond\n\n{table.END}\n\nafter\n")
