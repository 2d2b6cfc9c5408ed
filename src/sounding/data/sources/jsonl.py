"""JSON Lines files: one object in each line. Numbers stay numbers, and keys need not be the same everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sounding.data.sources._files import content, read_bytes, suffix, utf8
from sounding.data.sources._records import from_records
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.recipe import DataRecipe

UNDERSTANDS = "a JSON Lines file (.jsonl .ndjson .json, also .gz)"

SUFFIXES = {".jsonl", ".ndjson", ".json"}


def claims(source: object) -> bool:
    """Whether it is a file with an ending that JSON Lines files have."""
    return isinstance(source, Path) and suffix(source) in SUFFIXES and not source.is_dir()


def read(source: object, settings: DataRecipe) -> Table:
    """The table; a key that is absent from a line is a missing value there."""
    assert isinstance(source, Path)
    data = read_bytes(source)
    found = content(data)
    if found not in ("", "JSON"):
        what = f"the content is {found}, not JSON Lines"
        raise DataError(what, "give the file the ending of its content", file=source)
    data, encoding = utf8(data, settings.encoding, source)
    if data.lstrip().startswith(b"["):
        raise DataError("this is one JSON array, not JSON Lines", "write one object per line", file=source)
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    blank: list[int] = []
    offset = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            records.append(_record(line, source, number, offset, settings))
            lines.append(number)
        elif offset + len(line) < len(data):
            blank.append(number)
        offset += len(line) + 1
    if not records:
        raise DataError("the file is empty", "give a file with rows", file=source)
    straight = not blank
    origin = Origin(str(source), len(records), 1 if straight else None, None if straight else np.asarray(lines))
    table = from_records(records, settings, name=source.name, origin=origin)
    findings = list(table.findings)
    if blank:
        findings.append(
            Finding(
                rule="blank-lines",
                severity="info",
                title=f"{len(blank):,} blank line{'s' * (len(blank) > 1)} skipped",
                evidence={"file": str(source), "count": len(blank), "lines": blank[:10]},
            )
        )
    notes = (f"JSON Lines, encoding {encoding}",)
    return replace(table, root=source.parent, notes=notes, findings=tuple(findings))


class _RepeatedKeyError(ValueError):
    """An object names a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _record(line: bytes, file: Path, number: int, offset: int, settings: DataRecipe) -> dict[str, Any]:
    if len(line) > settings.max_cell_megabytes * 2**20 * max(1, line.count(b'":')):
        what = f"a cell is larger than the limit of {settings.max_cell_megabytes:g} MB"
        raise DataError(what, "raise --set data.max_cell_megabytes", file=file, line=number)
    try:
        record = _DECODER.decode(line.decode())
    except json.JSONDecodeError as error:
        at = offset + len(error.doc[: error.pos].encode())
        what = f"this is not JSON: {error.msg} at byte offset {at}"
        raise DataError(what, "mend or delete the line", file=file, line=number) from None
    except _RepeatedKeyError as error:
        raise DataError(f'the key "{error}" occurs twice', "name each key once", file=file, line=number) from None
    except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
        raise DataError(f"this line cannot be read: {error}", "mend or delete it", file=file, line=number) from None
    if not isinstance(record, dict):
        what = f"a line holds {type(record).__name__}, not an object with names"
        raise DataError(what, 'write lines like {"age": 31, "city": "Lima"}', file=file, line=number)
    return record
