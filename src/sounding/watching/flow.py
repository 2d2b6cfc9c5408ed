"""How gradients, updates and activations went, layer by layer over time: numbers for whoever draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sounding.watching.seen import Activation, Seen, Step

MOST_ROWS = 40
"""Layers that are told apart; of a deeper network neighbours share a row."""


def flow_of(seen: Seen) -> dict[str, Any]:
    """What the steps that were looked at say of each layer, as plain JSON values.

    Returns: `done`, the steps that were taken, and `steps`, the numbers (S,) of those that were looked at, from 1;
             `layers`, in their order: `name` of a module with parameters, (S,) `gradient` norms after the backward
             pass, and (S,) `update` norms relative to the weights';
             `activations`: the `layer` before, the `kind`, and the (S,) fractions of `zeros`, of `saturated` entries
             and of `dead` units, zero for every example of the step. Of several in one row it is the worst;
             `over_time`, for a recurrent network: (T,) gradient norms by step of a sequence, at `start` and `end`;
             `modules`, how many modules with parameters the rows of `layers` stand for.
             None stands where there was no such number, or none that is finite.
    """
    steps = seen.steps
    modules = list(dict.fromkeys(_module(name) for step in steps for name in step.gradients))
    rows = rows_of(modules, MOST_ROWS)
    return {
        "done": seen.done,
        "steps": [step.number + 1 for step in steps],
        "modules": len(modules),
        "layers": [
            {
                "name": row,
                "gradient": [_norm(step.gradients, row, rows) for step in steps],
                "update": [_ratio(_norm(step.updates, row, rows), _norm(step.weights, row, rows)) for step in steps],
            }
            for row in dict.fromkeys(rows.values())
        ],
        "activations": _activations(seen),
        "over_time": seen.over_time,
    }


def rows_of(modules: Sequence[str], most: int) -> dict[str, str]:
    """By module: the row that it belongs to, at most `most` of them.

    Modules share the name of one that holds them, no higher in the tree than it takes; where that would leave little to
    see, neighbours are put together.

    >>> rows_of(["embed", "blocks.0.query", "blocks.0.value", "blocks.1.query"], 3)
    {'embed': 'embed', 'blocks.0.query': 'blocks.0', 'blocks.0.value': 'blocks.0', 'blocks.1.query': 'blocks.1'}
    >>> rows_of(["0", "1", "2", "3", "4"], 3)
    {'0': '0 … 1', '1': '0 … 1', '2': '2 … 3', '3': '2 … 3', '4': '4'}
    """
    finer, depth = list(modules), max((name.count(".") + 1 for name in modules), default=1)
    while len(set(finer)) > most and depth > 1:
        depth -= 1
        coarser = [".".join(name.split(".")[:depth]) for name in modules]
        if len(set(coarser)) <= most // 4:
            break
        finer = coarser
    distinct = list(dict.fromkeys(finer))
    size = max(math.ceil(len(distinct) / most), 1)
    groups = [distinct[at : at + size] for at in range(0, len(distinct), size)]
    named = {name: _named(group) for group in groups for name in group}
    return {module: named[name] for module, name in zip(modules, finer, strict=True)}


def _named(group: Sequence[str]) -> str:
    """`blocks.0 … 1` for `blocks.0` and `blocks.1`."""
    first, last, parent = group[0], group[-1], group[0].rpartition(".")[0]
    return first if first == last else f"{first} … {last.removeprefix(f'{parent}.')}"


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0] or "network"


def _norm(norms: Mapping[str, float], row: str, rows: Mapping[str, str]) -> float | None:
    """Of all parameters of a row together; none where there is none of them."""
    own = [norm for name, norm in norms.items() if rows.get(_module(name)) == row]
    return _finite(math.hypot(*own)) if own else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return _finite(part / whole) if part is not None and whole else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _activations(seen: Seen) -> list[dict[str, Any]]:
    known = dict.fromkeys((one.layer, one.kind) for step in seen.steps for one in step.activations)
    rows = rows_of(list(dict.fromkeys(layer for layer, _ in known)), MOST_ROWS)
    return [
        {
            "layer": row.removeprefix(f"{seen.name}.") if seen.others else row,
            "kind": kind,
            "zeros": [_worst(one.zeros for one in _of(step, row, kind, rows)) for step in seen.steps],
            "saturated": [_worst(one.saturated for one in _of(step, row, kind, rows)) for step in seen.steps],
            "dead": [_worst(_dead(one) for one in _of(step, row, kind, rows)) for step in seen.steps],
        }
        for row, kind in dict.fromkeys((rows[layer], kind) for layer, kind in known)
    ]


def _of(step: Step, row: str, kind: str, rows: Mapping[str, str]) -> list[Activation]:
    return [one for one in step.activations if one.kind == kind and rows[one.layer] == row]


def _dead(one: Activation) -> float:
    return 1 - float(one.alive.float().mean())


def _worst(shares: Iterable[float]) -> float | None:
    finite = [share for share in shares if math.isfinite(share)]
    return max(finite) if finite else None
