"""The section of the page about what a run began with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import sounding
from sounding.report.carried import carried

RECIPE = """
[training.optimizer.rates]
"stem.*" = 0.3
"blocks.*" = 0.5
"last.*" = 1.0

[training.release]
"stem.*" = 1.0
"blocks.*" = 0.2
"""


def test_layers_have_their_rates_and_say_when_they_are_trained() -> None:
    transfer = {"source": "runs/old", "columns": {"age": "numbers"}, "inputs": [{"input": "table", "carried": ["a"]}]}
    values = carried({"transfer": transfer}, RECIPE)
    assert values is not None
    assert [layer["release"] for layer in values["layers"]] == [
        "never",
        "after 20.0\u202f% of training",
        "from the start",
    ]
    assert [layer["rate"] for layer in values["layers"]] == ["0.3", "0.5", "1"]
    assert values["inputs"] == [{"input": "table", "carried": ["a"], "anew": [], "left": []}]


def test_other_runs_and_odd_values_have_no_such_section() -> None:
    assert carried({}, "") is None
    assert carried({"transfer": {}}, RECIPE) is None
    assert carried({"transfer": {"source": "runs/old"}}, "this is no TOML [") is not None


def test_the_page_of_a_run_lists_what_came_over(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    values, labels = draw.integers(0, 255, (60, 8, 8)).astype(np.uint8), np.arange(60) % 2
    settings = {
        **{"training.epochs": 1, "training.plan": "given", "evaluation.bootstrap": 10, "network.name": "resnet"},
        "network.options": {"stem_size": 4, "hidden_sizes": [4], "depths": [1]},
    }
    sounding.fit((values, labels), settings=settings, out=tmp_path / "old", say=None, progress=False)
    begun = {**settings, "transfer.source": str(tmp_path / "old")}
    sounding.fit((values, labels), settings=begun, out=tmp_path / "new", say=None, progress=False)
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    (section,) = re.findall(r'<section id="carried">.*?</section>', page, re.DOTALL)
    assert str(tmp_path / "old") in section
    assert "network.stem.0.*" in section
    assert "<code>head.weight</code>: anew" in section
    assert '<section id="carried">' not in (tmp_path / "old" / "report.html").read_text(encoding="utf-8")
