from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sounding.errors import DataError
from sounding.kinds import Category
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()


def test_each_frequent_value_has_a_code_and_all_others_share_zero(make_column, every):
    column = make_column(["b", "a", " b ", "a", "c", "?", None])
    kind, _ = Category.fit(column, every(column), SETTINGS)
    codes, _ = kind.encode(column)
    assert kind.classes == ("a", "b")
    assert codes.tolist() == [2, 1, 2, 1, 0, 0, 0]
    assert codes.dtype == np.int32
    assert kind.block("x").cardinalities == (3,)


def test_classes_are_in_the_order_of_numbers_then_words(make_column, every):
    column = make_column(["10", "9", "b", "a", "-1"] * 2)
    assert Category.fit(column, every(column), SETTINGS)[0].classes == ("-1", "9", "10", "a", "b")


def test_says_how_many_rows_hold_values_that_have_no_code(make_column, every):
    column = make_column(["a", "a", "b", "b"])
    kind, _ = Category.fit(column, every(column), SETTINGS)
    codes, findings = kind.encode(make_column(["a", "z", "z", "", "y"]))
    assert codes.tolist() == [1, 0, 0, 0, 0]
    assert findings[0].evidence == {"column": "x", "rows": 3, "of": 5, "examples": ["z", "y"]}


def test_learns_from_training_rows_only(make_column):
    kind, _ = Category.fit(make_column(["a", "a", "b", "b"]), np.array([0, 1]), SETTINGS)
    assert kind.classes == ("a",)


@pytest.mark.parametrize("cells", [[1, 2, 1, 2], [1.0, 2.0, 1.0, 2.0], ["1", "2", "1", "2"]])
def test_a_number_is_the_same_category_however_it_is_stored(make_column, every, cells):
    column = make_column(["1", "1", "2", "2"])
    kind, _ = Category.fit(column, every(column), SETTINGS)
    assert kind.encode(make_column(cells))[0].tolist() == [1, 2, 1, 2]


def test_the_most_frequent_of_many_values_are_kept(make_column, every):
    column = make_column(["a"] * 5 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2)
    kind, findings = Category.fit(column, every(column), DataRecipe(max_categories=2))
    assert kind.classes == ("a", "b")
    assert findings[0].rule == "rare-categories"
    assert findings[0].evidence == {"column": "x", "values": 4, "kept": 2, "rows": 5}


def test_target_classes_are_all_values_of_the_training_rows(make_column):
    column = make_column(["b", "a", "c", "c"])
    kind, _ = Category.fit_target(column, np.array([0, 1, 2]), SETTINGS)
    assert kind.classes == ("a", "b", "c")
    codes = kind.encode_target(column)
    assert codes.tolist() == [1, 0, 2, 2]
    assert codes.dtype == np.int64
    assert kind.decode_target(codes).tolist() == ["b", "a", "c", "c"]


def test_labels_that_mean_others_are_read_as_those(make_column):
    column = make_column([">50K", "<=50K", ">50K.", "<=50K."])
    settings = DataRecipe(labels={">50K.": ">50K", "<=50K.": "<=50K"})
    kind, findings = Category.fit_target(column, np.array([0, 1]), settings)
    assert kind.encode_target(column).tolist() == [1, 0, 1, 0]
    assert findings == []


def test_a_label_outside_the_training_rows_is_an_error_that_offers_the_nearest(make_column):
    column = make_column(["<=50K", ">50K", "<=50K", ">50K."])
    kind, _ = Category.fit_target(column, np.array([0, 1]), SETTINGS)
    with pytest.raises(DataError) as caught:
        kind.encode_target(column)
    assert str(caught.value) == (
        'x.csv:5 (column "x"): the label ">50K." is not among the training rows (in 1 row); did you mean ">50K"? '
        """There are: <=50K, >50K; if it means one of these: --set 'data.labels={">50K." = ">50K"}'"""
    )


def test_one_class_is_no_classification(make_column, every):
    column = make_column(["a", "a"])
    with pytest.raises(DataError, match='one class only: "a"'):
        Category.fit_target(column, every(column), SETTINGS)


def test_a_target_without_a_value_is_named_and_its_word_can_be_kept(make_column, every):
    column = make_column(["a", "none", "b"])
    with pytest.raises(DataError) as caught:
        Category.fit_target(column, every(column), SETTINGS)
    assert 'x.csv:3 (column "x"): 1 of 3 rows has no target' in str(caught.value)
    assert 'keep "none" as a label with --set data.missing_in.x=[]' in str(caught.value)


def test_booleans_keep_their_spellings(make_column, every):
    column = make_column(["yes", "No", "TRUE", "0", "n", None])
    kind, findings = Category.fit(column, every(column), SETTINGS)
    assert kind.classes == ("no", "yes")
    assert kind.encode(column)[0].tolist() == [2, 1, 2, 1, 1, 0]
    assert kind.encode(make_column(["Y", "false", "maybe"]))[0].tolist() == [2, 1, 0]
    assert findings[0].evidence["read_as"] == {"0": "no", "No": "no", "TRUE": "yes", "n": "no", "yes": "yes"}
    assert kind.describe() == "yes or no"


def test_typed_booleans_are_two_values(make_column, every):
    column = make_column(pa.array([True, False, None, True, False]))
    kind, _ = Category.fit(column, every(column), SETTINGS)
    assert kind.classes == ("false", "true")
    assert kind.encode(column)[0].tolist() == [2, 1, 0, 2, 1]
