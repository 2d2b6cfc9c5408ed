"""The sheet of what the network sees: against the batches that it is trained on."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sounding.cli import main
from sounding.report import plain, render, varied_examples
from sounding.report.varied import picture
from sounding.tasks.prepare import Prepared, prepare

DRAW = np.random.default_rng(0)
LABELS = np.array(["<b>cat", "dog"] * 30)


def prepared(channels: int = 3, side: int = 9, **settings: Any) -> Prepared:
    pictures = DRAW.integers(0, 256, (60, side, side, channels), dtype=np.uint8)
    return prepare((pictures, LABELS), {f"training.{key}": value for key, value in settings.items()})


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("settings", [{}, {"augment": "strong"}, {"mixup": 0.4}])
def test_the_sheet_shows_the_very_values_of_the_first_batch(settings: dict[str, Any]) -> None:
    of = prepared(**settings)
    shown = plain(varied_examples(of))
    batch = next(iter(of.batches(of.split.train, training=True).epoch(0)))
    assert len(shown["examples"]) == 8
    for row, example in enumerate(shown["examples"]):
        its = of.split.train[batch.rows[row]]
        assert np.array_equal(pixels(example["original"]), of.inputs[0][its].permute(1, 2, 0).numpy())
        assert example["label"] == LABELS[its]
        values = batch.inputs[0][row]
        values = values if values.dtype == torch.uint8 else (values * 255).round()
        assert np.array_equal(pixels(example["variants"][0]["seen"]), values.permute(1, 2, 0).byte().numpy())
        assert len({variant["seen"] for variant in example["variants"]}) > 1
        assert ("%" in example["variants"][0]["label"]) == ("mixup" in settings)


def test_nothing_is_shown_where_nothing_is_varied() -> None:
    assert varied_examples(prepared(augment="none")) is None
    assert varied_examples(prepare((DRAW.normal(size=(60, 3)), LABELS), {})) is None


def test_large_pictures_are_made_smaller_and_of_many_channels_the_first_are_shown() -> None:
    assert picture(torch.zeros(3, 400, 200, dtype=torch.uint8)).pixels.shape == (3, 128, 64)
    five = torch.arange(5, dtype=torch.uint8).view(5, 1, 1).expand(5, 8, 8)
    assert pixels(plain(picture(five)))[0, 0].tolist() == [0, 1, 2]
    assert pixels(plain(picture(five[:2]))).tolist() == np.zeros((8, 8)).tolist()


def test_texts_and_recordings_are_shown_too() -> None:
    words = "one two three four five six seven eight nine ten".split()
    rows = [{"text": " ".join(DRAW.choice(words, 12)), "label": str(LABELS[row])} for row in range(60)]
    shown = plain(varied_examples(prepare(rows, {"target": ["label"], "training.augment": "strong"})))
    for example in shown["examples"]:
        lost = [len(example["original"].split()) - len(one["seen"].split()) for one in example["variants"]]
        assert max(lost) > 0
    page = render({"varied": shown})
    assert shown["examples"][0]["variants"][0]["seen"] in page
    assert "&lt;b&gt;cat" in page


def test_check_writes_the_sheet_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "@digits", "--augment"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "what the network would see: digits-augmented.html"
    page = (tmp_path / "digits-augmented.html").read_text()
    assert page.count("data:image/png") == 1 + 8 * 7 or page.count('<img src="data:image/png') == 8 * 7
    assert main(["check", "@digits", "--augment", "--set", "training.augment=none"]) == 0
    assert "examples are not varied" in capsys.readouterr().out.splitlines()[-1]
    assert main(["check", "@digits", "--augment", "--json"]) == 0
    assert '"augmented": "digits-augmented.html"' in capsys.readouterr().out
