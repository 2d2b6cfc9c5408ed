from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sounding.errors import DamagedError, DataError, RecipeError
from sounding.kinds import BytePairs, Column, fitted_from_json
from sounding.kinds.byte_pairs import END, FIRST

TEXTS = ["Zwei Männer gehen.", "Two men are walking.", "नमस्ते 🙂 x", "a  b", ""]


def column(texts: list[Any], name: str = "de") -> Column:
    return Column(name, pa.array(texts, pa.string()), frozenset({""}))


@pytest.fixture
def kind() -> BytePairs:
    return BytePairs.shared_by([column(TEXTS)], np.arange(2), subwords=280, length=40)


def test_any_text_comes_back_as_it_was_but_for_blanks_around_it(kind: BytePairs) -> None:
    assert kind.texts(kind.codes(TEXTS)) == TEXTS


def test_codes_end_with_the_end_and_padding(kind: BytePairs) -> None:
    codes, findings = kind.encode(column(TEXTS))
    assert codes.shape == (5, 40)
    assert codes.dtype == np.int32
    assert not findings
    for row in codes:
        length = int((row != 0).sum())
        assert row[length - 1] == END
        assert (row[: length - 1] >= FIRST).all()
        assert not row[length:].any()
    np.testing.assert_array_equal(codes, kind.codes(TEXTS))
    np.testing.assert_array_equal(kind.lengths(column(TEXTS)), (codes != 0).sum(1))
    assert codes.max() < kind.size


def test_a_word_is_the_same_at_the_beginning_and_later(kind: BytePairs) -> None:
    once, twice = kind.codes(["men", "men men"])
    assert twice[: 2 * (once >= FIRST).sum()].tolist() == 2 * once[once >= FIRST].tolist()


def test_subwords_are_learned_from_the_training_rows_of_all_columns_alone() -> None:
    sources, targets = column(["hello hello", "unseen unseen"]), column(["hallo hallo", "fremd fremd"])
    shared = BytePairs.shared_by([sources, targets], np.array([0]), subwords=300, length=9)
    assert [len(row[row >= FIRST]) for row in shared.codes(["hello", "hallo"])] == [1, 1]
    assert (shared.codes(["unseen", "fremd"]) >= FIRST).sum(1).tolist() == [7, 6]


def test_longer_texts_are_cut_with_a_finding(kind: BytePairs) -> None:
    short = BytePairs(kind.byte_pairs, 4)
    codes, (finding,) = short.encode(column(TEXTS))
    assert codes.shape == (5, 4)
    assert END not in codes[0]
    assert finding.rule == "texts-cut"
    assert finding.remedy is not None
    assert finding.remedy.set["data.text_length"] == int(kind.lengths(column(TEXTS)).max())


def test_pieces_can_be_shown(kind: BytePairs) -> None:
    codes = kind.codes(["Two men"])[0]
    shown = kind.pieces(codes[codes != 0].tolist())
    assert "".join(shown[:-1]).strip() == "Two men"
    assert shown[-1] == "end"


def test_it_is_kept_as_json(kind: BytePairs) -> None:
    again = fitted_from_json("text", kind.to_json())
    assert isinstance(again, BytePairs)
    np.testing.assert_array_equal(again.codes(TEXTS), kind.codes(TEXTS))
    with pytest.raises(DamagedError, match="this is no tokenizer"):
        BytePairs("{}", 4).codes(["a"])


def test_rows_without_a_text_are_named() -> None:
    kind = BytePairs.shared_by([column(["a b"])], np.array([0]), subwords=256, length=9)
    assert kind.encode_target(column([" a b ", "c"])).tolist() == ["a b", "c"]
    for nothing in ("", None, "  "):
        with pytest.raises(DataError, match="1 of 2 rows has no t"):
            kind.encode_target(column(["a", nothing]))


def test_none_is_a_word_of_a_text_to_be_written() -> None:
    kind = BytePairs.shared_by([column(["a b"])], np.array([0]), subwords=256, length=9)
    words = Column("de", pa.array(["none", "a"]), frozenset({"none"}))
    assert kind.encode_target(words).tolist() == ["none", "a"]


def test_fewer_subwords_than_bytes_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"translation\.subwords is 100; give 256 or more"):
        BytePairs.shared_by([column(["a"])], np.array([0]), subwords=100, length=9)
