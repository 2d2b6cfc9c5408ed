"""Generators from the data to the samples: what they learn, that they are exact, and how they are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sounding
from sounding import cli, fit, load, resume
from sounding.errors import DataError, InterruptedRunError, UserError
from sounding.networks import Standardize, table_variational_autoencoder, tabular_adversarial
from sounding.networks.adversarial import DenseGenerator
from sounding.tasks import Generation, Predictions
from sounding.tasks.build import Standardized
from sounding.tasks.sample_metrics import precision_and_recall, within_reach
from sounding.tasks.samples import Samples, cardinalities_of, columns_of, draw_samples, encoded_rows, features_of
from sounding.tasks.sheets import drawn, sheet
from sounding.training import EpochRecord
from sounding.watching.rules import gan_collapse
from sounding.watching.seen import Seen

TINY = {
    "task": "generation",
    "training.plan": "given",
    "training.threads": 1,
    "training.batch_size": 64,
    "network.options": {"hidden_sizes": [24, 24], "noise_size": 4},
}


def rows_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Two kinds of rows: "high" ones near 10 that are red, and "low" ones near -10 that are blue or green."""
    draw = np.random.default_rng(seed)
    high = draw.random(count) < 0.3
    return {
        "size": np.where(high, 10, -10) + draw.normal(size=count),
        "colour": np.where(high, "red", np.where(draw.random(count) < 0.5, "blue", "green")),
        "kind": np.where(high, "high", "low"),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> sounding.Run:
    settings = {**TINY, "training.epochs": 30, "training.optimizer.lr": 5e-3, "generation.penalty": 0.1}
    out = tmp_path_factory.mktemp("rows") / "run"
    return fit(rows_of(800), "kind", settings=settings, out=out, say=None, progress=False)


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    classes = draw.integers(2, size=count)
    bright = draw.integers(0, 60, size=(count, 6, 6, 3)).astype(np.uint8)
    bright[classes == 1] += 150
    return bright, classes


@pytest.fixture(scope="module")
def picture_run(tmp_path_factory: pytest.TempPathFactory) -> sounding.Run:
    x, y = pictures(300)
    options = {"width": 4, "noise_size": 4}
    settings = {**TINY, "network.options": options, "training.epochs": 25, "training.optimizer.lr": 5e-3}
    settings |= {"generation.penalty": 0.1}
    out = tmp_path_factory.mktemp("pictures") / "run"
    return fit((x, y), settings=settings, out=out, say=None, progress=False)


def test_it_learns_the_rows_and_what_belongs_to_a_class(run: sounding.Run) -> None:
    assert run.task.name == "generation"
    columns = columns_of(run.schema, run.sample(2000))
    assert list(columns) == ["kind", "size", "colour"]
    assert np.mean(columns["kind"] == "high") == pytest.approx(0.3, abs=0.05)
    high, low = (columns_of(run.schema, run.sample(500, label=label)) for label in ("high", "low"))
    assert set(high["kind"]) == {"high"}
    assert np.mean(np.abs(high["size"] - 10) < 4) > 0.9
    assert np.mean(np.abs(low["size"] + 10) < 4) > 0.9
    assert np.mean(high["colour"] == "red") > 0.9
    assert min(np.mean(low["colour"] == colour) for colour in ("blue", "green")) > 0.15


def test_metrics_and_what_it_is_compared_with(run: sounding.Run) -> None:
    results = run.results
    assert set(results["metrics"]["test"]) == {"f1", "precision", "recall", "frechet_distance"}
    assert set(results["intervals"]["test"]) == {"f1", "precision", "recall"}
    assert set(results["baseline"]) == {"columns drawn one by one", "a normal distribution"}
    for name, (low, high) in results["intervals"]["test"].items():
        assert low <= results["metrics"]["test"][name] <= high
    assert (
        results["metrics"]["test"]["precision"] > results["baseline"]["columns drawn one by one"]["test"]["precision"]
    )
    assert results["examples"] == []
    assert set(results["flow"]["players"]) == {"discriminator", "generator"}
    again = run.evaluate(rows_of(80, seed=5))
    assert set(again.metrics) == set(results["metrics"]["test"])


def test_of_many_rows_few_are_compared(make_case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, draw = make_case(rows_of(100), ("kind",), settings={"task": "generation"}).task, np.random.default_rng(0)
    truth = np.concatenate([np.zeros((90, 1)), draw.normal(size=(90, 2))], axis=1)
    predictions = Predictions(draw.normal(size=(90, 2)))
    monkeypatch.setattr("sounding.tasks.generation.MOST_COMPARED", 30)
    metrics, few = task.metrics(predictions, truth), np.linspace(0, 89, 30).astype(int)
    expected = precision_and_recall(truth[few, 1:], predictions.values[few])
    assert (metrics["precision"], metrics["recall"]) == pytest.approx(expected)
    weight = draw.random(90)
    weighted = task.metrics(predictions, truth, weight)
    inside = within_reach(predictions.values[few], truth[few, 1:])
    assert weighted["precision"] == pytest.approx(np.average(inside, weights=weight[few]))
    low, high = task.intervals(predictions, truth, samples=50, seed=0, weight=weight)["precision"]
    assert low <= weighted["precision"] <= high
    same = task.difference(predictions, predictions, truth, samples=20, seed=0, weight=weight, names=["f1"])
    assert same == {"f1": (0.0, 0.0)}


def test_samples_are_a_function_of_the_seed_and_the_first_of_more(run: sounding.Run) -> None:
    many, few = run.sample(600, seed=3), run.sample(5, seed=3)
    for all_of_them, first in ((many.made, few.made), (many.values, few.values), (many.classes, few.classes)):
        assert np.array_equal(all_of_them[:5], first)
    assert not np.array_equal(run.sample(5, seed=4).made, few.made)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert np.array_equal(run.sample(5, seed=3).made, few.made)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(load(run.path).sample(5, seed=3).made, few.made)
    assert np.array_equal(many.take(np.arange(5)).made, few.made)


def test_predictions_are_as_many_samples_as_rows(run: sounding.Run) -> None:
    table, _ = run.predict_table(rows_of(30, seed=2))
    assert table.column_names == ["kind", "size", "colour"]
    assert len(table) == 30
    assert run.predict(rows_of(30, seed=2)).dtype.names == ("kind", "size", "colour")


def test_the_command_line_draws_samples(run: sounding.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(run.path), "--count", "4", "--seed", "3", "--class", "high"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '"kind","size","colour"'
    assert len(lines) == 5
    assert all(line.startswith('"high"') for line in lines[1:])
    assert cli.main(["predict", str(run.path), "--count", "4", "--class", "hihg"]) == 2
    assert capsys.readouterr().err.startswith('there is no class "hihg"; did you mean "high"?')
    assert cli.main(["predict", str(run.path)]) == 2
    assert "give a SOURCE, --count N" in capsys.readouterr().err
    assert cli.main(["predict", str(run.path), "--count", "2", "--out", str(tmp_path / "a.json")]) == 2


def test_pictures_are_written_into_a_folder_for_each_class(
    picture_run: sounding.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    assert cli.main(["predict", str(picture_run.path), "--count", "9", "--out", str(out)]) == 0
    files = sorted(out.glob("*/*.png"))
    assert len(files) == 9
    samples = picture_run.sample(9)
    assert samples.made.shape == (9, 3, 6, 6)
    first = next(path for path in files if path.name == "00000.png")
    assert first.parent.name == samples.labels(picture_run.schema)[0]
    assert np.array_equal(np.moveaxis(np.array(Image.open(first)), -1, 0), samples.made[0])
    assert cli.main(["predict", str(picture_run.path), "--count", "9", "--out", str(out)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_pictures_of_a_class_look_like_it(picture_run: sounding.Run) -> None:
    dark, bright = (picture_run.sample(50, label=label).made.mean() for label in ("0", "1"))
    assert bright > dark + 40  # of real ones 150
    assert picture_run.sample(50).values.shape == (50, 3 * 6 * 6)
    figures = picture_run.results["figures"]["samples"]
    assert figures["made"]["sheet"].startswith("data:image/png;base64,")
    assert [snapshot["epoch"] for snapshot in picture_run.results["snapshots"]] == [1, 2, 4, 8, 16]


def test_the_average_of_the_generator_is_what_is_kept(run: sounding.Run, tmp_path: Path) -> None:
    """The weights of the discriminator do not depend on it, those of the generator that are shipped do."""
    settings = {**TINY, "training.epochs": 2}
    shipped = [
        fit(rows_of(200), "kind", settings={**settings, **more}, out=tmp_path / name, say=None, progress=False).network
        for name, more in (("averaged", {}), ("last", {"training.averaging": "none"}))
    ]
    averaged, last = (network.state_dict() for network in shipped)
    assert all(
        torch.equal(averaged[key], last[key]) == key.startswith(("discriminator", "frequencies")) for key in last
    )


class Stop:
    """Interrupts after some steps, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, record: Any) -> None:
        self.left -= not isinstance(record, EpochRecord)
        if self.left == 0:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("after", [1, 13, 30])
def test_an_interrupted_game_ends_in_the_same_bits(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        **TINY,
        "training.epochs": 4,
        "network.options": {**TINY["network.options"], "spectral_normalization": True},
    }

    def model(folder: Path) -> dict[str, torch.Tensor]:
        return load(folder).network.state_dict()

    data = rows_of(400)
    fit(data, "kind", settings=settings, out=tmp_path / "straight", say=None, progress=False)
    record = sounding.fitting.Events.record
    stop = Stop(after)
    with monkeypatch.context() as patch:
        patch.setattr(sounding.fitting.Events, "record", lambda self, one: (record(self, one), stop(one)))
        with pytest.raises(InterruptedRunError):
            fit(data, "kind", settings=settings, out=tmp_path / "stopped", say=None, progress=False)
    resume(tmp_path / "stopped", data, say=None, progress=False)
    first, second = model(tmp_path / "straight"), model(tmp_path / "stopped")
    assert all(torch.equal(first[name], second[name]) for name in first)
    shown = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("straight", "stopped")]
    assert shown[0]["snapshots"] == shown[1]["snapshots"]
    assert len(shown[0]["snapshots"]) == 3
    assert shown[0]["figures"] == shown[1]["figures"]


def test_looking_at_snapshots_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**TINY, "training.epochs": 2}
    seen = fit(rows_of(200), "kind", settings=settings, out=tmp_path / "seen", say=None, progress=False)
    monkeypatch.setattr(Generation, "snapshot", lambda self, network: None)
    unseen = fit(rows_of(200), "kind", settings=settings, out=tmp_path / "unseen", say=None, progress=False)
    first, second = seen.network.state_dict(), unseen.network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert unseen.results["snapshots"] == []


@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein", "hinge", "relativistic"])
def test_every_loss_trains(loss: str, tmp_path: Path) -> None:
    settings = {**TINY, "training.epochs": 2, "generation.loss": loss}
    run = fit(rows_of(200), "kind", settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert np.isfinite(list(run.metrics["test"].values())).all()


def test_without_a_target_there_are_no_classes(tmp_path: Path) -> None:
    run = fit(rows_of(200), settings={**TINY, "training.epochs": 1}, out=tmp_path / "run", say=None, progress=False)
    assert list(columns_of(run.schema, run.sample(3))) == ["size", "colour", "kind"]
    with pytest.raises(UserError, match="no class"):
        run.sample(3, label="high")


def test_a_target_of_numbers_is_left_out(tmp_path: Path) -> None:
    settings = {**TINY, "training.epochs": 1}
    run = fit(rows_of(200), "size", settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert list(columns_of(run.schema, run.sample(3))) == ["colour", "kind"]


def test_what_cannot_be_made_up_is_refused(tmp_path: Path, run: sounding.Run) -> None:
    data = {**rows_of(200), "when": np.array(["2024-01-01", "2024-02-03"] * 100)}
    with pytest.raises(DataError, match=r'"when" \(date\) cannot.*data\.ignore'):
        fit(data, settings=TINY, out=tmp_path / "run", say=None, progress=False)
    with pytest.raises(UserError, match="makes nothing up"):
        draw_samples(run.schema, torch.nn.Linear(2, 2), 3, 0)
    with pytest.raises(UserError, match="not told of classes"):
        draw_samples(run.schema, tabular_adversarial(1, [4], 0), 3, 0, code=1)


@pytest.mark.parametrize("loss", ["relativistic", "non_saturating"])
def test_the_watch_sees_the_game(loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How various samples are beside real rows, and what the discriminator is told of both."""
    seen: list[tuple[float | None, int]] = []
    measured = gan_collapse._diversity

    def listening(generator: Seen, judge: Seen) -> float | None:
        diversity = measured(generator, judge)
        seen.append((diversity, len(judge.tapes)))
        assert judge.name == "discriminator"
        assert loss == "relativistic" or judge.call.name == "binary_cross_entropy_with_logits"
        assert not generator.validations or not any(v.training_modules for v in generator.validations)
        return diversity

    monkeypatch.setattr(gan_collapse, "_diversity", listening)
    settings = {**TINY, "training.epochs": 3, "generation.loss": loss}
    fit(rows_of(400), "kind", settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert seen
    assert all(diversity is not None and diversity > 0 and tapes for diversity, tapes in seen)


def test_a_generator_that_makes_one_thing_only_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = tabular_adversarial(1, [], 0).generator.__class__.forward
    monkeypatch.setattr(DenseGenerator, "forward", lambda self, noise, classes=None: forward(self, 0 * noise, classes))
    settings = {**TINY, "training.epochs": 30, "data.ignore": ["colour", "kind"], "training.batch_size": 16}
    run = fit(rows_of(300), settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert "gan_collapse" in {finding.rule for finding in run.findings}


def test_a_game_is_not_healed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="players"):
        fit(rows_of(200), settings={**TINY, "training.heal": True}, out=tmp_path / "run", say=None, progress=False)


def test_real_rows_survive_the_way_to_columns(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    columns = {
        "whole": draw.integers(0, 50, 300),
        "gaps": np.where(draw.random(300) < 0.2, np.nan, draw.normal(size=300)),
        "word": draw.choice(["a", "b", "c"], 300),
        "y": draw.choice(["yes", "no"], 300),
    }
    case = make_case(columns, settings={"task": "generation"})
    rows = encoded_rows(case.schema, sounding.tasks.arrange(case.encoded.blocks))
    samples = Samples(features_of(rows), rows, case.truth[:, 0].astype(int))
    back = columns_of(case.schema, samples)
    np.testing.assert_array_equal(back["whole"], columns["whole"])
    np.testing.assert_array_equal(np.isnan(back["gaps"]), np.isnan(columns["gaps"]))
    there = ~np.isnan(columns["gaps"])
    assert np.abs(back["gaps"] - columns["gaps"])[there].max() < 0.02
    assert back["word"].tolist() == columns["word"].tolist()
    assert back["y"].tolist() == columns["y"].tolist()
    shown = drawn(case.schema, samples)
    assert list(shown["numbers"]) == ["whole", "gaps"]
    assert len(shown["numbers"]["gaps"]) == there.sum()
    assert sum(share for _, share in shown["categories"]["word"]) == pytest.approx(1.0)


def test_a_variational_autoencoder_makes_rows_up_as_well(make_case: Any) -> None:
    case = make_case(rows_of(300), ("kind",), settings={"task": "compression"})
    torch.manual_seed(0)
    network = table_variational_autoencoder(1, cardinalities_of(case.schema), 3, hidden_sizes=[8])
    samples = draw_samples(case.schema, network, 400, seed=1)
    assert np.array_equal(draw_samples(case.schema, network, 7, seed=1).made, samples.made[:7])
    columns = columns_of(case.schema, samples)
    assert list(columns) == ["size", "colour"]
    assert set(columns["colour"]) <= {"red", "blue", "green", None}
    pictures = Standardized(Standardize([0.5], [0.25]), Making(torch.tensor([-2.0, 0.0, 2.0, 9.0])))
    assert draw_samples(case.schema, pictures, 1, seed=0).made.ravel().tolist() == [0, 128, 255, 255]


class Making(torch.nn.Module):
    """Pictures of four pixels, always the same."""

    def __init__(self, pixels: torch.Tensor) -> None:
        super().__init__()
        self.pixels = pixels

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return self.pixels.view(1, 1, 2, 2).repeat(count, 1, 1, 1)


def test_a_sheet_has_a_row_for_each_class() -> None:
    made = np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 3), np.uint8)
    classes = np.array([0, 1] * 6)
    paper = sheet(made, classes, 4)
    assert paper.shape == (1, 4, 12)
    assert paper[0, 0, ::3].tolist() == [0, 2, 4, 6]
    assert paper[0, 2, ::3].tolist() == [1, 3, 5, 7]
    assert sheet(made, None, 3)[0, ::2, ::3].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
