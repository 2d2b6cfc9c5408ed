"""The run folder: opened again it answers the same, damage is noticed, and no two runs write to one folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

import sounding
from sounding.cli import main
from sounding.errors import DamagedError, DataError, UserError
from sounding.fitting import check_run
from sounding.recipe import Recipe
from sounding.run import Events, FolderLock, load_tensors
from sounding.training import write_manifest

QUICK = {"training.epochs": 2, "evaluation.bootstrap": 20}


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """A mixed table with gaps, in memory."""
    generator = np.random.default_rng(1)
    age = generator.integers(18, 80, 200).astype(float)
    age[::17] = np.nan
    job = np.where(generator.random(200) < 0.1, None, generator.choice(["cook", "nurse", "pilot"], 200))
    income = np.where(np.nan_to_num(age, nan=40) + generator.normal(0, 9, 200) > 45, "high", "low")
    return pd.DataFrame({"age": age, "job": job, "income": income})


@pytest.fixture(scope="module")
def run(people: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> sounding.Run:
    out = tmp_path_factory.mktemp("people") / "run"
    return sounding.fit(people, "income", settings=QUICK, out=out, say=None, progress=False)


def test_a_run_that_is_opened_again_answers_with_the_same_bits(run: sounding.Run, people: pd.DataFrame) -> None:
    again = sounding.load(run.path)
    assert np.array_equal(again.predict_probabilities(people), run.predict_probabilities(people))
    assert again.metrics == run.metrics
    assert [finding.rule for finding in again.findings] == [finding.rule for finding in run.findings]
    assert isinstance(again.network, nn.Module)
    assert not again.network.training


def test_the_model_folder_alone_is_enough(run: sounding.Run, people: pd.DataFrame, tmp_path: Path) -> None:
    shutil.copytree(run.path / "model", tmp_path / "model")
    elsewhere = sounding.load(tmp_path / "model")
    assert elsewhere.predict(people).tolist() == run.predict(people).tolist()
    with pytest.raises(UserError, match="no results here"):
        _ = elsewhere.metrics


def test_every_form_of_the_same_rows_gets_the_same_answers(run: sounding.Run, people: pd.DataFrame) -> None:
    expected = run.predict_probabilities(people)
    without_target = people[["job", "age"]]  # another order, no target
    forms = [without_target, pl.from_pandas(without_target), without_target.to_dict("list")]
    for form in forms:
        assert np.array_equal(run.predict_probabilities(form), expected)


def test_a_row_is_answered_alike_alone_and_in_company(run: sounding.Run, people: pd.DataFrame) -> None:
    together = run.predict_probabilities(people)
    for row in (0, 17, 199):
        alone = run.predict_probabilities(people.iloc[[row]])
        np.testing.assert_allclose(alone[0], together[row], rtol=0, atol=1e-6)


def test_metrics_are_those_of_the_predictions(run: sounding.Run, people: pd.DataFrame) -> None:
    evaluation = run.evaluate(people)
    assert evaluation.rows == 200
    assert evaluation.metrics["accuracy"] == np.mean(run.predict(people) == people["income"].to_numpy())


def test_a_best_epoch_is_told_only_where_its_weights_are_kept(
    run: sounding.Run, people: pd.DataFrame, tmp_path: Path
) -> None:
    losses = [record["validation"]["log_loss"] for record in run.results["history"]]
    assert run.results["best_epoch"] == 1 + int(np.argmin(losses))
    patient = {**QUICK, "training.patience": 0}
    ended = sounding.fit(people, "income", settings=patient, out=tmp_path / "run", say=None, progress=False)
    assert ended.results["best_epoch"] is None


def test_every_missing_column_is_named(run: sounding.Run, people: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r'"age".*"job"'):
        run.predict(people[["income"]])


@pytest.mark.parametrize("name", ["network.safetensors", "schema.json", "recipe.toml", "card.json", "manifest.json"])
def test_one_flipped_bit_in_any_file_is_noticed(run: sounding.Run, tmp_path: Path, name: str) -> None:
    shutil.copytree(run.path / "model", tmp_path / "model")
    path = tmp_path / "model" / name
    content = bytearray(path.read_bytes())
    for position in np.random.default_rng(0).integers(0, len(content), 5):
        damaged = content.copy()
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DamagedError):
            _ = sounding.load(tmp_path / "model").network


def test_pr11_a_model_of_another_version_names_both(run: sounding.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path / "model", tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    schema = json.loads((tmp_path / "model" / "schema.json").read_text())
    (tmp_path / "model" / "schema.json").write_text(json.dumps({**schema, "version": 99}))
    write_manifest(tmp_path / "model")
    with pytest.raises(DamagedError, match="version 99, this Sounding reads version 1"):
        _ = sounding.load(tmp_path / "model").network


def test_tg01_an_unknown_target_is_answered_with_near_ones(people: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r'"incone".*did you mean "income".*age, job, income'):
        sounding.check(people, "incone")


def test_weights_of_another_network_are_refused_by_name() -> None:
    network = nn.Linear(3, 2)
    with pytest.raises(DamagedError, match="bias is missing; extra is not of this network; weight has shape"):
        load_tensors(network, {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}, "model")


def test_a_folder_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / ".lock").write_text(str(other.pid))
        with pytest.raises(UserError, match=f"process {other.pid} is writing"), FolderLock(tmp_path):
            pass
    finally:
        other.kill()
        other.wait()
    with FolderLock(tmp_path) as lock:  # its process is gone: taken over
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert not (tmp_path / ".lock").exists()
    assert [finding.rule for finding in lock.findings] == ["stale-lock"]
    with FolderLock(tmp_path) as lock:
        assert not lock.findings


def test_a_folder_left_before_its_recipe_was_written_begins_anew(people: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("999999999")
    (tmp_path / "schema.json").write_text('{"half')
    (tmp_path / f".recipe.toml.{os.getpid()}").write_text("seed =")
    run = sounding.fit(people, "income", settings={"training.epochs": 1}, out=tmp_path, say=None, progress=False)
    assert run.metrics["test"]["accuracy"] > 0


def test_a_folder_with_an_unfinished_run_says_to_resume_it(people: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(Recipe().to_toml())
    with pytest.raises(UserError, match=rf"unfinished run here; go on with it: sounding resume {tmp_path}"):
        sounding.fit(people, "income", out=tmp_path, say=None, progress=False)
    assert (tmp_path / "recipe.toml").read_text() == Recipe().to_toml()


def test_a_folder_with_anything_else_is_left_alone(people: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        sounding.fit(people, "income", out=tmp_path, say=None, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_torn_last_line_of_the_events_is_left_out(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.append("finding", rule="x")
    events.append("finished")
    with events.path.open("a") as file:
        file.write('{"kind": "epo')
    assert [event["kind"] for event in events] == ["finding", "finished"]


def test_a_run_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.append("finding", rule="x")
    with events.path.open("a") as file:
        file.write('{"kind": "epo' + "x" * 200_000)
    again = Events(tmp_path)
    assert again.findings() == []
    again.append("epoch", epoch=1)
    again.append("finished")
    assert [event["kind"] for event in Events(tmp_path)] == ["finding", "epoch", "finished"]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "events.jsonl").write_text('{"kind"')
    Events(tmp_path / "torn").append("finished")
    assert [event["kind"] for event in Events(tmp_path / "torn")] == ["finished"]


def test_a_damaged_line_is_passed_over_and_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    lines = [b'{"kind": "epoch", "epoch": 0}', b'{"kind": "ep\xff\x00', b"17", b'{"kind": "epoch", "epoch": 4}']
    (tmp_path / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    told = check_run(tmp_path)
    assert told["epochs"] == 5
    assert [finding["title"] for finding in told["findings"]] == [
        "2 lines of events.jsonl are damaged: what they recorded is left out"
    ]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_run_with_test_rows_in_memory_goes_on(people: pd.DataFrame, tmp_path: Path, in_memory: bool) -> None:
    people.to_parquet(tmp_path / "people.parquet")
    source = people if in_memory else tmp_path / "people.parquet"
    out, test = tmp_path / "run", people.iloc[:40]
    whole = sounding.fit(source, "income", test=test, settings=QUICK, out=out, say=None, progress=False)
    (out / "results.json").unlink()
    given = people if in_memory else None
    with pytest.raises(
        UserError, match=r"data have changed.*test rows in memory.*resume\(\".*run\", data, test=rows\)"
    ):
        sounding.resume(out, given, say=None, progress=False)
    again = sounding.resume(out, given, test=test, say=None, progress=False)
    assert again.metrics == whole.metrics


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give the folder of a run"):
        sounding.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="sounding resume"):
        sounding.load(tmp_path)


def test_several_answers_at_once_and_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=(160, 2))
    frame = pd.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "sum": 1000 + 500 * (x[:, 0] + x[:, 1]),
            "left": np.where(x[:, 0] < 0, "yes", "no"),
            "low": np.where(x[:, 1] < 0, "yes", "no"),
        }
    )
    numbers = sounding.fit(
        frame.drop(columns=["left", "low"]), "sum", settings=QUICK, out=tmp_path / "numbers", say=None, progress=False
    )
    assert set(numbers.metrics["test"]) == {"rmse", "mae", "r2"}
    assert 0 < numbers.predict(frame).mean() < 2000  # in the units of the target, not standardised
    several = sounding.fit(
        frame.drop(columns=["sum"]), ["left", "low"], settings=QUICK, out=tmp_path / "several", say=None, progress=False
    )
    assert several.recipe.task == "multilabel"
    assert several.predict(frame).shape == (160, 2)


def test_a_table_with_pictures_and_words_in_one_row(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    bright = generator.integers(0, 2, 120)
    pictures = generator.integers(0, 100, (120, 8, 8)) + 120 * bright[:, None, None]
    source = {
        "picture": pictures.astype(np.uint8),
        "note": [
            ("a sunny place in the hills " if b else "a dark room under the stairs ") + str(i)
            for i, b in enumerate(bright)
        ],
        "hour": generator.normal(size=120),
        "label": np.array(["night", "day"])[bright],
    }
    run = sounding.fit(source, "label", settings=QUICK, out=tmp_path / "run", say=None, progress=False)
    assert run.recipe.network.name == "composite"
    assert {field.name: field.kind for field in run.schema.inputs} == {
        "picture": "image",
        "note": "text",
        "hour": "number",
    }
    assert run.predict_probabilities(source).shape == (120, 2)


def test_predictions_that_cannot_be_written_are_not_made(
    run: sounding.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sounding.run.Run.predict_table", None)
    assert main(["predict", str(run.path), "people.csv", "--out", str(tmp_path / "x.json")]) == 2
    assert 'x.json" is not known: write to a .csv or a .parquet file' in capsys.readouterr().err.replace("; ", ": ")
    assert main(["predict", str(run.path), "--count", "-1"]) == 2
    assert "-1 samples are asked for" in capsys.readouterr().err
