"""What the page shows of training: how the losses and the score went, and where the watch warned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sounding.report import figures, words
from sounding.report.figures import Event, Line
from sounding.report.svg import PERCENT, evenly
from sounding.report.values import Results, Values, headline_metric, watch_warnings, within

MOST_HISTORY_ROWS = 40


def learning(results: Results, recipe_toml: str) -> Values | None:
    """How loss, headline metric and learning rate went, epoch by epoch."""
    history = [record for record in results.get("history") or [] if words.is_number(record.get("epoch"))]
    if not history:
        return None
    epochs, best = [record["epoch"] for record in history], results.get("best_epoch")
    metric = headline_metric(results)

    def validation(name: str) -> list[Any]:
        return [within(record, "validation").get(name) for record in history]

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
                "loss": words.number(within(history[i], "validation").get("loss")),
                "score": words.score(metric, within(history[i], "validation").get(metric)),
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
    measured = [("validation loss", words.number(within(record, "validation").get("loss")))]
    if words.is_number(within(record, "validation").get(metric)):
        measured.append((words.metric_name(metric), words.score(metric, within(record, "validation").get(metric))))
    return {"epoch": best, "of": len(history), "measured": measured}


def _events(results: Results, epochs: Sequence[Any]) -> list[Event]:
    """What the watch warned of, as it arose, and in which epoch that was."""
    flow = within(results, "flow")
    began, players = flow.get("began"), within(flow, "players")
    found = []
    for finding in watch_warnings(results):
        step = within(finding, "evidence")["step"]
        player = within(finding, "evidence").get("player") or next(iter(players), "")
        done = within(players, player).get("done")
        if words.is_number(began) and words.is_number(done) and done:
            epoch = math.ceil(began + step * (epochs[-1] - began) / done - 1e-9)
            found.append((step, min(max(epoch, epochs[0]), epochs[-1]), finding))
    found.sort(key=lambda one: one[0])
    return [
        Event(epoch, number, finding["severity"], str(finding.get("title", "")))
        for number, (_, epoch, finding) in enumerate(found, start=1)
    ]
