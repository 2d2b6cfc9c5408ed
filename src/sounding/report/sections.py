"""What the page shows, section by section: from the plain values of a run to the values of a template.

Adding a section is one function here, its name in `SECTIONS`, and one template. A function returns None
where the run has nothing for it, and the page leaves the section out.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sounding.report import figures, words
from sounding.report.anomalies import anomalies
from sounding.report.carried import carried
from sounding.report.detections import detections
from sounding.report.figures import Event, Line, Measured
from sounding.report.forecasts import forecasts
from sounding.report.generated import generated
from sounding.report.imagined import imagined
from sounding.report.lines import small_lines
from sounding.report.painted import painted
from sounding.report.recommended import recommended
from sounding.report.segmented import segmented
from sounding.report.svg import PERCENT, evenly
from sounding.report.translations import translations
from sounding.report.varied import varied
from sounding.report.written import written

Results = Mapping[str, Any]
Values = dict[str, Any]

LONG_HEADLINE = 80
MOST_FINDINGS, FEW_NOTES = 100, 4
FIRST_COLUMNS, MOST_COLUMNS = 12, 60
MOST_HISTORY_ROWS = 40
MOST_LAYERS = 60
MOST_PAIRS = 8
FIRST_CELLS = 8
MOST_LETTERS, MANY_LETTERS = 400, 40
"""Of one cell: a longer text is cut, and a text with many letters takes the whole width."""


@dataclass(frozen=True)
class Section:
    """One part of the page: the name of its template and anchor, its heading, its values."""

    name: str
    heading: str
    values: Values


def sections(results: Results, recipe_toml: str) -> list[Section]:
    """The sections that this run has something for, in the order of the page.

    results:  without None and NaN, as `words.present` gives them.
    """
    made = [(name, heading, make(results, recipe_toml)) for name, (heading, make) in SECTIONS.items()]
    return [Section(name, heading, values) for name, heading, values in made if values is not None]


def verdict(results: Results, recipe_toml: str) -> Values | None:
    """The first thing seen: the sentence, the number with its interval, and the simple models beside it."""
    said, metric = _of(results, "verdict"), _headline(results)
    value, interval = (
        _of(results, "metrics", "test").get(metric),
        _of(results, "intervals", "test").get(metric),
    )
    if not said and not words.is_number(value):
        return None
    rows = _of(results, "data", "rows").get("test")
    sentence = said.get("headline") or f"{words.metric_name(metric)} on the test rows: {words.score(metric, value)}"
    return {
        "sentence": sentence,
        "long": len(sentence) > LONG_HEADLINE,
        "advice": said.get("advice"),
        "metric": words.metric_name(metric),
        "value": words.score(metric, value),
        "interval": words.interval(metric, interval),
        "rows": words.plural(rows, "test row") if rows else "",
        "chart": _score_chart(results, metric, value, interval),
        "facts": [
            (name, written)
            for name, known, written in (
                ("network", results.get("network"), results.get("network")),
                ("parameters", results.get("parameters"), words.number(results.get("parameters"))),
                ("trained for", results.get("epochs"), words.plural(results.get("epochs"), "epoch")),
                ("training time", results.get("seconds"), words.duration(results.get("seconds"))),
                ("speed", results.get("speed"), _speed(results)),
                ("rows to learn from", _of(results, "data", "rows").get("train"), _train_rows(results)),
                ("seed", results.get("seed") is not None, results.get("seed")),
            )
            if known
        ],
    }


def _speed(results: Results) -> str:
    """How much of the machine training used, validation and all that is no matrix product counted as waiting."""
    speed = _of(results, "speed")
    if not speed:
        return ""
    return f"{speed['operations_per_second'] / 1e9:.3g} GFLOP/s, {words.percent(speed['fraction'], 0)} of peak"


def _train_rows(results: Results) -> str:
    return words.number(_of(results, "data", "rows").get("train"))


def _score_chart(results: Results, metric: str, value: Any, interval: Any) -> Any:
    simple = [
        Measured(name, scores[metric], None, words.score(metric, scores[metric]))
        for name, scores in _simple_models(results).items()
        if words.is_number(scores.get(metric))
    ]
    if not simple or not words.is_number(value):
        return None
    network = f"this network ({results['network']})" if results.get("network") else "this network"
    rows = [Measured(network, value, interval, words.score(metric, value), main=True), *simple]
    rows.sort(key=lambda row: row.value, reverse=_higher_is_better(results))
    return figures.interval_chart(
        f"{words.metric_name(metric)} of this network and of simple models",
        rows,
        ticks=PERCENT if metric in words.PERCENTAGES else None,
        x_label=f"{words.metric_name(metric)}, {'higher' if _higher_is_better(results) else 'lower'} is better",
    )


def findings(results: Results, recipe_toml: str) -> Values | None:
    """What the checks said, the gravest first."""
    if results.get("findings") is None:
        return None
    order = {"error": 0, "warning": 1, "info": 2}
    cards = [
        {
            **finding,
            "severity": finding.get("severity") if finding.get("severity") in order else "info",
            "evidence": [_cell(name.replace("_", " "), value) for name, value in _of(finding, "evidence").items()],
            "settings": words.settings(_of(finding, "remedy", "set")),
        }
        for finding in results["findings"]
    ]
    cards.sort(key=lambda finding: order[finding["severity"]])
    grave = [finding for finding in cards if finding["severity"] != "info"]
    notes = cards[len(grave) :]
    return {
        "grave": grave[:MOST_FINDINGS],
        "notes": notes[:MOST_FINDINGS],
        "open": not grave and len(notes) <= FEW_NOTES,
        "left_out": len(cards) - len(grave[:MOST_FINDINGS]) - len(notes[:MOST_FINDINGS]),
    }


def data(results: Results, recipe_toml: str) -> Values | None:
    """Where the data came from and what every column looks like."""
    known = _of(results, "data")
    if not known:
        return None
    roles = {"target": 0, "weight": 1, "group": 1, "time": 1, "ignored": 3}
    columns = sorted(known.get("columns") or [], key=lambda column: roles.get(column.get("role"), 2))
    rows = _of(known, "rows")
    cards = [
        {**column, "figure": _column_figure(column), "top": _top(column), "ends": _ends(column)}
        | {"lines": small_lines(column.get("lines") or [], f"some of {column.get('name')}")}
        for column in columns[:MOST_COLUMNS]
    ]
    return {
        "source": known.get("source"),
        "notes": known.get("notes") or [],
        "rows": [(part, rows[part]) for part in rows],
        "bar": figures.stacked_bar("How the rows were split", list(rows.items())) if rows else None,
        "first": cards[:FIRST_COLUMNS],
        "more": cards[FIRST_COLUMNS:],
        "count": len(columns),
        "left_out": len(columns) - len(cards),
    }


def _column_figure(column: Results) -> Any:
    histogram = _of(column, "histogram")
    return figures.sparkline(histogram["edges"], histogram.get("counts") or []) if histogram.get("edges") else None


def _ends(column: Results) -> tuple[str, str] | None:
    edges = _of(column, "histogram").get("edges")
    return (words.number(edges[0]), words.number(edges[-1])) if edges else None


def _top(column: Results) -> list[tuple[str, str, Any]]:
    """The most frequent values, how often each occurs, and the share of the most frequent one."""
    top = (column.get("top") or [])[:5]
    most = max((count for _, count in top if words.is_number(count)), default=1) or 1
    return [
        (_cut(value), words.number(count), count / most if words.is_number(count) else None) for value, count in top
    ]


def learning(results: Results, recipe_toml: str) -> Values | None:
    """How loss, headline metric and learning rate went, epoch by epoch."""
    history = [record for record in results.get("history") or [] if words.is_number(record.get("epoch"))]
    if not history:
        return None
    epochs, best = [record["epoch"] for record in history], results.get("best_epoch")
    metric = _headline(results)

    def validation(name: str) -> list[Any]:
        return [_of(record, "validation").get(name) for record in history]

    def drawn(title: str, lines: Sequence[Line], **options: Any) -> Values | None:
        present = [line for line in lines if any(map(words.is_number, line.values))]
        if not present:
            return None
        chart = figures.line_chart(title, epochs, present, x_label="epoch", **options)
        told = options.get("events", ())
        return {"title": title, "lines": present if len(present) > 1 else [], "chart": chart, "events": told}

    marked: Values = {"mark": best, "mark_label": f"best: epoch {words.number(best)}"} if best in epochs else {}
    rates = [record.get("learning_rate") for record in history]
    losses = [
        Line("training", [record.get("train_loss") for record in history], "second"),
        Line("validation", validation("loss")),
    ]
    wide, events = figures.spans_widely(losses), _events(results, epochs)
    charts = [
        drawn("Loss, on a logarithmic scale" if wide else "Loss", losses, logarithmic=wide, events=events, **marked),
        drawn(
            words.sentence(f"{words.metric_name(metric)} on validation rows"),
            [Line(words.metric_name(metric), validation(metric))],
            show=lambda value: words.score(metric, value),
            ticks=PERCENT if metric in words.PERCENTAGES else None,
            **marked,
        ),
        drawn("Learning rate", [Line("rate", rates, "third")], height=180)
        if len({rate for rate in rates if words.is_number(rate)}) > 1
        else None,
    ]
    kept = evenly(len(history), MOST_HISTORY_ROWS)
    return {
        "charts": [chart for chart in charts if chart],
        "metric": words.metric_name(metric),
        "best": _best(history, best, metric),
        "ending": words.sentence(str(results.get("ending", ""))),
        "left_out": len(history) - len(kept),
        "rows": [
            {
                "epoch": words.number(epochs[i]),
                "train_loss": words.number(history[i].get("train_loss")),
                "loss": words.number(_of(history[i], "validation").get("loss")),
                "score": words.score(metric, _of(history[i], "validation").get(metric)),
                "learning_rate": words.number(history[i].get("learning_rate")),
                "seconds": words.duration(history[i].get("seconds")),
                "best": epochs[i] == best,
            }
            for i in kept
        ],
    }


def _best(history: Sequence[Results], best: Any, metric: str) -> Values | None:
    """The epoch whose parameters are the model, and what was measured then."""
    record = next((record for record in history if record["epoch"] == best), None)
    if record is None:
        return None
    measured = [("validation loss", words.number(_of(record, "validation").get("loss")))]
    if words.is_number(_of(record, "validation").get(metric)):
        measured.append((words.metric_name(metric), words.score(metric, _of(record, "validation").get(metric))))
    return {"epoch": best, "of": len(history), "measured": measured}


def _events(results: Results, epochs: Sequence[Any]) -> list[Event]:
    """What the watch warned of, as it arose, and in which epoch that was."""
    flow = _of(results, "flow")
    began, players = flow.get("began"), _of(flow, "players")
    found = []
    for finding in _warnings(results):
        step = _of(finding, "evidence")["step"]
        player = _of(finding, "evidence").get("player") or next(iter(players), "")
        done = _of(players, player).get("done")
        if words.is_number(began) and words.is_number(done) and done:
            epoch = math.ceil(began + step * (epochs[-1] - began) / done - 1e-9)
            found.append((step, min(max(epoch, epochs[0]), epochs[-1]), finding))
    found.sort(key=lambda one: one[0])
    return [
        Event(epoch, number, finding["severity"], str(finding.get("title", "")))
        for number, (_, epoch, finding) in enumerate(found, start=1)
    ]


def _warnings(results: Results) -> list[Results]:
    """The warnings and errors of the watch: of all checks, it alone goes by steps."""
    return [
        finding
        for finding in results.get("findings") or []
        if finding.get("severity") in {"error", "warning"} and words.is_number(_of(finding, "evidence").get("step"))
    ]


def layers(results: Results, recipe_toml: str) -> Values | None:
    """How gradients, updates and activations went in each layer, as far as the watch looked."""
    flow, warnings = _of(results, "flow"), _warnings(results)
    players = {name: _of(player) for name, player in _of(flow, "players").items() if _of(player).get("done")}
    if not players:
        return None
    return {
        "players": [
            {"name": name if len(players) > 1 else "", "charts": _maps(player), "notes": _merged(player)}
            for name, player in players.items()
        ],
        "steps": words.plural(sum(player["done"] for player in players.values()), "step"),
        "looked": words.number(sum(len(player.get("steps") or []) for player in players.values())),
        "looked_for": [str(fault) for fault in flow.get("looked_for") or []],
        "found": words.plural(len(warnings), "finding") if warnings else "",
    }


def _maps(player: Results) -> list[Values]:
    """The pictures of one player; those without a value are left out."""
    steps = player.get("steps") or []
    of_layers, of_activations = player.get("layers") or [], player.get("activations") or []
    over_time = _of(player, "over_time")

    def share(value: Any) -> str:
        return words.percent(value, 0)

    def drawn(
        title: str, note: str, rows: Sequence[tuple[str, Any]], columns: Sequence[Any] = steps, **options: Any
    ) -> Values | None:
        present = [(name, values) for name, values in rows if any(map(words.is_number, values or []))]
        if not present:
            return None
        return {
            "title": title,
            "note": note,
            "chart": figures.time_map(title, present, columns, **{"x_label": "step", **options}),
        }

    def named(key: str) -> list[tuple[str, Any]]:
        return [(str(layer.get("name") or "network"), layer.get(key)) for layer in of_layers]

    def after(key: str, kinds: set[str]) -> list[tuple[str, Any]]:
        return [
            (str(one.get("layer") or "network"), one.get(key)) for one in of_activations if one.get("kind") in kinds
        ]

    maps = [
        drawn(
            "Gradient",
            "The norm for each layer, before clipping. Where it fades towards the first layers, these hardly learn.",
            named("gradient"),
            logarithmic=True,
        ),
        drawn(
            "Update",
            "The norm of what a step changes, relative to that of the weights. About a thousandth is usual.",
            named("update"),
            logarithmic=True,
        ),
        drawn(
            "Zeros after ReLU",
            "The share of what comes out; half of it is usual.",
            after("zeros", {"relu"}),
            show=share,
        ),
        drawn(
            "Dead units",
            "The share of units after a ReLU that were zero for every example of the batch. No gradient passed these.",
            after("dead", {"relu"}),
            show=share,
            class_="miss",
        ),
        drawn(
            "Saturated",
            "The share of what comes out of tanh and sigmoid at their flat ends, which hardly let a gradient pass.",
            after("saturated", {"tanh", "sigmoid"}),
            show=share,
            class_="miss",
        ),
        drawn(
            "Gradient over time",
            "The norm for each step of a sequence that goes into the first recurrent layer, by the weights before and "
            "after training. Steps without a gradient are never tied to the answer.",
            [(f"at the {name}", norms) for name, norms in over_time.items()],
            range(1, 1 + max(map(len, over_time.values()), default=0)),
            x_label="step of the sequence",
            logarithmic=True,
        ),
    ]
    return [one for one in maps if one]


def _merged(player: Results) -> list[str]:
    """What the pictures leave out."""
    notes = []
    rows, steps = len(player.get("layers") or []), len(player.get("steps") or [])
    modules: Any = player.get("modules")
    if words.is_number(modules) and modules > rows:
        notes.append(f"{words.plural(modules, 'layer')} share {words.plural(rows, 'row')}.")
    if steps > figures.MOST_STEPS:
        notes.append(f"{words.number(figures.MOST_STEPS)} of the {words.plural(steps, 'step')} looked at are drawn.")
    return notes


def errors(results: Results, recipe_toml: str) -> Values | None:
    """Where answers and truth part: confused classes, or predicted against true values."""
    known = _of(results, "figures")
    confusion, scatter, residuals = (_of(known, name) for name in ("confusion", "scatter", "residuals"))
    values: Values = {}
    if confusion.get("labels") and confusion.get("counts"):
        labels, counts, left_out = _most_mistaken(confusion["labels"], confusion["counts"])
        pairs = _confused(labels, counts)
        most = max((count for *_, count in pairs), default=1)
        values |= {
            "matrix": figures.heat_map(labels, counts),
            "left_out": left_out,
            "unit": words.shorten(words.as_text(confusion.get("unit") or ""), LONG_HEADLINE),
            "pairs": [(true, said, words.number(count), count / most) for true, said, count in pairs],
        }
    if scatter.get("truth") and scatter.get("prediction"):
        unit = scatter.get("unit") or ""
        values["scatter"] = figures.scatter_chart(scatter["truth"], scatter["prediction"], unit=unit)
    if residuals.get("edges") and residuals.get("counts"):
        values["residuals"] = figures.histogram(
            "Errors", residuals["edges"], residuals["counts"], x_label="predicted minus true", zero=True
        )
    return values or None


def _most_mistaken(labels: Sequence[Any], counts: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[Any]], int]:
    """A matrix small enough to draw: of a larger one, the classes with the most mistakes, in their old order."""
    if len(labels) <= figures.MOST_CLASSES:
        return list(labels), [list(line) for line in counts], 0
    mistakes = [0.0] * len(labels)
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if row != column and words.is_number(count):
                mistakes[row] += count
                mistakes[column] += count
    kept = sorted(sorted(range(len(labels)), key=lambda i: -mistakes[i])[: figures.MOST_CLASSES])
    return [labels[i] for i in kept], [[counts[i][j] for j in kept] for i in kept], len(labels) - len(kept)


def _confused(labels: Sequence[Any], counts: Sequence[Sequence[Any]]) -> list[tuple[Any, Any, Any]]:
    pairs = [
        (labels[row], labels[column], count)
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if row != column and words.is_number(count) and count > 0
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_PAIRS]


def calibration(results: Results, recipe_toml: str) -> Values | None:
    """Whether the confidence that the model states can be believed."""
    known = _of(results, "figures", "calibration")
    if not known.get("bins"):
        return None
    error = known.get("error")
    return {"chart": figures.calibration_chart(known["bins"]), "error": words.percent(error) if error else ""}


def examples(results: Results, recipe_toml: str) -> Values | None:
    """The answers that were most wrong."""
    known = results.get("examples")
    if not known:
        return None
    regression = not any(words.is_number(example.get("confidence")) for example in known)
    shown = [_example(example) for example in known]
    pictures = all(example["pictures"] and not example["cells"] and not example["clips"] for example in shown)
    answered = any({"truth", "prediction"} & example.keys() for example in known)
    return {"examples": shown, "regression": regression, "pictures": pictures, "answered": answered}


def _example(example: Results) -> Values:
    cells = _of(example, "cells")
    pictures = {name: _of(cell)["picture"] for name, cell in cells.items() if "picture" in _of(cell)}
    drawn = {name: small_lines(_of(cell)["lines"], str(name)) for name, cell in cells.items() if "lines" in _of(cell)}
    plain = [_cell(name, cell) for name, cell in cells.items() if name not in pictures and name not in drawn]
    line = f":{example['line']}" if "line" in example else f", row {example.get('row', words.MISSING)}"
    return {
        "truth": _cut(example.get("truth")),
        "prediction": _cut(example.get("prediction")),
        "confidence": words.percent(example.get("confidence"), 0) if example.get("confidence") is not None else "",
        "loss": words.number(example.get("loss")),
        "right": example.get("prediction") == example.get("truth"),
        "place": f"{example['file']}{line}" if example.get("file") else f"row {example.get('row', words.MISSING)}",
        "pictures": pictures,
        "lines": [line for line in drawn.values() if line],
        "clips": {name: cell for name, cell in cells.items() if "sound" in _of(cell)},
        "cells": plain[:FIRST_CELLS],
        "more": plain[FIRST_CELLS:],
    }


def comparison(results: Results, recipe_toml: str) -> Values | None:
    """How far ahead or behind the network is, and every measure of every model."""
    metric = _headline(results)
    measured, simple = _of(results, "metrics"), _simple_models(results)
    if not measured and not simple and not results.get("comparison"):
        return None
    rows = [
        Measured(
            str(row.get("name", words.MISSING)),
            row.get("difference"),
            row.get("interval"),
            words.difference(row.get("metric") or metric, row.get("difference")),
        )
        for row in results.get("comparison") or []
        if (row.get("metric") or metric) == metric
    ]
    test = _of(measured, "test")
    models: list[tuple[str, Results]] = [
        (f"this network ({results.get('network') or 'network'})", {**test, "seconds": results.get("seconds")})
    ]
    models += list(simple.items())
    names = [name for name in [metric, *test] if any(name in scores for _, scores in models)]
    names = list(dict.fromkeys(names))
    reach = _higher_is_better(results)
    return {
        "chart": figures.interval_chart(
            "How far the network is ahead of each simple model, with 95 % intervals",
            rows,
            zero=True,
            ticks={"factor": 100} if metric in words.PERCENTAGES else None,
            x_label=f"{'worse ←' if reach else 'better ←'}   {words.metric_name(metric)}"
            f"{', points' if metric in words.PERCENTAGES else ''}   {'→ better' if reach else '→ worse'}",
        )
        if rows
        else None,
        "notes": [
            f"{row.get('name', words.MISSING)}: {row['note']}"
            for row in results.get("comparison") or []
            if row.get("note")
        ],
        "names": [words.metric_name(name) for name in names],
        "models": [
            (
                model,
                [words.score(name, scores.get(name)) for name in names],
                words.duration(scores.get("seconds")),
            )
            for model, scores in models
            if scores
        ]
        if simple
        else [],
        "measures": [
            (
                words.metric_name(name),
                words.score(name, _of(measured, "validation").get(name)),
                words.score(name, test.get(name)),
                words.interval(name, _of(results, "intervals", "test").get(name)),
            )
            for name in dict.fromkeys([*test, *_of(measured, "validation")])
        ],
    }


def network(results: Results, recipe_toml: str) -> Values | None:
    """The layers and where the parameters are."""
    layers = results.get("network_summary") or []
    if not layers:
        return None
    most = max((layer["parameters"] for layer in layers if words.is_number(layer.get("parameters"))), default=1) or 1
    return {
        "name": results.get("network"),
        "parameters": results.get("parameters"),
        "layers": [
            {
                **layer,
                "share": layer["parameters"] / most if words.is_number(layer.get("parameters")) else None,
            }
            for layer in layers[:MOST_LAYERS]
        ],
        "outputs": any(layer.get("output") for layer in layers),
        "left_out": max(0, len(layers) - MOST_LAYERS),
    }


def decisions(results: Results, recipe_toml: str) -> Values | None:
    """What was decided for the user, and why."""
    return {"decisions": results["decisions"]} if results.get("decisions") else None


def recipe(results: Results, recipe_toml: str) -> Values | None:
    """The complete recipe."""
    return {"text": recipe_toml.strip()} if recipe_toml.strip() else None


def use(results: Results, recipe_toml: str) -> Values | None:
    """How to use the model: commands and Python, with this run's path."""
    run = results.get("run")
    if not run:
        return None
    path = shlex.quote(str(run))
    recipe_path = shlex.quote(f"{run}/recipe.toml")
    if _of(results, "figures", "language"):
        commands = [
            ("Write a text on", f'sounding predict {path} --prompt "..."'),
            ("Measure it on another text", f"sounding evaluate {path} other.txt"),
        ]
        python = 'text = run.generate("...", temperature=0.8)'
    else:
        commands = [
            ("Predict new rows", f"sounding predict {path} new.csv --out predictions.csv"),
            ("Measure it on labelled rows", f"sounding evaluate {path} labelled.csv"),
        ]
        python = 'predictions, findings = run.predict_table("new.csv")'
    return {
        "commands": [*commands, ("Repeat this run", f"sounding fit {recipe_path}")],
        "python": "\n".join(("import sounding", "", f"run = sounding.load({str(run)!r})", python)),
    }


def environment(results: Results, recipe_toml: str) -> Values | None:
    """What the run ran on."""
    known = _of(results, "environment")
    return {"facts": [(name.replace("_", " "), _cut(value)) for name, value in known.items()]} if known else None


SECTIONS: dict[str, tuple[str, Callable[[Results, str], Values | None]]] = {
    "verdict": ("Verdict", verdict),
    "findings": ("Findings", findings),
    "data": ("Data", data),
    "varied": ("As the network sees them", varied),
    "painted": ("Painted", painted),
    "recommended": ("Recommended", recommended),
    "generated": ("Made up", generated),
    "forecasts": ("Forecasts", forecasts),
    "written": ("Written", written),
    "translations": ("Texts", translations),
    "detections": ("Boxes", detections),
    "segmented": ("Pictures", segmented),
    "learning": ("Learning", learning),
    "layers": ("Layer by layer", layers),
    "imagined": ("Codes", imagined),
    "anomalies": ("Strange rows", anomalies),
    "errors": ("Mistakes", errors),
    "calibration": ("Calibration", calibration),
    "examples": ("Most wrong", examples),
    "comparison": ("Comparison", comparison),
    "network": ("Network", network),
    "carried": ("Learned before", carried),
    "decisions": ("Decisions", decisions),
    "recipe": ("Recipe", recipe),
    "use": ("Use it", use),
    "environment": ("Environment", environment),
}
"""Each section's heading and where its values come from, in the order of the page."""


def _of(values: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at a path, empty where anything on the way is missing."""
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _simple_models(results: Results) -> dict[str, Results]:
    """What each simple model scored on the test rows, and the seconds it took."""
    known = _of(results, "baseline")
    return {name: {**scores, **_of(scores, "test")} for name, scores in known.items() if isinstance(scores, Mapping)}


def _headline(results: Results) -> str:
    """The metric that the page puts first."""
    test = _of(results, "metrics", "test")
    named = _of(results, "headline").get("metric") or _of(results, "verdict").get("metric")
    return str(named or next(iter(test), "loss"))


def _higher_is_better(results: Results) -> bool:
    return bool(_of(results, "headline").get("higher_is_better", True))


def _cell(name: str, value: Any) -> tuple[str, str, bool]:
    """A name, its value, and whether the value is long."""
    text = _cut(value)
    return name, text, len(text) > MANY_LETTERS


def _cut(value: Any) -> str:
    return words.MISSING if value is None else words.shorten(words.as_text(value), MOST_LETTERS)
