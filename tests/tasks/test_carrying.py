"""`--from`: the encoder of a run, and what it knows of its inputs, as the beginning of another."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import sounding
from sounding.cli import main
from sounding.errors import InterruptedRunError, RecipeError, UserError
from sounding.fitting import resume
from sounding.recipe import Recipe
from sounding.tasks.carrying import EarlierRun
from sounding.tasks.prepare import prepare
from sounding.training import History

QUICK = {"training.epochs": 3, "training.plan": "given", "evaluation.bootstrap": 10, "training.threads": 1}
SMALL = {"network.name": "resnet", "network.options": {"stem_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}}


def pictures(rows: int, places: list[int], seed: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures with a bright stripe whose place is their class."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, len(places), rows)
    values = draw.integers(0, 90, (rows, size, size)).astype(np.uint8)
    for picture, label in zip(values, labels, strict=True):
        picture[places[label]] += 120
    return values, labels


def people(rows: int, seed: int, **more: Any) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    age, height, job = (
        draw.normal(40, 9, rows),
        draw.normal(170, 9, rows),
        draw.choice(["cook", "nurse", "pilot"], rows),
    )
    score = age + 9 * (job == "cook") + draw.normal(0, 3, rows)
    frame = {"age": age, "height": height, "job": job, **{name: make(draw, rows) for name, make in more.items()}}
    return pd.DataFrame({**frame, "income": np.where(score > 43, "high", "low")})


def trained(source: Any, target: str | None, out: Path, **settings: Any) -> sounding.Run:
    return sounding.fit(source, target, settings={**QUICK, **settings}, out=out, say=None, progress=False)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> sounding.Run:
    """A run on pictures."""
    return trained(pictures(120, [1, 4, 6], 0), None, tmp_path_factory.mktemp("old") / "run", **SMALL)


@pytest.fixture(scope="module", params=["feedforward", "ensemble"])
def old_table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> sounding.Run:
    sizes = {"hidden_sizes": [16, 16]} | ({"members": 2} if request.param == "ensemble" else {})
    settings = {"network.name": request.param, "network.options": sizes}
    return trained(people(300, 0), "income", tmp_path_factory.mktemp("old") / "run", **settings)


def begun_from(run: sounding.Run | Path, source: Any, target: str | None = None, **settings: Any) -> Any:
    path = run.path if isinstance(run, sounding.Run) else run
    asked = {**QUICK, "transfer.source": str(path), **settings}
    return prepare(source, asked | ({"target": [target]} if target else {}))


# What is carried over, by kind of input


def test_pictures_are_brought_to_the_old_size_and_scale_and_give_the_old_features(old: sounding.Run) -> None:
    prepared = begun_from(old, pictures(60, [2, 5], 1, size=12))
    fitted = prepared.schema["image"].fitted
    assert fitted == old.schema["image"].fitted
    assert (fitted.height, fitted.width) == (8, 8)
    network = prepared.network().eval()
    inputs = prepared.inputs_of(np.arange(9))
    assert torch.equal(network.forward_features(*inputs), old.network.forward_features(*inputs))
    assert network.head.out_features == 2
    assert prepared.recipe.network.options["stem_size"] == 4
    assert any(line.startswith("from ") for line in prepared.decisions)
    assert prepared.carried["fingerprint"] == prepared.recipe.transfer.fingerprint
    assert prepared.carried["inputs"][0]["anew"] == ["head.weight", "head.bias"]


def test_rates_fall_and_layers_are_released_from_the_head_down(old: sounding.Run) -> None:
    training = begun_from(old, pictures(60, [2, 5], 1)).recipe.training
    stages = ["network.blocks.1.*", "network.blocks.0.*", "network.stem.0.*"]
    assert [training.release[stage] for stage in stages] == pytest.approx([0.1, 0.2, 0.3], abs=1e-6)
    assert [training.optimizer.rates[stage] for stage in stages] == pytest.approx(
        [0.3 ** (i / 3) for i in (1, 2, 3)], abs=1e-6
    )
    asked = {"training.release": {"network.stem.*": 1.0}, "transfer.rate": 1.0}
    training = begun_from(old, pictures(60, [2, 5], 1), **asked).recipe.training
    assert training.release == {"network.stem.*": 1.0}
    assert set(training.optimizer.rates.values()) == {1.0}


def test_a_table_with_the_same_columns_in_another_order_gives_the_old_features(old_table: sounding.Run) -> None:
    frame = people(80, 1)[["height", "job", "income", "age"]]
    prepared = begun_from(old_table, frame, "income")
    assert prepared.schema["age"].fitted == old_table.schema["age"].fitted
    network = prepared.network().eval()
    ours = network.forward_features(*prepared.inputs)
    theirs = begun_from(old_table, frame[["age", "height", "job", "income"]], "income")
    expected = old_table.network.forward_features(*theirs.inputs)
    torch.testing.assert_close(ours, expected)


def test_columns_that_both_have_keep_their_weights_among_new_ones_and_without_lost_ones(
    old_table: sounding.Run,
) -> None:
    frame = people(
        80,
        1,
        size=lambda draw, rows: draw.normal(size=rows),
        town=lambda draw, rows: draw.choice(["a", "b", "c"], rows),
    )
    frame = frame[["size", "town", "job", "age", "income"]]  # without height
    prepared = begun_from(old_table, frame, "income")
    assert set(prepared.carried["columns"]) == {"job", "age"}
    network, theirs = prepared.network().eval(), old_table.network
    columns, old_columns = network.columns(*prepared.inputs), theirs.columns(*old_inputs(old_table, frame))
    # what stands for a column is the same, and so is how the first layer reads it
    sizes, old_sizes = network.columns.sizes, theirs.columns.sizes
    ends, old_ends = np.cumsum(sizes), np.cumsum(old_sizes)
    # numbers first: here size, age; town, job; there age, height; job
    for here, there in ((1, 0), (3, 2)):
        ours = slice(int(ends[here] - sizes[here]), int(ends[here]))
        other = slice(int(old_ends[there] - old_sizes[there]), int(old_ends[there]))
        assert torch.equal(columns[:, ours], old_columns[:, other])
        for name in ("layers.0.inner.0.weight", "layers.0.weight", "layers.0.r"):
            if name in network.state_dict():
                mine, its = network.state_dict()[name], theirs.state_dict()[name]
                assert torch.equal(mine[..., ours], its[..., other]), name
    for name, tensor in theirs.state_dict().items():  # and all that is above
        if not name.startswith(("columns.", "layers.0.", "head.")):
            assert torch.equal(network.state_dict()[name], tensor), name


def old_inputs(run: sounding.Run, frame: pd.DataFrame) -> tuple[torch.Tensor, ...]:
    lacking = frame.assign(height=170.0)
    return begun_from(run, lacking[["age", "height", "job", "income"]], "income").inputs


def test_texts_are_read_by_the_old_vocabulary(tmp_path: Path) -> None:
    words = ["good film with some plot", "bad film without a plot", "good actors and good light", "bad light all along"]
    frame = pd.DataFrame({"text": [f"{words[i % 4]} {i % 7}" for i in range(80)], "y": ["no", "yes"] * 40})
    sizes = {"embedding_size": 8, "hidden_size": 4}
    settings = {"data.kinds": {"text": "text"}, "network.name": "text_convolution", "network.options": sizes}
    old = trained(frame, "y", tmp_path / "old", **settings)
    new = pd.DataFrame({"review": [f"strange words about a good film {i}" for i in range(40)], "y": ["a", "b"] * 20})
    prepared = begun_from(old, new, "y", **{"data.kinds": {"review": "text"}})
    assert prepared.schema["review"].fitted == old.schema["text"].fitted
    network = prepared.network().eval()
    assert torch.equal(network.forward_features(*prepared.inputs), old.network.forward_features(*prepared.inputs))


def test_one_input_of_several_carries_over_and_the_other_is_new(tmp_path: Path, old_table: sounding.Run) -> None:
    frame = people(80, 1)
    frame["note"] = [f"a {'long' if i % 2 else 'short'} note on person {i} of this list" for i in range(80)]
    prepared = begun_from(old_table, frame, "income", **{"data.kinds": {"note": "text"}})
    network = prepared.network().eval()
    table = network.parts[0]
    assert torch.equal(
        table.forward_features(*prepared.inputs[:2]), old_table.network.forward_features(*prepared.inputs[:2])
    )
    assert all(name.startswith("parts.0.") for name in prepared.recipe.training.release)
    assert all(name.startswith("parts.0.") for one in prepared.carried["inputs"] for name in one["carried"])

    # and from both to the text alone: a part of a composite
    both = trained(frame, "income", tmp_path / "both", **{"data.kinds": {"note": "text"}, "training.epochs": 1})
    alone = begun_from(both, frame[["note", "income"]], "income", **{"data.kinds": {"note": "text"}})
    features = alone.network().eval().forward_features(*alone.inputs)
    assert torch.equal(features, both.network.parts[1].forward_features(*alone.inputs))


# Whole runs


def test_a_run_needs_the_old_one_no_more_to_go_on_or_to_be_repeated(
    old: sounding.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row, (picture, label) in enumerate(zip(*pictures(90, [2, 5], 1), strict=True)):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{row}.png")
    shutil.copytree(old.path, tmp_path / "old")
    settings = {**QUICK, "transfer.source": str(tmp_path / "old")}

    def fit(out: str) -> sounding.Run:
        return sounding.fit(tmp_path / "pictures", settings=settings, out=tmp_path / out, say=None, progress=False)

    straight = fit("straight")
    interrupt(lambda: fit("halted"), monkeypatch)
    shutil.rmtree(tmp_path / "old")
    resumed = resume(tmp_path / "halted", say=None, progress=False)
    assert (
        main(["fit", str(tmp_path / "straight" / "recipe.toml"), "--out", str(tmp_path / "repeated"), "--quiet"]) == 0
    )
    expected = straight.network.state_dict()
    for run in (resumed, sounding.load(tmp_path / "repeated")):
        assert all(torch.equal(run.network.state_dict()[name], tensor) for name, tensor in expected.items())
    results = json.loads((tmp_path / "straight" / "results.json").read_text())
    assert results["transfer"]["source"] == str(tmp_path / "old")
    card = json.loads((tmp_path / "straight" / "model" / "card.json").read_text())
    assert card["carried_over"]["columns"] == {"image": "grey pictures, 8 x 8 pixels"}


def interrupt(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C in its second epoch."""
    before = History.add

    def add(history: History, *arguments: Any, **more: Any) -> bool:
        if len(history) == 1:
            signal.raise_signal(signal.SIGINT)
        return before(history, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(History, "add", add)
        with pytest.raises(InterruptedRunError):
            work()


def test_the_encoder_of_a_frozen_run_is_that_of_the_old_one_to_the_bit(old: sounding.Run, tmp_path: Path) -> None:
    new = trained(
        pictures(60, [2, 5], 1), None, tmp_path / "new", **{"transfer.source": str(old.path), "transfer.release": 1.0}
    )
    ours, theirs = new.network.state_dict(), old.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if not name.startswith("head."))


# What is refused, in one line


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "is not here"),
        ("empty", "holds no run"),
        ("begun", r"is not finished; finish it first: sounding resume"),
    ],
)
def test_what_is_no_finished_run_is_refused(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.toml").write_text(Recipe().to_toml())
    with pytest.raises(UserError, match=message):
        begun_from(tmp_path / path, pictures(60, [2, 5], 1))


def test_other_inputs_channels_networks_and_options_are_refused(old: sounding.Run) -> None:
    with pytest.raises(
        RecipeError, match=r'nothing carries over from .*: it reads "image" \(image\), and the inputs here'
    ):
        begun_from(old, people(60, 0), "income")
    values, labels = pictures(60, [2, 5], 1)
    with pytest.raises(RecipeError, match=r"those of .* are grey and .* are in colour"):
        begun_from(old, (np.stack([values, values // 2, values], -1), labels))
    with pytest.raises(RecipeError, match=r'the network of .* is "resnet": "convolutional" cannot take its weights'):
        begun_from(old, (values, labels), **{"network.name": "convolutional"})
    with pytest.raises(
        RecipeError, match=r"has another network: the two networks differ: network.stem.0.weight is \(4, "
    ):
        begun_from(
            old, (values, labels), **{"network.options": {"stem_size": 6, "hidden_sizes": [4, 8], "depths": [1, 1]}}
        )


def test_another_run_in_the_place_of_the_old_one_is_noticed(old: sounding.Run, tmp_path: Path) -> None:
    written = begun_from(old, pictures(60, [2, 5], 1)).recipe.settings()
    with pytest.raises(UserError, match="has changed since the recipe was written"):
        prepare(pictures(60, [2, 5], 1), {**written, "transfer.fingerprint": "0" * 64})
    origin = EarlierRun.open(Recipe().with_settings(written).transfer)
    origin.store(tmp_path)
    again = EarlierRun.open(Recipe().with_settings(written).transfer, kept=tmp_path)
    assert again.fingerprint == origin.fingerprint == written["transfer.fingerprint"]
