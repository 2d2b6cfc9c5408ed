"""What the checks look at: the data after the split, each part of it computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.kinds import Encoded, Mask

MIXER = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Of splitmix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17."""


@dataclass(frozen=True)
class Feature:
    """An encoded input column: a number, or codes of categories."""

    name: str
    values: np.ndarray
    """(N,) float32 numbers, or int32 codes."""
    is_category: bool


@dataclass(frozen=True)
class Examined:
    """A table with its fitted schema, its split and its encoded columns."""

    table: Table
    schema: Schema
    split: Split
    encoded: Encoded

    @cached_property
    def features(self) -> list[Feature]:
        """The numbers and categories among the inputs; not the indicators of missing values."""
        found = []
        for block in self.schema.blocks():
            array = self.encoded.blocks[block.name] if block.form in ("numbers", "categories") else None
            if array is not None:
                names = block.features or block.columns
                columns = [Feature(name, array[:, at], block.form == "categories") for at, name in enumerate(names)]
                found += [column for column in columns if column.name in block.columns]
        return found

    @cached_property
    def target(self) -> np.ndarray | None:
        """(N,) codes of classes, or standardised numbers; none of several targets, and of boxes or masks."""
        if len(self.schema.targets) == 1 and isinstance(self.schema.targets[0].fitted, Mask):
            return None
        targets = list(self.schema.encode_targets(self.table).values())
        return targets[0] if len(targets) == 1 and targets[0].ndim == 1 else None

    @property
    def is_classification(self) -> bool:
        """Whether there is one target, and it is a category."""
        return [field.kind for field in self.schema.targets] == ["category"]

    @property
    def is_regression(self) -> bool:
        """Whether there is one target, and it is a number."""
        return [field.kind for field in self.schema.targets] == ["number"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels of a classification."""
        return tuple(getattr(self.schema.targets[0].fitted, "classes", ()))

    @cached_property
    def fingerprints(self) -> np.ndarray:
        """(N,) uint64 of each row's inputs: equal for equal cells and equal pictures, different otherwise.

        Sixty-four bits: among a million rows a false match has a chance of about one in forty million.
        """
        mixed = np.zeros(len(self.table), dtype=np.uint64)
        salts = mix(np.arange(1, len(self.schema.inputs) + 1, dtype=np.uint64) * MIXER[0])
        for salt, field in zip(salts, self.schema.inputs, strict=True):
            pictures = self.encoded.blocks.get(f"image:{field.name}")
            codes = _cell_codes(self.table, field.name) if pictures is None else picture_codes(pictures)
            mixed = mix(mixed ^ mix(codes ^ salt))
        return mixed

    @cached_property
    def groups(self) -> np.ndarray:
        """(N,) int64: rows with equal inputs have equal numbers."""
        return np.unique(self.fingerprints, return_inverse=True)[1].reshape(-1).astype(np.int64)

    @cached_property
    def is_mostly_distinct(self) -> bool:
        """Whether most rows are the only ones with their inputs: then equal ones are copies rather than chance."""
        return bool(len(self.groups) and (self.groups.max() + 1) > 0.5 * len(self.groups))

    def place(self, row: int) -> dict[str, str | int | None]:
        """Where a row came from, for evidence."""
        file, line = self.table.where(int(row))
        return {"row": int(row), "file": file, "line": line}


def mix(values: np.ndarray) -> np.ndarray:
    """Each uint64 to one that looks random: the last steps of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * MIXER[1]
    values = (values ^ (values >> np.uint64(27))) * MIXER[2]
    return np.asarray(values ^ (values >> np.uint64(31)))


def picture_codes(pictures: np.ndarray) -> np.ndarray:
    """(N,) uint64 of (N, C, H, W) uint8 pictures: a sum of their eight-byte words, each times an odd random number.

    Source: multilinear hashing, Lemire and Kaser 2014, arXiv:1202.4961.
    """
    size = int(np.prod(pictures.shape[1:]))
    words = -(-size // 8)
    odd = mix(np.arange(1, words + 1, dtype=np.uint64) * MIXER[0]) | np.uint64(1)
    codes = np.empty(len(pictures), dtype=np.uint64)
    for at in range(0, len(pictures), 4096):
        some = pictures[at : at + 4096].reshape(-1, size)
        padded = np.zeros((len(some), words * 8), dtype=np.uint8)
        padded[:, :size] = some
        codes[at : at + 4096] = (mix(padded.view(np.uint64)) * odd).sum(1, dtype=np.uint64)
    return codes


def _cell_codes(table: Table, name: str) -> np.ndarray:
    """(N,) uint64: equal for equal cells."""
    cells = table.data.column(name).combine_chunks()
    kind = cells.type
    if pa.types.is_fixed_size_list(kind) or isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
        cells = pa.array([str(cell) for cell in cells.to_pylist()])
    if not pa.types.is_dictionary(cells.type):
        cells = pc.dictionary_encode(cells, null_encoding="encode")
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    return np.asarray(pc.fill_null(cells.indices, -1)).astype(np.int64).view(np.uint64)
