"""What the page says first: how good the network is, and how good simple models are on the same rows."""

from __future__ import annotations

from typing import Any

from sounding.report import figures, words
from sounding.report.figures import Measured
from sounding.report.svg import PERCENT
from sounding.report.values import Results, Values, headline_metric, higher_is_better, simple_models, within

LONG_HEADLINE = 80


def verdict(results: Results, recipe_toml: str) -> Values | None:
    """The first thing seen: the sentence, the number with its interval, and the simple models beside it."""
    said, metric = within(results, "verdict"), headline_metric(results)
    value, interval = (
        within(results, "metrics", "test").get(metric),
        within(results, "intervals", "test").get(metric),
    )
    if not said and not words.is_number(value):
        return None
    rows = within(results, "data", "rows").get("test")
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
                ("rows to learn from", within(results, "data", "rows").get("train"), _train_rows(results)),
                ("seed", results.get("seed") is not None, results.get("seed")),
            )
            if known
        ],
    }


def _speed(results: Results) -> str:
    """How much of the machine training used, validation and all that is no matrix product counted as waiting."""
    speed = within(results, "speed")
    if not speed:
        return ""
    return f"{speed['operations_per_second'] / 1e9:.3g} GFLOP/s, {words.percent(speed['fraction'], 0)} of peak"


def _train_rows(results: Results) -> str:
    return words.number(within(results, "data", "rows").get("train"))


def _score_chart(results: Results, metric: str, value: Any, interval: Any) -> Any:
    simple = [
        Measured(name, scores[metric], None, words.score(metric, scores[metric]))
        for name, scores in simple_models(results).items()
        if words.is_number(scores.get(metric))
    ]
    if not simple or not words.is_number(value):
        return None
    network = f"this network ({results['network']})" if results.get("network") else "this network"
    rows = [Measured(network, value, interval, words.score(metric, value), main=True), *simple]
    rows.sort(key=lambda row: row.value, reverse=higher_is_better(results))
    return figures.interval_chart(
        f"{words.metric_name(metric)} of this network and of simple models",
        rows,
        ticks=PERCENT if metric in words.PERCENTAGES else None,
        x_label=f"{words.metric_name(metric)}, {'higher' if higher_is_better(results) else 'lower'} is better",
    )


def comparison(results: Results, recipe_toml: str) -> Values | None:
    """How far ahead or behind the network is, and every measure of every model."""
    metric = headline_metric(results)
    measured, simple = within(results, "metrics"), simple_models(results)
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
    test = within(measured, "test")
    models: list[tuple[str, Results]] = [
        (f"this network ({results.get('network') or 'network'})", {**test, "seconds": results.get("seconds")})
    ]
    models += list(simple.items())
    names = [name for name in [metric, *test] if any(name in scores for _, scores in models)]
    names = list(dict.fromkeys(names))
    reach = higher_is_better(results)
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
                words.score(name, within(measured, "validation").get(name)),
                words.score(name, test.get(name)),
                words.interval(name, within(results, "intervals", "test").get(name)),
            )
            for name in dict.fromkeys([*test, *within(measured, "validation")])
        ],
    }
