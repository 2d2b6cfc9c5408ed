"""What the page keeps for those who go on: the network, decisions, the recipe, how to use it, what it ran on."""

from __future__ import annotations

import shlex

from sounding.report import words
from sounding.report.values import Results, Values, shown, within

MOST_LAYERS = 60


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
    if within(results, "figures", "language"):
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
    known = within(results, "environment")
    return {"facts": [(name.replace("_", " "), shown(value)) for name, value in known.items()]} if known else None
