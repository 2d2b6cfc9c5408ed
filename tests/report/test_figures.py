import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from itertools import pairwise

import pytest
from markupsafe import Markup

from sounding.report import figures
from sounding.report.figures import Event, Line, Measured

NAN = float("nan")


def test_values_that_are_not_finite_leave_a_gap() -> None:
    chart = figures.line_chart("Loss", [1, 2, 3, 4, 5], [Line("training", [3.0, 2.0, NAN, 1.0, None])], x_label="epoch")
    (path,) = re.findall(r'<path d="([^"]*)" class="line', chart)
    assert path.count("M") == 2  # the pen is lifted once
    assert path.count("L") == 1
    assert "nan" not in chart.lower()


def test_a_long_history_is_drawn_with_bounded_markup() -> None:
    many = list(range(200_000))
    chart = figures.line_chart("Loss", many, [Line("training", many)], x_label="epoch", mark=10, mark_label="best")
    assert len(chart) < 120_000


def test_a_row_far_from_the_others_becomes_an_arrow() -> None:
    rows = [
        Measured("network", 0.97, [0.96, 0.98], main=True),
        Measured("linear", 0.95),
        Measured("majority", 0.1),
    ]
    chart = figures.interval_chart("accuracy", rows)
    assert chart.count("<circle") == 2
    assert chart.count("<path") == 1
    assert figures.interval_chart("accuracy", rows[:2]).count("<path") == 0


def test_the_dot_of_a_value_lies_between_the_ends_of_its_interval() -> None:
    chart = ElementTree.fromstring(figures.interval_chart("d", [Measured("a", 0.5, [0.2, 0.9])], zero=True))
    whisker = next(e for e in chart.iter("line") if "whisker" in e.attrib["class"])
    dot = next(chart.iter("circle"))
    zero = next(e for e in chart.iter("line") if e.attrib["class"] == "zero")
    low, high, middle = float(whisker.attrib["x1"]), float(whisker.attrib["x2"]), float(dot.attrib["cx"])
    assert float(zero.attrib["x1"]) < low < middle < high
    assert (middle - low) / (high - low) == pytest.approx(3 / 7, abs=0.01)


def test_the_confusion_matrix_shows_counts_and_says_what_each_cell_is() -> None:
    chart = figures.heat_map(["cat", "dog"], [[8, 2], [0, 5]])
    cells = re.findall(r'<rect[^>]*class="(hit|miss)"', chart)
    assert cells == ["hit", "miss", "hit"]  # a cell of zero is not drawn
    assert "cat → dog: 2 of 10" in chart
    assert "13 of 15 on the diagonal" in chart


def test_bars_are_as_high_as_their_counts() -> None:
    chart = ElementTree.fromstring(figures.sparkline([0, 1, 2, 3], [1, 4, 2]))
    heights = [float(rect.attrib["height"]) for rect in chart.iter("rect")]
    assert heights == pytest.approx([11, 44, 22], abs=0.1)


def test_shades_follow_the_powers_of_ten_and_zeros_stand_apart() -> None:
    values = [1.0, 0.1, 0.01, 0.001, 0.0, None]
    chart = ElementTree.fromstring(
        figures.time_map("Gradient", [("a", values)], range(1, 7), x_label="step", logarithmic=True)
    )
    cells = {cell.findtext("title"): cell for cell in chart.iter("rect") if cell.findtext("title")}
    assert list(cells) == [
        "a, step 1: 1",
        "a, step 2: 0.100",
        "a, step 3: 0.0100",
        "a, step 4: 0.00100",
        "a, step 5: 0",
    ]
    *shaded, nothing = cells.values()
    shades = [float(cell.attrib["fill-opacity"]) for cell in shaded]
    steps = [one - other for one, other in pairwise(shades)]
    assert shades[0] == 1
    assert steps == pytest.approx([0.94 / 3] * 3, abs=0.011)
    assert nothing.attrib["class"] == "nothing"
    places = [float(cell.attrib["x"]) for cell in cells.values()]
    assert [b - a for a, b in pairwise(places)] == pytest.approx([places[1] - places[0]] * 4, abs=0.11)


def test_small_differences_get_similar_shades() -> None:
    chart = figures.time_map("Gradient", [("a", [1.0, 0.9])], [1, 2], x_label="step", logarithmic=True)
    high, low = (float(shade) for shade in re.findall(r'fill-opacity="([\d.]+)" *><title>', chart))
    assert high - low < 0.03


def test_fractions_are_shaded_by_their_size() -> None:
    chart = figures.time_map("Zeros", [("a", [0.0, 0.5, 1.0])], [1, 2, 3], x_label="step")
    shades = [float(shade) for shade in re.findall(r'fill-opacity="([\d.]+)" *><title>', chart)]
    assert shades == pytest.approx([0.06, 0.53, 1.0])


def test_a_map_of_many_rows_and_steps_keeps_the_first_and_the_last() -> None:
    rows = [(f"layer {i}", list(range(1000))) for i in range(300)]
    chart = figures.time_map("Gradient", rows, range(1000), x_label="step", logarithmic=True)
    told = re.findall(r"<title>(layer \d+), step ([\d,]+):", chart)
    assert len({name for name, _ in told}) == len({step for _, step in told}) == 40
    assert {"layer 0", "layer 299"} <= {name for name, _ in told}
    assert {"0", "999"} <= {step for _, step in told}
    assert len(chart) < 400_000


def test_events_stand_where_they_happened_and_cover_one_another_nowhere() -> None:
    events = [Event(3, 1, "warning", "a"), Event(3, 2, "error", "b"), Event(5, 3, "warning", "c")]
    chart = figures.line_chart("Loss", range(1, 11), [Line("training", range(10))], x_label="epoch", events=events)
    root = ElementTree.fromstring(chart)
    badges = [group for group in root.iter("g") if group.attrib["class"].startswith("badge")]
    assert [badge.findtext("text") for badge in badges] == ["1", "2", "3"]
    assert [badge.attrib["class"] for badge in badges] == ["badge warning", "badge error", "badge warning"]
    circles = [next(badge.iter("circle")) for badge in badges]
    x, y = ([float(circle.attrib[key]) for circle in circles] for key in ("cx", "cy"))
    ends = [float(line.attrib["x1"]) for line in root.iter("line") if line.attrib["class"] == "grid"][:1]
    assert x[0] == x[1]
    assert (x[0] - ends[0]) / (x[2] - ends[0]) == pytest.approx(2 / 4, abs=0.01)
    assert y[1] - y[0] >= 2 * float(circles[0].attrib["r"])
    assert y[2] == y[0]
    assert "At epoch 3, error: b." in (root.findtext("desc") or "")


DRAWINGS: dict[str, Callable[[str], Markup]] = {
    "line_chart": lambda t: figures.line_chart(
        t,
        [1, 2],
        [Line(t, [1.0, 2.0])],
        x_label=t,
        mark=1,
        mark_label=t,
        show=lambda value: t,
        events=[Event(1, 1, "error", t)],
    ),
    "time_map": lambda t: figures.time_map(t, [(t, [1.0, 0.0])], [1, 2], x_label=t, logarithmic=True),
    "interval_chart": lambda t: figures.interval_chart(t, [Measured(t, 1.0, [0.5, 2.0], t)], x_label=t, zero=True),
    "heat_map": lambda t: figures.heat_map([t, "b"], [[1, 2], [3, 4]]),
    "calibration_chart": lambda t: figures.calibration_chart([{"confidence": 0.5, "accuracy": 0.4, "count": 3}]),
    "scatter_chart": lambda t: figures.scatter_chart([1, 2], [2, 1], unit=t),
    "histogram": lambda t: figures.histogram(t, [0, 1, 2], [3, 4], x_label=t, zero=True),
    "sparkline": lambda t: figures.sparkline([0, 1, 2], [3, 4]),
    "stacked_bar": lambda t: figures.stacked_bar(t, [(t, 3), ("b", 4)]),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_is_well_formed_and_says_in_words_what_it_shows(name: str) -> None:
    root = ElementTree.fromstring(DRAWINGS[name]("Accuracy"))
    assert root.tag == "svg"
    assert root.attrib["role"] == "img"
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert root.findtext("title")
    assert root.findtext("desc")


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("payload", ["<script>x</script>", '" onload="x', "]]>&amp;'\x1b[0m"])
def test_no_text_becomes_an_element_or_an_attribute(name: str, payload: str) -> None:
    hostile, tame = (ElementTree.fromstring(DRAWINGS[name](text)) for text in (payload, "a" * len(payload)))
    assert [e.tag for e in hostile.iter()] == [e.tag for e in tame.iter()]
    assert not {key for e in hostile.iter() for key in e.attrib} & {"onload", "style", "href"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.line_chart("t", [1], [Line("a", [NAN])], x_label="epoch"),
        lambda: figures.line_chart("t", [3, 3], [Line("a", [1e308, -1e308])], x_label="epoch"),
        lambda: figures.line_chart("t", [0, 1], [Line("a", [0.0, 0.0])], x_label="epoch", logarithmic=True),
        lambda: figures.interval_chart("t", [Measured("a", None), Measured("b", NAN, [NAN, 1])]),
        lambda: figures.interval_chart("t", []),
        lambda: figures.time_map("t", [], [], x_label="x"),
        lambda: figures.time_map("t", [("a", [])], [1, 2], x_label="x", logarithmic=True),
        lambda: figures.time_map("t", [("a", [0.0, 0.0])], [1, 2], x_label="x", logarithmic=True),
        lambda: figures.time_map("t", [("a", [NAN, 1e300, 1e-300])], [None, 2, 3], x_label="x", logarithmic=True),
        lambda: figures.heat_map([], []),
        lambda: figures.heat_map(["a"], [[0]]),
        lambda: figures.heat_map(["a", "b"], [[None, 1], [NAN, 0]]),
        lambda: figures.calibration_chart([{"confidence": None, "accuracy": 1, "count": 2}, {}]),
        lambda: figures.scatter_chart([NAN, None], [1, 2]),
        lambda: figures.scatter_chart([5], [5]),
        lambda: figures.histogram("t", [0, 0], [0], x_label="x", zero=True),
        lambda: figures.sparkline([], []),
        lambda: figures.sparkline([1, 1], [3]),
        lambda: figures.stacked_bar("t", [("a", 0), ("b", None)]),
    ],
)
def test_empty_and_odd_values_still_give_a_figure_without_nan(draw: Callable[[], Markup]) -> None:
    markup = draw()
    ElementTree.fromstring(markup)
    assert not re.search(r'="[^"]*(nan|inf)', markup)


@pytest.mark.parametrize(("positions", "between"), [([1, 2, 3], False), ([0.0, 0.5, 1.0], True)])
def test_places_between_whole_numbers_are_named_where_there_are_some(positions, between):
    chart = figures.line_chart("c", positions, [Line("a", [1.0, 2.0, 4.0])], x_label="x")
    named = re.findall(r'class="tick middle"[^>]*>([^<]+)<', str(chart))
    assert named
    assert any("." in text for text in named) == between
