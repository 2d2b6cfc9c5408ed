"""A detector learns what is in drawn pictures, and says it in pixels of the pictures as they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import shapes, table
from PIL import Image as Pillow

from sounding.cli import main
from sounding.errors import DataError, RecipeError
from sounding.fitting import check, fit
from sounding.run import Run, load
from sounding.tasks import Detection, Predictions
from sounding.tasks.detection_counts import interval, margins, mistakes, thresholds

SMALL = {"stem_size": 8, "hidden_sizes": [16, 24, 32, 32], "depths": [1, 1, 1, 1], "pyramid_size": 24, "head_depth": 1}
QUICK = {
    "network.options": SMALL,
    "training.epochs": 14,
    "training.batch_size": 8,
    "training.optimizer.lr": 8e-3,
    "training.plan": "given",
    "evaluation.bootstrap": 50,
    "detection.mosaic": 0.0,
    "detection.colour": 0.0,
    "detection.scale": 0.1,
}
PARTS = {"train": (0, 90), "validation": (90, 115), "test": (115, 135)}


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, list[Any]]:
    return shapes(135, seed=1)


@pytest.fixture(scope="module")
def run(drawn: tuple[np.ndarray, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    pictures, boxes = drawn
    source = {part: table(pictures[low:high], boxes[low:high]) for part, (low, high) in PARTS.items()}
    out = tmp_path_factory.mktemp("runs") / "drawn"
    return fit(source, "boxes", settings=QUICK, out=out, say=None, progress=False)


def test_it_learns_squares_and_discs(run: Run) -> None:
    test = run.metrics["test"]
    assert test["map50"] > 0.85
    assert set(test) == {
        *("map50", "map75", "map", "ap50_disc", "ap50_square", "count_error_disc", "count_error_square"),
    }
    assert test["map50"] == pytest.approx((test["ap50_disc"] + test["ap50_square"]) / 2)
    assert test["count_error_disc"] < 0.5
    low, high = run.results["intervals"]["test"]["map50"]
    assert low <= test["map50"] <= high
    usual, patches = (run.results["baseline"][name]["test"]["map50"] for name in run.results["baseline"])
    assert usual < 0.2
    assert 0.6 < patches <= 1  # of two plain colours these are found by a threshold, too
    assert "map50" in run.results["history"][-1]["validation"]
    warnings = [finding.title for finding in run.findings if finding.severity != "info"]
    assert not [title for title in warnings if "stretched" in title]


def test_a_table_has_a_row_for_each_box(run: Run, drawn: tuple[np.ndarray, list[Any]]) -> None:
    pictures, boxes = drawn
    found, _ = run.predict_table({"image": pictures[115:]})
    rows = found.to_pylist()
    assert list(rows[0]) == ["picture", "label", "score", "left", "top", "right", "bottom"]
    right = 0
    for row in rows:
        for box in boxes[115 + row["picture"]]:
            near = all(abs(row[edge] - box[edge]) < 4 for edge in ("left", "top", "right", "bottom"))
            right += near and row["label"] == box["label"]
    assert right > 0.8 * sum(map(len, boxes[115:]))
    assert right > 0.8 * len(rows)
    said = run.predict({"image": pictures[115:]})
    assert [box for one in said for box in one] == [{k: v for k, v in row.items() if k != "picture"} for row in rows]


def test_edges_are_those_of_larger_pictures(run: Run, drawn: tuple[np.ndarray, list[Any]], tmp_path: Path) -> None:
    for number, picture in enumerate(drawn[0][115:120]):
        Pillow.fromarray(picture).resize((192, 128), Pillow.Resampling.NEAREST).save(tmp_path / f"p{number}.png")
    small, _ = run.predict_table({"image": drawn[0][115:120]})
    large, _ = run.predict_table(tmp_path)
    assert set(large["picture"].to_pylist()) <= {f"p{number}.png" for number in range(5)}
    mean = {name: np.mean(one["right"]) for name, one in (("small", small), ("large", large))}
    assert mean["large"] == pytest.approx(3 * mean["small"], rel=0.15)


def test_counts_come_with_intervals(run: Run, drawn: tuple[np.ndarray, list[Any]], tmp_path: Path) -> None:
    pictures, boxes = drawn
    counted = run.count({"image": pictures[115:]}).to_pylist()
    (tmp_path / "new").mkdir()
    for number, picture in enumerate(pictures[115:]):
        Pillow.fromarray(picture).save(tmp_path / "new" / f"{number:02d}.png")
    assert main(["predict", str(run.path), str(tmp_path / "new"), "--counts", "--out", str(tmp_path / "c.csv")]) == 0
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0].replace('"', "") == "picture,label,count,low,high"
    assert [float(line.split(",")[2]) for line in lines[1:]] == [one["count"] for one in counted]
    assert len(counted) == 2 * 20
    within = 0
    for row in counted:
        true = sum(box["label"] == row["label"] for box in boxes[115 + row["picture"]])
        within += row["low"] <= true <= row["high"]
        assert 0 <= row["low"] <= row["count"] <= row["high"]
    assert within >= 0.8 * len(counted)


def test_it_comes_back_from_its_folder_as_it_was(run: Run, drawn: tuple[np.ndarray, list[Any]]) -> None:
    again, pictures = load(run.path), {"image": drawn[0][115:]}
    assert again.predict_table(pictures)[0].equals(run.predict_table(pictures)[0])
    task = again.task
    assert isinstance(task, Detection)
    assert task.learned() == json.loads((run.path / "model" / "task.json").read_text())
    evaluated = again.evaluate(table(drawn[0][115:], drawn[1][115:]))
    assert evaluated.metrics == pytest.approx(run.metrics["test"])


def test_the_report_draws_boxes(run: Run) -> None:
    page = (run.path / "report.html").read_text()
    assert 'id="detections"' in page
    assert page.count('class="box true') > 5
    assert page.count('class="box found') > 5


def box(label: str, *edges: float) -> dict[str, Any]:
    return dict(zip(("label", "left", "top", "right", "bottom"), (label, *edges), strict=True))


def test_bad_boxes_are_left_out_and_named(drawn: tuple[np.ndarray, list[Any]]) -> None:
    pictures, boxes = drawn[0][:40], [list(one) for one in drawn[1][:40]]
    before = check(table(pictures, boxes), "boxes", settings={"training.plan": "given"}).target
    boxes[3] += [box("disc", 5, 5, 5, 9), box("disc", 70, 5, 90, 9), box("disc", -4, 60, 9, 70)]
    checked = check(table(pictures, boxes), "boxes", settings={"training.plan": "given"})
    found = {finding.rule: finding for finding in checked.findings if finding.rule.startswith("boxes-")}
    assert set(found) == {"boxes-no-area", "boxes-outside", "boxes-cut"}
    assert f'object {len(boxes[3]) - 2}, "disc" (5, 5, 5, 9)' in found["boxes-no-area"].title
    assert "lie outside of their picture, left out" in found["boxes-outside"].title
    assert "cut at its border" in found["boxes-cut"].title
    kept = checked.target[3][checked.target[3][:, 0] >= 0]
    assert kept[-1].tolist() == [0, 0, 60, 9, 64]
    assert len(kept) == (before[3][:, 0] >= 0).sum() + 1


def test_a_table_without_boxes_cannot_be_measured(run: Run, drawn: tuple[np.ndarray, list[Any]]) -> None:
    with pytest.raises(DataError, match='there is no column "boxes"'):
        run.evaluate({"image": drawn[0][:3]})


def test_thresholds_are_those_of_the_best_f1() -> None:
    truth = np.array([[[0, 0, 0, 9, 9], [0, 20, 0, 29, 9]]] * 3, dtype=float)
    hit, other, miss = (0, 0, 9, 9), (20, 0, 29, 9), (50, 50, 59, 59)
    found = np.array(
        [
            [[0, 0.9, *hit], [0, 0.8, *other], [0, 0.2, *miss]],
            [[0, 0.7, *hit], [0, 0.3, *miss], [-1, 0, 0, 0, 0, 0]],
            [[0, 0.6, *hit], [0, 0.5, *other], [0, 0.1, *miss]],
        ]
    )
    assert thresholds(found, truth, 2).tolist() == [(0.5 + 0.3) / 2, 0.3]
    assert mistakes(found, truth, 1, np.array([0.4])).tolist() == [0, 1, 0]
    assert mistakes(found, truth, 1, np.array([0.2])).tolist() == [1, 2, 0]


def test_margins_are_conformal() -> None:
    draw = np.random.default_rng(0)
    true = draw.poisson(12, (4000, 1))
    found = np.maximum(true + draw.integers(-2, 3, true.shape), 0)
    margin = margins(found[:87], true[:87], 0.9)
    low, high = interval(found[87:], margin)
    assert ((low <= true[87:]) & (true[87:] <= high)).mean() >= 0.9
    assert margins(found[:8], true[:8], 0.9).tolist() == [np.inf]
    assert np.isnan(interval(found[:1], np.array([np.inf]))).all()


def test_decoding_keeps_the_best_of_boxes_that_overlap(run: Run) -> None:
    from sounding.networks import Detections

    task = run.task
    boxes = torch.tensor([[[0.0, 0, 20, 20], [1, 0, 21, 20], [40, 40, 60, 70], [0, 0, 20, 20]]])
    logits = torch.tensor([[[3.0, -9], [2, -9], [-9, 1], [-9, -9]]])
    predictions = task.decode(Detections(logits, boxes, torch.zeros(1, 4, 3)))
    kept = predictions.values[0][predictions.values[0][:, 0] >= 0]
    assert kept[:, 0].tolist() == [0, 1]
    assert kept[1, 2:].tolist() == [40, 40, 60, 64]  # cut at the border
    assert isinstance(predictions, Predictions)


def test_validation_keeps_boxes_alone_and_measures_the_same(run: Run, drawn: tuple[np.ndarray, list[Any]]) -> None:
    task = run.task
    truth = table(drawn[0][90:115], drawn[1][90:115])
    prepared = check(truth, "boxes", settings={"task": "detection"})
    pictures = torch.from_numpy(np.ascontiguousarray(drawn[0][90:115].transpose(0, 3, 1, 2)))
    with torch.no_grad():
        outputs = run.network(pictures)
    target = torch.from_numpy(prepared.target)
    kept = torch.cat([task.compact(type(outputs)(*(part[at : at + 5] for part in outputs))) for at in range(0, 25, 5)])
    assert kept.shape == (25, 100, 6)  # whatever the pictures have of places
    assert task.validation_metrics(kept, target) == task.validation_metrics(outputs, target)


def test_pictures_are_varied_by_its_own_settings_or_not_at_all(drawn: tuple[np.ndarray, list[Any]]) -> None:
    pictures, boxes = drawn
    source = table(pictures[:40], boxes[:40])
    assert check(source, "boxes", settings=QUICK).transform() is not None
    assert check(source, "boxes", settings={**QUICK, "training.augment": "none"}).transform() is None
    with pytest.raises(RecipeError, match='"strong", and detection has settings of its own; take default or none'):
        check(source, "boxes", settings={**QUICK, "training.augment": "strong"})
    with pytest.raises(RecipeError, match=r"training.mixup is not for detection; leave it out"):
        check(source, "boxes", settings={**QUICK, "training.mixup": 0.2})
