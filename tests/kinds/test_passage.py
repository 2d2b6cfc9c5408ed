"""Running text as tokens, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sounding.errors import RecipeError
from sounding.kinds import Column
from sounding.kinds.passage import BETWEEN, FIRST, UNKNOWN, Passage
from sounding.recipe import DataRecipe

TEXTS = ["\x1cWas für ein Tag, ein schöner Tag!\n", " Ein 日本 Tag. 👍\x1c"]


def fitted(unit: Any, texts: list[str] = TEXTS, **settings: Any) -> Passage:
    column = Column("text", pa.array(texts), frozenset())
    return Passage.fit(column, np.arange(len(texts)), DataRecipe(tokens=unit, **settings))[0]


@pytest.mark.parametrize("unit", ["characters", "bytes", "subwords"])
def test_text_comes_back_whole(unit: str) -> None:
    if unit == "subwords":
        pytest.importorskip("tokenizers")
    passage = fitted(unit, subwords=300)
    for text in TEXTS:
        codes = passage.codes(text)
        assert "".join(passage.text(codes.tolist())) == text.replace("\x1c", "")
        assert (codes == BETWEEN).sum() == 1
        assert passage.characters()[codes].sum() == len(text) - 1
        assert len(codes) <= passage.length


def test_characters_have_codes_by_code_point() -> None:
    passage = fitted("characters", ["\x1cbanana"])
    assert passage.codes("\x1cban?").tolist() == [BETWEEN, FIRST + 1, FIRST, FIRST + 2, UNKNOWN]
    assert passage.block("x").vocabulary_size == FIRST + 3


def test_subwords_are_those_of_the_library() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    passage = fitted("subwords", subwords=280)
    plain = tokenizers.Tokenizer.from_str(passage.tokenizer)
    assert len(passage.spellings) == plain.get_vocab_size() <= 280
    text = "ein schöner Tag"
    assert passage.codes(text).tolist() == [code + FIRST for code in plain.encode(text).ids]
    assert plain.decode(plain.encode(text).ids) == text
    assert len(passage.codes(text)) < len(text.encode())


def test_bytes_of_a_character_wait_for_each_other() -> None:
    passage = fitted("bytes")
    pieces = list(passage.text(passage.codes("é").tolist()))
    assert pieces == ["", "é", ""]


def test_unknown_characters_are_told() -> None:
    passage = fitted("characters", ["\x1cabc"])
    _, findings = passage.encode(Column("text", pa.array(["abz", "q"]), frozenset()))
    assert [finding.rule for finding in findings] == ["unknown-characters"]
    assert findings[0].evidence["unknown"] == 2


def test_too_few_subwords_are_refused() -> None:
    with pytest.raises(RecipeError, match="256 or more"):
        fitted("subwords", subwords=100)
