"""Texts to be written: the characters that those of the training rows consist of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from sounding.finding import Finding
from sounding.kinds.kind import Block, Column, Form, Recognition, require_targets
from sounding.kinds.target import Target
from sounding.recipe import DataRecipe

SHOWN = 20


@dataclass(frozen=True)
class Characters(Target):
    """A text that is to be predicted, character by character; it is no kind that a column is recognised as."""

    name: ClassVar[str] = "text"
    form: ClassVar[Form] = "tokens"

    alphabet: tuple[str, ...]
    """Every character of the training rows, in the order of their codes."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Never: a task asks for it."""
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Collect the characters of the training rows, and note those that other rows alone have.

        Raises:
            DataError: if a row has no text.
        """
        require_targets(column)
        texts = column.words.to_pylist()
        alphabet = sorted({character for row in rows for character in texts[row]})
        kind = cls(tuple(alphabet))
        unknown = Counter(character for text in texts for character in text if character not in set(alphabet))
        if not unknown:
            return kind, []
        listed = " ".join(repr(character) for character, _ in unknown.most_common(SHOWN))
        title = f'"{column.name}": {len(unknown)} characters are in no training row and cannot be written: {listed}'
        evidence = {"column": column.name, "characters": dict(unknown.most_common(SHOWN))}
        return kind, [Finding(rule="unknown-characters", severity="warning", title=title, evidence=evidence)]

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, longest) int32: codes from 1; 0 behind the last, characters of no training row left out."""
        texts = [text or "" for text in column.words.to_pylist()]
        return self.codes(texts).astype(np.int32), []

    def encode_target(self, column: Column) -> np.ndarray:
        """(N,) of str: the texts, without blanks around them.

        Raises:
            DataError: if a row has no text.
        """
        require_targets(column)
        return np.array([*column.words.to_pylist(), None], dtype=object)[:-1]

    def codes(self, texts: list[str]) -> np.ndarray:
        """(N, longest) int64: codes from 1; 0 behind the last, characters of no training row left out.

        >>> Characters(("a", "b")).codes(["ab", "b", "xa"])
        array([[1, 2],
               [2, 0],
               [1, 0]])
        """
        code_of = {character: code for code, character in enumerate(self.alphabet, start=1)}
        rows = [[code_of[character] for character in text if character in code_of] for text in texts]
        codes = np.zeros((len(rows), max(map(len, rows), default=0)), dtype=np.int64)
        for row, found in zip(codes, rows, strict=True):
            row[: len(found)] = found
        return codes

    def texts(self, codes: np.ndarray) -> list[str]:
        """The inverse of `codes`, 0 counting as nothing."""
        return ["".join(self.alphabet[code - 1] for code in row if code) for row in codes]

    def block(self, column: str) -> Block:
        """As of tokens; nothing is predicted from it."""
        return Block(f"text:{column}", self.form, (column,), vocabulary_size=len(self.alphabet) + 1)

    def describe(self) -> str:
        """How many characters."""
        return f"texts of {len(self.alphabet)} different characters"
