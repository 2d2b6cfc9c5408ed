"""Texts in subwords that several columns share, by byte-pair encoding of their UTF-8: any text can be said in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from sounding.errors import DataError, RecipeError
from sounding.finding import Finding
from sounding.kinds.kind import Block, Column, Form, Recognition, require_targets
from sounding.kinds.subwords import batched, build_tokenizer
from sounding.kinds.target import Target
from sounding.kinds.text import cut_findings, texts_of
from sounding.recipe import DataRecipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING, BEGIN, END = 0, 1, 2
FIRST = 3
"""The code of the first subword; those below are padding, and the marks where a text begins and ends."""
BYTES = 256
"""Each byte is a subword, so that nothing is unknown."""
TOGETHER = 10_000
INSTALL = "pip install 'sounding[text]'"


@dataclass(frozen=True)
class BytePairs(Target):
    """A text as the codes of its subwords, then that of its end; 0 is padding behind it.

    It takes the place of what is fitted on a column of kind `text` where a task writes texts.
    """

    name: ClassVar[str] = "text"
    form: ClassVar[Form] = "tokens"

    byte_pairs: str
    """The tokenizer, as JSON of the library tokenizers; the same for all columns that share it."""
    length: int
    """Codes of a text that are read or learned, that of its end included."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Never: a task asks for it."""
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Not by one column alone: see `shared_by`."""
        raise NotImplementedError("a task says which columns share their subwords: call shared_by")

    @classmethod
    def shared_by(cls, columns: Sequence[Column], rows: np.ndarray, *, subwords: int, length: int) -> Self:
        """Learn one vocabulary from the training rows of all columns (Sennrich et al. 2016, arXiv:1508.07909)."""
        texts = (text for column in columns for text in texts_of(column.take(rows)))
        return cls(learned(texts, subwords), length)

    @property
    def size(self) -> int:
        """How many codes there are, those with a meaning of their own included."""
        return FIRST + self._tokenizer.get_vocab_size()

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, length) int32; of texts that are longer the rest is left out, and their end with it."""
        texts = list(texts_of(column))
        found = self._cut_up(texts)
        lengths = np.array([len(codes) for codes in found], dtype=np.int64)
        return self._padded(found), cut_findings(column, lengths, self.length, int(lengths.max(initial=0)))

    def encode_target(self, column: Column) -> np.ndarray:
        """(N,) of str: the texts as they are, without blanks around them.

        Raises:
            DataError: if a row has no text.
        """
        lacking = np.array([not text.strip() for text in texts_of(column)], dtype=bool)
        if lacking.any():
            require_targets(column)
            raise _no_text(column, lacking)
        return np.array([*(text.strip() for text in texts_of(column)), None], dtype=object)[:-1]

    def codes(self, texts: Sequence[str]) -> np.ndarray:
        """(N, length) int32, as in `encode`."""
        return self._padded(self._cut_up(texts))

    def lengths(self, column: Column) -> np.ndarray:
        """(N,) int64: codes of each text, that of its end included, however long it is."""
        return np.array([len(codes) for codes in self._cut_up(list(texts_of(column)))], dtype=np.int64)

    def texts(self, codes: np.ndarray) -> list[str]:
        """The texts of (N, any) codes, without blanks around them; marks and padding say nothing."""
        subwords = [[code - FIRST for code in row if code >= FIRST] for row in codes.tolist()]
        return [text.strip() for text in self._tokenizer.decode_batch(subwords)]

    def pieces(self, codes: Sequence[int]) -> list[str]:
        """What each code stands for, a character that is cut in two as it can be shown; the end is named."""
        shown = {PADDING: "", BEGIN: "", END: "end"}
        return [shown[code] if code < FIRST else self._tokenizer.decode([code - FIRST]) for code in codes]

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(f"text:{column}", self.form, (column,), vocabulary_size=self.size, length=self.length)

    def describe(self) -> str:
        """Size of the vocabulary, and the length."""
        return f"text in {self._tokenizer.get_vocab_size()} subwords, up to {self.length} in a row"

    def show(self, column: Column, row: int) -> str:
        """The text as it was read."""
        return next(iter(texts_of(column.take(np.array([row])))))

    def _cut_up(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            [*(number + FIRST for number in encoding.ids), END]
            for some in batched(texts, TOGETHER)
            for encoding in self._tokenizer.encode_batch(some)
        ]

    def _padded(self, found: Sequence[Sequence[int]]) -> np.ndarray:
        codes = np.zeros((len(found), self.length), dtype=np.int32)
        for row, own in zip(codes, found, strict=True):
            row[: len(own)] = own[: self.length]
        return codes

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = build_tokenizer(self.byte_pairs, 1)
        tokenizer.no_truncation()
        return tokenizer


def learned(texts: Iterable[str], size: int) -> str:
    """A tokenizer of so many subwords, bytes included, as JSON.

    Words keep the blank before them, and the first one gets one, so that it is the same word wherever it stands.

    Raises:
        RecipeError: for less than 256, or where the library tokenizers is not installed.
    """
    if size < BYTES:
        raise RecipeError(f"translation.subwords is {size}", f"give {BYTES} or more: each byte is one")
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ModuleNotFoundError:
        raise RecipeError("subwords need tokenizers, not installed here", INSTALL) from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    return str(tokenizer.to_str())


def _no_text(column: Column, lacking: np.ndarray) -> DataError:
    row, count = int(lacking.argmax()), int(lacking.sum())
    return column.error(
        f"{count} of {len(column)} rows {'has' if count == 1 else 'have'} no text to be written, here the first",
        "fill them, or drop them with --set data.missing_target=drop",
        row=row,
    )
