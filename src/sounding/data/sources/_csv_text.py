"""A CSV text and how to go through it exactly: the line, the cells and the place of each record."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sounding.data.sources._files import line_ends
from sounding.errors import DataError
from sounding.recipe import DataRecipe


@dataclass(frozen=True)
class Text:
    """A CSV text in UTF-8, and what is known of how it is written."""

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

    def error(self, what: str, remedy: str, *, line: int | None = None, position: int | None = None) -> DataError:
        """An error at a line and a column, counted from 0."""
        column = None
        if position is not None:
            column = self.names[position] if position < len(self.names) else f"column {position + 1}"
        return DataError(what, remedy, file=self.file, line=line, column=column)


class Records:
    """Line and cells of each record; `start` and `end` are the characters between which the latest lies."""

    def __init__(self, text: Text) -> None:
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
            line, start = text.line + reader.line_num, self.end
            try:
                cells = next(reader)
            except StopIteration:
                return
            self.start = start
            yield line, cells

    def _lines(self) -> Iterator[str]:
        for line in io.TextIOWrapper(io.BytesIO(self.text.data), encoding="utf-8", newline=""):
            self.end += len(line)
            yield line

    def spans(self) -> Iterator[tuple[int, int, bool]]:
        """Of each cell of the latest record: where it starts and ends, and whether its quote is closed."""
        text = self.text.data.decode()
        other = f"[^{re.escape(self.text.separator)}\r\n]*"
        quoted = '"[^"]*(?:""[^"]*)*(?P<closed>"?)' if self.text.quoting else "(?!)(?P<closed>)"
        cell = re.compile(f"{quoted}{other}|(?P<plain>{other})")
        position = self.start
        while match := cell.match(text, position):
            yield match.start(), match.end(), match["plain"] is not None or match["closed"] == '"'
            position = match.end()
            if text[position : position + 1] != self.text.separator:
                return
            position += 1

    def unclosed_quote(self, line: int) -> DataError | None:
        """The error for a quote in the latest record, which begins in a line, that the file never closes."""
        for position, (start, _, closed) in enumerate(self.spans()):
            if not closed:
                opened = line + line_ends(self.text.data.decode()[self.start : start].encode())
                remedy = 'close it, or double it if it is a character: ""'
                return self.text.error(
                    "the quote that opens here is never closed", remedy, line=opened, position=position
                )
        return None
