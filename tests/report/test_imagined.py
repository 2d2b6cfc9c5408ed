"""The section on codes: from plain values to what the page shows; a run that really took place gives them."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sounding import fit
from sounding.report import render
from sounding.report.imagined import imagined, map_chart

SETTINGS: dict[str, Any] = {
    **{"task": "compression", "target": ["y"], "network.name": "picture_variational_autoencoder"},
    **{"network.code_size": 3, "network.options": {"hidden_sizes": [8]}},
    **{"training.epochs": 2, "training.plan": "reference", "evaluation.bootstrap": 20},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    data = {"x": draw.integers(0, 256, (160, 1, 6, 6), dtype=np.uint8), "y": draw.choice(["<b>", "two"], 160)}
    run: Any = fit(data, settings=SETTINGS, out=Path(tmp_path_factory.mktemp("run")) / "r", say=None, progress=False)
    return dict(run.results)


def section(page: str) -> str:
    found = re.search(r'<section id="imagined">.*?</section>', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_everything_that_was_drawn_is_shown(results: dict[str, Any]) -> None:
    shown, drawn = section(render(results)), results["figures"]
    assert shown.count("<img ") == 2 * len(drawn["copies"]) + 9 * len(drawn["walks"]) + len(drawn["samples"])
    assert shown.count("<image ") == len(drawn["map"]["pictures"])
    places = re.findall(r'<path d="([^"]*)" class="place (g\d)"', shown)
    assert sum(path.count("M") for path, _ in places) == 16
    assert [class_ for _, class_ in places] == ["g0", "g1"]
    assert "&lt;b&gt;" in shown
    assert f"{drawn['units']['used']} of 3 entries are used" in shown


def test_what_is_missing_is_left_out(results: dict[str, Any]) -> None:
    for key in ("map", "copies", "walks", "samples"):
        less = copy.deepcopy(results)
        del less["figures"][key]
        assert len(section(render(less))) < len(section(render(results)))
    assert imagined({}, "") is None
    assert imagined({"figures": {"confusion": {}}}, "") is None
    assert imagined({"figures": {"units": {}}}, "") is not None


def test_only_pictures_are_shown_as_such(results: dict[str, Any]) -> None:
    hostile = copy.deepcopy(results)
    taken = "javascript:alert(1)"
    hostile["figures"]["samples"] = [taken]
    hostile["figures"]["walks"] = [[taken] * 9]
    hostile["figures"]["copies"] = [{"original": taken, "copy": taken, "error": 0.1}]
    for one in hostile["figures"]["map"]["pictures"]:
        one["picture"] = taken
    assert taken not in section(render(hostile))


def test_of_many_groups_the_most_frequent_have_a_colour_of_their_own() -> None:
    groups = [group for group in range(12) for _ in range(20 - group)]
    places = np.linspace(0, 1, len(groups)).tolist()
    drawn = {"x": places, "y": places, "group": groups, "names": [f"n{group}" for group in range(12)]}
    values = imagined({"figures": {"units": {}, "map": drawn}}, "")
    assert values is not None
    assert values["key"] == [*((f"g{group}", f"n{group}") for group in range(9)), ("g9", "3 others")]
    counts = dict(re.findall(r'd="([^"]*)" class="place (g\d)"', values["map"]))
    assert {class_: path.count("M") for path, class_ in counts.items()}["g9"] == 11 + 10 + 9


def test_the_map_puts_rows_where_they_lie() -> None:
    drawn = map_chart([0.0, 1.0], [0.0, 0.5], [])
    assert 'd="M16.0 384.0h0M384.0 200.0h0"' in drawn


def test_columns_are_ordered_by_how_much_of_them_is_kept() -> None:
    columns = [{"name": "a", "kept": 0.2}, {"name": "b", "kept": 0.9}, {"name": "c", "kept": -0.1}, {"name": "d"}]
    values = imagined({"figures": {"units": {}, "columns": columns}}, "")
    assert values is not None
    assert [name for name, *_ in values["columns"]] == ["b", "a", "c"]
    assert values["columns"][2][1].startswith("0")


def test_series_are_drawn_over_what_was_made_of_them() -> None:
    copies = [
        {"original": [[0.0, 1.0, 0.0]], "copy": [[0.0, 0.5, 0.0]], "error": 0.1},
        {"original": [["<"]], "copy": []},
    ]
    values = imagined({"figures": {"units": {}, "copies": copies}}, "")
    assert values is not None
    ((drawn, error),) = values["traces"]
    assert error == "0.100"
    assert drawn.count("<path ") == 2
    assert values["copies"] == []
