"""Splits against their promises: disjoint, complete, in shares, by whole groups, by time, repeatable."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sounding.data.schema import Schema
from sounding.data.split import Split, make_split
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe


def split_of(
    columns: dict[str, object],
    recipe: DataRecipe | None = None,
    *,
    seed: int = 0,
    parts: dict[str, range] | None = None,
    target_kind: str = "",
) -> tuple[Split, list[str]]:
    recipe = recipe or DataRecipe()
    table = Table(pa.table(columns), "t.csv", parts=parts or {})
    return make_split(table, Schema.infer(table, recipe, ["y"], target_kind), recipe, seed)


def assert_whole(split: Split, rows: int) -> None:
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together.tolist()) == list(range(rows))
    for part in split.parts.values():
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=30),
    validation=st.sampled_from([0.0, 0.1, 0.25]),
    test=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 3),
)
def test_stratified_promises(counts: list[int], validation: float, test: float, seed: int) -> None:
    rows = sum(counts)
    if rows < 3 or max(counts) < 2:
        return
    labels = np.repeat([f"c{i}" for i in range(len(counts))], counts)
    recipe = DataRecipe(validation=validation, test=test)
    split, _ = split_of({"x": np.arange(rows) * 0.5, "y": labels}, recipe, seed=seed)
    assert_whole(split, rows)
    for label, count in zip(np.unique(labels), [int((labels == x).sum()) for x in np.unique(labels)], strict=True):
        assert (labels[split.train] == label).sum() >= 1  # every class keeps a training row
        for name, fraction in (("test", test), ("validation", validation)):
            got = int((labels[split.parts[name]] == label).sum())
            assert got <= np.ceil(count * fraction) + 1
    for name, fraction in (("test", test), ("validation", validation)):
        # as many as asked for, unless the classes cannot spare them
        wanted = max(1, round(fraction * rows)) if fraction else 0
        assert len(split.parts[name]) <= wanted
        if min(counts) >= 20:
            assert len(split.parts[name]) == wanted


def test_common_classes_have_their_share() -> None:
    labels = np.array(["a"] * 700 + ["b"] * 300)
    split, notes = split_of({"x": np.arange(1000) * 0.5, "y": labels})
    assert len(split.test) == len(split.validation) == 100
    assert (labels[split.test] == "a").sum() == 70
    assert (labels[split.validation] == "a").sum() == 70
    assert "every class in its share (2 classes)" in notes[0]


def test_rare_classes_are_in_every_part_when_they_have_three_rows() -> None:
    labels = np.array(["a"] * 1000 + ["rare"] * 3)
    split, _ = split_of({"x": np.arange(1003) * 0.5, "y": labels})
    assert [(labels[part] == "rare").sum() for part in split.parts.values()] == [1, 1, 1]


def test_a_class_of_one_row_is_trained_on_and_said() -> None:
    labels = np.array(["a"] * 50 + ["b"] * 49 + ["once"])
    split, notes = split_of({"x": np.arange(100) * 0.5, "y": labels})
    assert 99 in split.train
    assert "1 of them has fewer rows than there are parts" in notes[0]


def test_many_classes_of_few_rows() -> None:  # TG-07
    labels = np.repeat([f"c{i}" for i in range(2700)], 3)
    split, _ = split_of({"x": np.arange(8100) * 0.5, "y": labels})
    assert_whole(split, 8100)
    assert len(np.unique(labels[split.train])) == 2700
    assert len(split.test) == 810


def test_identifiers_as_target_are_refused_with_both_numbers() -> None:  # TG-07
    with pytest.raises(DataError, match=r"40 different values in 40 rows"):
        split_of({"x": np.arange(40) * 0.5, "y": [f"id{i}" for i in range(40)]})


@pytest.mark.parametrize("rows", [1, 2])
def test_rd_04_too_few_rows(rows: int) -> None:
    with pytest.raises(DataError, match=rf"{rows} rows? to divide.*train, test, validation\) need 3.*give 3 rows"):
        split_of({"x": [0.5] * rows, "y": ["a", "b"][:rows]})


def test_fractions_that_leave_nothing() -> None:
    with pytest.raises(DataError, match="leave no rows to train with"):
        split_of({"x": [0.5] * 9, "y": list("ababababa")}, DataRecipe(test=0.5, validation=0.5))


def test_same_seed_same_rows() -> None:
    columns = {"x": np.arange(200) * 0.5, "y": np.arange(200) * 0.25}
    one, _ = split_of(columns, seed=3)
    two, _ = split_of(columns, seed=3)
    other, _ = split_of(columns, seed=4)
    assert np.array_equal(one.test, two.test)
    assert not np.array_equal(one.test, other.test)


def test_regression_is_at_random() -> None:
    split, notes = split_of({"x": np.arange(200) * 0.5, "y": np.arange(200) * 0.25})
    assert_whole(split, 200)
    assert [len(part) for part in split.parts.values()] == [160, 20, 20]
    assert "at random" in notes[0]
    # 20 of 200 consecutive rows at random: none of the parts is a stretch
    assert np.ptp(split.test) > 100


def test_groups_are_never_shared() -> None:
    patients = np.random.default_rng(0).integers(40, size=600)
    columns = {"x": np.arange(600) * 0.5, "patient": patients, "y": np.arange(600) * 0.25}
    split, notes = split_of(columns, DataRecipe(group="patient"))
    assert_whole(split, 600)
    parts = [set(patients[part]) for part in split.parts.values()]
    assert parts[0].isdisjoint(parts[1] | parts[2])
    assert parts[1].isdisjoint(parts[2])
    assert 30 <= len(split.test) <= 60
    assert 'whole groups of "patient" (40 groups)' in notes[0]


def test_one_large_group_trains() -> None:
    group = np.array(["large"] * 90 + ["b"] * 5 + ["c"] * 5)
    split, _ = split_of({"x": np.arange(100) * 0.5, "g": group, "y": np.arange(100) * 0.25}, DataRecipe(group="g"))
    assert set(group[split.train]) == {"large"}


def test_too_few_groups_names_both_numbers() -> None:
    with pytest.raises(DataError, match=r"2 groups for 3 parts.*3 groups or more"):
        split_of({"x": np.arange(9) * 0.5, "g": list("aaaabbbbb"), "y": np.arange(9) * 0.25}, DataRecipe(group="g"))


@pytest.mark.parametrize(
    "times",
    [
        np.arange(100.0)[::-1],
        np.array([f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(100)])[::-1],
        pa.array(np.arange(100)[::-1], pa.timestamp("s")),
        pa.array(np.arange(100, dtype=np.int32)[::-1], pa.date32()),
    ],
    ids=["numbers", "text", "timestamps", "dates"],
)
def test_the_latest_rows_test(times: object) -> None:
    split, notes = split_of(
        {"when": times, "x": np.arange(100) * 0.5, "y": np.arange(100) * 0.25}, DataRecipe(time="when")
    )
    assert split.test.tolist() == list(range(10))  # the table runs backwards
    assert split.validation.tolist() == list(range(10, 20))
    assert 'the latest in "when"' in notes[0]


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_one_time_are_in_one_part(seed: int) -> None:
    draw = np.random.default_rng(seed)
    times = draw.integers(0, 12, 200)
    columns = {"when": times, "x": np.arange(200) * 0.5, "y": np.arange(200) * 0.25}
    split, _ = split_of(columns, DataRecipe(time="when", test=0.1, validation=0.1))
    assert_whole(split, 200)
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()
    possible = [(times >= time).sum() for time in range(2, 12)]
    assert len(split.test) == min(possible, key=lambda size: abs(size - 20))


def test_too_few_times_names_both_numbers() -> None:
    columns = {"when": [1] * 30 + [2] * 30, "x": np.arange(60) * 0.5, "y": np.arange(60) * 0.25}
    with pytest.raises(DataError, match=r"2 different times for 3 parts.*3 times or more"):
        split_of(columns, DataRecipe(time="when"))


def test_a_row_without_time_is_named() -> None:
    columns = {
        "when": ["2024-01-01", "", "2024-01-03", "2024-01-04"],
        "x": [0.5] * 4,
        "y": [0.1, 0.2, 0.3, 0.4],
    }
    with pytest.raises(DataError, match=r"1 rows? ha.* no time"):
        split_of(columns, DataRecipe(time="when"))


def test_a_time_that_is_none_is_named() -> None:
    columns = {"when": ["2024-01-01", "soon", "2024-01-03"], "x": [0.5] * 3, "y": [0.1, 0.2, 0.3]}
    with pytest.raises(DataError, match='"soon" is no time'):
        split_of(columns, DataRecipe(time="when"))


def test_given_parts_are_kept() -> None:
    parts = {"train": range(60), "validation": range(60, 80), "test": range(80, 100)}
    split, notes = split_of({"x": np.arange(100) * 0.5, "y": ["a", "b"] * 50}, parts=parts)
    assert {name: (part[0], len(part)) for name, part in split.parts.items()} == {
        "train": (0, 60),
        "validation": (60, 20),
        "test": (80, 20),
    }
    assert notes == [
        "validation rows as given: 20",
        "test rows as given: 20",
    ]


def test_validation_is_taken_from_train_when_only_test_is_given() -> None:
    labels = np.array(["a", "b"] * 50)
    split, notes = split_of(
        {"x": np.arange(100) * 0.5, "y": labels}, parts={"train": range(80), "test": range(80, 100)}
    )
    assert_whole(split, 100)
    assert split.test.tolist() == list(range(80, 100))
    assert len(split.validation) == 8
    assert (labels[split.validation] == "a").sum() == 4
    assert "8 validation rows drawn" in notes[1]


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(DataError, match='part "dev" is not known'):
        split_of({"x": np.arange(4) * 0.5, "y": list("abab")}, parts={"train": range(2), "dev": range(2, 4)})


def test_labels_that_are_read_as_others_are_one_class() -> None:
    labels = ["yes", "yes."] * 2 + ["no"] * 96
    recipe = DataRecipe(labels={"yes.": "yes"})
    _, notes = split_of({"x": np.arange(100) * 0.5, "y": labels}, recipe)
    assert "(2 classes)" in notes[0]


def test_several_answers_are_split_by_their_combinations() -> None:
    one, two = np.array(["n", "y"] * 100), np.array(["n", "n", "y", "y"] * 50)
    table = Table(pa.table({"x": np.arange(200) * 0.5, "one": one, "two": two}), "t.csv")
    recipe = DataRecipe()
    split, notes = make_split(table, Schema.infer(table, recipe, ["one", "two"]), recipe, 0)
    assert "(4 classes)" in notes[0]
    assert ((one[split.test] == "y") & (two[split.test] == "y")).sum() == 5
