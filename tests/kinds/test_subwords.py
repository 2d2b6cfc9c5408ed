from __future__ import annotations

import json

import numpy as np
import pytest

from sounding.errors import DamagedError
from sounding.kinds import Subwords, Text, fitted_from_json, subwords
from sounding.recipe import DataRecipe

pytest.importorskip("transformers")
from encoders import WORDS, save_tokenizer

CELLS = ["The film is GOOD", "bads", "", None, "not a good film and not a bad film"]


@pytest.fixture
def tokenizer(tmp_path):
    save_tokenizer(tmp_path)
    return (tmp_path / "tokenizer.json").read_text()


def codes_of(*words):
    return [WORDS.index(word) + 1 for word in words]


def test_codes_are_the_identifiers_of_the_tokenizer_plus_one_between_its_marks(make_column, every, tokenizer):
    column = make_column(CELLS)
    kind = Subwords.cut_by(tokenizer, 24, column, every(column), DataRecipe())
    codes, findings = kind.encode(column)
    assert codes.shape == (5, 11)
    assert codes.dtype == np.int32
    assert codes[0].tolist() == [*codes_of("[CLS]", "the", "film", "is", "good", "[SEP]"), 0, 0, 0, 0, 0]
    assert codes[1, :5].tolist() == [*codes_of("[CLS]", "bad", "##s", "[SEP]"), 0]
    assert codes[2].tolist() == codes[3].tolist() == [*codes_of("[CLS]", "[SEP]"), *[0] * 9]
    assert findings == []
    block = kind.block("x")
    assert (block.name, block.form, block.vocabulary_size, block.length) == ("text:x", "tokens", len(WORDS) + 1, 11)
    assert block.piece_buckets == 0


@pytest.mark.parametrize(("limit", "asked", "length"), [(24, 6, 6), (7, 128, 7), (24, 128, 11)])
def test_the_length_is_that_of_the_longest_training_text_within_limits(
    make_column, every, tokenizer, limit, asked, length
):
    column = make_column(CELLS)
    kind = Subwords.cut_by(tokenizer, limit, column, every(column), DataRecipe(text_length=asked))
    assert kind.length == length
    shorter = Subwords.cut_by(tokenizer, limit, column, np.array([1]), DataRecipe(text_length=asked))
    assert shorter.length == 4


def test_a_longer_text_is_cut_before_its_end_mark_and_counted(make_column, tokenizer):
    column = make_column(CELLS)
    codes, findings = Subwords(5, 8, tokenizer).encode(column)
    assert codes[4].tolist() == codes_of("[CLS]", "not", "a", "good", "[SEP]")
    assert findings[0].evidence == {"column": "x", "cut": 2, "texts": 5, "longest": 11}
    assert findings[0].remedy.set == {"data.text_length": 8}  # the encoder reads no more
    assert Subwords(8, 8, tokenizer).encode(column)[1][0].remedy is None


def test_many_texts_are_cut_up_in_parts(make_column, tokenizer, monkeypatch):
    column, kind = make_column(CELLS), Subwords(11, 24, tokenizer)
    whole = kind.encode(column)[0]
    monkeypatch.setattr(subwords, "TOGETHER", 2)
    assert np.array_equal(kind.encode(column)[0], whole)
    assert len(kind.encode(make_column([]))[0]) == 0


def test_json_keeps_everything_and_is_told_from_a_text(make_column, every, tokenizer):
    column = make_column(CELLS)
    for kind in (Subwords(11, 24, tokenizer), Text.fit(column, every(column), DataRecipe())[0]):
        again = fitted_from_json("text", json.loads(json.dumps(kind.to_json())))
        assert again == kind
        assert np.array_equal(again.encode(column)[0], kind.encode(column)[0])
        assert again.describe() == kind.describe()


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"type": "Pickle"}}'])
def test_a_damaged_tokenizer_is_named(make_column, text):
    with pytest.raises(DamagedError, match="no tokenizer"):
        Subwords(11, 24, text).encode(make_column(CELLS))
