"""The whole way of a task that has nothing to predict, with a network that answers with several tensors."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sounding import fit, load, resume
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError, RecipeError
from sounding.kinds import Encoded
from sounding.networks import NETWORKS, Family
from sounding.recipe import Recipe
from sounding.tasks import TASKS, Predictions, Task, Thumbnail
from sounding.tasks.build import DEFAULTS


class Copy(NamedTuple):
    values: Tensor
    code: Tensor


class Copier(nn.Module):
    """Numbers through one number, and back."""

    def __init__(self, number_features: int, cardinalities: Any, out_features: int, *, bins: Any = None) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(number_features, out_features), nn.Linear(out_features, number_features)

    def forward(self, numbers: Tensor, categories: Tensor) -> Copy:
        code = self.encode(numbers)
        return Copy(self.decode(code), code)


class Copying(Task):
    """The squared error of a copy."""

    name: ClassVar[str] = "copying"
    needs_target: ClassVar[bool] = False
    answers: ClassVar[str] = "reconstruction"
    monitor: ClassVar[str] = "error"
    watched: ClassVar[tuple[str, ...]] = ()
    outputs, headline, higher_is_better = 1, "error", False

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        return "it was asked for"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Copying:
        return cls()

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        return encoded.blocks["numbers"].astype(np.float64)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        return torch.from_numpy(truth.astype(np.float32))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        return target.numpy().astype(np.float64)

    def loss(self, outputs: Copy, target: Tensor, weight: Tensor | None = None) -> Tensor:
        assert weight is None
        return (outputs.values - target).square().mean()

    def decode(self, outputs: Copy) -> Predictions:
        assert outputs.code.shape == (len(outputs.values), 1)
        return Predictions(outputs.values.double().numpy())

    def decide(self, predictions: Predictions) -> np.ndarray:
        return predictions.values

    def measure(
        self, values: np.ndarray, truth: np.ndarray, weight: Any = None, /, *, names: Collection[str] = ()
    ) -> dict[str, Any]:
        errors = self.row_losses(Predictions(values), truth)
        weight = np.ones(len(truth)) if weight is None else weight
        return {"error": (weight * errors).sum(-1) / weight.sum(-1)}

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        return np.asarray(((predictions.values - truth) ** 2).mean(1))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        return [{"truth": None, "prediction": None, "confidence": None} for _ in rows]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        return {"first": predictions.values[:, 0]}

    def figures(self, predictions: Predictions, truth: np.ndarray) -> dict[str, Any]:
        return {}

    def draw(self, network: nn.Module, inputs: Any, predictions: Any, truth: Any, labels: Any) -> dict[str, Any]:
        drawn = Thumbnail(np.zeros((1, 2, 2), np.uint8))
        return {"rows": len(inputs[0]), "labels": {name: len(codes) for name, codes in labels.items()}, "one": drawn}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "copying", Copying)
    monkeypatch.setitem(NETWORKS, "copier", Family(Copier, "table", "reconstruction"))
    monkeypatch.setitem(DEFAULTS, ("reconstruction", "table"), ("copier", "there is no other"))


SETTINGS = {"task": "copying", "training.epochs": 3, "training.plan": "reference"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    one = draw.normal(size=300)
    lines = [
        f"{a:.5f},{2 * a + b:.5f},{'high' if a > 0 else 'low'}" for a, b in zip(one, draw.normal(size=300), strict=True)
    ]
    path = tmp_path / "two.csv"
    path.write_text("\n".join(["a,b,side", *lines]) + "\n")
    return path


def test_it_fits_without_a_target(file: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "data.ignore": ["side"]}
    run = fit(file, settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert run.results["network"] == "copier"
    assert set(run.metrics["test"]) == {"error"}
    assert run.results["verdict"]["winner"] == "unknown"
    assert load(tmp_path / "run").evaluate(file).metrics["error"] > 0
    predictions, _ = load(tmp_path / "run").predict_table(file)
    assert predictions.column_names == ["first"]
    assert len(predictions) == 300
    drawn = run.results["figures"]
    assert drawn["rows"] == 30
    assert drawn["labels"] == {}
    assert drawn["one"].startswith("data:image/png;base64,")


def test_a_column_that_is_named_is_no_input(file: Path, tmp_path: Path) -> None:
    run = fit(file, "side", settings=SETTINGS, out=tmp_path / "run", say=None, progress=False)
    assert [field.name for field in run.schema.inputs] == ["a", "b"]
    assert run.results["figures"]["labels"] == {"side": 30}


def test_it_goes_on_in_the_same_bits(file: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "data.ignore": ["side"]}
    whole = fit(file, settings=settings, out=tmp_path / "whole", say=None, progress=False)
    fit(file, settings=settings, out=tmp_path / "half", say=None, progress=False)
    (tmp_path / "half" / "results.json").unlink()
    again = resume(tmp_path / "half", say=None, progress=False)
    np.testing.assert_array_equal(whole.predict(file), again.predict(file))


def test_it_has_to_be_asked_for(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column is named.*or a --task that needs none: .*copying"):
        fit(file, out=tmp_path / "run", say=None, progress=False)
    assert fit(
        file, "side", settings={"training.epochs": 1}, out=tmp_path / "run", say=None, progress=False
    ).task.name == ("classification")


def test_networks_that_answer_with_something_else_are_refused(file: Path, tmp_path: Path) -> None:
    for settings, words in (
        ({**SETTINGS, "network.name": "ensemble"}, '"ensemble" gives logits, and the task asks for reconstruction'),
        ({"target": "side", "network.name": "copier"}, '"copier" gives reconstruction, and the task asks for logits'),
    ):
        with pytest.raises(RecipeError, match=words):
            fit(file, settings=settings, out=tmp_path / "run", say=None, progress=False)


def test_inputs_for_which_there_is_no_such_network_are_refused(file: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "data.kinds": {"side": "text"}}
    with pytest.raises(DataError, match=r"no network gives reconstruction for .*text:side.*data\.ignore"):
        fit(file, settings=settings, out=tmp_path / "run", say=None, progress=False)
