"""The kinds of column, and how a column's kind is recognised."""

from __future__ import annotations

from sounding.kinds.category import Category
from sounding.kinds.date import Date
from sounding.kinds.image import Image
from sounding.kinds.kind import Block, Column, Encoded, Form, Kind, Recognition
from sounding.kinds.number import Number
from sounding.kinds.text import Text

KINDS: dict[str, type[Kind]] = {
    "number": Number,
    "category": Category,
    "text": Text,
    "image": Image,
    "date": Date,
}
"""Every kind by the name that recipes and schemas use."""


def recognise(column: Column) -> tuple[str, str]:
    """The name of the kind that fits a column best, and why, in words that are printed.

    Raises:
        DataError: if its cells are of a type that no kind understands.

    >>> import pyarrow as pa
    >>> recognise(Column("age", pa.array(["39", "?", "17"]), frozenset({"?"})))
    ('number', 'numbers from 17 to 39')
    """
    found = {name: kind.recognise(column) for name, kind in KINDS.items()}
    fitting = {name: recognition for name, recognition in found.items() if recognition is not None}
    if not fitting:
        raise column.error(
            f"cells of type {column.cells.type} are not understood",
            "leave it out with --set data.ignore=[...]",
        )
    best = max(fitting, key=lambda name: fitting[name].fit)
    return best, fitting[best].reason


__all__ = [
    "KINDS",
    "Block",
    "Category",
    "Column",
    "Date",
    "Encoded",
    "Form",
    "Image",
    "Kind",
    "Number",
    "Recognition",
    "Text",
    "recognise",
]
