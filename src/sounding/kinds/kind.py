"""What a column can be: the contract that every kind keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import DamagedError, DataError
from sounding.finding import Finding
from sounding.recipe import DataRecipe

Form = Literal["numbers", "categories", "tokens", "pictures", "series", "sound", "boxes"]
"""How encoded columns reach a network.

numbers:     (N, features) float32, standardised, side by side with those of the other columns; no NaN
categories:  (N,) int32, codes in [0, cardinality); 0 stands for missing, rare and unseen
tokens:      (N, length) int32, 0 is padding at the end; or (N, length, 1 + pieces), the codes of its pieces behind
             that of each token
pictures:    (N, channels, height, width) uint8
series:      (N, channels, length) float32, standardised by channel; no NaN. Of lengths that vary (N, channels + 1,
             length or more): padding at the end is 0, and the last channel is 1 where there are points
sound:       (N, length or more) int16 samples from -32767 to 32767; padding at the end is `SILENCE`
boxes:       (N, most, 5) float32: code, left, top, right, bottom; a code of -1 is padding at the end
"""

SILENCE = -32768
"""What stands behind the last sample of a recording: no sample has this value."""

NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|infinity|Inf|Infinity|INF)$"
"""What counts as a number when it is written as text."""


@dataclass(frozen=True)
class Column:
    """One column of a table: its cells as they were read, and how to say where each came from."""

    name: str
    cells: pa.Array
    missing: frozenset[str]
    """Strings that mean "no value"."""
    root: Path | None = None
    """The folder to which paths of pictures are relative, and which they may not leave."""
    where: Callable[[int], tuple[str | None, int | None]] = field(default=lambda row: (None, None), compare=False)
    """File and line of a row."""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What its values are called, where the source knows; `data.labels` overrule it."""

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def plain(self) -> pa.Array:
        """The cells, with dictionary encoding undone: a category that no row holds leaves no trace."""
        return self.cells.dictionary_decode() if pa.types.is_dictionary(self.cells.type) else self.cells

    @cached_property
    def is_text(self) -> bool:
        """Whether the cells are strings."""
        kind = self.plain.type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    @cached_property
    def is_number(self) -> bool:
        """Whether the cells are numbers already (not text, not booleans)."""
        kind = self.plain.type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))

    @cached_property
    def is_word(self) -> bool:
        """Whether each cell can be written as a word or number (pictures, lists and structs cannot)."""
        kind = self.plain.type
        nested = pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)
        binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
        return not (nested or binary)

    @cached_property
    def words(self) -> pa.Array:
        """The cells as strings without surrounding blanks; null where there is no value."""
        cells = self.plain
        if pa.types.is_boolean(cells.type):
            cells = pc.if_else(cells, "true", "false")
        if pa.types.is_floating(cells.type):  # NaN is no value
            cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
        words = pc.utf8_trim_whitespace(cells.cast(pa.large_string()))
        gone = pc.is_in(words, value_set=pa.array(sorted(self.missing), pa.large_string()))
        return pc.if_else(gone, pa.scalar(None, pa.large_string()), words)

    @cached_property
    def present(self) -> np.ndarray:
        """(N,) bool: where there is a value."""
        if not self.is_word:
            return np.asarray(pc.is_valid(self.plain))
        if self.is_number:
            return np.asarray(~np.isnan(self.numbers))
        return np.asarray(pc.is_valid(self.words))

    @cached_property
    def number_of_values(self) -> int:
        """How many different values there are; quicker than counting each."""
        return int(pc.count_distinct(self.words, mode="only_valid").as_py())

    @cached_property
    def frequencies(self) -> tuple[pa.Array, np.ndarray]:
        """Each value that occurs, and how often, the most frequent first (then in alphabetical order)."""
        counted = self.words.drop_null().value_counts()
        counts = pa.table({"value": counted.field("values"), "count": counted.field("counts")})
        counts = counts.sort_by([("count", "descending"), ("value", "ascending")]).combine_chunks()
        values = counts["value"].combine_chunks() if len(counts) else pa.array([], pa.large_string())
        return values, np.asarray(counts["count"], dtype=np.int64)

    @cached_property
    def distinct(self) -> dict[str, int]:
        """The same as a dictionary; slow where there are very many values."""
        values, counts = self.frequencies
        return dict(zip(values.to_pylist(), counts.tolist(), strict=True))

    @cached_property
    def numbers(self) -> np.ndarray:
        """(N,) float64: the cells as numbers; NaN where there is no value or the cell is no number."""
        if self.is_number:
            cells = self.plain.cast(pa.float64(), safe=False)
        else:
            plain = pc.match_substring_regex(self.words, NUMBER)
            cells = pc.if_else(plain, self.words, pa.scalar(None, pa.large_string())).cast(pa.float64())
        return np.asarray(cells.to_numpy(zero_copy_only=False), dtype=np.float64)

    @cached_property
    def not_a_quantity(self) -> str:
        """Why whole numbers in it are names rather than quantities; empty where they are not."""
        if self.is_text:
            if pc.any(pc.match_substring_regex(self.words, r"^[+-]?0\d")).as_py():
                return "leading zeros, which numbers would lose"
            long = self.words.filter(pc.match_substring_regex(self.words, r"^[+-]?\d{16,}$")).drop_null()
            inexact = any(abs(int(word)) > 2**53 for word in long.to_pylist())
        else:
            whole = self.plain.drop_null() if pa.types.is_integer(self.plain.type) else pa.array([], pa.int64())
            values = whole.to_numpy(zero_copy_only=False)  # as integers: float64 would round what is asked here
            inexact = len(values) > 0 and max(abs(int(values.min())), abs(int(values.max()))) > 2**53
        return "whole numbers beyond 2^53, which would be rounded" if inexact else ""

    @cached_property
    def lost(self) -> dict[str, int]:
        """The strings that were read as "no value", and how often each occurs."""
        if not self.is_text:
            return {}
        trimmed = pc.utf8_trim_whitespace(self.plain.cast(pa.large_string()))
        gone = trimmed.filter(pc.and_(pc.is_valid(trimmed), pc.is_null(self.words)))
        counts = [(c["values"], c["counts"]) for c in gone.value_counts().to_pylist()]
        return dict(sorted(counts, key=lambda pair: (-pair[1], pair[0])))

    def take(self, rows: np.ndarray) -> Column:
        """The same column with some rows only."""
        where = self.where
        return Column(
            self.name,
            self.cells.take(pa.array(rows)),
            self.missing,
            self.root,
            lambda row: where(int(rows[row])),
            self.labels,
        )

    def file_name(self, row: int) -> str:
        """The path of the file that a cell names or holds, if it has one."""
        cells = self.plain
        if self.is_text:
            return self.words[row].as_py() or ""
        if pa.types.is_struct(cells.type) and "path" in [part.name for part in cells.type]:
            return pc.struct_field(cells, "path")[row].as_py() or ""
        return ""

    def error(self, what: str, remedy: str, *, row: int | None = None) -> DataError:
        """An error that names this column and, for a row, its file and line."""
        file, line = self.where(0 if row is None else row) if len(self) else (None, None)
        return DataError(what, remedy, file=file, line=None if row is None else line, column=self.name)


def bin_edges(values: np.ndarray) -> tuple[float, ...]:
    """Values as edges of bins, rising in float32; a single value becomes the middle of one bin.

    >>> bin_edges(np.array([1.0, 0.0, 1.0]))
    (0.0, 1.0)
    >>> bin_edges(np.array([3.0]))
    (2.5, 3.5)
    """
    edges = [float(edge) for edge in np.unique(values.astype(np.float32))]
    middle = edges[0] if edges else 0.0
    return tuple(edges) if len(edges) > 1 else (middle - 0.5, middle + 0.5)


PRESENCE = (0.0, 1.0)
"""Edges of bins of a feature that is 1 where a value is missing, else 0."""


def require_targets(column: Column) -> None:
    """See that every row of a target has a value.

    Raises:
        DataError: with the count and the first row.
    """
    lacking = ~column.present
    if lacking.any():
        row, count = int(lacking.argmax()), int(lacking.sum())
        cell = column.plain[row].as_py() if column.is_text else None
        keep = f', or keep "{cell}" as a label with --set data.missing_in.{column.name}=[]' if cell else ""
        raise column.error(
            f"{count} of {len(column)} rows {'has' if count == 1 else 'have'} no target, here the first",
            f"fill them, or drop them with --set data.missing_target=drop{keep}",
            row=row,
        )


@dataclass(frozen=True)
class Recognition:
    """That a column can be of a kind, how well it fits, and why, in words that are printed."""

    fit: float
    """In [0, 1]; the kind with the highest takes the column."""
    reason: str


@dataclass(frozen=True)
class Block:
    """What a network is told about one of its inputs; only the fields of its form are filled.

    >>> left = Block("numbers", "numbers", ("age",), features=("age",), bins=((-1.0, 0.0, 1.0),))
    >>> right = Block("numbers", "numbers", ("size",), features=("size",), bins=((-2.0, 2.0),))
    >>> left.beside(right).features
    ('age', 'size')
    """

    name: str
    """Key of the encoded array: `numbers`, `categories`, `text:NAME`, `image:NAME`, `series:NAME` or
    `audio:NAME`."""
    form: Form
    columns: tuple[str, ...]
    """The columns it comes from."""
    features: tuple[str, ...] = ()
    """numbers: the name of each of the `features` columns of the array."""
    bins: tuple[tuple[float, ...], ...] = ()
    """numbers: for each feature, rising edges between which its training values are spread evenly."""
    cardinalities: tuple[int, ...] = ()
    """categories: codes of a column are in [0, cardinality)."""
    vocabulary_size: int = 0
    """tokens: codes are in [0, vocabulary_size); 0 is padding, 1 any unknown token."""
    length: int = 0
    """tokens: the number of tokens of each text, padding included; series and sound: points of the longest."""
    varying: bool = False
    """series: whether they differ in length; then a last channel says where there are points."""
    targets: int = 0
    """series: the first so many channels are forecast."""
    horizon: int = 0
    """series: steps that are forecast."""
    piece_buckets: int = 0
    """tokens: codes of the pieces of words are in [0, piece_buckets), 0 is no piece; 0 where there are no pieces."""
    rate: int = 0
    """sound: samples a second."""
    channels: int = 0
    height: int = 0
    width: int = 0
    mean: tuple[float, ...] = ()
    """pictures: mean of each channel over the training pictures, in [0, 255]; series: in the units of the column."""
    std: tuple[float, ...] = ()
    """The standard deviation of each channel, in the same units, never 0."""
    side: str = ""
    """`user` or `item` where the rows are interactions, and these columns speak of one of the two."""

    def beside(self, other: Block) -> Block:
        """One block from two of the same form whose arrays are joined column by column."""
        return replace(
            self,
            columns=self.columns + other.columns,
            features=self.features + other.features,
            bins=self.bins + other.bins,
            cardinalities=self.cardinalities + other.cardinalities,
        )


@dataclass(frozen=True)
class Encoded:
    """A table as a network reads it."""

    blocks: dict[str, np.ndarray]
    """Arrays of N rows by the name of their block."""
    findings: tuple[Finding, ...] = ()


class Kind(ABC):
    """What a column is. A subclass is a frozen dataclass; its fields are what was fitted on the training rows.

    Adding a kind is one file with a subclass, one line in `kinds/__init__.py`, one test file.
    """

    name: ClassVar[str]
    form: ClassVar[Form]

    @classmethod
    @abstractmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Whether a column looks like this kind; looks at values only, never at other columns."""

    @classmethod
    @abstractmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Learn from the training rows alone; every oddity that is handled is a finding."""

    @abstractmethod
    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """All cells, in this kind's form.

        Raises:
            DataError: naming file, line and column of a cell that cannot be encoded.
        """

    @classmethod
    def near_miss(cls, column: Column) -> Finding | None:
        """What to say of a column that is used as words although it nearly is of this kind."""
        return None

    def show(self, column: Column, row: int) -> str | np.ndarray:
        """One cell for people: plain text, or a picture as (height, width, channels) uint8."""
        word = column.words[row].as_py()
        return "" if word is None else str(word)

    def stamp(self, column: Column) -> str:
        """What the encoded values depend on besides the cells, such as the files that they name; for the cache."""
        return ""

    @abstractmethod
    def block(self, column: str) -> Block:
        """What a network needs to know about the encoded column."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for people, such as `16 values`."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values that `from_json` understands."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            DamagedError: if a value is missing or unknown.
        """
        names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, dict) or set(values) != names:
            found = ", ".join(sorted(map(str, values))) if isinstance(values, dict) else repr(values)
            raise DamagedError(
                f"the {cls.name} holds {found or 'nothing'}", f"it should hold {', '.join(sorted(names))}"
            )
        return cls(**{name: _frozen(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
