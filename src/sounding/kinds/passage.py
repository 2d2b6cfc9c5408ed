"""Stretches of running text, as tokens that can be turned back into the very same text: characters, bytes or subwords.

A file separator (U+001C) in a cell stands where a document begins or ends, and has a code of its own.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import RecipeError
from sounding.finding import Finding
from sounding.kinds.kind import Block, Column, Form, Kind, Recognition
from sounding.kinds.subwords import read_tokenizer
from sounding.kinds.text import cut_findings, texts_of
from sounding.recipe import DataRecipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOUNDARY = "\x1c"
PADDING, UNKNOWN, BETWEEN = 0, 1, 2
FIRST = 3
"""The code of the first token proper; those below are padding, a character that training never met, and a boundary."""
INSTALL = "pip install 'sounding[text]'"


@dataclass(frozen=True)
class Passage(Kind):
    """Running text, token by token: no two texts have the same codes, but for characters that training never met."""

    name: ClassVar[str] = "passage"
    form: ClassVar[Form] = "tokens"

    unit: str
    """`characters`, `bytes` (of UTF-8) or `subwords`."""
    alphabet: str
    """Of characters: those of the training rows, by code point; the first has code 3."""
    tokenizer: str
    """Of subwords: byte-pair encoding, as JSON of the library tokenizers."""
    length: int
    """Tokens of the longest row, at most."""
    ends: bool
    """Whether training rows tell where documents end."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Strings with file separators, as documents that were cut into stretches have."""
        if not column.is_text:
            return None
        cells = column.plain.cast(pa.large_string())
        if not pc.any(pc.match_substring(cells, BOUNDARY)).as_py():
            return None
        return Recognition(1.0, "stretches of running text")

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Learn the alphabet, or the byte-pair merges, from the training rows alone."""
        texts = list(texts_of(column.take(rows)))
        longest = max((len(text.encode()) for text in texts), default=1)  # no text has more tokens than bytes
        alphabet = tokenizer = ""
        if settings.tokens == "characters":
            alphabet = "".join(sorted(set().union(*texts) - {BOUNDARY}))
        elif settings.tokens == "subwords":
            tokenizer = learned_subwords(texts, settings.subwords)
        ends = any(text.endswith(BOUNDARY) for text in texts)
        return cls(settings.tokens, alphabet, tokenizer, longest + 1, ends), []

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, length) int32."""
        codes = np.zeros((len(column), self.length), dtype=np.int32)
        lengths = np.zeros(len(column), dtype=np.int64)
        unknown = 0
        for row, text in enumerate(texts_of(column)):
            own = self.codes(text or BOUNDARY)
            lengths[row] = len(own)
            codes[row, : len(own)] = own[: self.length]
            unknown += int((own == UNKNOWN).sum())
        findings = cut_findings(column, lengths, self.length, int(lengths.max(initial=0)))
        if unknown:
            findings.append(_unknown_finding(column, unknown, int(lengths.sum())))
        return codes, findings

    def codes(self, text: str) -> np.ndarray:
        r"""(tokens,) int32: the codes of a text.

        >>> Passage("characters", "ab", "", 8, False).codes("\x1cabc")
        array([2, 3, 4, 1], dtype=int32)
        """
        parts: list[np.ndarray] = []
        for number, part in enumerate(text.split(BOUNDARY)):
            if number:
                parts.append(np.array([BETWEEN], dtype=np.int32))
            parts.append(self._plain_codes(part))
        return np.concatenate(parts)

    def _plain_codes(self, text: str) -> np.ndarray:
        if self.unit == "bytes":
            return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) + FIRST
        if self.unit == "subwords":
            return np.array(self._tokenizer.encode(text).ids, dtype=np.int32) + FIRST
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        known = self._points
        places = np.searchsorted(known, points).clip(max=max(len(known) - 1, 0))
        found = known[places] == points if len(known) else np.zeros(len(points), dtype=bool)
        return np.where(found, places + FIRST, UNKNOWN).astype(np.int32)

    def text(self, codes: Iterable[int]) -> Iterator[str]:
        """The text of codes, piece by piece as they come; a character that is not whole yet waits for its other bytes.

        >>> "".join(Passage("bytes", "", "", 8, False).text([3 + 0xC3, 3 + 0xA9]))
        'é'
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for code in codes:
            if code >= FIRST:
                yield decoder.decode(self.spellings[code - FIRST])
        yield decoder.decode(b"", final=True)

    @cached_property
    def spellings(self) -> list[bytes]:
        """The UTF-8 bytes of each token proper."""
        if self.unit == "bytes":
            return [bytes([value]) for value in range(256)]
        if self.unit == "characters":
            return [character.encode() for character in self.alphabet]
        written = {sign: byte for byte, sign in _signs_of_bytes().items()}
        size = self._tokenizer.get_vocab_size()
        tokens = [self._tokenizer.id_to_token(number) for number in range(size)]
        return [bytes(written[sign] for sign in token or "") for token in tokens]

    def characters(self) -> np.ndarray:
        """(codes,) int64: how many characters begin in each token."""
        begun = [sum(byte & 0xC0 != 0x80 for byte in spelling) for spelling in self.spellings]
        return np.array([0, 1, 0, *begun], dtype=np.int64)

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(
            f"text:{column}",
            self.form,
            (column,),
            vocabulary_size=FIRST + len(self.spellings),
            length=self.length,
        )

    def describe(self) -> str:
        """What the tokens are, and how many different ones there are."""
        return f"running text in {self.unit}, {len(self.spellings)} different ones"

    def show(self, column: Column, row: int) -> str:
        """The text without boundaries."""
        return next(iter(texts_of(column.take(np.array([row]))))).replace(BOUNDARY, "")

    @cached_property
    def _points(self) -> np.ndarray:
        return np.frombuffer(self.alphabet.encode("utf-32-le"), dtype=np.uint32)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return read_tokenizer(self.tokenizer)


def learned_subwords(texts: Iterable[str], size: int) -> str:
    """Byte-pair encoding of so many tokens, bytes included, as JSON (Sennrich et al. 2016, arXiv:1508.07909).

    Merges never cross from one word into the next, whose blank is its own first sign (as in GPT-2).

    Raises:
        RecipeError: for less than 256 tokens, or where the library tokenizers is not installed.
    """
    if size < 256:
        raise RecipeError(f"data.subwords is {size}", "give 256 or more: each byte is one")
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ModuleNotFoundError:
        raise RecipeError('data.tokens = "subwords" needs tokenizers, not installed here', INSTALL) from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(_signs_of_bytes().values()), show_progress=False
    )
    parts = (part for text in texts for part in text.split(BOUNDARY))
    tokenizer.train_from_iterator(parts, trainer)
    return str(tokenizer.to_str())


def _signs_of_bytes() -> dict[int, str]:
    """How byte-level tokenizers write each byte: as itself where it is a visible sign, others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(0x100 + at) for at, byte in enumerate(others)}


def _unknown_finding(column: Column, unknown: int, tokens: int) -> Finding:
    return Finding(
        rule="unknown-characters",
        severity="info",
        title=f'"{column.name}": {unknown} of {tokens} characters are not in the training rows; to the network all '
        "are one",
        evidence={"column": column.name, "unknown": unknown, "characters": tokens},
    )
