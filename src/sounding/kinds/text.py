"""Texts: words and punctuation marks, in lower case, each with a code of its own when training rows hold it often.

Beside its code a word has those of its pieces, hashed character n-grams (Bojanowski et al. 2017, arXiv:1607.04606), by
which a network can make sense of a word that is rare, unseen or misspelt.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from sounding.finding import Finding, Remedy
from sounding.kinds.kind import Block, Column, Form, Kind, Recognition
from sounding.recipe import DataRecipe

UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
TOKEN = re.compile(rf"{UNSPACED}|\w+(?:['’]\w+)*|[^\w\s]")
"""A token: a Chinese or Japanese character, a word (with apostrophes inside: `don't`), or a punctuation mark."""
WORD = re.compile(rf"{UNSPACED}|\S+")
"""What counts as a word of a sentence: a telephone number or an address on the network is only one."""
PADDING, UNKNOWN = 0, 1
PIECES = 16
"""Pieces of a word that are kept, the shortest first."""
PIECE_LENGTHS = (3, 4, 5)
"""In characters, with a mark before and after the word."""
PIECE_BUCKETS = 20_000
"""Codes that pieces share; 0 is no piece."""
MOST_PIECES = 250_000_000
"""Codes of pieces in a column; a column that would have more goes without, which saves a gigabyte and more."""
LOOKED_AT = 10_000
"""Rows by which a column of strings is judged."""


def tokens(text: str) -> list[str]:
    """The tokens of a text.

    >>> tokens("Don't panic: it's 42!")
    ["don't", 'panic', ':', "it's", '42', '!']
    """
    plain = text if text.isascii() else unicodedata.normalize("NFC", text)
    return TOKEN.findall(plain.lower())


def pieces(word: str) -> list[int]:
    """The codes in [1, 20000) of a word's pieces.

    >>> len(pieces("at")), len(pieces("attention"))
    (3, 16)
    >>> set(pieces("attention")) & set(pieces("attentive")) != set()
    True
    """
    marked = f"<{word}>"
    found = (marked[at : at + size] for size in PIECE_LENGTHS for at in range(len(marked) - size + 1))
    return [1 + zlib.crc32(piece.encode()) % (PIECE_BUCKETS - 1) for piece in islice(found, PIECES)]


@dataclass(frozen=True)
class Text(Kind):
    """A text, as codes of its first tokens: 0 is padding at the end, 1 a token rare or unseen in training.

    An empty text is one unknown token, so that no network meets a row of nothing.
    """

    name: ClassVar[str] = "text"
    form: ClassVar[Form] = "tokens"

    vocabulary: tuple[str, ...]
    """Tokens by falling frequency; the first has code 2."""
    length: int
    """Tokens of a text that are read."""
    with_pieces: bool = True
    """Whether each token brings the codes of its pieces."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Strings of several words that rarely repeat, or of many words."""
        if not column.is_text:
            return None
        words = column.words.drop_null()
        if not len(words):
            return None
        looked = words.take(pa.array(np.linspace(0, len(words) - 1, min(len(words), LOOKED_AT)).astype(np.int64)))
        texts = looked.to_pylist()
        length = float(np.mean([len(WORD.findall(text)) for text in texts]))
        distinct = len(set(texts)) / len(texts)
        if (length >= 3 and distinct >= 0.5) or (length >= 8 and len(set(texts)) > 20):
            return Recognition(0.8, f"text, {length:.0f} words on average")
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Learn the vocabulary and the length from the training rows."""
        split = [tokens(text) for text in texts_of(column.take(rows))]
        counts = Counter(chain.from_iterable(split))
        often = [(count, token) for token, count in counts.items() if count >= settings.rare]
        often.sort(key=lambda pair: (-pair[0], pair[1]))
        length = max(1, min(settings.text_length, max(map(len, split), default=1)))
        vocabulary = tuple(token for _, token in often[: settings.vocabulary])
        return cls(vocabulary, length, len(column) * length * PIECES <= MOST_PIECES), []

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, length) int32 codes of tokens, or (N, length, 1 + pieces) with those of their pieces behind."""
        split = [tokens(text) for text in texts_of(column)]
        lengths = np.fromiter(map(len, split), dtype=np.int64, count=len(split))
        kept = np.minimum(lengths, self.length)
        code = self._codes.get
        flat = (code(token, UNKNOWN) for words in split for token in words[: self.length])
        codes = np.zeros((len(split), self.length), dtype=np.int32)
        codes[np.arange(self.length) < kept[:, None]] = np.fromiter(flat, dtype=np.int32, count=int(kept.sum()))
        codes[lengths == 0, 0] = UNKNOWN
        if self.with_pieces:
            codes = np.concatenate([codes[..., None], self._pieces(split, kept)], axis=2)
        return codes, cut_findings(column, lengths, self.length, int(lengths.max(initial=0)))

    def _pieces(self, split: Sequence[list[str]], kept: np.ndarray) -> np.ndarray:
        """(N, length, pieces) int32; each word is cut up once."""
        places: dict[str, int] = {}
        read = (places.setdefault(token, len(places) + 1) for words in split for token in words[: self.length])
        which = np.zeros((len(split), self.length), dtype=np.int32)
        which[np.arange(self.length) < kept[:, None]] = np.fromiter(read, dtype=np.int32, count=int(kept.sum()))
        table = np.zeros((len(places) + 1, PIECES), dtype=np.int32)
        for token, place in places.items():
            own = pieces(token)
            table[place, : len(own)] = own
        return table[which]

    def block(self, column: str) -> Block:
        """A block of its own."""
        size = len(self.vocabulary) + 2
        buckets = PIECE_BUCKETS if self.with_pieces else 0
        return Block(
            f"text:{column}",
            self.form,
            (column,),
            vocabulary_size=size,
            length=self.length,
            piece_buckets=buckets,
        )

    def describe(self) -> str:
        """Size of the vocabulary, and the length."""
        return f"text, {len(self.vocabulary)} different tokens, up to {self.length} in a row"

    def show(self, column: Column, row: int) -> str:
        """The text as it was read."""
        return next(iter(texts_of(column.take(np.array([row])))))

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {token: code for code, token in enumerate(self.vocabulary, start=UNKNOWN + 1)}


def cut_findings(column: Column, lengths: np.ndarray, length: int, longest: int) -> list[Finding]:
    """What to say of texts that are longer than what is read of them.

    lengths:  tokens of each text.
    length:   tokens that are read.
    longest:  the most that could be read of the longest.
    """
    cut = int((lengths > length).sum())
    if not cut:
        return []
    return [
        Finding(
            rule="texts-cut",
            severity="warning" if cut > 0.01 * len(lengths) else "info",
            title=f'"{column.name}": {cut} of {len(lengths)} texts ({cut / len(lengths):.1%}) are longer than '
            f"{length} tokens; the rest of them is not read",
            evidence={"column": column.name, "cut": cut, "texts": len(lengths), "longest": int(lengths.max())},
            remedy=Remedy("read more of each text", {"data.text_length": longest}) if longest > length else None,
        )
    ]


def texts_of(column: Column) -> Iterable[str]:
    """Every cell as it was read: in a text, "None" is a word. A cell without a value is an empty text."""
    return (text or "" for text in column.plain.cast(pa.large_string()).to_pylist())
