"""What the page of a run draws, gathered as plain JSON values; the page itself computes nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from torch import nn

from sounding import __version__
from sounding.data.schema import Field, Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.data.windows import FIRST_POINT
from sounding.kinds import Audio, Characters, Column, Image, Mask, Number, Passage, Series, Subwords, Text
from sounding.kinds.series import points
from sounding.report.sounds import clip
from sounding.report.varied import varied_examples
from sounding.tasks import Predictions, Thumbnail
from sounding.tasks.drawing import small
from sounding.tasks.prepared import Prepared
from sounding.training import History

MOST_EXAMPLES = 12
"""Most wrong examples that are shown."""
MOST_CELLS = 8
"""Columns of such an example that are shown."""
MOST_COLUMNS = 60
"""Columns with a drawing of their own; the page counts the others."""
MOST_LINES, MOST_POINTS = 3, 200
"""Series, or channels of one, that are drawn together, and points of each."""
LARGEST_SHOWN = 256
"""Pixels of a side of a picture; larger ones are made smaller."""
LONGEST_TEXT = 300
"""Characters of a text that are shown."""


def gather(
    prepared: Prepared,
    network: nn.Module,
    history: History,
    predictions: Mapping[str, Predictions],
    baselines: Sequence[Any],
    verdict: Any,
    *,
    run: Path,
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """All results of a run.

    predictions: for the validation and the test rows.
    baselines:   results of the simple models: name, metrics by part, seconds, difference and interval.
    """
    task, recipe, split = prepared.task, prepared.recipe, prepared.split
    truth = {part: prepared.target[split.parts[part]] for part in predictions}
    test, samples = predictions["test"], recipe.evaluation.bootstrap
    rows = prepared.table.filter(np.isin(np.arange(len(prepared.table)), split.test))
    labels = {} if task.from_source.ordered else prepared.schema.encode_targets(rows)
    results = {
        "run": str(run),
        "task": recipe.task,
        "network": recipe.network.name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": len(history),
        "metrics": {part: task.metrics(predictions[part], truth[part]) for part in predictions},
        "intervals": {"test": task.intervals(test, truth["test"], samples=samples, seed=recipe.seed)},
        "baseline": {result.name: {**result.metrics, "seconds": result.seconds} for result in baselines},
        "comparison": [
            {key: getattr(result, key) for key in ("name", "metric", "difference", "interval", "note")}
            for result in baselines
        ],
        "verdict": verdict,
        "headline": {"metric": task.headline, "higher_is_better": task.higher_is_better},
        "findings": [finding.to_json() for finding in [*prepared.findings, *history.findings]],
        "decisions": prepared.decisions,
        "transfer": dict(prepared.carried),
        "data": data_overview(prepared.table, prepared.schema, split),
        "varied": varied_examples(prepared),
        "history": [
            {
                "epoch": record.epoch + 1,
                "train_loss": record.train_loss,
                "validation": record.validation,
                "learning_rate": record.learning_rate,
                "seconds": record.seconds,
            }
            for record in history
        ],
        # without a patience the weights of the end are kept, whichever epoch was the best
        "best_epoch": history.best + 1 if history.best is not None and recipe.training.patience else None,
        "ending": history.ending,
        "figures": _placed(prepared, task.draw(network, prepared.inputs_of(split.test), test, truth["test"], labels)),
        "examples": wrong_examples(prepared, test),
        "network_summary": network_summary(network),
        "environment": environment,
        "sounding": __version__,
        "seed": recipe.seed,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    values: dict[str, Any] = plain(results)
    return values


def _placed(prepared: Prepared, drawn: dict[str, Any]) -> dict[str, Any]:
    """The same, and for each strange row where it came from and what is in the columns that are named."""
    table, schema = prepared.table, prepared.schema
    for one in drawn.get("anomalies", {}).get("strangest", []):
        row = int(prepared.split.test[one["row"]])
        file, line = table.where(row)
        cells = {name: _cell(schema[name], table, row) for name, _ in one.get("columns", [])}
        one |= {"place": row, "file": file, "line": line, "cells": cells}
        if window := prepared.recipe.data.window:
            first = table.data[FIRST_POINT][row].as_py()
            one["points"] = [first, first + window - 1]
    return drawn


def data_overview(table: Table, schema: Schema, split: Split) -> dict[str, Any]:
    """What went in: rows of each part, and each column with its kind, its reason and a small drawing."""
    columns = [
        {
            "name": field.name,
            "kind": field.kind,
            "role": field.role,
            "reason": field.reason,
            "describe": field.fitted.describe() if field.fitted else "",
            **(_drawing(field, table, split.train) if index < MOST_COLUMNS else {}),
        }
        for index, field in enumerate(sorted(schema.fields, key=lambda field: field.role != "target"))
    ]
    rows = {part: len(rows) for part, rows in split.parts.items()}
    return {"source": table.name, "rows": rows, "notes": list(table.notes), "columns": columns}


def _drawing(field: Field, table: Table, rows: np.ndarray) -> dict[str, Any]:
    """A histogram, the most frequent values, or some samples of the training rows."""
    column = field.column(table).take(rows)
    if isinstance(field.fitted, Image):
        few = column.take(np.arange(min(6, len(rows))))
        return {"pictures": [data_uri(small(picture, LARGEST_SHOWN)) for picture in field.fitted.encode(few)[0]]}
    if isinstance(field.fitted, Mask):
        return {
            "pictures": [
                data_uri(small(np.moveaxis(field.fitted.show(column, row), 2, 0), LARGEST_SHOWN))
                for row in range(min(6, len(rows)))
            ]
        }
    if isinstance(field.fitted, Series):
        some = column.take(np.arange(min(MOST_LINES, len(rows))))
        return {"lines": [_lines(some.take(np.array([row])))[0] for row in range(len(some))]}
    if isinstance(field.fitted, Audio):
        return {
            "clips": [clip(field.fitted.samples(column, row), field.fitted.rate) for row in range(min(3, len(rows)))]
        }
    if not column.is_word:
        return {}
    missing = int((~column.present).sum())
    if isinstance(field.fitted, Passage):
        return {"samples": [shown(field.fitted.show(column, row)) for row in range(min(3, len(column)))]}
    if isinstance(field.fitted, Text | Subwords | Characters):
        return {"missing": missing, "samples": [shown(value) for value in column.cells[:3].to_pylist()]}
    if isinstance(field.fitted, Number):
        values = column.numbers
        values = values[np.isfinite(values)]
        if not len(values):
            return {"missing": missing}
        low, high = np.quantile(values, [0.005, 0.995])  # a single outlier would squeeze the rest into one bar
        counts, edges = np.histogram(values, bins=24, range=(low, high) if low < high else None)
        return {"missing": missing, "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}
    top = list(column.distinct.items())[:6]
    return {"missing": missing, "top": [[shown(value), count] for value, count in top]}


def wrong_examples(prepared: Prepared, predictions: Predictions) -> list[dict[str, Any]]:
    """The test rows that the network got most wrong, as people would want to see them."""
    task, table, schema, rows = prepared.task, prepared.table, prepared.schema, prepared.split.test
    worst, losses = task.worst(predictions, prepared.target[rows], MOST_EXAMPLES)
    examples = []
    for answer, loss, row in zip(
        task.examples(predictions, prepared.target[rows], worst), losses, rows[worst], strict=True
    ):
        file, line = table.where(int(row))
        cells = {field.name: _cell(field, table, int(row)) for field in schema.inputs[:MOST_CELLS]}
        examples.append({"row": row, "file": file, "line": line, "loss": loss, **answer, "cells": cells})
    return examples


def _cell(field: Field, table: Table, row: int) -> Any:
    column = field.column(table).take(np.array([row]))
    if isinstance(field.fitted, Image):
        return {"picture": data_uri(small(field.fitted.encode(column)[0][0], LARGEST_SHOWN))}
    if isinstance(field.fitted, Series):
        return {"lines": _lines(column)}
    if isinstance(field.fitted, Audio):
        return clip(field.fitted.samples(column, 0), field.fitted.rate)
    if isinstance(field.fitted, Passage):
        return shown(field.fitted.show(column, 0))
    return shown(column.cells[0].as_py())


def _lines(column: Column) -> list[list[float | None]]:
    """The first channels of the first series, thinned evenly; nothing where there is no value."""
    values, lengths = points(column)
    kept = np.unique(np.linspace(0, lengths[0] - 1, min(int(lengths[0]), MOST_POINTS)).astype(np.int64))
    channels = values[0, :MOST_LINES][:, kept]
    return [[float(value) if np.isfinite(value) else None for value in channel] for channel in channels]


def shown(value: object) -> str:
    """A cell as text of a bearable length."""
    if value is None:
        return "no value"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"


def data_uri(picture: np.ndarray) -> str:
    """A (channels, height, width) uint8 picture as a PNG that needs no file."""
    if len(picture) not in (1, 3):  # of many channels the first ones are shown
        picture = picture[:3] if len(picture) > 3 else picture[:1]
    pixels = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
    sink = io.BytesIO()
    Picture.fromarray(pixels).save(sink, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def network_summary(network: nn.Module) -> list[dict[str, Any]]:
    """The modules that hold parameters themselves, in order."""
    rows = []
    for name, module in network.named_modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own:
            rows.append({"name": name or "network", "type": type(module).__name__, "parameters": own})
    return rows


def plain(value: Any) -> Any:
    """Plain JSON values: dataclasses, arrays and numbers of NumPy unpacked, pictures as they go into a page."""
    if isinstance(value, Thumbnail):
        return data_uri(value.pixels)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value
