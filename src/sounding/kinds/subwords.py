"""Texts that an encoder from elsewhere reads: cut up by its own tokenizer, kept as the text of `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from sounding.errors import DamagedError
from sounding.finding import Finding
from sounding.kinds.kind import Block, Column, Form, Kind, Recognition
from sounding.kinds.text import cut_findings, texts_of
from sounding.recipe import DataRecipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOGETHER = 10_000
"""Texts that are cut up at a time: what the tokenizer says of each takes far more memory than its tokens."""


@dataclass(frozen=True)
class Subwords(Kind):
    """A text as the identifiers of its tokens, each plus 1; 0 is padding at the end.

    The marks with which the encoder begins and ends a text are there, too, where a text is cut as well. It takes the
    place of what was fitted on a column of kind `text`.
    """

    name: ClassVar[str] = "text"
    form: ClassVar[Form] = "tokens"

    length: int
    """Tokens of a text that are read, the encoder's own marks included."""
    limit: int
    """Tokens that the encoder can read."""
    tokenizer: str
    """As JSON."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Never: it is chosen with the network."""
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Not by the data alone: see `cut_by`."""
        raise NotImplementedError("a pre-trained encoder brings its tokenizer: call cut_by")

    @classmethod
    def cut_by(cls, tokenizer: str, limit: int, column: Column, rows: np.ndarray, settings: DataRecipe) -> Self:
        """Read so many tokens as the longest training text has, as the settings allow, and as the encoder can read."""
        longest = max((whole for _, whole in cls(limit, limit, tokenizer)._cut_up(column.take(rows))), default=1)
        return cls(max(1, min(longest, settings.text_length, limit)), limit, tokenizer)

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, length) int32."""
        codes = np.zeros((len(column), self.length), dtype=np.int32)
        lengths = np.zeros(len(column), dtype=np.int64)
        for row, (identifiers, lengths[row]) in enumerate(self._cut_up(column)):
            codes[row, : len(identifiers)] = identifiers
        codes += np.arange(self.length) < np.minimum(lengths, self.length)[:, None]
        codes[lengths == 0, 0] = 1  # no network meets a row of nothing
        return codes, cut_findings(column, lengths, self.length, min(int(lengths.max(initial=0)), self.limit))

    def block(self, column: str) -> Block:
        """A block of its own."""
        size = self._tokenizer.get_vocab_size() + 1
        return Block(f"text:{column}", self.form, (column,), vocabulary_size=size, length=self.length)

    def describe(self) -> str:
        """Size of the vocabulary, and the length."""
        known = self._tokenizer.get_vocab_size()
        return f"text, by a tokenizer that knows {known} pieces of words, up to {self.length} in a row"

    def show(self, column: Column, row: int) -> str:
        """The text as it was read."""
        return next(iter(texts_of(column.take(np.array([row])))))

    def _cut_up(self, column: Column) -> Iterator[tuple[list[int], int]]:
        """Of each text the identifiers that are read, and how many there are in all."""
        marks = self._tokenizer.num_special_tokens_to_add(False)
        for texts in batched(texts_of(column), TOGETHER):
            for encoding in self._tokenizer.encode_batch(texts):
                yield encoding.ids, len(encoding.ids) + sum(len(rest.ids) - marks for rest in encoding.overflowing)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return build_tokenizer(self.tokenizer, self.length)


def build_tokenizer(text: str, length: int) -> Tokenizer:
    """A tokenizer from the text of `tokenizer.json`, that cuts texts to a length and never pads.

    Raises:
        DamagedError: if the text describes none.
    """
    tokenizer = read_tokenizer(text)
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return tokenizer


def read_tokenizer(text: str) -> Tokenizer:
    """A tokenizer from the text of `tokenizer.json`.

    Raises:
        DamagedError: if the text describes none.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:
        if type(error) is not Exception:  # the library raises nothing more special
            raise
        raise DamagedError(f"this is no tokenizer ({error})", "take tokenizer.json from the model again") from None


def batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Texts in lists of some size."""
    remaining = iter(texts)
    while some := list(islice(remaining, size)):
        yield some
