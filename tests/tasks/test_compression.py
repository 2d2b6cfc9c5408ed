from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import r2_score

from sounding import check, fit, load
from sounding.errors import RecipeError
from sounding.networks import Reconstruction
from sounding.tasks import Compressed, Compression, arrange
from sounding.tasks.prepare import prepare

SETTINGS = {
    **{"task": "compression", "target": ["y"]},
    **{"training.epochs": 2, "training.plan": "reference", "evaluation.bootstrap": 50},
}


@pytest.fixture
def table(make_case: Any, columns: Any) -> Any:
    """A number, a category; the target is a class, which is no input."""
    return make_case(columns("three"), settings={"task": "compression", "network.code_size": 3})


def pictures(count: int = 60) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (count, 3, 5, 6), dtype=np.uint8)
    return {"x": x, "y": np.where(draw.random(count) < 0.5, "a", "b")}


def test_the_truth_is_the_inputs(table: Any) -> None:
    numbers, categories = arrange(table.encoded.blocks)
    assert isinstance(table.task, Compression)
    assert table.task.outputs == 3
    assert table.truth.tolist() == torch.cat([numbers, categories.float()], 1).tolist()
    assert [field.name for field in table.schema.inputs] == ["x", "colour"]


def test_the_loss_of_a_table_is_the_mean_over_its_columns(table: Any) -> None:
    torch.manual_seed(0)
    target = table.task.to_tensor(table.truth)
    values, penalty = torch.randn(len(target), 1 + 4), torch.rand(len(target))
    rows = [
        ((value[0] - row[0]) ** 2 - torch.log_softmax(value[1:], 0)[int(row[1])]) / 2 + extra
        for value, row, extra in zip(values, target, penalty, strict=True)
    ]
    outputs = Reconstruction(values, torch.zeros(len(target), 3), penalty)
    torch.testing.assert_close(table.task.loss(outputs, target), torch.stack(rows).mean())
    weight = torch.zeros(len(target))
    weight[:10] = len(target) / 10
    torch.testing.assert_close(table.task.loss(outputs, target, weight), torch.stack(rows[:10]).mean())


def test_pictures_are_given_back_in_the_standardised_space() -> None:
    task = prepare(pictures(), SETTINGS).task
    assert isinstance(task, Compression)
    x = pictures()["x"]
    mean, std = (np.array(known)[:, None, None] for known in (task.pictures.mean, task.pictures.std))
    values = np.random.default_rng(1).normal(size=x.shape)
    expected = ((values - (x - mean) / std) ** 2).mean((1, 2, 3))
    outputs = Reconstruction(torch.from_numpy(values).float(), torch.zeros(60, 4), torch.zeros(60))
    for target in (torch.from_numpy(x), torch.from_numpy(x / np.float32(255))):
        np.testing.assert_allclose(task.kept(outputs, (target,)).error, expected, rtol=1e-4)
        assert task.validation_metrics(outputs, target)["reconstruction_error"] == pytest.approx(
            expected.mean(), rel=1e-4
        )
    shown = np.stack([thumbnail.pixels for thumbnail in task.thumbnails(torch.from_numpy((x - mean) / std).float())])
    assert np.array_equal(shown, x)


def test_metrics_are_those_of_scikit_learn_where_all_are_numbers(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    task = make_case(
        {"a": draw.normal(size=200), "b": draw.normal(size=200), "y": ["u", "v"] * 100}, settings=SETTINGS
    ).task
    truth = draw.normal(size=(50, 2)).astype(np.float32)
    given = truth + 0.3 * draw.normal(size=truth.shape)
    errors = ((given - truth) ** 2).mean(1)
    found = task.measure(errors, truth)
    assert found["reconstruction_error"] == pytest.approx(errors.mean())
    assert found["variance_explained"] == pytest.approx(r2_score(truth, given, multioutput="variance_weighted"))
    counts = draw.integers(0, 4, (7, 50)).astype(np.float64)
    several = task.measure(errors, truth, counts)
    for row, weight in enumerate(counts):
        one = task.measure(errors, truth, weight)
        repeated = np.repeat(errors, weight.astype(int)).mean()
        assert one["reconstruction_error"] == pytest.approx(repeated)
        for name, value in one.items():
            assert several[name][row] == pytest.approx(value)
    assert set(task.measure(errors, truth, names={"reconstruction_error"})) == {"reconstruction_error"}


def test_the_best_constant_is_the_mean_and_the_frequencies(table: Any) -> None:
    task, truth = table.task, table.truth
    answer = task.constant_answer(truth)
    assert answer[0].item() == pytest.approx(truth[:, 0].mean(), abs=1e-6)
    counts = Counter(truth[:, 1].astype(int).tolist())
    shares = [(counts[code] + 1) / (len(truth) + 4) for code in range(4)]
    np.testing.assert_allclose(answer[1:].exp(), shares, rtol=1e-5)
    expected = ((truth[:, 0] - truth[:, 0].mean()) ** 2 - np.log(np.array(shares)[truth[:, 1].astype(int)])) / 2
    np.testing.assert_allclose(task.constant_errors(truth, truth), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "varied",
    [{"augment": "default"}, {"augment": "strong"}, {"cutmix": 1.0}, {"mixup": 1.0}, {"erase": 1.0}],
    ids=["default", "strong", "cutmix", "mixup", "erase"],
)
def test_what_is_to_be_given_back_is_varied_like_what_is_seen(varied: dict[str, Any]) -> None:
    as_they_are = {**SETTINGS, "training.augment": "none"}
    prepared = prepare(pictures(), as_they_are | {f"training.{key}": value for key, value in varied.items()})
    plain = prepare(pictures(), as_they_are)
    batch = next(iter(prepared.batches(prepared.split.train, training=True).epoch(0)))
    as_it_was = next(iter(plain.batches(plain.split.train, training=True).epoch(0)))
    assert torch.equal(batch.target, batch.inputs[0])
    assert torch.equal(as_it_was.target, as_it_was.inputs[0])
    seen = batch.target * 255 if batch.target.is_floating_point() else batch.target.float()
    assert not torch.allclose(seen, as_it_was.target.float())


def test_a_table_from_its_file_to_its_codes(tmp_path: Path, columns: Any) -> None:
    settings = {**SETTINGS, "network.code_size": 1, "training.epochs": 20, "data.ignore": ["cold"]}
    data = columns(count=300)
    run = fit(data, "three", settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert run.results["network"] == "autoencoder"
    assert list(run.results["baseline"]) == ["always the mean", "principal components"]
    assert set(run.metrics["test"]) == {"reconstruction_error", "variance_explained"}
    again = load(tmp_path / "run")
    assert again.predict(data).shape == (300, 1)
    table, _ = again.predict_table(data)
    assert table.column_names == ["code_1", "reconstruction_error"]
    drawn = run.results["figures"]
    assert drawn["map"]["names"] == ["large", "medium", "small"]
    assert len(drawn["map"]["x"]) == len(drawn["map"]["group"]) == 30
    assert [column["name"] for column in drawn["columns"]] == ["x", "amount", "colour", "two", "wet"]
    assert again.evaluate(data).metrics["reconstruction_error"] == pytest.approx(
        table["reconstruction_error"].to_numpy().mean()
    )


def test_without_labels_there_are_none_on_the_map(tmp_path: Path) -> None:
    settings = {key: value for key, value in SETTINGS.items() if key != "target"}
    run = fit({"x": pictures(80)["x"]}, settings=settings, out=tmp_path / "run", say=None, progress=False)
    drawn = run.results["figures"]
    assert run.results["network"] == "picture_autoencoder"
    assert drawn["map"]["group"] is None
    assert drawn["units"]["used"] is None
    assert "samples" not in drawn
    assert len(drawn["copies"]) == 8
    assert [len(walk) for walk in drawn["walks"]] == [9] * 4


def test_a_variational_network_imagines(tmp_path: Path) -> None:
    settings = {**SETTINGS, "network.name": "convolutional_variational_autoencoder", "network.code_size": 4}
    settings["network.options"] = {"hidden_sizes": [4, 8]}
    run = fit(pictures(120), settings=settings, out=tmp_path / "run", say=None, progress=False)
    drawn = run.results["figures"]
    assert 0 <= drawn["units"]["used"] <= 4
    assert len(drawn["units"]["variances"]) == 4
    assert all(picture.startswith("data:image/png;base64,") for picture in drawn["samples"])
    codes = load(tmp_path / "run").predict(pictures(120))
    assert codes.shape == (120, 4)


def test_series_are_given_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 6, 24) * draw.uniform(1, 2, (150, 1)) + draw.uniform(0, 6, (150, 1)))
    table = pa.table({"wave": waves.tolist(), "y": ["a", "b"] * 75})
    settings = {**SETTINGS, "network.code_size": 4, "training.epochs": 30}
    run = fit(table, settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert run.results["network"] == "series_autoencoder"
    assert run.metrics["test"]["variance_explained"] > 0.5
    assert set(run.results["baseline"]) == {"always the mean", "principal components"}
    copies = run.results["figures"]["copies"]
    assert np.shape(copies[0]["original"]) == np.shape(copies[0]["copy"]) == (1, 24)
    errors = [np.square(np.subtract(copy["original"], copy["copy"])).mean() for copy in copies]
    np.testing.assert_allclose([copy["error"] for copy in copies], errors, rtol=1e-4)
    assert errors == sorted(errors)


def test_labels_that_are_numbers_fall_into_groups(make_case: Any, columns: Any) -> None:
    task = make_case(columns("amount"), settings=SETTINGS).task
    amounts = np.arange(100.0)
    standardised = (amounts - task.schema["y"].fitted.mean) / task.schema["y"].fitted.std
    groups, names = task._groups({"y": standardised})
    assert np.bincount(groups).tolist() == [20] * 5
    assert names == ["up to 19.8", "up to 39.6", "up to 59.4", "up to 79.2", "above 79.2"]
    assert task._groups({}) == (None, [])


def test_some_rows_of_what_was_predicted() -> None:
    all_rows = Compressed(np.arange(5.0), np.arange(10.0).reshape(5, 2))
    some = all_rows.take(np.array([3, 1]))
    assert some.values.tolist() == [3.0, 1.0]
    assert some.codes.tolist() == [[6.0, 7.0], [2.0, 3.0]]


def test_a_code_has_a_number_at_least() -> None:
    with pytest.raises(RecipeError, match=r"network.code_size is 0; give 1 or more"):
        prepare(pictures(), {**SETTINGS, "network.code_size": 0})


def test_nothing_but_inputs_is_needed(columns: Any) -> None:
    prepared = check({"x": columns("two")["x"]}, settings={"task": "compression"})
    assert prepared.recipe.task == "compression"
    assert prepared.recipe.target == []
