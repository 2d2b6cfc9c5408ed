"""An encoder that learns without labels: the whole way, and on to labels."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import sounding
from sounding.cli import main
from sounding.errors import InterruptedRunError, RecipeError
from sounding.fitting import resume
from sounding.tasks.prepare import prepare
from sounding.training import History

QUICK = {
    **{"task": "pretraining", "training.epochs": 3, "training.plan": "given", "training.threads": 1},
    **{"training.batch_size": 32, "evaluation.bootstrap": 10},
}
SMALL = {"network.name": "resnet", "network.options": {"stem_size": 4, "hidden_sizes": [8, 8], "depths": [1, 1]}}


def pictures(rows: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 90, (rows, 8, 8)).astype(np.uint8)
    for picture, place in zip(values, draw.integers(0, 8, rows), strict=True):
        picture[place] += 120
    return values


def people(rows: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    age = draw.normal(40, 9, rows)
    frame = {"age": age, "height": 2 * age + draw.normal(0, 2, rows), "job": np.where(age > 40, "cook", "nurse")}
    return pd.DataFrame({**frame, "income": np.where(age + draw.normal(0, 3, rows) > 43, "high", "low")})


def pretrained(source: Any, out: Path, **settings: Any) -> sounding.Run:
    return sounding.fit(source, settings={**QUICK, **settings}, out=out, say=None, progress=False)


@pytest.mark.parametrize("method", ["contrastive", "masked", "denoising"])
def test_pictures_without_labels_and_on_to_labels(method: str, tmp_path: Path) -> None:
    source = {"picture": pictures(90, 0)}
    run = pretrained(source, tmp_path / "old", **SMALL, **{"pretraining.method": method})
    assert set(run.metrics["test"]) == {"loss", "skill"}
    assert run.metrics["test"]["loss"] == run.results["metrics"]["test"]["loss"] > 0
    features = run.predict({"picture": pictures(5, 3)})
    assert features.shape == (5, 8)
    assert not run.results["findings"] or all(f["rule"] != "no_update" for f in run.results["findings"])

    values, labels = pictures(60, 1), np.arange(60) % 2
    new = prepare((values, labels), {"transfer.source": str(tmp_path / "old"), "training.plan": "given"})
    encoder, kept = new.network().eval(), run.network.network.encoder
    inputs = new.inputs_of(np.arange(9))
    assert torch.equal(encoder.forward_features(*inputs), kept.forward_features(run.network.standardize(*inputs)))
    assert all("network." in name for name in new.recipe.training.release)

    # what was learned can be learned on, without labels: all of it from the start
    more = {**QUICK, "transfer.source": str(tmp_path / "old"), "pretraining.method": "masked"}
    on = prepare(source, more)
    assert on.recipe.training.release == {}
    assert torch.equal(on.network().network.encoder.stem[0].weight, kept.stem[0].weight)


@pytest.mark.parametrize("network", ["feedforward", "ensemble"])
@pytest.mark.parametrize("method", ["masked", "denoising"])
def test_tables_without_labels_and_on_to_labels(network: str, method: str, tmp_path: Path) -> None:
    settings = {"network.name": network, "network.options": {"hidden_sizes": [16, 16]}, "pretraining.method": method}
    run = pretrained(people(150, 0), tmp_path / "old", target=["income"], **settings)  # kept out of the inputs
    assert "income" not in {column.name for column in run.schema.inputs}
    assert run.metrics["test"]["skill"] > -1
    new = prepare(
        people(80, 1), {"transfer.source": str(tmp_path / "old"), "target": ["income"], "training.plan": "given"}
    )
    inputs = new.inputs_of(np.arange(9))
    assert torch.equal(new.network().eval().forward_features(*inputs), run.network.encoder.forward_features(*inputs))


def test_an_interrupted_lesson_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"picture": pictures(90, 0)}
    straight = pretrained(source, tmp_path / "straight", **SMALL)
    before = History.add

    def add(history: History, *arguments: Any, **more: Any) -> bool:
        if len(history) == 1:
            signal.raise_signal(signal.SIGINT)
        return before(history, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(History, "add", add)
        with pytest.raises(InterruptedRunError):
            pretrained(source, tmp_path / "halted", **SMALL)
    resumed = resume(tmp_path / "halted", source, say=None, progress=False)
    expected = straight.network.state_dict()
    assert all(torch.equal(resumed.network.state_dict()[name], tensor) for name, tensor in expected.items())
    assert resumed.metrics == straight.metrics


def test_the_command_line_and_the_file_of_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people(120, 0).drop(columns="income").to_csv(tmp_path / "people.csv", index=False)
    options = [
        "--set",
        "network.options.hidden_sizes=[8]",
        "--set",
        "training.plan=given",
        "--epochs",
        "2",
        "--quiet",
        "--json",
    ]
    assert (
        main(["fit", str(tmp_path / "people.csv"), "--task", "pretraining", "--out", str(tmp_path / "run"), *options])
        == 0
    )
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["task"] == "pretraining"
    assert set(told["metrics"]["test"]) == {"loss", "skill"}
    assert (
        main(
            [
                "predict",
                str(tmp_path / "run"),
                str(tmp_path / "people.csv"),
                "--out",
                str(tmp_path / "f.csv"),
                "--quiet",
            ]
        )
        == 0
    )
    assert list(pd.read_csv(tmp_path / "f.csv").columns) == [f"feature_{place}" for place in range(1, 9)]


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (
            {"text": [f"a text of some words {i}" for i in range(40)]},
            {"data.kinds": {"text": "text"}},
            "pretraining takes a table or one picture",
        ),
        (
            people(40, 0),
            {"pretraining.method": "contrastive"},
            'there is no method "contrastive" for inputs of the form table',
        ),
        (
            {"picture": pictures(40, 0)},
            {"pretraining.options": {"maskd": 0.5}},
            "the lesson contrastive refuses its options",
        ),
    ],
)
def test_what_cannot_be_is_refused(source: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare(source, {**QUICK, **settings})
