"""The `.ts` files of the UEA and UCR archives of time series: a header, then a case in each line.

Source: Bagnall et al. 2018, arXiv:1811.00075, section 4, and the files themselves: dimensions are parted by colons,
points by commas, the class stands behind the last colon, and a point without a value is a question mark.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from sounding.data.sources._files import expect, read_bytes, suffix, utf8
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

UNDERSTANDS = "a .ts file of time series as the UEA and UCR archives have them (also .gz)"

SERIES, CLASS, VALUE = "series", "class", "value"
"""The columns: the series, and its class or, for regression, its value."""


def claims(source: object) -> bool:
    """Whether it is a file with the ending .ts."""
    return isinstance(source, Path) and suffix(source) == ".ts" and not source.is_dir()


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `series` (lists of numbers, or of such lists) and, if it has one, `class` or `value`."""
    assert isinstance(source, Path)
    data = read_bytes(source)
    expect(data, "", source)
    text, encoding = utf8(data, settings.encoding, source)
    header, cases = _Header(source), []
    lines = []
    for number, line in enumerate(text.decode().splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if header.ended:
            cases.append(_case(line, header, number))
            lines.append(number)
        else:
            header.read(line, number)
    if not cases:
        what = "there is no line after @data" if header.ended else "there is no line @data, where the cases begin"
        raise DataError(what, "give a whole .ts file", file=source)
    columns = {SERIES: _lists([case for case, _ in cases])}
    if header.target:
        labels = [label for _, label in cases]
        columns[header.target] = pa.array(labels)
    return Table(
        pa.table(columns),
        source.name,
        (Origin(str(source), len(cases), lines=np.asarray(lines)),),
        target=(header.target,) if header.target else (),
        notes=(f"a .ts file, encoding {encoding}",),
    )


@dataclass
class _Header:
    """What the lines before the cases say."""

    file: Path
    target: str = ""
    labels: list[str] = field(default_factory=list)
    dimensions: int = 0
    """0 where the header does not say."""
    ended: bool = False

    def read(self, line: str, number: int) -> None:
        """One line: `@name value ...`; names that change nothing here are passed over."""
        name, *values = line.split()
        name = name.lower()
        if not name.startswith("@"):
            raise self.error("this stands before @data and does not begin with @", "put it behind @data", number)
        told = values[0].lower() if values else ""
        if name == "@data":
            self.ended = True
        elif name == "@timestamps" and told == "true":
            raise self.error("points with time stamps are not understood", "write the values alone", number)
        elif name == "@dimensions":
            if not told.isdigit():
                raise self.error("the number of dimensions is no number", "write @dimensions 3", number)
            self.dimensions = int(told)
        elif name == "@classlabel" and told == "true":
            self.target, self.labels = CLASS, values[1:]
        elif name == "@targetlabel" and told == "true":
            self.target = VALUE

    def error(self, what: str, remedy: str, line: int) -> DataError:
        """An error that names file and line."""
        return DataError(what, remedy, file=self.file, line=line)


def _case(line: str, header: _Header, number: int) -> tuple[list[np.ndarray], str]:
    """The dimensions of a case, and its label."""
    *parts, label = line.split(":") if header.target else [*line.split(":"), ""]
    label = label.strip()
    if not parts:
        raise header.error("there is no colon, behind which the class stands", "write POINTS:CLASS", number)
    if header.labels and label not in header.labels:
        known = ", ".join(header.labels[:20])
        raise header.error(f'"{label}" is no class that the header names', f"it names {known}", number)
    if header.dimensions and len(parts) != header.dimensions:
        what = f"{len(parts)} dimensions, where the header says {header.dimensions}"
        raise header.error(what, "mend the line or the header", number)
    return [_points(part, header, number, at) for at, part in enumerate(parts, start=1)], label


def _points(part: str, header: _Header, number: int, dimension: int) -> np.ndarray:
    """(L,) float64; NaN where there is no value."""
    words = part.replace("?", "nan").split(",")
    try:
        return np.array(words, dtype=np.float64)
    except ValueError:
        place, word = next((at, word) for at, word in enumerate(words, start=1) if not _is_number(word))
        what = f'"{word.strip()}" is no number (dimension {dimension}, point {place})'
        raise header.error(what, "write a number, or ? where there is no value", number) from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lists(cases: list[list[np.ndarray]]) -> pa.Array:
    """A list of numbers for each case; lists of lists where any has several dimensions."""
    series = [points for case in cases for points in case]
    values = pa.array(np.concatenate(series))
    inner = pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *map(len, series)])), values)
    if all(len(case) == 1 for case in cases):
        return inner
    return pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *map(len, cases)])), inner)
