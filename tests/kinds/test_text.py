from __future__ import annotations

import zlib

import numpy as np
import pytest

from sounding.kinds import Text
from sounding.kinds.text import PIECES, tokens
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
    assert codes[..., 0].tolist() == [[3, 3, 3, 2, 2], [2, 4, 4, 0, 0], [1, 3, 2, 0, 0]]
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
    assert kind.encode(column)[0][..., 0].tolist() == [[2, 2], [3, 0], [1, 0]]


def test_longer_texts_are_cut_and_counted(make_column, every):
    column = make_column(["a b c d e", "a b"])
    kind, _ = Text.fit(column, every(column), DataRecipe(text_length=3, rare=1))
    codes, findings = kind.encode(column)
    assert codes[..., 0].tolist() == [[2, 3, 4], [2, 3, 0]]
    assert findings[0].evidence == {"column": "x", "cut": 1, "texts": 2, "longest": 5}


def test_recognises_sentences_but_not_names_or_categories(make_column):
    sentences = [f"this is sentence number {n} of many" for n in range(50)]
    assert Text.recognise(make_column(sentences)).reason == "text, 7 words on average"
    assert Text.recognise(make_column([f"user{n}" for n in range(50)])) is None
    assert Text.recognise(make_column(["very good indeed", "not good at all"] * 25)) is None
    assert Text.recognise(make_column([1.0, 2.0])) is None
    assert Text.recognise(make_column([f"555-0{n}-{n}{n}:1.2" for n in range(50)])) is None
    assert Text.recognise(make_column([f"東京都は{n}番目" for n in range(50)])) is not None


def test_pieces_are_hashed_character_ngrams_of_each_word(make_column, every):
    column = make_column(["chat", "chats at", ""])
    kind, _ = Text.fit(column, every(column), DataRecipe(rare=1))
    codes, _ = kind.encode(column)
    block = kind.block("x")
    assert codes.shape == (3, 2, 1 + PIECES)
    assert codes[..., 1:].max() < block.piece_buckets

    def slowly(word: str) -> list[int]:
        marked = f"<{word}>"
        parts = [marked[at : at + size] for size in (3, 4, 5) for at in range(len(word) + 2 - size + 1)]
        found = [1 + zlib.crc32(part.encode()) % (block.piece_buckets - 1) for part in parts]
        return (found + [0] * PIECES)[:PIECES]

    for row, words in enumerate([["chat"], ["chats", "at"], []]):
        for place in range(2):
            expected = slowly(words[place]) if place < len(words) else [0] * PIECES
            assert codes[row, place, 1:].tolist() == expected


def test_very_many_words_go_without_pieces(make_column, every, monkeypatch):
    monkeypatch.setattr("sounding.kinds.text.MOST_PIECES", 3 * 2 * PIECES - 1)
    column = make_column(["a b", "b c", "c a"])
    kind, _ = Text.fit(column, every(column), DataRecipe(rare=1))
    assert kind.encode(column)[0].shape == (3, 2)
    assert kind.block("x").piece_buckets == 0
    assert Text.from_json(kind.to_json()) == kind
