"""What the page shows of a run that began with what was learned before: what came over, and when each layer trains."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from sounding.report import words


def carried(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """What came from another run: columns, layers with their rates and releases, tensors; nothing for other runs."""
    transfer = results.get("transfer")
    if not isinstance(transfer, Mapping) or not transfer.get("source"):
        return None
    inputs = [one for one in transfer.get("inputs") or [] if isinstance(one, Mapping)]
    training = _training(recipe_toml)
    rates, release = (training.get(name) or {} for name in ("rates", "release"))
    return {
        "source": transfer["source"],
        "columns": list((transfer.get("columns") or {}).items()),
        "inputs": [
            {"input": one.get("input"), **{key: list(one.get(key) or []) for key in ("carried", "anew", "left")}}
            for one in inputs
        ],
        "layers": [
            {
                "name": name,
                "rate": f"{rate:.3g}",
                "release": _release(release.get(name, 0.0)),
            }
            for name, rate in rates.items()
        ],
    }


def _training(recipe_toml: str) -> dict[str, Any]:
    try:
        training: dict[str, Any] = tomllib.loads(recipe_toml).get("training") or {}
    except tomllib.TOMLDecodeError:  # of an old run, or a page without its recipe
        return {}
    return {"rates": (training.get("optimizer") or {}).get("rates"), "release": training.get("release")}


def _release(at: Any) -> str:
    if not words.is_number(at) or at == 0:
        return "from the start"
    return "never" if at >= 1 else f"after {words.percent(at)} of training"
