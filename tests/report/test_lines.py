"""Series as small drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from sounding import fit
from sounding.report.lines import small_lines


def test_lines_keep_their_lengths_and_gaps() -> None:
    drawn = small_lines([[0.0, 1.0, 2.0], [1.0, None, 0.0, 1.0]], "two of them")
    assert drawn is not None
    assert drawn.count("<path") == 2
    assert drawn.count("L") == 2 + 2
    assert "two of them" in drawn
    assert small_lines([[], [None]], "nothing") is None


def test_a_run_on_series_draws_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    series = [(draw.normal(size=500) + row % 2).tolist() for row in range(40)]
    table = pa.table({"wave": series, "y": ["low", "high"] * 20})
    settings = {"training.epochs": 1, "training.plan": "reference", "network.options": {"depth": 1, "widths": [3]}}
    run = fit(table, "y", settings=settings, out=tmp_path / "run", say=None, progress=False)
    (wave,) = [column for column in run.results["data"]["columns"] if column["name"] == "wave"]
    assert [len(line) for line in wave["lines"]] == [200, 200, 200]
    assert len(run.results["examples"][0]["cells"]["wave"]["lines"]) == 1
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<title>Series</title>") == 1 + len(run.results["examples"])
