"""What the page shows of the layers while they learned: gradients, updates and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sounding.report import figures, words
from sounding.report.values import Results, Values, watch_warnings, within


def layers(results: Results, recipe_toml: str) -> Values | None:
    """How gradients, updates and activations went in each layer, as far as the watch looked."""
    flow, warnings = within(results, "flow"), watch_warnings(results)
    players = {name: within(player) for name, player in within(flow, "players").items() if within(player).get("done")}
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
    over_time = within(player, "over_time")

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
