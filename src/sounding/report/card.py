"""The card that goes with a model: what it was trained on, how good it is, and where that ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sounding.report.words import is_interval, plural


def card(results: Mapping[str, Any]) -> dict[str, Any]:
    """A model card in strict JSON values, after Mitchell et al. 2019, "Model Cards for Model Reporting".

    results:  the values of `results.json`; what is missing there is missing here.

    What the model is meant for, no measurement knows: `intended_use` is left for the user to write.

    >>> card({"task": "regression", "metrics": {"test": {"rmse": 2.0}}})["metrics"]
    {'test': {'rmse': {'value': 2.0}}}
    """
    data = results.get("data") or {}
    names = ("run", "task", "network", "parameters", "sounding", "finished", "seed")
    written = {
        "model": {name: results[name] for name in names if name in results},
        "intended_use": "",
        "data": {
            "source": data.get("source"),
            "rows": data.get("rows") or {},
            "columns": [
                {name: column.get(name) for name in ("name", "kind", "role")} for column in data.get("columns") or []
            ],
            "notes": list(data.get("notes") or []),
        },
        "carried_over": results.get("transfer") or {},
        "metrics": _metrics(results),
        "comparison": list(results.get("comparison") or []),
        "verdict": (results.get("verdict") or {}).get("headline", ""),
        "findings": [
            {name: finding.get(name) for name in ("rule", "severity", "title", "meaning", "evidence")}
            for finding in results.get("findings") or []
        ],
        "limits": _limits(results),
    }
    strict: dict[str, Any] = _strict(written)
    return strict


def _metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    intervals = results.get("intervals") or {}

    def measured(part: str, name: str, value: Any) -> dict[str, Any]:
        pair = (intervals.get(part) or {}).get(name)
        return {"value": value, "interval_95": pair} if is_interval(pair) else {"value": value}

    return {
        part: {name: measured(part, name, value) for name, value in (values or {}).items()}
        for part, values in (results.get("metrics") or {}).items()
    }


def _limits(results: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers has to know, each a sentence that follows from the results."""
    data = results.get("data") or {}
    rows = (data.get("rows") or {}).get("test")
    limits = []
    if rows:
        limits.append(
            f"The test metrics come from {plural(rows, 'row')} of {data.get('source') or 'the same source'}; "
            "data from elsewhere or from another time can give other results."
        )
    if not (results.get("intervals") or {}).get("test"):
        limits.append("No interval was measured: how far chance moves the metrics is not known.")
    if not results.get("comparison"):
        limits.append("No simple model was compared: whether a network is needed is not known.")
    limits += [
        f"Not to be trusted until solved: {finding.get('title', '')}"
        for finding in results.get("findings") or []
        if finding.get("severity") == "error"
    ]
    limits.append("Inputs that differ from the training data still get an answer.")
    return limits


def _strict(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
