"""Anomaly detection: scores and alarms, what labels do, and the whole way on rows, pictures and series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sounding import fit, load
from sounding.data.schema import Schema
from sounding.data.split import make_split
from sounding.data.table import Table
from sounding.errors import DataError, RecipeError
from sounding.networks import Reconstruction
from sounding.recipe import Recipe
from sounding.tasks.anomaly import Anomaly, AnomalyPredictions
from sounding.tasks.prepare import prepare

QUICK = {"task": "anomaly", "training.epochs": 15, "training.plan": "reference", "evaluation.bootstrap": 20}


def rows(count: int = 400, strange: int = 20, seed: int = 0) -> dict[str, Any]:
    """Two numbers that go together, a colour that follows from the first, and rows in which they do not."""
    draw = np.random.default_rng(seed)
    a = draw.normal(size=count + strange)
    b = a + 0.1 * draw.normal(size=count + strange)
    colour = np.where(a > 0, "red", "blue").astype(object)
    b[count:] = -b[count:] - 2 * np.sign(b[count:])
    return {"a": a, "b": b, "colour": colour.tolist(), "state": ["fine"] * count + ["broken"] * strange}


def task_for(columns: dict[str, Any], target: list[str], **settings: Any) -> tuple[Anomaly, Table, Any, list[str]]:
    recipe = Recipe().with_settings({"task": "anomaly", **settings})
    table = Table(pa.table(columns), "t.csv")
    schema = Schema.infer(table, recipe.data, target, Anomaly.target_kind)
    split, _ = make_split(table, schema, recipe.data, 0)
    split, follows, lines = Anomaly.from_source.narrowed(table, schema, split, recipe)
    schema, _ = schema.fit(table, split.train, recipe.data, None, np.arange(len(table)))
    return Anomaly.for_schema(schema, recipe.with_settings(follows)), table, split, lines


class TestLabels:
    def test_known_anomalies_are_measured_on_and_not_learned_from(self) -> None:
        task, table, split, lines = task_for(rows(), ["state"])
        truth = task.encode_target(table, None)  # type: ignore[arg-type]
        assert truth.sum() == 20
        assert not truth[split.train].any()
        assert not truth[split.validation].any()
        assert truth[split.test].sum() == 20
        assert task.normal == {"fine"}
        assert task.trimmed == 0
        assert "20 of 420 rows are known anomalies" in lines[0]
        assert "anomaly.known=train" in lines[1]

    def test_or_learned_from_like_all_others(self) -> None:
        task, table, split, _ = task_for(rows(), ["state"], **{"anomaly.known": "train"})
        truth = task.encode_target(table, None)  # type: ignore[arg-type]
        assert truth[split.train].any()
        assert task.trimmed == 0.1
        assert task.learns_from(np.array([0, 1, -1])).all()

    @pytest.mark.parametrize(
        ("labels", "normal"),
        [
            ([0] * 5 + [1] * 15, ["0"]),
            (["ok"] * 5 + ["bad"] * 15, ["ok"]),
            (["x"] * 15 + ["y"] * 4 + ["z"], ["x"]),
            (["False"] * 15 + ["True"] * 5, ["False"]),
        ],
    )
    def test_which_label_is_normal(self, labels: list[Any], normal: list[str]) -> None:
        words = pa.array([str(label) for label in labels], pa.large_string())
        from sounding.tasks.anomaly import _normal_labels

        assert _normal_labels(words, Recipe()) == normal

    def test_the_settings_may_say_which(self) -> None:
        columns = {**rows(), "state": ["x"] * 200 + ["y"] * 200 + ["z"] * 20}
        task, table, *_ = task_for(columns, ["state"], **{"anomaly.normal": ["x", "y"]})
        assert task.encode_target(table, None).sum() == 20  # type: ignore[arg-type]
        with pytest.raises(RecipeError, match='no row has the label "w"'):
            task_for(columns, ["state"], **{"anomaly.normal": ["w"]})

    def test_without_labels_nothing_is_known(self) -> None:
        columns = rows()
        del columns["state"]
        task, table, split, lines = task_for(columns, [])
        assert (task.encode_target(table, None) == -1).all()  # type: ignore[arg-type]
        assert lines == []
        assert len(split.test) == 42
        assert task.headline == "alarm_rate"

    def test_a_label_that_training_did_not_meet_is_strange(self) -> None:
        task, *_ = task_for(rows(), ["state"])
        new = Table(pa.table({"state": ["fine", "exploded", None]}), "new.csv")
        assert task.encode_target(new, None).tolist() == [0, 1, -1]  # type: ignore[arg-type]

    def test_shares_must_be_shares(self) -> None:
        for key in ("anomaly.false_alarms", "anomaly.trimmed"):
            with pytest.raises(RecipeError, match=key):
                task_for(rows(), ["state"], **{key: 1.5})


class TestScores:
    def test_of_a_reconstruction_are_its_errors_and_the_penalty(self) -> None:
        task, *_ = task_for(rows(), ["state"])
        numbers, codes = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1], [0]])
        values = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0, 0.0]])
        outputs = Reconstruction(values[:, : 2 + task.cardinalities[0]], torch.zeros(2, 1), torch.tensor([0.5, 0.0]))
        goals = task.goals(np.empty(0), (numbers, codes))
        logits = values[:, 2 : 2 + task.cardinalities[0]]
        surprise = torch.nn.functional.cross_entropy(logits, codes[:, 0], reduction="none")
        expected = (torch.tensor([4.0, 0.0]) + surprise) / 3 + outputs.penalty
        torch.testing.assert_close(task.loss(outputs, goals), expected.mean())
        assert task.validation_metrics(outputs, goals)["score"] == pytest.approx(float(expected.mean()))

    def test_the_strangest_rows_of_a_batch_teach_nothing(self) -> None:
        task, *_ = task_for(rows(), [], **{"data.ignore": ["state"], "anomaly.trimmed": 0.25})
        distances = torch.tensor([[1.0], [9.0], [2.0], [3.0]], requires_grad=True)
        loss = task.loss(distances, torch.zeros(4, 3))
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == 2.0
        assert distances.grad is not None
        assert distances.grad[:, 0].tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])

    def test_what_made_a_row_strange_is_what_is_more_than_usual(self) -> None:
        task, *_ = task_for(rows(), ["state"])
        task.usual = np.array([5.0, 0.0, 1.0], np.float32)
        task.calibration = np.arange(100.0)
        found = AnomalyPredictions(np.array([[3.0, 0.01]]), np.array([[5.5, 2.0, 0.5]], np.float32))
        columns = task.to_columns(found)
        assert columns["strangest_column"].tolist() == ["b"]
        assert columns["strangest_columns"].tolist() == ["b, a"]
        assert columns["is_anomaly"].tolist() == [True]

    def test_what_was_learned_goes_with_the_model(self) -> None:
        task, *_ = task_for(rows(), ["state"])
        task.calibration, task.usual = np.arange(50.0), np.ones(3, np.float32)
        again = Anomaly(task.schema, Recipe(task="anomaly")).with_learned(task.learned())
        assert again.threshold == task.threshold == 48.0
        assert np.array_equal(again.usual, task.usual)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rows")
    return fit(rows(), "state", settings=QUICK, out=folder / "run", say=None, progress=False)


class TestTheWholeWay:
    def test_strange_rows_are_found_and_alarms_kept(self, run: Any) -> None:
        metrics = run.metrics["test"]
        assert metrics["roc_auc"] > 0.9
        assert set(metrics) == {"roc_auc", "average_precision", "false_alarm_rate", "recall", "precision"}
        assert run.results["network"] == "denoiser"
        assert list(run.results["baseline"])[1:3] == ["an isolation forest", "PCA, what it cannot give back"]
        assert run.results["verdict"]["metric"] == "roc_auc"

    def test_new_rows_get_scores_p_values_and_reasons(self, run: Any) -> None:
        new = rows(200, 50, seed=1)
        table, _ = load(run.path).predict_table(new)
        names = ["score", "p_value", "is_anomaly", "strangest_column", "strangest_columns"]
        assert table.column_names == names
        strange = np.repeat([0, 1], [200, 50])
        assert roc_auc_score(strange, table["score"]) > 0.9
        alarms = np.array(table["is_anomaly"])
        assert np.array_equal(alarms, np.array(table["p_value"]) <= 0.05)
        assert alarms[:200].mean() < 0.15
        evaluation = load(run.path).evaluate(new)
        assert evaluation.metrics["roc_auc"] == pytest.approx(roc_auc_score(strange, table["score"]))
        assert evaluation.metrics["recall"] == pytest.approx(alarms[200:].mean())
        assert evaluation.metrics["false_alarm_rate"] == pytest.approx(alarms[:200].mean())

    def test_predicting_needs_no_labels(self, run: Any) -> None:
        new = rows(30, 0, seed=2)
        del new["state"]
        assert load(run.path).predict(new).dtype == bool
        with pytest.raises(DataError, match="state"):
            load(run.path).evaluate(new)

    def test_what_the_report_draws(self, run: Any) -> None:
        drawn = run.results["figures"]["anomalies"]
        assert sum(drawn["counts"]["anomalies"]) == 20
        assert drawn["calibrated_on"] == run.results["data"]["rows"]["validation"]
        first = drawn["strangest"][0]
        assert first["truth"] == "anomaly"
        assert {name for name, _ in first["columns"]} <= {"a", "b", "colour"}

    @pytest.mark.parametrize("network", ["autoencoder", "variational_autoencoder", "one_class"])
    def test_other_networks_can_be_asked_for(self, network: str, tmp_path: Path) -> None:
        settings = {**QUICK, "network.name": network, "training.epochs": 8, "data.ignore": ["colour"]}
        found = fit(rows(), "state", settings=settings, out=tmp_path / "run", say=None, progress=False)
        assert found.metrics["test"]["roc_auc"] > 0.6
        table = load(tmp_path / "run").predict_table(rows(5, 5))[0]
        assert set(table["strangest_column"].to_pylist()) <= {"a", "b"}

    def test_without_labels_there_is_no_verdict(self, tmp_path: Path) -> None:
        columns = rows(200, 0)
        del columns["state"]
        settings = {**QUICK, "training.epochs": 2}
        found = fit(columns, settings=settings, out=tmp_path / "run", say=None, progress=False)
        assert set(found.metrics["test"]) == {"alarm_rate"}
        assert found.results["verdict"]["winner"] == "unknown"
        assert "No labels, so no verdict" in found.results["verdict"]["headline"]

    def test_pictures(self, tmp_path: Path) -> None:
        draw = np.random.default_rng(0)
        usual = np.zeros((150, 8, 8), np.uint8)
        usual[:, 2:6, 2:6] = draw.integers(100, 250, 150)[:, None, None]
        strange = usual[:20].copy()
        strange[:, 0:2, 0:2] = 200
        pictures = np.concatenate([usual, strange])
        settings = {**QUICK, "training.epochs": 10}
        found = fit((pictures, np.repeat([0, 1], [150, 20])), settings=settings, out=tmp_path, say=None, progress=False)
        assert found.metrics["test"]["roc_auc"] > 0.9
        shown = found.results["figures"]["anomalies"]["strangest"][0]
        assert {"picture", "reconstruction", "heat"} <= set(shown)
        assert shown["heat"].startswith("data:image/png")


def waves(points: int, broken: range = range(0)) -> dict[str, Any]:
    """Two waves, of which one stands still for a while."""
    draw = np.random.default_rng(points)
    time = np.arange(points)
    one, two = np.sin(time / 3), np.cos(time / 3)
    two[list(broken)] = 0.0
    noise = 0.05 * draw.normal(size=(2, points))
    return {"one": one + noise[0], "two": two + noise[1]}


@pytest.fixture(scope="module")
def series_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("series")
    settings = {**QUICK, "data.window": 20, "data.stride": 2, "training.epochs": 20}
    return fit(waves(800), settings=settings, out=folder / "run", say=None, progress=False)


class TestSeries:
    def test_the_stretch_is_found_point_by_point(self, series_run: Any) -> None:
        assert series_run.results["network"] == "series_autoencoder"
        found, _ = load(series_run.path).predict_table(waves(401, range(200, 212)))
        assert found.column_names == ["point", "score", "p_value", "is_anomaly", "strangest_column"]
        assert len(found) == 401
        score = np.array(found["score"])
        assert 195 <= score.argmax() <= 217
        assert found["strangest_column"][int(score.argmax())].as_py() == "two"
        alarms = np.array(found["is_anomaly"])
        assert alarms[202:210].all()
        assert np.delete(alarms, range(180, 232)).mean() < 0.2

    def test_the_report_draws_lines(self, series_run: Any) -> None:
        shown = series_run.results["figures"]["anomalies"]["strangest"][0]
        assert shown["names"] == ["one", "two"]
        assert np.shape(shown["series"]) == np.shape(shown["expected"]) == (2, 20)
        assert np.shape(shown["strangeness"]) == (2, 20)

    def test_windows_that_are_drawn_share_no_points(self, series_run: Any) -> None:
        rows = series_run.results["figures"]["anomalies"]["strangest"]
        first = sorted(row["points"][0] for row in rows)
        assert len(first) > 1
        assert min(np.diff(first)) >= 20

    def test_points_are_calibrated_from_the_windows_that_hold_them(self) -> None:
        draw = np.random.default_rng(0)
        strange = np.zeros(300, dtype=int)
        strange[220:225] = 1  # so that validation windows are left out, and those that stay have a gap
        settings = {**QUICK, "data.window": 10, "data.stride": 2, "training.epochs": 1, "data.validation": 0.25}
        case = prepare(pa.table({"v": draw.normal(size=300), "strange": strange}), {**settings, "target": ["strange"]})
        rows = case.split.validation
        first = np.asarray(case.table.data["first_point"])[rows]
        assert (np.diff(first) > 2).any()
        task, network = cast("Anomaly", case.task), case.network()
        task = task.calibrated(network, case.inputs_of(rows), case.target[rows], rows)
        parts = task.predict(network, case.inputs_of(rows)).parts
        held: dict[int, list[float]] = {}
        for begin, scores in zip(first, parts, strict=True):
            for at, score in enumerate(scores):
                held.setdefault(int(begin) + at, []).append(float(score))
        np.testing.assert_allclose(task.points, sorted(np.mean(scores) for scores in held.values()), rtol=1e-6)

    def test_points_of_several_series_bear_their_names(self, tmp_path: Path) -> None:
        columns = {"machine": np.repeat(list("abcd"), 60), "v": np.random.default_rng(0).normal(size=240)}
        settings = {**QUICK, "data.window": 10, "data.group": "machine", "training.epochs": 1}
        run = fit(columns, settings=settings, out=tmp_path / "run", say=None, progress=False)
        found, _ = run.predict_table({"machine": ["d", "c"] * 15, "v": np.arange(30.0)})
        assert found["machine"].to_pylist() == ["c"] * 15 + ["d"] * 15
        assert found["point"].to_pylist() == list(range(30))
