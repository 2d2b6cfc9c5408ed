"""CSV and TSV files. Every cell stays the text that it is: the kinds decide what a column means.

PyArrow reads; where it stumbles, or where rows and lines do not go together, the standard library's reader goes over
the same bytes once more, slowly, and says exactly where.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sounding.data.sources._columns import check_names
from sounding.data.sources._files import expect, line_ends, line_of, read_bytes, suffix, utf8
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding, Remedy
from sounding.recipe import DataRecipe

UNDERSTANDS = "a CSV or TSV file (.csv .tsv .txt .data, also .gz)"

SUFFIXES = {".csv", ".tsv", ".tab", ".psv", ".txt", ".data", ".dat"}

_SEPARATORS = {"\t": "tab", ";": '";"', "|": '"|"', ",": '","'}
"""In order of preference where two fit equally well: a comma is often part of a number."""

_SAMPLE_BYTES, _SAMPLE_ROWS = 1 << 18, 1000
_BLOCK = 1 << 22
_EXACT_CELLS = 1 << 20

_NUMBER_LIKE = re.compile(r"[^A-Za-z]*\d[^A-Za-z]*|[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""Numbers, and what is written like them: dates, amounts with a currency, percentages."""

_UNNAMED = re.compile(r"(Unnamed: \d+)?")
_FOOTER = {
    "total",
    "totals",
    "grand total",
    "subtotal",
    "sum",
    "average",
    "mean",
    "count",
    "eof",
    "end of file",
}


@dataclass(frozen=True)
class _Text:
    """A CSV text in UTF-8, and how it is written."""

    data: bytes
    file: str
    settings: DataRecipe
    separator: str = ","
    quoting: bool = True
    line: int = 1
    """The line of the file with which the text begins."""
    names: tuple[str, ...] = ()
    """Of the columns, once they are known."""
    headed: bool = True
    """Whether the file holds the names."""

    @property
    def limit(self) -> int:
        """Bytes that a cell may have."""
        return int(self.settings.max_cell_megabytes * 2**20)

    def column(self, position: int) -> str:
        """What messages call a column, counted from 0."""
        return self.names[position] if position < len(self.names) else f"column {position + 1}"


@dataclass
class _Rows:
    """Rows as text cells, the line of each, and what was odd about them."""

    data: pa.Table
    lines: np.ndarray | None = None
    blank: list[int] = field(default_factory=list)
    short: list[int] = field(default_factory=list)


def claims(source: object) -> bool:
    """Whether it is a file with an ending that CSV files have."""
    return isinstance(source, Path) and suffix(source) in SUFFIXES and not source.is_dir()


def read(source: object, settings: DataRecipe) -> Table:
    """The table; paths to pictures in it are relative to the folder of the file."""
    assert isinstance(source, Path)
    table = parse(read_bytes(source), settings, file=str(source))
    return replace(table, name=source.name, root=source.parent)


def parse(data: bytes, settings: DataRecipe, *, file: str) -> Table:
    r"""A table from the bytes of a CSV file; `file` is what messages call it.

    Raises:
        DataError: naming file, line and column.

    >>> table = parse(b"age;city\n31;Lima\n52;Oslo\n", DataRecipe(), file="people.csv")
    >>> table.data.to_pydict(), table.notes
    ({'age': ['31', '52'], 'city': ['Lima', 'Oslo']}, ('separator ";", encoding UTF-8',))
    """
    expect(data, "CSV", file)
    data, encoding = utf8(data, settings.encoding, file)
    text = _Text(data, file, settings)
    if not data.strip():
        raise DataError("the file is empty", "give a file with rows", file=file)
    with _cell_limit(text.limit):
        return _parse(_recognised(text), encoding)


def _parse(text: _Text, encoding: str) -> Table:
    sample = _sample(text)
    if not sample:
        raise DataError("the file has no cell with a value", "give a file with rows", file=text.file)
    line, first = sample[0]
    if len(first) > text.settings.max_columns:
        check_names([str(position) for position in range(len(first))], text.settings, text.file, line)
    if headed := _has_header(sample, text.settings):
        names = [name.strip() for name in first]
        _check_header(names, text, line)
        body = _below(text, line)
    else:
        width = Counter(len(cells) for _, cells in sample).most_common(1)[0][0]
        names = [f"column_{position}" for position in range(1, width + 1)]
        body = text
    body = replace(body, names=tuple(_unique(names)), headed=headed)
    _refuse_nul(replace(text, names=body.names))
    body = _with_quoting(body)
    rows = _read(body)
    if not rows.data.num_rows:
        raise DataError("the file has a header but 0 data rows", "give a file with rows", file=text.file)
    origin = Origin(text.file, rows.data.num_rows, body.line if rows.lines is None else None, rows.lines)
    table = Table(rows.data, text.file, (origin,))
    _refuse_large_cells(table, text)
    findings = _findings(table, rows, body, line)
    table, unnamed = _without_unnamed(table, names, text.settings)
    notes = [f"separator {_SEPARATORS.get(text.separator, repr(text.separator))}, encoding {encoding}"]
    if not headed:
        notes.append("no header: the first line is data")
    return replace(table, notes=tuple(notes), findings=(*findings, *unnamed))


# Recognising how the file is written


def _recognised(text: _Text) -> _Text:
    given = {"tab": "\t", "\\t": "\t", "space": " "}.get(text.settings.separator, text.settings.separator)
    if given:
        if len(given) != 1 or given in '"\r\n':
            raise DataError(f'"{given}" cannot separate cells', "give one character, or tab", file=text.file)
        return replace(text, separator=given)
    return max((replace(text, separator=one) for one in _SEPARATORS), key=_regularity)


def _regularity(text: _Text) -> float:
    """The share of rows that agree on a number of cells above one; below 0 if most rows are one cell."""
    widths = [len(cells) for _, cells in _sample(text)] or [1]
    ((width, agreeing),) = Counter(widths).most_common(1)
    if width > 1:
        return agreeing / len(widths)
    if widths[0] > 1:  # a header over rows that are all too short
        return widths.count(widths[0]) / len(widths) / 2
    return agreeing / len(widths) - 1


def _sample(text: _Text) -> list[tuple[int, list[str]]]:
    """The first rows with their lines, without blank ones."""
    end = len(text.data)
    if end > _SAMPLE_BYTES:  # at the end of a line, and never before the first one ends
        end = max(text.data.rfind(b"\n", 0, _SAMPLE_BYTES), text.data.find(b"\n")) + 1 or end
    rows = []
    for line, cells in _Records(replace(text, data=text.data[:end])):
        if any(cell.strip() for cell in cells) or len(cells) > 1:
            rows.append((line, cells))
        if len(rows) == _SAMPLE_ROWS:
            break
    return rows[:-1] if 1 < len(rows) < _SAMPLE_ROWS and end < len(text.data) else rows


def _below(text: _Text, line: int) -> _Text:
    """The text below the record that begins in a line."""
    records = _Records(text)
    next(number for number, _ in records if number == line)
    above = io.TextIOWrapper(io.BytesIO(text.data), encoding="utf-8", newline="").read(records.end).encode()
    if len(above) == len(text.data) and (unclosed := records.unclosed_quote(line, records.start)):
        raise unclosed
    return replace(text, data=text.data[len(above) :], line=text.line + line_ends(above))


def _has_header(sample: Sequence[tuple[int, list[str]]], settings: DataRecipe) -> bool:
    """Whether the first row holds names: words over numbers do; numbers over numbers, or values that return, do not."""
    if settings.header != "auto":
        return settings.header == "yes"
    first, *below = (cells for _, cells in sample)
    missing = set(settings.missing)
    like = [bool(_NUMBER_LIKE.fullmatch(cell.strip())) for cell in first]
    if not below:
        return not any(like)
    counting = repeated = 0
    for position, cell in enumerate(first):
        cells = [row[position].strip() for row in below if position < len(row)]
        values = [value for value in cells if value not in missing]
        numbers = sum(bool(_NUMBER_LIKE.fullmatch(value)) for value in values)
        if values and numbers >= 0.8 * len(values):
            if not like[position] and cell.strip() not in missing:
                return True
            counting += like[position]
        elif cell.strip() in values:
            repeated += 1
    if counting:
        return _is_sequence([cell for cell, number in zip(first, like, strict=True) if number])
    return repeated < max(1, len(first) / 2)


def _is_sequence(cells: Sequence[str]) -> bool:
    """Whether numbers are names: consecutive years, or five and more that count on from 0 or 1."""
    if len(cells) < 2 or not all(re.fullmatch(r"\s*\d{1,6}\s*", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    consecutive = all(later - earlier == 1 for earlier, later in pairwise(numbers))
    years = all(1800 <= number <= 2200 for number in numbers)
    return consecutive and (years or (len(numbers) >= 5 and numbers[0] in (0, 1)))


def _with_quoting(body: _Text) -> _Text:
    """Tab-separated files often hold quotes that are mere characters: so they are read where quoting loses rows."""
    if body.separator != "\t" or b'"' not in body.data:
        return body
    plain, quoted = _fast(replace(body, quoting=False)), _fast(body)
    if plain is not None and (quoted is None or plain.num_rows > quoted.num_rows):
        return replace(body, quoting=False)
    return body


# Names


def _check_header(names: list[str], text: _Text, line: int) -> None:
    named = [name or f"\0{position}" for position, name in enumerate(names)]
    check_names(named, text.settings, text.file, line)


def _unique(names: Sequence[str]) -> list[str]:
    """Names for the columns that have none: `column_3`, or the next that is free."""
    taken, unique = set(names), []
    for position, name in enumerate(names, start=1):
        candidate = name or f"column_{position}"
        while not name and candidate in taken:
            candidate += "_"
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _without_unnamed(table: Table, names: Sequence[str], settings: DataRecipe) -> tuple[Table, list[Finding]]:
    """Leave out columns without a name: most are the row numbers of the program that wrote the file."""
    wanted = {*settings.keep, *settings.kinds, settings.weight, settings.group, settings.time}
    pairs = zip(table.columns, names, strict=True)
    unnamed = [column for column, name in pairs if _UNNAMED.fullmatch(name) and column not in wanted]
    if len(unnamed) == len(names):
        return table, []
    findings = []
    for column in unnamed:
        cells = table.data.column(column)
        counts = _counts_rows(cells)
        findings.append(
            Finding(
                rule="unnamed-column",
                severity="warning",
                title=f"column {table.columns.index(column) + 1} has no name"
                f"{' and counts the rows' if counts else ''}: left out",
                evidence={"column": column, "first": cells.slice(0, 3).to_pylist(), "counts_rows": counts},
                meaning="It is most likely the index of the program that wrote the file: nothing about new rows.",
                remedy=Remedy("give it a name in the header to use it", {"data.keep": [column]}),
            )
        )
    return replace(table, data=table.data.drop_columns(unnamed)), findings


def _counts_rows(cells: pa.ChunkedArray) -> bool:
    first = cells[0].as_py()
    if first not in ("0", "1"):
        return False
    expected = pa.array(np.arange(len(cells)) + int(first)).cast(pa.string())
    return bool(cells.equals(pa.chunked_array([expected])))


# Reading


class _Records:
    """Line and cells of each record; `start` and `end` are the characters where the last one does."""

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.start = self.end = 0

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        text = self.text
        reader = csv.reader(
            self._lines(),
            delimiter=text.separator,
            quoting=csv.QUOTE_MINIMAL if text.quoting else csv.QUOTE_NONE,
        )
        while True:
            line, self.start = text.line + reader.line_num, self.end
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # a cell beyond the limit: the only complaint left once quoting is not strict
                raise self._too_large(line) from None
            yield line, cells

    def _lines(self) -> Iterator[str]:
        for line in io.TextIOWrapper(io.BytesIO(self.text.data), encoding="utf-8", newline=""):
            self.end += len(line)
            yield line

    def _too_large(self, line: int) -> DataError:
        unclosed = self.unclosed_quote(line, self.start)
        if unclosed:
            return unclosed
        record = self.text.data.decode()[self.start :]
        cells = _cells(record, self.text)
        sizes = (end - start for start, end, _ in cells)
        position = next(number for number, size in enumerate(sizes) if size > self.text.limit)
        return _large_cell(self.text, line, self.text.column(position))

    def unclosed_quote(self, line: int, start: int) -> DataError | None:
        """The error for a quote in the record at `start` that the file never closes."""
        if not self.text.quoting:
            return None
        record = self.text.data.decode()[start:]
        for number, (begin, end, closed) in enumerate(_cells(record, self.text), 1):
            if not closed:
                opened = line + line_ends(record[:begin].encode())
                what = f"the quote that opens in cell {number} of this line is never closed"
                return DataError(
                    what, 'close it, or double it if it is a character: ""', file=self.text.file, line=opened
                )
            if end == len(record):
                break
        return None


def _cells(record: str, text: _Text) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each cell of a record, and whether its quote is closed."""
    other = f"[^{re.escape(text.separator)}\r\n]*"
    quoted = r'"[^"]*(?:""[^"]*)*(?P<closed>"?)' if text.quoting else r"(?!)(?P<closed>)"
    cell = re.compile(f"{quoted}{other}|(?P<plain>{other})")
    position = 0
    while match := cell.match(record, position):
        yield match.start(), match.end(), match["plain"] is not None or match["closed"] == '"'
        position = match.end()
        if record[position : position + 1] != text.separator:
            return
        position += 1


def _read(body: _Text) -> _Rows:
    filled = body.data.rstrip(b"\r\n")
    data = _fast(body)
    if data is None or not data.num_rows or _may_be_unclosed(body, data):
        return _exact(body)
    ends = line_ends(filled) + 1
    after = max(0, line_ends(body.data[len(filled) :]) - 1)
    blank = list(range(body.line + ends, body.line + ends + after))
    if data.num_rows == ends:
        return _Rows(data, blank=blank)
    inside = _line_ends_in_cells(data)
    if data.num_rows + inside.sum() == ends:
        lines = body.line + np.arange(data.num_rows) + np.cumsum(inside) - inside
        return _Rows(data, lines, blank=blank)
    return _exact(body)


def _may_be_unclosed(body: _Text, data: pa.Table) -> bool:
    """Whether the last cell may have swallowed rows: PyArrow takes the end of the file for the closing quote."""
    last = data.column(data.num_columns - 1)[-1].as_py()
    return body.quoting and (body.data.count(b'"') % 2 == 1 or "\n" in last or "\r" in last)


def _line_ends_in_cells(data: pa.Table) -> np.ndarray:
    """(N,) int64: how many lines end inside the quoted cells of each row."""
    inside = np.zeros(data.num_rows, dtype=np.int64)
    for column in data.columns:
        inside += pc.count_substring_regex(column, "\r\n|\r|\n").to_numpy()
    return inside


def _fast(body: _Text) -> pa.Table | None:
    """All rows, or none if any is not as wide as it should be or does not fit a block."""
    try:
        return pa_csv.read_csv(
            pa.BufferReader(body.data),
            read_options=pa_csv.ReadOptions(column_names=list(body.names), block_size=_BLOCK),
            parse_options=pa_csv.ParseOptions(
                delimiter=body.separator,
                quote_char='"' if body.quoting else False,
                newlines_in_values=body.quoting and b'"' in body.data,
            ),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False,  # done before
                column_types=dict.fromkeys(body.names, pa.string()),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _exact(body: _Text) -> _Rows:
    """All rows with the line of each.

    Raises:
        DataError: for rows that are too long or too short, a quote that is never closed, and cells beyond the limit.
    """
    width = len(body.names)
    records = _Records(body)
    rows: list[list[str | None]] = []
    chunks: list[pa.Table] = []
    lines: list[int] = []
    blank: list[int] = []
    short: list[int] = []
    long: list[tuple[int, int]] = []
    start, line = 0, body.line
    for line, cells in records:
        start = records.start
        if not cells or (width > 1 and len(cells) == 1 and not cells[0].strip()):
            blank.append(line)
            continue
        if len(cells) > width:
            long.append((line, len(cells)))
            continue
        if len(cells) < width:
            short.append(line)
        rows.append([*cells, *([None] * (width - len(cells)))])
        lines.append(line)
        if len(rows) * width >= _EXACT_CELLS:
            chunks.append(_columns(rows, body.names))
            rows = []
    if unclosed := records.unclosed_quote(line, start):
        raise unclosed
    _refuse_ragged(body, len(lines), short, long)
    data = pa.concat_tables([*chunks, _columns(rows, body.names)])
    return _Rows(data, np.asarray(lines, dtype=np.int64), blank, short)


def _columns(rows: Sequence[Sequence[str | None]], names: Sequence[str]) -> pa.Table:
    cells = zip(*rows, strict=True) if rows else [[]] * len(names)
    return pa.table([pa.array(column, pa.string()) for column in cells], names=list(names))


# Refusing


def _refuse_ragged(body: _Text, rows: int, short: Sequence[int], long: Sequence[tuple[int, int]]) -> None:
    width = len(body.names)
    problems = Problems()
    expected = f"the header has {width} names" if body.headed else f"most have {width}"
    if long:
        line, cells = long[0]
        like_it = f" ({len(long):,} rows have too many)" if len(long) > 1 else ""
        if len(long) > 1 and not rows and len({count for _, count in long}) == 1:
            like_it, remedy = " (so has every row)", f"name all {cells} columns in the header"
        else:
            remedy = "put cells that hold the separator in quotes"
        problems.add(DataError(f"{cells} cells, but {expected}{like_it}", remedy, file=body.file, line=line))
    if short and body.settings.short_rows == "error":
        what = (
            f"fewer cells than {width}, where {expected} ({len(short):,} row{'s' * (len(short) > 1)} like it)"
        )
        remedy = "complete it, or say --set data.short_rows=fill"
        problems.add(DataError(what, remedy, file=body.file, line=short[0]))
    problems.raise_if_any()


def _refuse_nul(text: _Text) -> None:
    offset = text.data.find(b"\0")
    if offset < 0:
        return
    head = text.data[: 1 << 16]
    if head.count(b"\0") > len(head) / 4:
        what, remedy = (
            "every second byte is NUL: this is UTF-16 without its mark",
            "say --encoding utf-16-le (or -be)",
        )
        raise DataError(what, remedy, file=text.file)
    line = line_of(text.data, offset)
    position = sum(1 for _ in _cells(text.data[:offset].decode().splitlines()[-1], text)) - 1
    raise DataError(
        "a NUL byte: the file is damaged or no text",
        "write it again",
        file=text.file,
        line=line,
        column=text.column(position),
    )


def _refuse_large_cells(table: Table, text: _Text) -> None:
    for name, column in zip(table.columns, table.data.columns, strict=True):
        sizes = pc.binary_length(column)
        if len(sizes) and (pc.max(sizes).as_py() or 0) > text.limit:
            row = pc.index(pc.greater(sizes, text.limit), True).as_py()
            raise _large_cell(text, table.where(row)[1], name)


def _large_cell(text: _Text, line: int | None, column: str) -> DataError:
    what = f"a cell is larger than the limit of {text.settings.max_cell_megabytes:g} MB"
    remedy = "look for a missing quote, or raise --set data.max_cell_megabytes"
    return DataError(what, remedy, file=text.file, line=line, column=column)


@contextmanager
def _cell_limit(size: int) -> Iterator[None]:
    """The standard library keeps its limit for the whole process: give it back as it was."""
    before = csv.field_size_limit(size)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# Saying what was odd


def _findings(table: Table, rows: _Rows, body: _Text, line: int) -> list[Finding]:
    findings = []
    if not body.headed and body.settings.header == "auto":
        findings.append(
            Finding(
                rule="no-header",
                severity="info",
                title=f"line {line} is data, not names: the columns are called column_1 to column_{len(table.columns)}",
                evidence={"file": body.file, "line": line},
                remedy=Remedy("if line 1 holds the names, say so", {"data.header": "yes"}),
            )
        )
    if rows.blank:
        findings.append(
            Finding(
                rule="blank-lines",
                severity="info",
                title=f"{len(rows.blank):,} blank line{'s' * (len(rows.blank) > 1)} skipped",
                evidence={"file": body.file, "count": len(rows.blank), "lines": rows.blank[:10]},
            )
        )
    if rows.short:
        findings.append(
            Finding(
                rule="short-rows",
                severity="warning",
                title=f"{len(rows.short):,} row{'s' * (len(rows.short) > 1)} with too few cells: the rest is missing",
                evidence={"file": body.file, "count": len(rows.short), "lines": rows.short[:10]},
            )
        )
    if not body.quoting:
        findings.append(
            Finding(
                rule="quotes-are-characters",
                severity="info",
                title="quotes are read as characters: taken as quotes they would swallow rows",
                evidence={"file": body.file},
            )
        )
    if footer := _footer(table, body.settings):
        findings.append(footer)
    return findings


def _footer(table: Table, settings: DataRecipe) -> Finding | None:
    """The last row, if it sums up the others: it says "total", or has words where all else are numbers."""
    last = len(table) - 1
    if last < 2:
        return None
    missing = set(settings.missing)
    reasons = []
    for name, column in zip(table.columns, table.data.columns, strict=True):
        cell = (column[last].as_py() or "").strip()
        if cell in missing or _NUMBER_LIKE.fullmatch(cell):
            continue
        if all(_only_numbers(column.slice(0, size), missing) for size in (min(100, last), last)):
            reasons.append(f'"{cell}" in the column of numbers "{name}"')
        elif cell.strip(" :*").casefold() in _FOOTER and cell not in column.slice(0, last).to_pylist():
            reasons.append(f'"{cell}" in the column "{name}"')
    if not reasons:
        return None
    file, line = table.where(last)
    return Finding(
        rule="footer-row",
        severity="warning",
        title=f"the last row (line {line}) looks like a footer: {reasons[0]}",
        evidence={"file": file, "line": line, "row": last, "reasons": reasons[:10]},
        meaning="A sum or a closing line is no example; it also turns columns of numbers into words.",
        remedy=Remedy("delete the line if it is no example"),
    )


def _only_numbers(column: pa.ChunkedArray, missing: set[str]) -> bool:
    values = {(cell or "").strip() for cell in column.to_pylist()} - missing
    return bool(values) and all(_NUMBER_LIKE.fullmatch(value) for value in values)
