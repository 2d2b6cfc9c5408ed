from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
import torch
from interrupting import terminated_after
from torch.nn import functional as F

from sounding.batches import Batch
from sounding.errors import DataError, InterruptedRunError, RecipeError
from sounding.fitting import fit, resume
from sounding.kinds import BytePairs
from sounding.kinds.byte_pairs import BEGIN, END, PADDING
from sounding.run import Run, load
from sounding.tasks import TASKS, Predictions, Translation
from sounding.tasks.prepare import Prepared, prepare

LETTERS = {"a": "P", "b": "O", "d": "W", "e": "Y", "k": "X", "l": "Q"}
SETTINGS: dict[str, Any] = {
    "task": "translation",
    "target": ["secret"],
    "translation.subwords": 256,
    "translation.beam": 2,
    "network.options": {"hidden_size": 32, "encoder_depth": 1, "decoder_depth": 1, "dropout": 0.0},
    "training.epochs": 20,
    "training.batch_size": 16,
    "training.optimizer.lr": 1e-2,
    "training.plan": "given",
    "training.watch": False,
    "evaluation.bootstrap": 50,
}


def words(rows: int = 300, seed: int = 0) -> dict[str, list[str]]:
    """Words of a few letters, and how they are written in secret letters."""
    draws = np.random.default_rng(seed)
    latin = ["".join(draws.choice(list(LETTERS), size=draws.integers(2, 5))) for _ in range(rows)]
    return {"latin": latin, "secret": ["".join(map(LETTERS.__getitem__, word)) for word in latin]}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(words(), SETTINGS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(words(), settings=SETTINGS, out=tmp_path_factory.mktemp("secret"), say=None, progress=False)


def test_it_is_chosen_only_when_asked_for(prepared: Prepared) -> None:
    assert TASKS["translation"] is Translation
    assert isinstance(prepared.task, Translation)
    assert [field.kind for field in (*prepared.schema.inputs, *prepared.schema.targets)] == ["text", "text"]
    assert not isinstance(prepare(words(), {"target": ["secret"], "data.keep": ["latin"]}).task, Translation)


def test_source_and_target_share_their_subwords(prepared: Prepared) -> None:
    source, target = prepared.schema["latin"].fitted, prepared.schema["secret"].fitted
    assert isinstance(source, BytePairs)
    assert source == target
    assert prepared.task.outputs == source.size == prepared.schema.blocks()[0].vocabulary_size


def test_subwords_come_from_training_rows_alone() -> None:
    data = {"a": ["xy xy"] * 8 + ["qrst qrst"] * 2, "b": ["xy"] * 8 + ["qrst"] * 2}
    rows = [{"a": a, "b": b} for a, b in zip(data["a"], data["b"], strict=True)]
    parts = {"train": rows[:8], "test": rows[8:]}
    known = prepare(parts, {"task": "translation", "target": ["b"], "translation.subwords": 300}).task
    assert isinstance(known, Translation)
    assert [int((row >= 3).sum()) for row in known.subwords.codes(["xy", "qrst"])] == [1, 5]


def test_what_should_have_been_written_is_shown_up_to_each_place(prepared: Prepared) -> None:
    batch = next(prepared.batches(prepared.split.train, training=True).epoch(0))
    source, written = batch.inputs
    assert batch.target is not None
    assert written.shape == batch.target.shape
    assert (written[:, 0] == BEGIN).all()
    assert torch.equal(written[:, 1:], batch.target[:, :-1])
    assert (batch.target != PADDING).any(0).all()
    assert (source != PADDING).any(0).all()
    for row in batch.target:
        assert row[int((row != PADDING).sum()) - 1] == END


def test_rows_of_a_batch_are_of_about_one_length(prepared: Prepared) -> None:
    lengths = [(batch.target != 0).sum(1) for batch in prepared.batches(prepared.split.train, training=True).epoch(0)]
    assert all(int(some.max() - some.min()) <= 2 for some in lengths[:-1])


def test_the_loss_is_the_mean_over_all_codes_of_the_training_rows(prepared: Prepared) -> None:
    task, truth = prepared.task, prepared.target[prepared.split.train]
    goals = task.to_tensor(truth)[:, :20]
    torch.manual_seed(0)
    logits = torch.randn(*goals.shape, task.outputs)
    smoothing = prepared.recipe.training.label_smoothing
    expected = F.cross_entropy(logits.transpose(1, 2), goals.long(), ignore_index=0, label_smoothing=smoothing)
    torch.testing.assert_close(task.loss(logits, goals), expected)
    weight = torch.zeros(len(goals))
    weight[:10] = len(goals) / 10
    torch.testing.assert_close(task.loss(logits, goals, weight), task.loss(logits[:10], goals[:10]))


def test_padding_costs_nothing(prepared: Prepared) -> None:
    task = prepared.task
    goals = task.to_tensor(prepared.target[:8])[:, :20]
    logits = torch.randn(*goals.shape, task.outputs, requires_grad=True)
    task.loss(logits, goals).backward()
    assert logits.grad is not None
    assert not logits.grad[goals == 0].any()
    assert logits.grad[goals != 0].any(1).all()


def test_the_truth_survives_the_tensor(prepared: Prepared) -> None:
    task = prepared.task
    assert task.from_tensor(task.to_tensor(prepared.target)).tolist() == prepared.target.tolist()
    assert task.decode(task.to_tensor(prepared.target[:3])).values.tolist() == prepared.target[:3].tolist()


def test_trimming_an_empty_batch_leaves_a_place(prepared: Prepared) -> None:
    nothing = torch.zeros(2, 5, dtype=torch.int32)
    trimmed = prepared.task.trim(Batch((nothing, nothing), nothing, None, torch.arange(2)))
    assert [tensor.shape for tensor in (*trimmed.inputs, trimmed.target) if tensor is not None] == [(2, 1)] * 3


def test_letters_are_learned_and_beat_simple_answers(run: Run) -> None:
    assert run.metrics["test"]["exact_match"] > 0.7
    assert run.results["headline"]["metric"] == "chrf"
    assert run.results["verdict"]["winner"] == "network"
    assert set(run.metrics["test"]) == {"bleu", "bleu_lowercased", "chrf", "exact_match"}
    assert list(run.results["baseline"]) == ["the source as it is", "the translation of the most similar training text"]
    assert set(run.results["history"][0]["validation"]) == {"loss"}


def test_new_texts_are_written_with_the_model_alone(run: Run, tmp_path: Path) -> None:
    new = words(20, seed=7)
    written = load(run.model_folder).predict({"latin": new["latin"]})
    right = np.mean([one == other for one, other in zip(written, new["secret"], strict=True)])
    assert right > 0.7
    (tmp_path / "new.csv").write_text("latin\n" + "\n".join(new["latin"]) + "\n")
    table, _ = run.predict_table(tmp_path / "new.csv")
    assert table.column("prediction").to_pylist() == list(written)
    pyarrow.csv.write_csv(table, tmp_path / "said.csv")
    assert run.evaluate(new).metrics["exact_match"] == pytest.approx(right)


def test_greedy_writes_nearly_the_same(run: Run) -> None:
    new = words(20, seed=8)["latin"]
    greedy = Translation(run.schema, run.recipe.with_settings({"translation.beam": 1}))
    codes = run.schema.encode(run._read({"latin": new})).blocks["text:latin"]
    said = greedy.predict(run.network, (torch.from_numpy(codes),)).values
    assert np.mean(said == run.predict({"latin": new})) > 0.8


def test_the_page_gets_texts_and_maps(run: Run) -> None:
    drawn = run.results["figures"]["translations"]
    assert len(drawn["texts"]) == 12
    for text in drawn["texts"]:
        assert "".join(map(LETTERS.__getitem__, text["source"])) == text["truth"]
    for one in drawn["maps"]:
        weights = np.array(one["weights"])
        assert weights.shape == (len(one["written"]), len(one["read"]))
        np.testing.assert_allclose(weights.sum(1), 1.0, atol=0.01)


def test_validation_rows_are_written_on_the_way(run: Run) -> None:
    snapshots = run.results["snapshots"]
    assert [one["epoch"] for one in snapshots] == [1, 2, 4, 8, 16]
    assert snapshots[-1]["chrf"] > snapshots[0]["chrf"]
    assert snapshots[-1]["rows"] == min(64, len(prepare(words(), SETTINGS).split.validation))
    assert len(snapshots[-1]["texts"]) == len(snapshots[-1]["true"]) == 3


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    options = {**SETTINGS["network.options"], "dropout": 0.1}
    quick = {**SETTINGS, "training.epochs": 3, "training.watch": True, "network.options": options}
    table = words(120)
    whole = fit(table, settings=quick, out=tmp_path / "whole", say=None, progress=False)
    with terminated_after(9), pytest.raises(InterruptedRunError):  # in the second epoch
        fit(table, settings=quick, out=tmp_path / "run", say=None, progress=False)
    again = resume(tmp_path / "run", table, say=None, progress=False)
    state, expected = again.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert again.results["snapshots"] == whole.results["snapshots"]


def test_long_texts_are_findings_on_both_sides() -> None:
    known = prepare(words(), {**SETTINGS, "data.text_length": 4})
    found = [finding.evidence["column"] for finding in known.findings if finding.rule == "texts-cut"]
    assert sorted(found) == ["latin", "secret"]
    goals = known.task.to_tensor(np.array(["POWYX"], dtype=object))
    assert goals.shape == (1, 4)
    assert END not in goals


def test_a_row_without_a_text_is_named() -> None:
    data = words(30)
    data["secret"][4] = ""
    with pytest.raises(DataError, match="1 of 30 rows has no t"):
        prepare(data, SETTINGS)
    assert len(prepare(data, {**SETTINGS, "data.missing_target": "drop"}).table) == 29


def test_columns_that_are_no_texts_have_to_be_left_out() -> None:
    data: dict[str, Any] = {**words(30), "length": np.arange(30) % 7}
    with pytest.raises(DataError, match=r"no network gives next_codes .* data\.ignore"):
        prepare(data, SETTINGS)
    assert len(prepare(data, {**SETTINGS, "data.ignore": ["length"]}).schema.inputs) == 1


def test_a_target_that_is_no_text_is_refused() -> None:
    with pytest.raises((DataError, RecipeError), match=r"does not fit|cannot be"):
        prepare(words(30), {**SETTINGS, "data.kinds": {"secret": "category"}})


def test_bleu_is_the_measure_of_sentences() -> None:
    known = prepare(
        {"en": ["a man runs fast"] * 20 + ["two men run fast"] * 20, "de": ["ein Mann rennt schnell los"] * 40},
        {"task": "translation", "target": ["de"], "translation.subwords": 300},
    )
    assert (known.task.headline, known.task.reason) == ("bleu", "")


def test_no_rows_are_no_fault(prepared: Prepared) -> None:
    nothing = Predictions(prepared.target[:0])
    assert prepared.task.metrics(nothing, prepared.target[:0]) == {}
    assert prepared.task.predict(prepared.network(), (torch.zeros(0, 5, dtype=torch.int32),)).values.tolist() == []


def test_recurrent_networks_write_too(tmp_path: Path) -> None:
    options = {"embedding_size": 32, "hidden_size": 32, "attention_size": 16, "dropout": 0.0}
    settings = {**SETTINGS, "network.name": "seq2seq_recurrent", "network.options": options}
    done = fit(words(200), settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert done.metrics["test"]["chrf"] > 50
