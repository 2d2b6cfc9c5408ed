import base64
import copy
import hashlib
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sounding.errors import DataError
from sounding.report import render, write_report
from sounding.report.sections import SECTIONS
from sounding.report.words import is_picture, number

Results = dict[str, Any]
RUNS = ("digits", "tumours", "diabetes")
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements, attributes and text of a page, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self) -> list[str]:
        return [value for _, name, value in self.attributes if name == "id"]


@pytest.fixture(params=RUNS)
def results(request: pytest.FixtureRequest) -> Results:
    return copy.deepcopy(request.getfixturevalue(request.param))


def test_the_page_begins_with_the_verdict_and_its_number(tumours: Results, recipe_toml: str) -> None:
    page = Page(render(tumours, recipe_toml))
    others = (
        "imagined",
        "anomalies",
        "generated",
        "forecasts",
        "recommended",
        "written",
        "translations",
        "detections",
        "segmented",
        "carried",
        "varied",
        "painted",
    )  # of other tasks, or of what was learned before
    assert page.ids() == [name for name in SECTIONS if name not in others]
    heading, number = page.text.index(tumours["verdict"]["headline"]), page.text.index("95 % interval")
    assert heading < number < page.text.index("worst perimeter alone gives diagnosis away")
    assert f"{100 * tumours['metrics']['test']['accuracy']:.1f}\u202f%" in page.text


def test_every_simple_model_stands_beside_the_network(diabetes: Results) -> None:
    text = Page(render(diabetes)).text
    for name, scores in diabetes["baseline"].items():
        assert f"{name}: {scores['test']['rmse']:.1f}." in text  # what the chart says in words
    assert "lower is better" in text
    order = [text.index(f"{name}: ") for name in sorted(diabetes["baseline"], key=lambda n: _rmse(diabetes, n))]
    assert order == sorted(order)


def _rmse(results: Results, name: str) -> float:
    return float(results["baseline"][name]["test"]["rmse"])


def test_a_right_answer_among_the_worst_is_not_marked_as_wrong() -> None:
    page = Page(render({"examples": [{"truth": "a", "prediction": "a"}, {"truth": "a", "prediction": "b"}]}))
    assert [value for tag, _, value in page.attributes if tag == "b"] == ["wrong"]


def test_the_gravest_finding_comes_first(tumours: Results) -> None:
    text = Page(render(tumours)).text
    order = [text.index(title) for title in ("alone gives diagnosis away", "57 rows measure", "say nearly the same")]
    assert order == sorted(order)
    assert "--set data.test=0.3" in text


def test_what_the_watch_saw_of_each_layer_is_drawn(digits: Results) -> None:
    page = Page(render(digits))
    (player,) = digits["flow"]["players"].values()
    assert page.tags.count("section") == len(page.ids())
    for title in ("Gradient", "Update", "Zeros after ReLU", "Dead units"):
        assert title in page.text
    assert "Saturated" not in page.text  # there is no tanh nor sigmoid
    first = player["layers"][0]
    assert f"{first['name']}, step {player['steps'][-1]}: {number(first['gradient'][-1])}" in page.text
    assert f"{first['name']}: {number(first['update'][0])} at first" in page.text


def test_a_run_without_findings_says_what_was_looked_for(digits: Results) -> None:
    text = " ".join(Page(render(digits)).text.split())
    (player,) = digits["flow"]["players"].values()
    looked, faults = len(player["steps"]), digits["flow"]["looked_for"]
    assert (
        f"The watch saw {player['done']} steps, {looked} of them closely, and found none of the {len(faults)}" in text
    )
    assert all(fault in text for fault in faults)


def watched(results: Results, *steps: int, **evidence: Any) -> Results:
    found = [
        {"rule": "numerics", "severity": "warning", "title": f"trouble {step}", "evidence": {"step": step, **evidence}}
        for step in steps
    ]
    return {**results, "findings": [*results["findings"], *found]}


def events(results: Results) -> list[str]:
    return re.findall(r"<li class=\"warning\">(.*?)</li>", render(results))


def test_warnings_of_the_watch_stand_in_the_epoch_in_which_they_arose(digits: Results) -> None:
    assert events(digits) == []
    assert events(watched(digits, 480, 1, 12, 13)) == [  # of 40 epochs with 12 steps each
        "epoch 1, warning: trouble 1",
        "epoch 1, warning: trouble 12",
        "epoch 2, warning: trouble 13",
        "epoch 40, warning: trouble 480",
    ]
    text = Page(render(watched(digits, 480, 1))).text
    assert "2 findings above" in text
    assert "and found none of" not in text


def test_a_run_that_was_resumed_counts_steps_from_there(digits: Results) -> None:
    (player,) = digits["flow"]["players"].values()
    resumed = {"began": 30, "players": {"network": {**player, "done": 120}}}
    assert events(watched({**digits, "flow": resumed}, 1, 120)) == [
        "epoch 31, warning: trouble 1",
        "epoch 40, warning: trouble 120",
    ]


def test_several_players_have_pictures_of_their_own(digits: Results) -> None:
    (player,) = digits["flow"]["players"].values()
    players = {"generator": {**player, "done": 480}, "discriminator": {**player, "done": 960}}
    both = {**digits, "flow": {"began": 0, "players": players}}
    text = Page(render(both)).text
    assert text.index("generator") < text.index("discriminator")
    assert events(watched(both, 24, player="discriminator")) == ["epoch 1, warning: trouble 24"]
    assert events(watched(both, 24, player="generator")) == ["epoch 2, warning: trouble 24"]


def test_a_network_with_more_layers_than_rows_says_so(digits: Results) -> None:
    (player,) = digits["flow"]["players"].values()
    rows = len(player["layers"])
    large = {**digits, "flow": {"players": {"network": {**player, "modules": 161}}}}
    assert f"161 layers share {rows} rows" in Page(render(large)).text
    assert "share" not in Page(render(digits)).text.partition("Layer by layer")[2].partition("Mistakes")[0].replace(
        "The share", ""
    )


@pytest.mark.parametrize("flow", [None, {}, {"players": {}}, {"players": {"network": {"done": 0, "steps": []}}}])
def test_runs_that_were_not_watched_get_a_page_without_layers(digits: Results, flow: Any) -> None:
    old = {key: value for key, value in digits.items() if key != "flow"} | ({} if flow is None else {"flow": flow})
    page = Page(render(watched(old, 3)))
    assert "layers" not in page.ids()
    assert "learning" in page.ids()


def test_sections_without_values_are_left_out(digits: Results, diabetes: Results, recipe_toml: str) -> None:
    assert "calibration" not in Page(render(diabetes, recipe_toml)).ids()
    assert "recipe" not in Page(render(digits, "")).ids()
    assert Page(render({})).ids() == []
    assert Page(render({"findings": []})).text.count("found nothing to report") == 1


def test_every_link_of_the_page_leads_to_a_section(results: Results, recipe_toml: str) -> None:
    page = Page(render(results, recipe_toml))
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert links == [f"#{name}" for name in page.ids() if name != "verdict"]


def test_pictures_are_shown_as_pictures(digits: Results) -> None:
    page = Page(render(digits))
    shown = [value for tag, name, value in page.attributes if tag == "img" and name == "src"]
    expected = [example["cells"]["image"]["picture"] for example in digits["examples"]]
    assert shown[-len(expected) :] == expected
    assert all(is_picture(uri) for uri in shown)


def test_the_page_asks_for_nothing_and_runs_nothing(results: Results, recipe_toml: str) -> None:
    text = render(results, recipe_toml)
    page = Page(text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    addresses = [value for _, name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset"}]
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_of_the_page_names_the_hash_of_its_style_sheet(digits: Results) -> None:
    text = render(digits)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy.replace("&#39;", "'")
    assert policy.startswith("default-src &#39;none&#39;;")
    assert "unsafe" not in policy
    assert not [name for _, name, _ in Page(text).attributes if name == "style"]


PAYLOADS = [
    "<script>document.title='taken'</script>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "<svg onload=alert(1)>",
    "{{7*7}}{% include 'style.css' %}",
    "\x1b[31mred\x1b[0m",
    '"><a href="javascript:alert(1)">x</a>',
    "</style></title></textarea><b>",
    "data:text/html;base64,PHNjcmlwdD4=",
    "../../etc/passwd\x00\u202e\ud800",
]


def poisoned(value: Any, text: str, *, keys: bool = False) -> Any:
    """The same values with every text, and every key that comes from the data, replaced by a payload."""
    if isinstance(value, dict):
        return {
            (f"{text}{i}" if keys else key): poisoned(
                item, text, keys=key in {"baseline", "cells", "evidence", "environment", "rows", "test"}
            )
            for i, (key, item) in enumerate(value.items())
        }
    if isinstance(value, list):
        return [poisoned(item, text) for item in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_from_the_data_is_shown_as_text(results: Results, payload: str) -> None:
    tame = Page(render(poisoned(results, "harmless"), "harmless"))
    hostile = Page(render(poisoned(results, payload), payload))
    assert hostile.tags == tame.tags  # no extra node
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on") or name == "style"]
    assert not [value for _, name, value in hostile.attributes if name in {"href", "src"} and payload in value]
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\ud800]", hostile.text)
    if payload.isprintable():
        assert payload in hostile.text


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", True),
        ("data:image/svg+xml;base64,PHN2Zz4=", False),
        ("data:text/html;base64,PHNjcmlwdD4=", False),
        ('data:image/png;base64,abc" onerror="x', False),
        ("data:image/png;base64,", False),
        ("https://example.org/x.png", False),
        (None, False),
    ],
)
def test_only_bitmaps_inside_the_page_are_pictures(uri: Any, expected: bool) -> None:
    assert is_picture(uri) is expected


def every_path(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value; of lists only the first item is followed."""
    items = values.items() if isinstance(values, dict) else enumerate(values[:1]) if isinstance(values, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from every_path(item, (*path, key))


def trimmed(values: Any) -> Any:
    """The same with at most three items in every list."""
    if isinstance(values, dict):
        return {key: trimmed(item) for key, item in values.items()}
    return [trimmed(item) for item in values[:3]] if isinstance(values, list) else values


@pytest.mark.parametrize("missing", ["gone", None, float("nan")])
def test_every_value_may_be_missing(results: Results, missing: Any) -> None:
    few = trimmed(results)
    for *way, last in every_path(few):
        changed = copy.deepcopy(few)
        holder: Any = changed
        for key in way:
            holder = holder[key]
        if isinstance(holder, list) and (missing == "gone" or not isinstance(holder[last], float)):
            continue
        if missing == "gone":
            del holder[last]
        else:
            holder[last] = missing
        page = render(changed, "seed = 0")
        assert page.endswith("</html>"), (*way, last)
        assert not re.search(r"\b(None|nan|inf)\b", page), (*way, last)


def test_a_huge_run_gives_a_page_of_bounded_size_in_bounded_time(digits: Results) -> None:
    classes, epochs, columns = 300, 100_000, 2000
    huge = {
        **digits,
        "history": [
            {
                "epoch": epoch,
                "train_loss": float("nan") if epoch % 1000 == 7 else 1 / epoch,
                "validation": {"loss": 1 / epoch, "accuracy": 1 - 1 / epoch},
                "learning_rate": 1 / epoch,
            }
            for epoch in range(1, epochs + 1)
        ],
        "best_epoch": 4321,
        "figures": {
            "confusion": {
                "labels": [f"class {i}" for i in range(classes)],
                "counts": [[int((i * 7 + j * 3) % 50 == 0) for j in range(classes)] for i in range(classes)],
            },
            "scatter": {"truth": list(range(100_000)), "prediction": list(range(100_000))},
        },
        "data": {"columns": [{"name": f"column {i}", "kind": "number", "role": "input"} for i in range(columns)]},
        "findings": [{"severity": "info", "title": f"note {i}"} for i in range(5000)],
        "network_summary": [{"name": f"layer {i}", "type": "Linear", "parameters": i} for i in range(5000)],
    }
    started = time.process_time()
    text = render(huge)
    assert time.process_time() - started < 20
    assert len(text) < 1_500_000
    page = Page(text)
    assert "2,000 columns in all; 1,940 are not shown" in page.text
    assert "200 others are not shown" in page.text
    assert "best: epoch 4,321" in page.text
    assert "nan" not in page.text


def test_the_most_confused_classes_are_named(digits: Results) -> None:
    counts = [[0] * 77 for _ in range(77)]
    for i in range(77):
        counts[i][i] = 30
    counts[12][40], counts[3][2] = 9, 4
    labels = [f"intent {i}" for i in range(77)]
    text = Page(render({"figures": {"confusion": {"labels": labels, "counts": counts}}})).text
    assert "intent 12 taken for intent 40" in text
    assert text.index("intent 12 taken for") < text.index("intent 3 taken for")


def test_a_run_folder_gets_its_page_whole(tmp_path: Path, digits: Results, recipe_toml: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(digits), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(recipe_toml, encoding="utf-8")
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    written = write_report(tmp_path)
    assert written == tmp_path / "report.html"
    assert written.read_text(encoding="utf-8") == render(digits, recipe_toml)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.toml", "report.html", "results.json"]


def test_an_interrupted_writing_leaves_the_old_page(
    tmp_path: Path, digits: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(digits), encoding="utf-8")
    (tmp_path / "report.html").write_text("old", encoding="utf-8")

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "results.json"]


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_results_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.json"):
        write_report(tmp_path)


def test_text_can_be_read_in_light_dark_and_print(digits: Results) -> None:
    style = re.findall(r"<style>(.*?)</style>", render(digits), re.DOTALL)[0]
    light, dark, print_ = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    for colours in (light, dark, print_):
        for text in ("ink", "soft", "accent", "error", "warning", "info"):
            for ground in ("paper", "card", "rail") if text in {"ink", "soft"} else ("paper", "card"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for mark in ("second", "third", "plain"):
            assert contrast(colours[mark], colours["paper"]) >= 3, mark
        assert contrast(colours["on-accent"], colours["accent"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, section 1.4.3)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
