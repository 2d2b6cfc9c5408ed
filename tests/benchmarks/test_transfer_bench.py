"""The benchmark of transfer: draws nest, medians are drawn, and nothing is trained twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.transfer import Measured, curves, drawn, figure, table

from benchmarks import transfer


def measured(way: str, size: int, accuracy: float, draw: int = 0, data: str = "digits") -> Measured:
    return Measured(data, way, size, draw, accuracy, 9.0)


RESULTS = [
    *(measured("labels", 5, accuracy, draw) for draw, accuracy in enumerate((0.9, 0.7, 0.91))),
    measured("labels", 20, 0.95),
    measured("scratch", 5, 0.8),
]


def test_a_larger_draw_holds_the_smaller_ones_and_as_many_of_each_class() -> None:
    values, labels = np.arange(90)[:, None, None], np.array(["a", "b", "b"] * 30)
    few, more = (drawn((values, labels), size, 1) for size in (3, 9))
    assert sorted(few[1]) == ["a"] * 3 + ["b"] * 3
    assert set(few[0].flatten()) < set(more[0].flatten())
    assert (labels[more[0].flatten()] == more[1]).all()
    assert not np.array_equal(drawn((values, labels), 3, 2)[0], few[0])


def test_lines_are_medians_and_the_table_and_the_figure_show_them() -> None:
    assert dict(curves(RESULTS, "digits")) == {"scratch": [(5, 0.8)], "labels": [(5, 0.9), (20, 0.95)]}
    lines = table(RESULTS).splitlines()
    assert lines[2] == "| handwritten digits | 5 | **0.800** (0.800) | **0.900** (0.900, 0.700, 0.910) | - |"
    assert lines[3] == "| handwritten digits | 20 | - | **0.950** (0.950) | - |"
    drawing, named = ElementTree.fromstring(figure(RESULTS)), "{http://www.w3.org/2000/svg}"
    assert len(drawing.findall(f"{named}polyline")) == 2
    assert len(drawing.findall(f"{named}circle")) == 3


def test_what_was_measured_is_kept_and_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def counted(data: str, way: str, size: int, draw: int, runs: Path) -> Measured:
        asked.append((data, way, size, draw))
        return measured(way, size, 0.9, draw, data)

    monkeypatch.setattr(transfer, "measure", counted)
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps(asdict(measured("scratch", 5, 0.8))) + "\n")
    options = ["--results", str(file), "--figure", str(tmp_path / "figure.svg"), "--ways", "scratch", "--sizes", "5"]
    monkeypatch.setattr("sys.argv", ["transfer", *options, "--draws", "1"])
    transfer.main()
    assert asked == [("fashion", "scratch", 5, 0)]
    assert len(transfer.read(file)) == 2
    assert (tmp_path / "figure.svg").is_file()
