"""Running text: windows, drawing, metrics, and the whole way."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupting import terminated_after
from torch import Tensor, nn

from sounding import fit, load, resume
from sounding.cli import main
from sounding.errors import InterruptedRunError, RecipeError, UserError
from sounding.networks import LanguageTransformer
from sounding.run import Run
from sounding.tasks.continuation import continued, drawn
from sounding.tasks.language_modeling import LanguageModeling
from sounding.tasks.token_windows import TokenWindows, stream_of

TEXT = "".join(f"The {n}. cat sat on the mat, and the {n + 1}. dog sat by the log.\n" for n in range(300))
SETTINGS: dict[str, Any] = {
    "task": "language-modeling",
    "training.plan": "reference",
    "training.epochs": 3,
    "network.name": "language_transformer",
    "network.options": {"hidden_size": 32, "depth": 1},
    "language.context": 32,
    "data.validation": 0.15,
    "data.test": 0.15,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def run(file: Path) -> Run:
    return fit(file, settings=SETTINGS, out=file.parent / "run", say=None, progress=False)


# Windows.


def windows(tokens: int = 1000, context: int = 16, **options: Any) -> TokenWindows:
    stream = torch.arange(tokens, dtype=torch.int32)
    return TokenWindows(stream, context, **{"batch_size": 4, "shuffle": True, "seed": 5, **options})


def begins(batches: TokenWindows, epoch: int) -> np.ndarray:
    return np.concatenate([batch.inputs[0][:, 0].numpy() for batch in batches.epoch(epoch)])


def test_the_target_is_the_next_token() -> None:
    for batch in windows().epoch(2):
        (tokens,) = batch.inputs
        assert batch.target is not None
        assert torch.equal(batch.target, tokens.long() + 1)
        assert torch.equal(batch.rows, tokens[:, 0].long())


def test_windows_of_a_pass_do_not_overlap_and_begin_elsewhere_in_the_next() -> None:
    batches = windows()
    passes = [np.sort(begins(batches, epoch)) for epoch in range(6)]
    for found in passes:
        assert len(found) == batches.rows == (1000 - 1 - 15) // 16
        assert (np.diff(found) == 16).all()
    assert len({int(found[0]) for found in passes}) > 2
    assert not np.array_equal(begins(batches, 0), np.sort(begins(batches, 0)))
    assert np.array_equal(begins(batches, 3), begins(windows(), 3))
    assert not np.array_equal(begins(batches, 3), begins(windows(seed=6), 3))


def test_a_pass_may_take_several_epochs() -> None:
    whole, parts = windows(), windows(pass_tokens=250)
    assert parts.parts == 4
    assert parts.rows == whole.rows // 4
    joined = np.concatenate([begins(parts, epoch) for epoch in range(4)])
    assert len(set(joined)) == len(joined)
    assert set(joined) <= set(begins(whole, 0))


def test_a_pass_has_a_window_however_few_tokens_are_asked_for() -> None:
    parts = windows(pass_tokens=1)
    assert parts.rows == 1
    assert len(begins(parts, 0)) == 1


def test_unshuffled_windows_begin_with_the_stream() -> None:
    assert begins(windows(100, shuffle=False), 0).tolist() == [0, 16, 32, 48, 64, 80]


@pytest.mark.parametrize("tokens", [2, 5, 17, 18, 33])
def test_short_streams_have_a_window(tokens: int) -> None:
    for shuffle in (True, False):
        batches = windows(tokens, shuffle=shuffle)
        for epoch in range(4):
            assert sum(len(batch.rows) for batch in batches.epoch(epoch)) == batches.rows >= 1


def test_shares_of_processes_are_the_whole() -> None:
    shares = [windows().shared(rank, 3) for rank in range(3)]
    assert sorted(np.concatenate([begins(share, 1) for share in shares])) == sorted(begins(windows(), 1))


def test_a_stream_has_no_padding() -> None:
    assert stream_of(torch.tensor([[5, 0, 0], [6, 7, 0]])).tolist() == [5, 6, 7]


# Drawing.


def test_drawing_follows_the_softmax() -> None:
    logits, draw = np.array([0.0, 1.0, 2.0, -np.inf]), np.random.default_rng(0)
    counts = np.bincount([drawn(logits, draw, temperature=2.0) for _ in range(4000)], minlength=4)
    expected = torch.softmax(torch.tensor(logits) / 2.0, 0).numpy()
    np.testing.assert_allclose(counts / 4000, expected, atol=0.03)


def test_only_the_likeliest_are_drawn() -> None:
    logits = np.log([0.1, 0.5, 0.25, 0.15])
    many = [{"top_k": 2}, {"top_p": 0.5}, {"top_p": 0.51}, {"top_p": 0.75}, {"top_p": 0.76}, {"top_k": 3, "top_p": 0.6}]
    kept = [{drawn(logits, np.random.default_rng(seed), **how) for seed in range(300)} for how in many]
    assert kept == [{1, 2}, {1}, {1, 2}, {1, 2}, {1, 2, 3}, {1, 2}]


def test_writing_on_is_reading_all_again() -> None:
    torch.manual_seed(0)
    network = LanguageTransformer(9, 9, hidden_size=16, depth=2, heads=2).eval()
    nn.init.normal_(network.head.weight)
    draw, expected, read = np.random.default_rng(1), list[int](), [3, 4]
    for _ in range(20):
        if len(read) > 8:
            read = read[-4:]
        with torch.no_grad():
            logits = network(torch.tensor([read]))[0, -1].double().numpy()
        logits[0] = -np.inf
        expected.append(drawn(logits, draw))
        read = [*read, expected[-1]]
    found = continued(network, [3, 4], np.random.default_rng(1), length=20, context=8, never=(0,))
    assert list(found) == expected


def test_an_end_ends() -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def step(self, tokens: Tensor, memory: int | None) -> tuple[Tensor, int]:
            done = (memory or 0) + tokens.shape[1]
            return nn.functional.one_hot(torch.tensor([2 if done > 3 else 1]), 3) * 99.0, done

    assert list(continued(Ends(), [0], np.random.default_rng(0), length=9, context=99, end=2)) == [1, 1, 1]


@pytest.mark.parametrize("how", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_what_cannot_be_drawn_with_is_refused(run: Run, how: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="cannot be drawn with"):
        run.generate("The", **how)


# The whole way.


def test_it_learns_and_is_compared(run: Run) -> None:
    assert run.results["network"] == "language_transformer"
    assert set(run.results["baseline"]) == {"frequencies of tokens", "interpolated n-grams"}
    test = run.metrics["test"]
    assert test["loss"] < run.results["baseline"]["frequencies of tokens"]["test"]["loss"] - 0.5
    assert test["perplexity"] == pytest.approx(math.exp(test["loss"]))
    assert test["bits_per_character"] == pytest.approx(test["loss"] / math.log(2))
    low, high = run.results["intervals"]["test"]["loss"]
    assert low < test["loss"] < high
    assert run.results["data"]["rows"]["train"] > 10
    assert not [finding for finding in run.findings if finding.severity != "info"]


def test_the_loss_is_that_of_each_token(run: Run, tmp_path: Path) -> None:
    text = TEXT[500:620]
    (tmp_path / "some.txt").write_text(text)
    task = run.task
    assert isinstance(task, LanguageModeling)
    codes = task.passage.codes("\x1c" + text).tolist()
    nats = 0.0
    for low in range(0, len(codes) - 1, 32):
        for at in range(low, min(low + 32, len(codes) - 1)):
            with torch.no_grad():
                logits = run.network(torch.tensor([codes[low : at + 1]]))[0, -1]
            nats -= float(logits.log_softmax(0)[codes[at + 1]])
    result = run.evaluate(tmp_path / "some.txt")
    assert result.metrics["loss"] == pytest.approx(nats / len(text), rel=1e-5)
    predictions, _ = run.predict_table(tmp_path / "some.txt")
    assert predictions.column_names == ["loss", "nats", "tokens"]
    assert predictions["tokens"].to_pylist() == [len(text)]


def test_metrics_follow_weights(run: Run) -> None:
    values, truth = np.array([[10.0, 5], [2.0, 4], [9.0, 3]]), np.array([[5.0, 5], [4.0, 8], [3.0, 3]])
    one = run.task.measure(values, truth, np.array([1.0, 2, 0]))
    assert one == pytest.approx(
        {"loss": 14 / 13, "perplexity": math.exp(14 / 13), "bits_per_character": 14 / 21 / math.log(2)}
    )
    many = run.task.measure(values, truth, np.array([[1.0, 2, 0], [1, 1, 1]]))
    np.testing.assert_allclose(many["loss"], [14 / 13, 21 / 12])


def test_the_same_seed_writes_the_same(run: Run) -> None:
    first, again, other = (run.generate("The ", seed=seed, length=40) for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith("The ")
    assert len(first) == 44
    assert run.generate("The ", temperature=0.0, length=9) == run.generate("The ", temperature=0.0, length=9, seed=3)
    assert "".join(run.write(length=5)) == run.generate(length=5)


def test_a_prompt_on_the_command_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(run.path), "--prompt", "The 5", "--length", "20", "--seed", "4", "--top-k", "3"]
    assert main(words) == 0
    assert capsys.readouterr().out == run.generate("The 5", seed=4, length=20, top_k=3) + "\n"
    assert main(["predict", str(run.path), "--prompt", "The é"]) == 2
    assert 'the prompt holds "é"' in capsys.readouterr().err


def test_what_writes_no_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{n % 7},{n % 2}\n" for n in range(60)))
    settings = {"training.epochs": 1, "training.plan": "reference", "network.options": {"hidden_sizes": [8]}}
    other = fit(tmp_path / "x.csv", "b", settings=settings, out=tmp_path / "run", say=None, progress=False)
    with pytest.raises(UserError, match="writes no text"):
        other.generate("x")


def test_an_interrupted_run_ends_in_the_same_bits(run: Run, file: Path, tmp_path: Path) -> None:
    with terminated_after(40), pytest.raises(InterruptedRunError):  # in the second epoch
        fit(file, settings=SETTINGS, out=tmp_path / "run", say=None, progress=False)
    again = resume(tmp_path / "run", say=None, progress=False)
    state, expected = again.network.state_dict(), run.network.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_lines_are_documents_that_end(tmp_path: Path) -> None:
    names = [f"{a}{b}{c}" for a in ("An", "Be", "Ca") for b in "lmnrst" for c in ("a", "o", "ie", "us")]
    (tmp_path / "names.txt").write_text("\n".join(names * 4) + "\n")
    settings = {**SETTINGS, "data.txt": "lines", "language.context": 8, "training.epochs": 20}
    run = fit(tmp_path / "names.txt", settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert any("whole documents at random" in line for line in run.results["decisions"])
    written = {run.generate(seed=seed) for seed in range(20)}
    assert all(2 < len(name) < 12 for name in written)
    assert len(written & set(names)) > 5


@pytest.mark.parametrize("tokens", ["bytes", "subwords"])
def test_other_tokens(tokens: str, tmp_path: Path) -> None:
    if tokens == "subwords":
        pytest.importorskip("tokenizers")
    (tmp_path / "text.txt").write_text(TEXT.replace("cat", "Kätzchen")[:12_000])
    settings = {**SETTINGS, "data.tokens": tokens, "data.subwords": 300, "network.name": "language_recurrent"}
    settings["network.options"] = {"embedding_size": 16, "hidden_sizes": [32]}
    run = fit(tmp_path / "text.txt", settings=settings, out=tmp_path / "run", say=None, progress=False)
    test = run.metrics["test"]
    nats_per_character = test["bits_per_character"] * math.log(2)
    assert nats_per_character > test["loss"] if tokens == "bytes" else nats_per_character < test["loss"]
    assert load(tmp_path / "run").generate("Kätz", length=30).startswith("Kätz")


def test_the_page_shows_what_it_wrote(run: Run) -> None:
    page = (run.path / "report.html").read_text()
    assert "Where it was surprised" in page
    assert 'class="shade-' in page
    drawn_values = json.loads((run.path / "results.json").read_text())["figures"]["language"]
    assert len(drawn_values["pieces"]) == len(drawn_values["losses"])
    assert "".join(drawn_values["pieces"])[:200] in TEXT
