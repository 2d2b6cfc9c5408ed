"""CSV and TSV files. Every cell stays the text that it is: the kinds decide what a column means.

PyArrow reads; where it stumbles, or where rows and lines do not go together, the standard library's reader goes over
the same bytes once more, slowly, and says exactly where.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sounding.data.sources._columns import check_names
from sounding.data.sources._csv_recognition import NUMBER_LIKE, SEPARATORS, has_header, sample, with_separator
from sounding.data.sources._csv_text import Records, Text
from sounding.data.sources._files import GZIP, expect, line_ends, line_of, read_bytes, suffix, unchanged, utf8
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding, Remedy
from sounding.recipe import DataRecipe

UNDERSTANDS = "a CSV or TSV file (.csv .tsv .txt .data, also .gz)"

SUFFIXES = {".csv", ".tsv", ".tab", ".psv", ".txt", ".data", ".dat"}

_BLOCK = 1 << 22
"""Bytes that PyArrow reads at a time; a row that is longer is left to the exact reader."""

_EXACT_CELLS = 1 << 20
"""Cells that the exact reader holds as Python strings before it packs them."""

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


@dataclass
class _Rows:
    """Rows as text cells, the line of each where they do not simply follow, and what was odd about them."""

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
    text = Text(data, file, settings)
    if not data.strip():
        raise DataError("the file is empty", "give a file with rows", file=file)
    with _cells_of_any_size():
        return _parse(with_separator(text), encoding)[0]


def chunks(source: object, settings: DataRecipe, rows: int, block: int = 0) -> Iterator[Table]:
    """The rows of `read`, a block of bytes at a time; what the first block looks like holds for the whole file.

    block: bytes; as many as so many rows usually take when left out.

    A last row that sums up the others is not looked for.
    """
    assert isinstance(source, Path)
    file, head = str(source), b""
    body: Text | None = None
    with unchanged(source), _cells_of_any_size():
        for data in _blocks(source, block or min(max(rows << 8, 1 << 16), 1 << 24)):
            if body is None:
                expect(data, "CSV", file)
                head, encoding = utf8(data, settings.encoding, file)
                if encoding.startswith("UTF-") and encoding != "UTF-8":
                    raise DataError(f"a file in {encoding} cannot be read in parts", "write it in UTF-8", file=file)
                table, body, names = _parse(with_separator(Text(head, file, settings)), encoding)
                line = 1 + line_ends(head)
            else:
                head, _ = utf8(data, settings.encoding, file)
                if not head.strip():
                    continue
                _refuse_nul(body := replace(body, data=head, line=line))
                read = _read(body)
                first_line = body.line if read.lines is None else None
                table = Table(read.data, file, (Origin(file, read.data.num_rows, first_line, read.lines),))
                _refuse_large_cells(table, body)
                headed = replace(body, headed=True)  # that it has none was said with the first block
                table = replace(table, findings=tuple(_findings(table, read, headed, line)))
                table, _ = _without_unnamed(table, names, settings)
                line += line_ends(head)
            findings = tuple(finding for finding in table.findings if finding.rule != "footer-row")
            table = replace(table, name=source.name, root=source.parent, findings=findings)
            for at in range(0, len(table), rows):  # what was found goes with the first rows
                yield replace(table.slice(at, at + rows), findings=() if at else findings)


def extent(source: object, settings: DataRecipe) -> tuple[int, int]:
    """About how many rows there are, and how many bytes one takes in memory, told from the first rows."""
    assert isinstance(source, Path)
    data = next(_blocks(source, 1 << 18), b"")
    if not data.strip() or b"\0" in data[:100]:  # empty, or UTF-16: read whole, which says what is wrong
        return 0, 1
    packed = GZIP_FACTOR if data and _is_packed(source) else 1
    lines = max(1, line_ends(data))
    cells = sum(data.count(separator.encode()) for separator in SEPARATORS) + lines
    return source.stat().st_size * packed * lines // len(data), (len(data) + 4 * cells) // lines


GZIP_FACTOR = 5
"""How much longer a text is than its archive, usually."""


def _is_packed(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(2) == GZIP


def _blocks(source: Path, size: int) -> Iterator[bytes]:
    """The bytes of a file in blocks that end where a row ends: after a line's end that is in no quoted cell."""
    try:
        with gzip.open(source) if _is_packed(source) else source.open("rb") as file:
            left = b""
            while data := file.read(size):
                left += data
                end = _end_of_rows(left)
                if not end and len(left) > 8 * size:  # a quote that is never closed: reading the rows will name it
                    end = left.rfind(b"\n") + 1
                if end:
                    yield left[:end]
                    left = left[end:]
            if left:
                yield left
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"the archive is damaged: {error}", "copy or download the file again", file=source) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", "give a file you may read", file=source) from None


def _end_of_rows(data: bytes) -> int:
    """After the last end of a line that an even number of quotes precedes; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def _parse(text: Text, encoding: str) -> tuple[Table, Text, list[str]]:
    """The table, the text below the names, and the names as they are written."""
    rows = sample(text)
    if not rows:
        raise DataError("the file has no cell with a value", "give a file with rows", file=text.file)
    line, first = rows[0]
    if headed := has_header(rows, text.settings):
        names = [name.strip() for name in first]
        check_names(names, text.settings, text.file, line)
        body = _below(text, line)
    else:
        width = Counter(len(cells) for _, cells in rows).most_common(1)[0][0]
        names = [f"column_{position}" for position in range(1, width + 1)]
        check_names(names, text.settings, text.file, line)
        body = text
    unique = tuple(_unique(names))
    _refuse_nul(replace(text, names=unique))
    body = _with_quoting(replace(body, names=unique, headed=headed))
    read = _read(body)
    if not read.data.num_rows:
        raise DataError("the file has a header but 0 data rows", "give a file with rows", file=text.file)
    if headed:
        read.blank[:0] = range(1, line)
    origin = Origin(text.file, read.data.num_rows, body.line if read.lines is None else None, read.lines)
    table = Table(read.data, text.file, (origin,))
    _refuse_large_cells(table, body)
    findings = _findings(table, read, body, line)
    table, unnamed = _without_unnamed(table, names, text.settings)
    separator = f"separator {SEPARATORS.get(text.separator, repr(text.separator))}" if len(names) > 1 else "one column"
    notes = [f"{separator}, encoding {encoding}"]
    if not headed:
        notes.append("no header: the first line is data")
    return replace(table, notes=tuple(notes), findings=(*findings, *unnamed)), body, names


def _below(text: Text, line: int) -> Text:
    """The text below the record that begins in a line."""
    records = Records(text)
    next(number for number, _ in records if number == line)
    above = io.TextIOWrapper(io.BytesIO(text.data), encoding="utf-8", newline="").read(records.end).encode()
    if len(above) == len(text.data) and (unclosed := records.unclosed_quote(line)):
        raise unclosed
    return replace(text, data=text.data[len(above) :], line=text.line + line_ends(above))


def _with_quoting(body: Text) -> Text:
    """Tab-separated files often hold quotes that are mere characters: so they are read where quoting loses rows."""
    if body.separator != "\t" or b'"' not in body.data:
        return body
    plain, quoted = _fast(replace(body, quoting=False)), _fast(body)
    if plain is not None and (quoted is None or plain.num_rows > quoted.num_rows):
        return replace(body, quoting=False)
    return body


# Names


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


def _read(body: Text) -> _Rows:
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


def _may_be_unclosed(body: Text, data: pa.Table) -> bool:
    """Whether the last cell may have swallowed rows: PyArrow takes the end of the file for the closing quote."""
    last = data.column(data.num_columns - 1)[-1].as_py()
    return body.quoting and (body.data.count(b'"') % 2 == 1 or "\n" in last or "\r" in last)


def _line_ends_in_cells(data: pa.Table) -> np.ndarray:
    """(N,) int64: how many lines end inside the quoted cells of each row."""
    inside = np.zeros(data.num_rows, dtype=np.int64)
    for column in data.columns:
        inside += pc.count_substring_regex(column, "\r\n|\r|\n").to_numpy()
    return inside


def _fast(body: Text) -> pa.Table | None:
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


def _exact(body: Text) -> _Rows:
    """All rows with the line of each.

    Raises:
        DataError: for rows that are too long or too short, a quote that is never closed, and cells beyond the limit.
    """
    width = len(body.names)
    records = Records(body)
    rows: list[list[str | None]] = []
    chunks: list[pa.Table] = []
    lines: list[int] = []
    blank: list[int] = []
    short: list[tuple[int, int]] = []
    long: list[tuple[int, int]] = []
    line = body.line
    for line, cells in records:
        if not cells or (width > 1 and len(cells) == 1 and not cells[0].strip()):
            blank.append(line)
            continue
        if len(cells) > width:
            long.append((line, len(cells)))
            continue
        if len(cells) < width:
            short.append((line, len(cells)))
        rows.append([*cells, *([None] * (width - len(cells)))])
        lines.append(line)
        if len(rows) * width >= _EXACT_CELLS:
            chunks.append(_columns(rows, body.names))
            rows = []
    if unclosed := records.unclosed_quote(line):
        raise unclosed
    _refuse_ragged(body, len(lines), short, long)
    data = pa.concat_tables([*chunks, _columns(rows, body.names)])
    return _Rows(data, np.asarray(lines, dtype=np.int64), blank, [line for line, _ in short])


def _columns(rows: Sequence[Sequence[str | None]], names: Sequence[str]) -> pa.Table:
    cells = zip(*rows, strict=True) if rows else [[]] * len(names)
    return pa.table([pa.array(column, pa.string()) for column in cells], names=list(names))


# Refusing


def _refuse_ragged(body: Text, rows: int, short: Sequence[tuple[int, int]], long: Sequence[tuple[int, int]]) -> None:
    """Refuse rows with more cells than columns, and with fewer unless they are to be filled."""
    problems = Problems()
    width = len(body.names)
    expected = f"the header has {width} names" if body.headed else f"most rows have {width}"
    if long:
        (line, cells), many = long[0], f"{len(long):,} rows have too many"
        remedy = "put cells that hold the separator in quotes"
        if len(long) > 1 and not rows and len({count for _, count in long}) == 1:
            many, remedy = "so has every row", f"name all {cells} columns in the header"
        problems.add(body.error(f"{cells} cells, but {expected}{_aside(long, many)}", remedy, line=line))
    if short and body.settings.short_rows == "error":
        (line, cells), many = short[0], f"{len(short):,} rows have too few"
        remedy = "complete it, or say --set data.short_rows=fill"
        problems.add(
            body.error(f"only {_count(cells, 'cell')}, but {expected}{_aside(short, many)}", remedy, line=line)
        )
    problems.raise_if_any()


def _aside(rows: Sequence[tuple[int, int]], many: str) -> str:
    return f" ({many})" if len(rows) > 1 else ""


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _refuse_nul(text: Text) -> None:
    offset = text.data.find(b"\0")
    if offset < 0:
        return
    head = text.data[: 1 << 16]
    if head.count(b"\0") > len(head) / 4:
        what = "every second byte is NUL: this is UTF-16 without its mark"
        raise text.error(what, "say --encoding utf-16-le (or -be)")
    character = len(text.data[:offset].decode())
    records = Records(text)
    next(line for line, _ in records if records.end > character)
    position = next(position for position, (_, end, _) in enumerate(records.spans()) if end > character)
    what, line = "a NUL byte: the file is damaged or no text", line_of(text.data, offset)
    raise text.error(what, "write it again", line=line, position=position)


def _refuse_large_cells(table: Table, text: Text) -> None:
    megabytes = text.settings.max_cell_megabytes
    for position, column in enumerate(table.data.columns):
        too_large = pc.greater(pc.binary_length(column), int(megabytes * 2**20))
        if pc.any(too_large).as_py():
            line = table.where(pc.index(too_large, True).as_py())[1]
            what, remedy = (
                f"a cell is larger than the limit of {megabytes:g} MB",
                "look for a missing quote, or raise",
            )
            raise text.error(what, f"{remedy} --set data.max_cell_megabytes", line=line, position=position)


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    """The standard library keeps its limit for the whole process: lift it, as ours comes later, and give it back."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# Saying what was odd


def _findings(table: Table, rows: _Rows, body: Text, line: int) -> list[Finding]:
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
                title=f"{_count(len(rows.blank), 'blank line')} skipped",
                evidence={"file": body.file, "count": len(rows.blank), "lines": rows.blank[:10]},
            )
        )
    if rows.short:
        findings.append(
            Finding(
                rule="short-rows",
                severity="warning",
                title=f"{_count(len(rows.short), 'row')} with too few cells: the rest is missing",
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
        if cell in missing or NUMBER_LIKE.fullmatch(cell):
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
    return bool(values) and all(NUMBER_LIKE.fullmatch(value) for value in values)
