"""Transcription from recordings to a report: texts are tones, one for each letter."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jiwer
import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from sounding import fit, load
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError, RecipeError, UserError
from sounding.kinds import Characters
from sounding.networks import Frames, SoundFrames
from sounding.recipe import DataRecipe, Recipe
from sounding.tasks import Predictions, Transcription, choose_task
from sounding.tasks.transcription import edits

HERTZ = {"a": 300.0, "b": 700.0, "c": 1500.0, " ": 0.0}
RATE = 4000


def sung(text: str, draw: np.random.Generator) -> np.ndarray:
    """A tone of a tenth of a second for each letter, with gaps."""
    parts = []
    for letter in text:
        time = np.arange(round(RATE * draw.uniform(0.06, 0.1))) / RATE
        parts += [0.3 * np.sin(2 * np.pi * HERTZ[letter] * time), np.zeros(RATE // 40)]
    wave = np.concatenate(parts)
    return wave + 0.005 * draw.normal(size=len(wave))


def write(folder: Path, rows: int, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    with (folder / "songs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "words"])
        for row in range(rows):
            words = ["".join(draw.choice(list("abc"), draw.integers(1, 4))) for _ in range(draw.integers(1, 3))]
            soundfile.write(folder / f"{row}.wav", sung(" ".join(words), draw), RATE)
            writer.writerow([f"{row}.wav", " ".join(words)])
    return folder / "songs.csv"


SMALL = {
    "task": "transcription",
    "network.options": {
        "bands": 20,
        "stem_size": 24,
        "convolution_sizes": [32],
        "hidden_sizes": [32],
        "dropout": 0.0,
        "masks": 0,
    },
    "training.plan": "given",
    "training.augment": "none",
    "training.epochs": 20,
    "training.batch_size": 8,
    "training.optimizer.lr": 5e-3,
    "evaluation.bootstrap": 200,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("songs")
    return fit(write(folder, 200), "words", settings=SMALL, out=folder / "run", say=None, progress=False), folder


def test_tones_are_learned_and_read_again(run) -> None:
    run, folder = run
    assert run.metrics["test"]["wer"] < 0.15
    assert run.metrics["test"]["cer"] < 0.1
    low, high = run.results["intervals"]["test"]["wer"]
    assert low <= run.metrics["test"]["wer"] <= high
    assert run.results["baseline"]["always the most frequent text"]["test"]["wer"] > 0.7
    assert "word error rate" in run.results["verdict"]["headline"]
    again = load(run.path)
    predicted = again.predict(folder / "songs.csv")
    truth = np.array([row["words"] for row in csv.DictReader((folder / "songs.csv").read_text().splitlines())])
    assert (predicted == truth).mean() > 0.8
    table, _ = again.predict_table(folder / "songs.csv")
    assert table.column_names == ["prediction"]
    assert table["prediction"].to_pylist() == predicted.tolist()
    assert again.evaluate(folder / "songs.csv").metrics["wer"] < 0.1


def test_the_report_plays_the_worst_and_shows_their_spectrograms(run) -> None:
    run, _ = run
    page = (run.path / "report.html").read_text()
    shown = len(run.results["examples"])
    assert page.count("<audio controls") == shown + 3  # and three of the column
    assert page.count('class="spectrogram"') == shown + 3
    assert "media-src data:" in page
    assert "Characters" not in page
    json.dumps(run.results, allow_nan=False)


def case(texts: list[str], seconds: float = 1.0, settings: dict | None = None) -> tuple[Transcription, np.ndarray]:
    cells = [{"array": np.zeros(round(seconds * RATE)).tolist(), "sampling_rate": RATE} for _ in texts]
    table = Table(pa.table({"sound": cells, "words": texts}), "t.csv")
    recipe = Recipe().with_settings({"task": "transcription", **(settings or {})})
    schema, _ = Schema.infer(table, recipe.data, ["words"], Transcription.target_kind).fit(
        table, np.arange(len(texts)), recipe.data
    )
    task = Transcription.for_schema(schema, recipe)
    return task, task.encode_target(table, schema.encode(table))


def test_it_is_asked_for_by_name_or_by_the_kind_of_its_target() -> None:
    table = Table(pa.table({"sound": [{"array": [0.0], "sampling_rate": 8000}] * 3, "y": ["a b", "b", "c"]}), "t.csv")
    inferred = Schema.infer(table, DataRecipe(), ["y"])
    assert choose_task(inferred)[0] == "classification"
    by_kind = Schema.infer(table, DataRecipe(kinds={"y": "text"}), ["y"])
    assert choose_task(by_kind)[0] == "transcription"
    without = Schema.infer(
        Table(pa.table({"x": [1.0, 2.0], "y": ["a", "b"]}), "t.csv"), DataRecipe(), ["y"], "transcription"
    )
    with pytest.raises(RecipeError, match='the task "transcription" does not fit the target "y"'):
        choose_task(without, "transcription")


def test_the_truth_survives_the_tensor() -> None:
    task, truth = case(["ab", "b a", "cc"])
    assert task.outputs == 1 + 4
    assert task.to_tensor(truth).tolist() == [[2, 3, 0], [3, 1, 2], [4, 4, 0]]
    assert task.from_tensor(task.to_tensor(truth)).tolist() == truth.tolist() == ["ab", "b a", "cc"]


def test_loss_is_that_of_each_row_by_itself_and_follows_weights() -> None:
    task, truth = case(["ab", "b a", "cc"])
    torch.manual_seed(0)
    outputs = Frames(torch.randn(3, 9, task.outputs, requires_grad=True), torch.tensor([9.0, 6.0, 7.0]))
    target = task.to_tensor(truth)
    alone = [
        task.loss(Frames(outputs.logits[row : row + 1, : int(length)], length[None]), target[row : row + 1])
        for row, length in enumerate(outputs.lengths)
    ]
    torch.testing.assert_close(task.loss(outputs, target), torch.stack(alone).mean())
    weight = torch.tensor([3.0, 0.0, 0.0])
    torch.testing.assert_close(task.loss(outputs, target, weight), alone[0])
    task.loss(outputs, target).backward()
    assert (outputs.logits.grad[1, :6] != 0).all()
    assert (outputs.logits.grad[1, 6:] == 0).all()  # behind the end of its recording


def test_beams_and_alignments_are_read_up_to_the_end_of_each_row() -> None:
    for beam in (1, 4):
        task, _ = case(["ab", "b a"], settings={"transcription.beam": beam})
        codes = torch.tensor([[2, 2, 0, 3, 0, 3], [3, 1, 2, 2, 3, 3]])
        outputs = Frames(torch.nn.functional.one_hot(codes, 4) * 20.0, torch.tensor([6.0, 4.0]))
        assert task.decode(outputs).values.tolist() == ["abb", "b a"]


def test_rows_are_predicted_batch_by_batch_and_no_rows_are_no_fault(run) -> None:
    run, _ = run
    samples = torch.randint(-9000, 9000, (7, 2000), dtype=torch.int16)
    whole = run.task.predict(run.network, (samples,)).values
    assert run.task.predict(run.network, (samples,), batch_size=3).values.tolist() == whole.tolist()
    nothing = run.task.predict(run.network, (samples[:0],))
    assert nothing.values.tolist() == []
    assert run.task.metrics(nothing, whole[:0]) == {}


def test_many_frames_are_counted_in_half_precision_too() -> None:
    network = SoundFrames(3, rate=RATE, bands=8, stem_size=4, convolution_sizes=[4], hidden_sizes=[4])
    samples = torch.zeros(1, 2 * 287 * RATE // 100 - 40, dtype=torch.int16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(samples)
    assert outputs.logits.shape[1] == int(outputs.lengths) == 287


def test_error_rates_are_those_of_jiwer() -> None:
    truth = ["one two three", "four", "five six", "one one one", "nine"]
    said = ["one three", "for four", "five six", "", "seven eight nine ten"]
    task, _ = case(["ab"])
    found = task.measure(np.array(said, object), np.array(truth, object))
    assert found["wer"] == pytest.approx(jiwer.wer(truth, said))
    assert found["cer"] == pytest.approx(jiwer.cer(truth, said))
    weights = np.array([[1.0, 1, 1, 1, 1], [2.0, 0, 0, 1, 0]])
    both = task.measure(np.array(said, object), np.array(truth, object), weights)
    twice = jiwer.wer([truth[0], truth[0], truth[3]], [said[0], said[0], said[3]])
    np.testing.assert_allclose(both["wer"], [found["wer"], twice])
    rows = task.row_losses(Predictions(np.array(said, object)), np.array(truth, object))
    np.testing.assert_allclose(rows, [jiwer.cer(one, other) for one, other in zip(truth, said, strict=True)])


def test_an_empty_text_counts_what_was_written() -> None:
    words, among = edits(("a b", ""), ("", ""))["wer"]
    assert words.tolist() == [2, 0]
    assert among.tolist() == [0, 0]
    assert edits((), ())["cer"][0].shape == (0,)


def test_a_text_too_long_for_its_recording_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r'column "words".*a text of 7 characters for a recording of 0.05 s'):
        case(["abcabca", "a"], seconds=0.05)


def test_characters_of_no_training_row_are_told() -> None:
    table = Table(pa.table({"y": ["ab", "ba", "xyx"]}), "t.csv")
    kind, (finding,) = Characters.fit_target(table.column("y", DataRecipe()), np.arange(2), DataRecipe())
    assert kind.alphabet == ("a", "b")
    assert finding.evidence["characters"] == {"x": 2, "y": 1}
    assert Characters.from_json(json.loads(json.dumps(kind.to_json()))) == kind
    assert kind.encode_target(table.column("y", DataRecipe())).tolist() == ["ab", "ba", "xyx"]


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jiwer", None)
    with pytest.raises(UserError, match=r"error rates need jiwer, not installed here; pip install 'sounding\[audio\]'"):
        edits(("never", "seen before"), ("x", "y"))
