"""The section on texts that were written."""

from __future__ import annotations

from typing import Any

from sounding.report.translations import attention_map, translations

TEXT: dict[str, Any] = {"source": "<two> men", "truth": "zwei Männer", "prediction": "zwei Männer", "chrf": 100.0}
MAP: dict[str, Any] = {
    "read": ["<two>", " men", "end"],
    "written": ["zwei", "end"],
    "weights": [[0.9, 0.1, 0], [0, 0.01, 0.99]],
}


def test_other_runs_have_none() -> None:
    assert translations({"figures": {"scatter": {}}}, "") is None
    assert translations({}, "") is None


def test_texts_stand_beside_what_they_should_be() -> None:
    wrong = {**TEXT, "prediction": "ein Mann", "chrf": 12.34}
    values = translations({"figures": {"translations": {"texts": [TEXT, wrong], "maps": [MAP]}}}, "")
    assert values is not None
    assert [one["right"] for one in values["texts"]] == [True, False]
    assert values["texts"][1]["chrf"] == "12.3"
    assert len(values["maps"]) == 1


def test_the_map_draws_weights_that_can_be_seen() -> None:
    chart = attention_map(MAP["read"], MAP["written"], MAP["weights"])
    assert chart.count('class="hit"') == 3
    assert "2 pieces written from 3 pieces read" in chart
    assert "&lt;two&gt;" in chart
    assert "<two>" not in chart


def test_what_was_written_on_the_way() -> None:
    one = {"epoch": 2, "bleu": 3.456, "chrf": 20.0, "rows": 64, "texts": ["ein <b>"], "true": ["zwei Männer"]}
    figures = {"translations": {"texts": [TEXT], "maps": []}}
    values = translations({"figures": figures, "snapshots": [one, {"epoch": None}]}, "")
    assert values is not None
    assert values["way"]["rows"] == "64 validation rows"
    assert values["way"]["epochs"] == [{"epoch": "2", "bleu": "3.46", "chrf": "20", "text": "ein <b>"}]
    none = translations({"figures": figures}, "")
    assert none is not None
    assert none["way"] is None
