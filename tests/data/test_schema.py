from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from rtdl_num_embeddings import PiecewiseLinearEmbeddings

from sounding.data.labelled import drop_unlabelled
from sounding.data.schema import Schema
from sounding.data.table import Origin, Table
from sounding.errors import DamagedError, DataError, RecipeError
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()


def make_table(**columns: object) -> Table:
    data = pa.table(
        {name: cells if isinstance(cells, pa.Array) else pa.array(cells) for name, cells in columns.items()}
    )
    return Table(data, "x.csv", (Origin("x.csv", len(data), first_line=2),))


def mixed(rows: int = 60) -> Table:
    draw = np.random.default_rng(0)
    return make_table(
        size=[f"{value:.2f}" for value in draw.normal(size=rows)],
        colour=[["red", "green", "blue"][n % 3] for n in range(rows)],
        when=[f"2020-0{1 + n % 9}-1{n % 7}" for n in range(rows)],
        said=[f"it was said {n} times that {n % 4} is enough" for n in range(rows)],
        age=pa.array([None if n % 9 == 4 else n for n in range(rows)]),
        town=[["x", "y"][n % 2] for n in range(rows)],
        y=[["no", "yes"][n % 2] for n in range(rows)],
    )


def fitted(table: Table, rows: int = 40, **settings: object) -> Schema:
    recipe = DataRecipe(**settings)
    return Schema.infer(table, recipe, ["y"]).fit(table, np.arange(rows), recipe)[0]


def test_kinds_are_recognised_with_reasons():
    schema = Schema.infer(mixed(), SETTINGS, ["y"])
    assert [(field.name, field.kind, field.role) for field in schema.fields] == [
        ("size", "number", "input"),
        ("colour", "category", "input"),
        ("when", "date", "input"),
        ("said", "text", "input"),
        ("age", "number", "input"),
        ("town", "category", "input"),
        ("y", "category", "target"),
    ]
    assert schema["colour"].reason == "3 values"
    assert schema["age"].reason == "numbers from 0 to 59"
    assert all(field.reason for field in schema.fields)


def test_blocks_describe_the_encoded_arrays():
    table = mixed()
    schema = fitted(table)
    encoded = schema.encode(table).blocks
    blocks = {block.name: block for block in schema.blocks()}
    assert list(encoded) == list(blocks) == ["numbers", "categories", "text:said"]
    numbers = blocks["numbers"]
    assert numbers.columns == ("size", "when", "age")
    assert encoded["numbers"].shape == (60, len(numbers.features))
    assert len(numbers.bins) == len(numbers.features)
    assert (encoded["categories"].max(axis=0) < blocks["categories"].cardinalities).all()
    assert blocks["categories"].columns == ("colour", "town")
    assert encoded["text:said"].shape[:2] == (60, blocks["text:said"].length)
    assert [array.dtype for array in encoded.values()] == [np.float32, np.int32, np.int32]
    column = numbers.features.index("age")
    alone = schema["age"].fitted.encode(schema["age"].column(table))[0]
    assert np.array_equal(encoded["numbers"][:, column : column + 2], alone)


def test_columns_that_only_describe_are_no_inputs_unless_they_are_named():
    table = replace(make_table(x=[1.5, 2.5, 3.5], who=["a", "b", "a"], y=["n", "m", "n"]), aside=("who",))

    def role(**settings):
        return Schema.infer(table, DataRecipe(**settings), ["y"])["who"].role

    assert role() == "ignored"
    assert role(keep=["who"]) == "input"
    assert role(group="who") == "group"


def test_bins_are_what_piecewise_linear_embeddings_take():
    table = mixed()
    schema = fitted(table)
    [numbers] = [block for block in schema.blocks() if block.form == "numbers"]
    assert all(len(edges) > 1 for edges in numbers.bins)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*just two bin edges")
        embed = PiecewiseLinearEmbeddings(
            [torch.tensor(edges) for edges in numbers.bins], 4, activation=False, version="B"
        )
    assert embed(torch.from_numpy(schema.encode(table).blocks["numbers"])).isfinite().all()


def test_json_gives_the_same_schema_and_the_same_arrays():
    table = mixed()
    schema = fitted(table)
    again = Schema.from_json(json.loads(json.dumps(schema.to_json(), allow_nan=False)))
    assert again == schema
    assert again.blocks() == schema.blocks()
    ours, theirs = schema.encode(table).blocks, again.encode(table).blocks
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert np.array_equal(schema.encode_targets(table)["y"], again.encode_targets(table)["y"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: None,
        lambda values: [],
        lambda values: {},
        lambda values: {**values, "version": 99},
        lambda values: {**values, "fields": [{"name": "x"}]},
        lambda values: {**values, "fields": [{**values["fields"][0], "kind": "os.system"}]},
        lambda values: {**values, "fields": [{**values["fields"][0], "role": "boss"}]},
        lambda values: {**values, "fields": [{**values["fields"][0], "fitted": {"evil": 1}}]},
    ],
)
def test_a_damaged_schema_is_refused(damage):
    with pytest.raises(DamagedError):
        Schema.from_json(damage(fitted(mixed()).to_json()))


def test_everything_unknown_is_named_at_once():
    settings = DataRecipe(ignore=["nothere"], kinds={"colour": "colour"}, weight="heavy")
    with pytest.raises(DataError) as caught:
        Schema.infer(mixed(), settings, ["Y"])
    message = str(caught.value)
    assert 'there is no column "Y" (target)' in message
    assert 'there is no column "nothere" (data.ignore)' in message
    assert 'there is no column "heavy" (data.weight)' in message
    assert "1 more" in message


def test_an_unknown_kind_offers_the_nearest():
    with pytest.raises(RecipeError, match='did you mean "category"'):
        Schema.infer(mixed(), DataRecipe(kinds={"colour": "categroy"}), ["y"])


def test_the_target_cannot_have_another_role():
    with pytest.raises(RecipeError, match="is the target"):
        Schema.infer(mixed(), DataRecipe(group="y"), ["y"])


@pytest.mark.parametrize(
    ("cells", "asked", "kind"),
    [
        (["a", "b"] * 30, "", "category"),
        (pa.array([True, False] * 30), "", "category"),
        ([0, 1, 2] * 20, "", "category"),
        ([0.0, 1.0] * 30, "", "category"),
        ([n % 30 for n in range(60)], "", "number"),
        (np.linspace(0, 1, 60), "", "number"),
        ([0.5, 1.5, 2.5] * 20, "", "number"),
        ([f"{n},25" for n in range(59)] + ["12"], "", "number"),
        ([0, 1, 2] * 20, "number", "number"),
        ([n % 30 for n in range(60)], "category", "category"),
        (["2020-01-01", "2020-01-02"] * 30, "", "category"),
    ],
)
def test_what_a_target_is(cells, asked, kind):
    schema = Schema.infer(make_table(x=list(range(60)), y=cells), SETTINGS, ["y"], asked)
    assert schema["y"].kind == kind


def test_settings_overrule_and_roles_are_kept_out_of_the_inputs():
    table = mixed()
    schema = fitted(table, kinds={"age": "category"}, ignore=["said"], weight="size", group="town", time="when")
    roles = {field.name: field.role for field in schema.fields}
    assert roles == {
        "size": "weight",
        "colour": "input",
        "when": "time",
        "said": "ignored",
        "age": "input",
        "town": "group",
        "y": "target",
    }
    assert [block.columns for block in schema.blocks()] == [("colour", "age")]


def test_weights_are_numbers_of_at_least_zero():
    table = make_table(x=[1, 2, 3], w=[1.0, 0.5, 2.0], y=["a", "b", "a"])
    schema = Schema.infer(table, DataRecipe(weight="w"), ["y"])
    assert schema.encode_weight(table).tolist() == [1, 0.5, 2]
    assert Schema.infer(table, SETTINGS, ["y"]).encode_weight(table) is None
    with pytest.raises(DataError, match=r"x.csv:4 .*1 weights"):
        schema.encode_weight(make_table(x=[1, 2, 3], w=[1.0, 0.5, -2.0], y=["a", "b", "a"]))


def test_ignoring_leaves_inputs_out_for_a_stated_reason():
    schema = fitted(mixed()).ignoring({"town": "gives the target away", "y": "never the target"})
    assert (schema["town"].role, schema["town"].reason) == ("ignored", "gives the target away")
    assert schema["y"].role == "target"
    assert [field.name for field in schema.inputs] == ["size", "colour", "when", "said", "age"]


def test_fitting_sees_training_rows_only():
    table = mixed()
    rows = np.arange(40)
    reference = Schema.infer(table, SETTINGS, ["y"])
    shuffled = table.data.take(pa.array([*rows, *rows[:20][::-1]]))
    other = Table(shuffled, "x.csv")
    ours, theirs = (reference.fit(each, rows, SETTINGS)[0] for each in (table, other))
    assert ours == theirs


def test_problems_of_all_columns_come_in_one_pass():
    table = make_table(a=["1", "x"] * 10, b=["u", "2"] * 10, y=["1", "2"] * 10)
    with pytest.raises(DataError) as caught:
        fitted(table, rows=20, kinds={"a": "number", "b": "number"})
    assert '(column "a"): "x" is not a number' in str(caught.value)
    assert '(column "b"): "u" is not a number' in str(caught.value)


def test_no_input_is_an_error():
    with pytest.raises(DataError, match="no column is left"):
        fitted(make_table(x=["k"] * 20, y=["a", "b"] * 10), rows=20)


def test_lists_of_words_are_not_understood_and_named():
    with pytest.raises(DataError, match=r'column "x".*list'):
        Schema.infer(make_table(x=[["v", "w"]] * 4, y=["a", "b"] * 2), SETTINGS, ["y"])


def test_several_targets():
    table = make_table(x=list(range(20)), y=["a", "b"] * 10, z=[n * 0.5 for n in range(20)])
    schema, _ = Schema.infer(table, SETTINGS, ["y", "z"]).fit(table, np.arange(20), SETTINGS)
    targets = schema.encode_targets(table)
    assert targets["y"].dtype == np.int64
    assert targets["z"].std() == pytest.approx(1)
    assert schema.has_targets(make_table(x=[1, 2], y=["a", None], z=[1.0, 2.0])).tolist() == [True, False]


class TestDropUnlabelled:
    table = Table(
        pa.table({"x": [1, 2, 3, 4, 5, 6], "y": ["a", "", "b", None, "a", "b"]}),
        "x.csv",
        (Origin("x.csv", 4, first_line=2), Origin("z.csv", 2, lines=np.array([5, 9]))),
        parts={"train": range(0, 4), "test": range(4, 6)},
    )

    def test_rows_keep_their_lines_and_parts(self):
        kept, findings = drop_unlabelled(self.table, ["y"], DataRecipe(missing_target="drop"))
        assert kept.data["x"].to_pylist() == [1, 3, 5, 6]
        assert [kept.where(row) for row in range(4)] == [
            ("x.csv", 2),
            ("x.csv", 4),
            ("z.csv", 5),
            ("z.csv", 9),
        ]
        assert kept.parts == {"train": range(0, 2), "test": range(2, 4)}
        assert findings[0].evidence == {"rows": 2, "of": 6, "first": 1, "target": ["y"]}

    def test_nothing_is_dropped_unasked(self):
        assert drop_unlabelled(self.table, ["y"], SETTINGS) == (self.table, [])
        whole = make_table(y=["a", "b"])
        assert drop_unlabelled(whole, ["y"], DataRecipe(missing_target="drop")) == (whole, [])
