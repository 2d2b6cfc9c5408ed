"""The sheet of what the network sees: against the batches that it is trained on."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import shapes, table
from PIL import Image as Pillow

from sounding import report
from sounding.cli import main
from sounding.report import plain, render, varied_examples
from sounding.report.varied import picture
from sounding.tasks.detection import FRAMES
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


def test_masks_lie_as_a_veil_over_their_pictures_and_follow_them() -> None:
    masks = np.zeros((12, 32, 32), dtype=np.uint8)
    masks[:, 8:24, 8:24] = 1
    settings = {"task": "segmentation", "target": ["mask"], "segmentation.colour": 0.0, "segmentation.elastic": 2.0}
    of = prepare({"image": 200 * masks, "mask": masks}, {**settings, "segmentation.scale": 1.0})
    shown = plain(varied_examples(of))
    colours = of.task.mask.colours.astype(float)  # type: ignore[attr-defined]
    original = pixels(shown["examples"][0]["original"])
    np.testing.assert_allclose(original[16, 16], 0.6 * 200 + 0.4 * colours[1], atol=1)
    np.testing.assert_allclose(original[2, 2], 0.4 * colours[0], atol=1)
    for variant in shown["examples"][0]["variants"]:
        seen = pixels(variant["seen"]).astype(float)
        for value, code in ((200, 1), (0, 0)):  # where the picture is plain, its own veil is over it
            here = np.abs(seen - 0.6 * value - 0.4 * colours[code]).max(2) <= 1
            assert here.mean() > 0.05
        assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 2


def test_boxes_are_drawn_where_their_things_have_come_to_lie() -> None:
    pictures, boxes = shapes(40, seed=3)
    settings = {"target": ["boxes"], "detection.colour": 0.0, "detection.mosaic": 0.0}
    of = prepare(table(pictures, boxes), settings)
    example = plain(varied_examples(of))["examples"][0]
    batches = of.batches(of.split.train, training=True)
    first = next(iter(batches.epoch(0)))
    assert first.target is not None
    seen = pixels(example["variants"][0]["seen"]).astype(int)
    frames = set(FRAMES)
    height, width = seen.shape[:2]
    there = first.target[0][first.target[0][:, 0] >= 0]
    for _, left, top, _, bottom in there.tolist():
        row, column = min(round((top + bottom) / 2), height - 1), min(round(left), width - 1)
        assert tuple(seen[row, column].tolist()) in frames
    assert len(there)


def test_boxes_have_the_colours_of_the_rest_of_the_page() -> None:
    style = (Path(report.__file__).parent / "templates" / "style.css").read_text()
    tones = re.findall(r"\.g(\d) \{ --tone: #([0-9a-f]{6}); \}", style)
    assert [int(number) for number, _ in tones] == list(range(len(FRAMES)))
    assert [tuple(bytes.fromhex(tone)) for _, tone in tones] == list(FRAMES)


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
