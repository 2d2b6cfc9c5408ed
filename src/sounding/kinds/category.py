"""Categories: one code for each value that the training rows hold often enough; booleans are a special case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import nearest
from sounding.finding import Finding, Remedy
from sounding.kinds.kind import Block, Column, Form, Recognition, require_targets
from sounding.kinds.target import Target
from sounding.recipe import DataRecipe

BOOLEANS = {"no": ("no", "n", "false", "f", "off", "0"), "yes": ("yes", "y", "true", "t", "on", "1")}
"""How no and yes are spelled, in lower case."""


@dataclass(frozen=True)
class Category(Target):
    """One of a few values. As an input, code 0 is missing, rare or unseen, and class i has code i + 1.

    As a target, class i has code i, and a value that is no class is an error.
    """

    name: ClassVar[str] = "category"
    form: ClassVar[Form] = "categories"

    classes: tuple[str, ...]
    """In the order of their codes: numbers by size, then words by alphabet."""
    spellings: tuple[tuple[str, str], ...] = ()
    """Values that are read as others: `(("Y", "yes"), ("TRUE", "yes"))`."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Anything that can be written as a word; other kinds that look closer come first."""
        if not column.is_word:
            return None
        count = column.number_of_values
        spelled = " spelled in several ways" if _spellings(column) else ""
        why = f"; {column.not_a_quantity}" if column.not_a_quantity else ""
        return Recognition(0.5, f"{count} value{'' if count == 1 else 's'}{spelled}{why}")

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Give a code to each value that the training rows hold often enough (`rare`, `max_categories`)."""
        seen = column.take(rows)
        spellings = _spellings(seen)
        if spellings:
            return cls(tuple(BOOLEANS), spellings), _spelled(seen, dict(spellings))
        values, counts = seen.frequencies
        often = int((counts >= settings.rare).sum())
        kept = values[: min(often, settings.max_categories)].to_pylist()
        left = int(counts[len(kept) :].sum())
        noted = often > len(kept) or left > 0.05 * len(seen)
        findings = [_shared(seen, len(kept), left, settings)] if noted else []
        return cls(tuple(sorted(kept, key=_order)), ()), findings

    @classmethod
    def fit_target(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Every value that the training rows hold is a class.

        Raises:
            DataError: if a row has no value, or the training rows hold less than two classes.
        """
        require_targets(column)
        spellings = tuple(sorted(settings.labels.items()))
        kind = cls((), spellings)
        counts: dict[str, int] = defaultdict(int)
        for word, count in column.take(rows).distinct.items():
            counts[dict(spellings).get(word, word)] += count
        if len(counts) < 2:
            only = f'"{next(iter(counts))}"' if counts else "nothing"
            raise column.error(f"the training rows hold one class only: {only}", "give rows of at least two classes")
        kind = cls(tuple(sorted(counts, key=_order)), spellings)
        return kind, _alike(column, kind, counts)

    def unnamed(self, column: Column, labels: Collection[str]) -> set[str]:
        """Those that no row holds."""
        return set(labels) - set(column.distinct)

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N,) int32 codes in [0, number of classes]."""
        codes = self._codes(column) + 1
        unknown = (codes == 0) & column.present
        if not unknown.any():
            return codes, []
        rows = np.flatnonzero(unknown)
        examples = list(dict.fromkeys(column.words[int(row)].as_py() for row in rows[:20]))[:3]
        named = ", ".join(f'"{word}"' for word in examples)
        return codes, [
            Finding(
                rule="unseen-categories",
                severity="info",
                title=f'"{column.name}": {len(rows)} of {len(column)} rows hold values rarely or never seen in '
                f"training, such as {named}",
                evidence={"column": column.name, "rows": len(rows), "of": len(column), "examples": examples},
                meaning="They share one code: the network knows only that the value is unusual.",
            )
        ]

    def encode_target(self, column: Column) -> np.ndarray:
        """(N,) int64 codes in [0, number of classes).

        Raises:
            DataError: for a row without a value, or with one that the training rows do not hold.
        """
        require_targets(column)
        codes = self._codes(column).astype(np.int64)
        if (codes < 0).any():
            row, count = int((codes < 0).argmax()), int((codes < 0).sum())
            word = column.words[row].as_py()
            close = (get_close_matches(word, self.classes, n=1, cutoff=0) or self.classes)[0]
            raise column.error(
                f'the label "{word}" is not among the training rows (in {count} row{"" if count == 1 else "s"})',
                f"{nearest(word, self.classes)}; if it means one of these: "
                f"""--set 'data.labels={{"{word}" = "{close}"}}'""",
                row=row,
            )
        return codes

    def knows(self, column: Column) -> np.ndarray:
        """(N,) bool: the cells that hold a class, or nothing."""
        return np.asarray((self._codes(column) >= 0) | ~column.present)

    def decode_target(self, codes: np.ndarray) -> np.ndarray:
        """The labels of codes: an array of str."""
        return np.asarray(np.array(self.classes, dtype=object)[codes])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The values of codes as an input, an array of str; none where it is missing, rare or unseen."""
        return np.asarray(np.array([None, *self.classes], dtype=object)[codes])

    def block(self, column: str) -> Block:
        """One more code than there are classes."""
        return Block("categories", self.form, (column,), cardinalities=(len(self.classes) + 1,))

    def describe(self) -> str:
        """How many values, or that it is yes or no."""
        if self.classes == tuple(BOOLEANS):
            return "yes or no"
        return f"{len(self.classes)} value{'' if len(self.classes) == 1 else 's'}"

    @cached_property
    def _table(self) -> tuple[pa.Array, np.ndarray]:
        """Each word that has a meaning, and its class."""
        place = {label: code for code, label in enumerate(self.classes)}
        words = {**place, **{word: place[label] for word, label in self.spellings if label in place}}
        return pa.array(list(words), pa.large_string()), np.array([*words.values(), -1], dtype=np.int32)

    def _codes(self, column: Column) -> np.ndarray:
        """(N,) int32: the class of each cell, -1 where it has none."""
        words, codes = self._table
        places = pc.index_in(column.words, value_set=words)
        found = pc.fill_null(places, len(words)).to_numpy(zero_copy_only=False)
        return np.asarray(codes[found])


def _spellings(column: Column) -> tuple[tuple[str, str], ...]:
    """How yes and no are spelled, where a column of words holds nothing else and both of them."""
    if not column.is_text or not 2 <= column.number_of_values <= 24:
        return ()
    meaning = {word: label for label, words in BOOLEANS.items() for word in words}
    found = {meaning.get(word.lower()) for word in column.distinct}
    if found != set(BOOLEANS):
        return ()
    return tuple(
        (form, label) for word, label in meaning.items() for form in sorted({word, word.capitalize(), word.upper()})
    )


def _spelled(column: Column, meaning: dict[str, str]) -> list[Finding]:
    """What to say of a column in which yes or no is spelled in more than one way."""
    if len(column.distinct) <= len(BOOLEANS):
        return []
    named = ", ".join(f'"{word}"' for word in column.distinct)
    return [
        Finding(
            rule="boolean-spelling",
            severity="info",
            title=f'"{column.name}": {named} are read as one yes or no',
            evidence={"column": column.name, "read_as": {word: meaning[word] for word in column.distinct}},
        )
    ]


def _shared(column: Column, kept: int, left: int, settings: DataRecipe) -> Finding:
    """What to say of a column of which many rows share the code of rare values."""
    values = len(column.frequencies[0])
    return Finding(
        rule="rare-categories",
        severity="info",
        title=f'"{column.name}": {values - kept} of {values} values are rare and share one code '
        f"({left} of {len(column)} training rows)",
        evidence={"column": column.name, "values": values, "kept": kept, "rows": left},
        meaning="The network cannot tell these values apart.",
        remedy=Remedy(
            f"a code is given from {settings.rare} training rows on, to {settings.max_categories} values at most; "
            "change data.rare or data.max_categories"
        ),
    )


def _alike(column: Column, kind: Category, counts: dict[str, int]) -> list[Finding]:
    """A warning about labels that differ in case, blanks or a final dot only."""
    groups = defaultdict(list)
    for label in kind.classes:
        groups["".join(label.casefold().split()).rstrip(".")].append(label)
    twins = [group for group in groups.values() if len(group) > 1]
    if not twins:
        return []
    named = "; ".join(" and ".join(f'"{label}" ({counts[label]} rows)' for label in group) for group in twins[:5])
    merged = {label: max(group, key=lambda name: counts[name]) for group in twins for label in group}
    return [
        Finding(
            rule="labels-alike",
            severity="warning",
            title=f'"{column.name}" has labels that differ only in case, blanks or a dot: {named}',
            evidence={"column": column.name, "groups": twins},
            meaning="They are learned as different classes.",
            remedy=Remedy("read them as one", {"data.labels": {k: v for k, v in merged.items() if k != v}}),
        )
    ]


def _order(label: str) -> tuple[int, float, str]:
    """Numbers by size before words by alphabet."""
    try:
        number = float(label)
    except ValueError:
        return (1, 0.0, label)
    return (0, number, label) if number == number else (1, 0.0, label)
