"""Documents cut into stretches of running text: each becomes a row, in the order of the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.kinds import recognise
from sounding.kinds.passage import BOUNDARY
from sounding.randomness import generator
from sounding.recipe import DataRecipe

STRETCH = 1024
"""Bytes of a stretch at most: by so much text a result is resampled, and the worst of it is shown."""
SOME_DOCUMENTS = 10
"""Of fewer than these each gives a part of itself to every part of the split; of more, whole documents are held out."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a document."""

    text: str
    part: str
    document: int
    line: int
    """In its document, from 1."""


def stretches(table: Table, settings: DataRecipe, held_out: Mapping[str, float] | None = None, seed: int = 0) -> Table:
    """The documents of a table, one a row, as rows of stretches: training first, then what is held out.

    held_out:  part of the split to the fraction of the text that it takes. From fewer than ten documents the end of
               each, validation before test; else whole documents, at random. Parts that the table brings are kept. With
               none, the rows belong to no part.

    A stretch ends before a blank where there is one. It begins with a file separator (U+001C) where a document does,
    and ends with one where one of several documents does.

    Raises:
        DataError: if it is not clear which column holds the text, or there is too little text.
    """
    name = text_column(table, settings)
    texts = table.column(name, settings).plain.cast(pa.large_string()).to_pylist()
    parts = ["train"] * len(texts)
    for part, rows in table.parts.items():
        parts[rows.start : rows.stop] = [part] * len(rows)
    fractions = {part: share for part, share in (held_out or {}).items() if share > 0 and part not in table.parts}
    own = [number for number, part in enumerate(parts) if part == "train"]
    how = ""
    if fractions and len(own) >= SOME_DOCUMENTS:
        order, begin = generator(seed, "split").permutation(own), 0
        for part, share in fractions.items():
            count = max(1, round(share * len(own)))
            for number in order[begin : begin + count]:
                parts[number] = part
            begin += count
        how = f"whole documents at random: {', '.join(f'{parts.count(part)} {part}' for part in ('train', *fractions))}"
        fractions = {}
    elif fractions:
        how = "by place in the text: " + _told(fractions)
    pieces = [
        piece
        for number, text in enumerate(texts)
        for piece in _cut(text or "", parts[number], fractions if parts[number] == "train" else {}, number, len(texts))
    ]
    names = [part for part in ("train", "validation", "test") if any(piece.part == part for piece in pieces)]
    lacking = [part for part in ("train", *fractions) if part not in names]
    if held_out is not None and lacking:
        raise DataError(f"the text is too short for {' and '.join(lacking)}", "give more of it", file=table.name)
    pieces.sort(key=lambda piece: names.index(piece.part))  # stable: in the order of the text within a part
    counts = np.cumsum([0, *(sum(piece.part == part for piece in pieces) for part in names)])
    places = [(table.where(piece.document), piece.line) for piece in pieces]
    lines = np.array([line if first is None or len(texts) == 1 else first for (_, first), line in places])
    origins = _origins([file or table.name for (file, _), _ in places], lines)
    return Table(
        pa.table({name: pa.array([piece.text for piece in pieces], pa.large_string())}),
        table.name,
        origins,
        parts={} if held_out is None else {p: range(counts[i], counts[i + 1]) for i, p in enumerate(names)},
        notes=(*table.notes, *([how] if how else ())),
        findings=table.findings,
    )


def text_column(table: Table, settings: DataRecipe) -> str:
    """The name of the column that holds the text: the only one, or the only one of texts.

    Raises:
        DataError: if there is none, or more than one.
    """
    names = [name for name in table.columns if name not in settings.ignore]
    if len(names) > 1:
        names = [name for name in names if recognise(table.column(name, settings))[0] == "text"]
    if len(names) != 1:
        listed = ", ".join(f'"{name}"' for name in names) if names else "none"
        raise DataError(
            f"one column of text is wanted, and there {'are ' + listed if names else 'is none'}",
            "leave the others out with --set data.ignore=[...]",
            file=table.name,
        )
    if not table.column(names[0], settings).is_text:
        raise DataError("this column holds no text", "give a text", file=table.name, column=names[0])
    return names[0]


def of_stretches(settings: DataRecipe, name: str) -> DataRecipe:
    """Settings for the table of the stretches, from those for the documents."""
    return replace(
        settings, time="", kinds={name: "passage"}, ignore=[], keep=[name], missing_in={}, weight="", group=""
    )


def _told(fractions: Mapping[str, float]) -> str:
    first = 1 - sum(fractions.values())
    behind = ", then ".join(f"{100 * share:.3g} % {part}" for part, share in reversed(list(fractions.items())))
    return f"the first {100 * first:.3g} % train, then {behind}"


def _cut(text: str, part: str, fractions: Mapping[str, float], number: int, documents: int) -> list[Piece]:
    """The stretches of one document, of which the end is held out."""
    bounds, names = [len(text)], [part]
    if fractions:  # from the end: the test, and before it the validation
        shares = [fractions.get(name, 0.0) for name in ("validation", "test")]
        bounds = [int(len(text) * round(1 - sum(shares[at:]), 9)) for at in range(len(shares))] + [len(text)]
        names = [part, "validation", "test"]
    pieces, begin, line = [], 0, 1
    for name, end in zip(names, bounds, strict=True):
        for stretch in _stretches_of(text[begin:end]):
            pieces.append(Piece(stretch, name, number, line))
            line += stretch.count("\n")
        begin = end
    if not pieces:
        pieces = [Piece("", part, number, 1)]
    pieces[0] = replace(pieces[0], text=BOUNDARY + pieces[0].text)
    if documents > 1:
        pieces[-1] = replace(pieces[-1], text=pieces[-1].text + BOUNDARY)
    return pieces


def _stretches_of(text: str) -> list[str]:
    """A text in stretches of `STRETCH` bytes at most, each but the last one more than half of that.

    >>> [len(one) for one in _stretches_of("word " * 500)]
    [1019, 1020, 461]
    """
    found, begin, data = [], 0, text.encode()
    while begin < len(data):
        end = min(begin + STRETCH, len(data))
        if end < len(data):
            blank = max(data.rfind(sign, begin + STRETCH // 2, end) for sign in (b" ", b"\n"))
            end = blank if blank > 0 else end
            while data[end] & 0xC0 == 0x80:  # in the middle of a character
                end -= 1
        found.append(data[begin:end].decode())
        begin = end
    return found


def _origins(files: list[str], lines: np.ndarray) -> tuple[Origin, ...]:
    """Where each stretch came from."""
    starts = [at for at, file in enumerate(files) if not at or file != files[at - 1]]
    ends = [*starts[1:], len(files)]
    return tuple(Origin(files[low], high - low, lines=lines[low:high]) for low, high in zip(starts, ends, strict=True))
