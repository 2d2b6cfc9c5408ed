from __future__ import annotations

import numpy as np
import pytest

from sounding.kinds import Text
from sounding.kinds.text import tokens
from sounding.recipe import DataRecipe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't panic!", ["don't", "panic", "!"]),
        ("a-b_c 3.5", ["a", "-", "b_c", "3", ".", "5"]),
        ("東京 tower", ["東", "京", "tower"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("🙂🙂", ["🙂", "🙂"]),
        (" \t\n", []),
        ("{{7*7}}", ["{", "{", "7", "*", "7", "}", "}"]),
    ],
)
def test_tokens(text, expected):
    assert tokens(text) == expected


def test_codes_follow_the_frequency_in_training_rows(make_column):
    column = make_column(["b b b a a", "a c c", "zebra b a"])
    kind, _ = Text.fit(column, np.array([0, 1]), DataRecipe())
    assert kind.vocabulary == ("a", "b", "c")  # a and b both three times: then by alphabet
    codes, findings = kind.encode(column)
    assert codes.tolist() == [[3, 3, 3, 2, 2], [2, 4, 4, 0, 0], [1, 3, 2, 0, 0]]
    assert codes.dtype == np.int32
    assert findings == []
    block = kind.block("x")
    assert (block.name, block.vocabulary_size, block.length) == ("text:x", 5, 5)


def test_a_vocabulary_is_bounded(make_column, every):
    column = make_column(["a a a b b c c"])
    assert Text.fit(column, every(column), DataRecipe(vocabulary=2))[0].vocabulary == ("a", "b")


def test_a_word_that_means_no_value_elsewhere_is_a_word_here(make_column, every):
    column = make_column(["none none", "NA", None])
    kind, _ = Text.fit(column, every(column), DataRecipe(rare=1))
    assert kind.encode(column)[0].tolist() == [[2, 2], [3, 0], [1, 0]]


def test_longer_texts_are_cut_and_counted(make_column, every):
    column = make_column(["a b c d e", "a b"])
    kind, _ = Text.fit(column, every(column), DataRecipe(text_length=3, rare=1))
    codes, findings = kind.encode(column)
    assert codes.tolist() == [[2, 3, 4], [2, 3, 0]]
    assert findings[0].evidence == {"column": "x", "cut": 1, "texts": 2, "longest": 5}


def test_recognises_sentences_but_not_names_or_categories(make_column):
    sentences = [f"this is sentence number {n} of many" for n in range(50)]
    assert Text.recognise(make_column(sentences)).reason == "text, 7 words on average"
    assert Text.recognise(make_column([f"user{n}" for n in range(50)])) is None
    assert Text.recognise(make_column(["very good indeed", "not good at all"] * 25)) is None
    assert Text.recognise(make_column([1.0, 2.0])) is None
    assert Text.recognise(make_column([f"555-0{n}-{n}{n}:1.2" for n in range(50)])) is None
    assert Text.recognise(make_column([f"東京都は{n}番目" for n in range(50)])) is not None
