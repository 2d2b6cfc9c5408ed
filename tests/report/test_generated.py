"""What the page shows of a generator."""

from __future__ import annotations

from typing import Any

from sounding.report import render
from sounding.report.generated import generated

PICTURE = "data:image/png;base64,iVBORw0KGgo="


def results(**samples: Any) -> dict[str, Any]:
    return {
        "run": "runs/made",
        "figures": {"samples": samples},
        "snapshots": [{"epoch": 1, **samples["made"]}, {"epoch": 2, **samples["made"]}],
    }


def test_pictures_are_shown_beside_real_ones_and_over_time() -> None:
    page = render(results(classes=["shirt", "<b>"], made={"sheet": PICTURE}, real={"sheet": PICTURE}))
    assert page.count(f'src="{PICTURE}"') == 4
    assert "shirt, &lt;b&gt;" in page
    assert "epoch 2" in page


def test_what_is_no_picture_is_not_shown() -> None:
    page = render(results(classes=[], made={"sheet": "https://example.org/a.png"}, real={}))
    assert "example.org" not in page


def test_rows_are_shown_as_points_columns_and_shares() -> None:
    made = {
        "numbers": {"x": [0.0, 1.0, 99.0], "y": [1.0, 0.0, 5.0]},
        "categories": {"word": [["a", 0.75], ["b", 0.25]]},
    }
    real = {"numbers": {"x": [0.0, 2.0], "y": [0.0, 1.0]}, "categories": {"word": [["b", 0.5], [None, 0.5]]}}
    values = generated(results(classes=[], made=made, real=real), "")
    assert values is not None
    assert [title for title, _ in values["clouds"]] == ["made up", "real"]
    drawn, real_ones = (str(chart) for _, chart in values["clouds"])
    assert drawn.count("h0") == 2  # the point at 99 lies beyond the real ones
    assert real_ones.count("h0") == 2
    assert [name for name, _ in values["columns"]] == ["x", "y"]
    (name, shares), *_ = values["categories"]
    assert name == "word"
    assert shares == [("b", 0.25, 0.5), ("null", 0.0, 0.5), ("a", 0.75, 0.0)]
    assert [epoch for epoch, *_ in values["way"]] == ["1", "2"]
    assert "Made up" in render(results(classes=[], made=made, real=real))


def test_other_runs_have_no_such_section() -> None:
    assert generated({"figures": {"confusion": {}}}, "") is None
    assert generated({}, "") is None
    assert 'id="generated"' not in render({"run": "runs/a"})


def test_few_or_constant_values_are_no_fault() -> None:
    def drawn(made: dict[str, Any], real: dict[str, Any]) -> tuple[int, list[str]]:
        given = results(classes=[], made=made, real=real)
        values = generated(given, "")
        assert values is not None
        assert 'id="generated"' in render(given)
        return len(values["clouds"]), [name for name, _ in values["columns"]]

    none, one = {"numbers": {"x": [], "y": []}}, {"numbers": {"x": [1.0], "y": [1.0]}}
    assert drawn(none, one) == (2, ["x", "y"])
    assert drawn({"numbers": {"x": [1.0]}}, {"numbers": {"x": [1.0, 1.0]}}) == (0, ["x"])
    assert drawn({}, {}) == (0, [])
