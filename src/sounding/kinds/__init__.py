"""The kinds of column, and how a column's kind is recognised."""

from __future__ import annotations

from typing import Any

from sounding.kinds.audio import Audio
from sounding.kinds.boxes import Boxes
from sounding.kinds.byte_pairs import BytePairs
from sounding.kinds.category import Category
from sounding.kinds.characters import Characters
from sounding.kinds.date import Date
from sounding.kinds.image import Image
from sounding.kinds.kind import SILENCE, Block, Column, Encoded, Form, Kind, Recognition
from sounding.kinds.mask import Mask
from sounding.kinds.number import Number
from sounding.kinds.passage import Passage
from sounding.kinds.series import Series
from sounding.kinds.subwords import Subwords
from sounding.kinds.target import Target
from sounding.kinds.text import Text

KINDS: dict[str, type[Kind]] = {
    "number": Number,
    "category": Category,
    "text": Text,
    "audio": Audio,
    "image": Image,
    "date": Date,
    "series": Series,
    "passage": Passage,
    "boxes": Boxes,
    "mask": Mask,
}
"""Every kind by the name that recipes and schemas use."""

TARGETS: dict[str, type[Target]] = {name: kind for name, kind in KINDS.items() if issubclass(kind, Target)} | {
    "text": Characters
}
"""Those that can be predicted; a text that is written is spelled, where one that is read is taken as words."""


def recognise(column: Column) -> tuple[str, str]:
    """The name of the kind that fits a column best, and why, in words that are printed.

    Raises:
        DataError: if its cells are of a type that no kind understands.

    >>> import pyarrow as pa
    >>> recognise(Column("age", pa.array(["39", "?", "17"]), frozenset({"?"})))
    ('number', 'numbers from 17 to 39')
    """
    best, why = "", Recognition(0.0, "")
    for name, kind in KINDS.items():
        recognition = kind.recognise(column)
        if recognition is not None and recognition.fit > why.fit:
            best, why = name, recognition
        if why.fit == 1:  # nothing fits better, and asking costs time on long columns
            break
    if not best:
        raise column.error(
            f"cells of type {column.cells.type} are not understood",
            "leave it out with --set data.ignore=[...]",
        )
    return best, why.reason


def fitted_from_json(name: str, values: Any) -> Kind:
    """What was fitted on a column, by the name of its kind and what `to_json` gave.

    Raises:
        DamagedError: if a value is missing or unknown.
    """
    known = values if isinstance(values, dict) and name == Text.name else {}
    marks: dict[str, type[Kind]] = {"tokenizer": Subwords, "alphabet": Characters, "byte_pairs": BytePairs}
    kind = next((kind for mark, kind in marks.items() if mark in known), KINDS[name])
    return kind.from_json(values)


__all__ = [
    "KINDS",
    "SILENCE",
    "TARGETS",
    "Audio",
    "Block",
    "Boxes",
    "BytePairs",
    "Category",
    "Characters",
    "Column",
    "Date",
    "Encoded",
    "Form",
    "Image",
    "Kind",
    "Mask",
    "Number",
    "Passage",
    "Recognition",
    "Series",
    "Subwords",
    "Target",
    "Text",
    "fitted_from_json",
    "recognise",
]
