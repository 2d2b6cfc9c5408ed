"""How a CSV file is written, told from its first rows: the separator, and whether the first row holds names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sounding.data.sources._csv_text import Records, Text
from sounding.errors import DataError
from sounding.recipe import DataRecipe

SEPARATORS = {"\t": "tab", ";": '";"', "|": '"|"', ",": '","'}
"""In order of preference where two fit equally well: a comma is often part of a number."""

NUMBER_LIKE = re.compile(r"(?=\D*\d)[\W\d_]+|[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""Numbers, and what is written like them: dates, amounts with a currency, percentages."""

Sample = list[tuple[int, list[str]]]
"""Line and cells of rows."""

_BYTES, _ROWS, _LINES = 1 << 18, 1000, 10


def with_separator(text: Text) -> Text:
    """The text with the separator that is set, or else recognised."""
    given = {"tab": "\t", "\\t": "\t", "space": " "}.get(text.settings.separator, text.settings.separator)
    if given:
        if len(given) != 1 or given in '"\r\n':
            raise DataError(f'"{given}" cannot separate cells', "give one character, or tab", file=text.file)
        return replace(text, separator=given)
    return max((replace(text, separator=one) for one in SEPARATORS), key=_regularity)


def _regularity(text: Text) -> float:
    """The share of rows that agree on a number of cells above one; below 0 if most rows are one cell."""
    widths = [len(cells) for _, cells in sample(text)] or [1]
    ((width, agreeing),) = Counter(widths).most_common(1)
    if width > 1:
        return agreeing / len(widths)
    if widths[0] > 1:  # a header over rows that are all too short
        return widths.count(widths[0]) / len(widths) / 2
    return agreeing / len(widths) - 1


def sample(text: Text) -> Sample:
    """The first rows, without blank ones."""
    end = _end_of_sample(text.data)
    rows: Sample = []
    for line, cells in Records(replace(text, data=text.data[:end])):
        if len(cells) > 1 or (cells and cells[0].strip()):
            rows.append((line, cells))
        if len(rows) == _ROWS:
            return rows
    cut = end < len(text.data) and len(rows) > 1  # perhaps in the middle of a quoted cell
    return rows[:-1] if cut else rows


def _end_of_sample(data: bytes) -> int:
    """The end of a line: ten lines at least, however long, and many more if they are short."""
    end = 0
    for _ in range(_LINES):
        end = data.find(b"\n", end) + 1
        if not end:
            return len(data)
    return len(data) if len(data) <= _BYTES else max(end, data.rfind(b"\n", 0, _BYTES) + 1)


def has_header(rows: Sample, settings: DataRecipe) -> bool:
    """Whether the first row holds names.

    Words over numbers are names. Numbers over numbers are data, unless they count or are years; words are data if
    half of them return below.
    """
    if settings.header != "auto":
        return settings.header == "yes"
    first, *below = (cells for _, cells in rows)
    missing = set(settings.missing)
    like = [bool(NUMBER_LIKE.fullmatch(cell.strip())) for cell in first]
    if not below:
        return not any(like)
    counting = repeated = 0
    for position, cell in enumerate(first):
        cells = [row[position].strip() for row in below if position < len(row)]
        values = [value for value in cells if value not in missing]
        numbers = sum(bool(NUMBER_LIKE.fullmatch(value)) for value in values)
        if values and numbers >= 0.8 * len(values):
            if not like[position] and cell.strip() not in missing:
                return True
            counting += like[position]
        elif cell.strip() in values:
            repeated += 1
    if counting:
        numbered = [cell for cell, number in zip(first, like, strict=True) if number]
        return _are_names(numbered, least=5 if first[0].strip() else 2)
    return repeated < max(1, len(first) / 2)


def _are_names(cells: Sequence[str], least: int) -> bool:
    """Whether numbers are names: consecutive years, or some that count on from 0 or 1, as an unnamed frame has them."""
    if len(cells) < 2 or not all(re.fullmatch(r"\s*\d{1,6}\s*", cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    if any(later - earlier != 1 for earlier, later in pairwise(numbers)):
        return False
    return 1800 <= numbers[0] <= 2200 or (len(numbers) >= least and numbers[0] in (0, 1))
