"""Each check finds what was put there, and keeps still where nothing was."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sounding.data.checks import CHECKS, Examined, identifiers, run_checks
from sounding.data.checks.drift import kolmogorov_smirnov, total_variation
from sounding.data.checks.examined import picture_codes
from sounding.data.schema import Schema
from sounding.data.split import make_split
from sounding.data.table import Table
from sounding.finding import Finding
from sounding.kinds import Encoded
from sounding.recipe import DataRecipe


@pytest.fixture
def found(make_case: Any) -> Any:
    """The findings of one rule, or of all."""

    def find(rule: str, columns: dict[str, Any], **more: Any) -> list[Finding]:
        case = make_case(columns, **more)
        findings = run_checks(case.table, case.schema, case.split, case.encoded)
        return [finding for finding in findings if finding.rule == rule]

    return find


def noise(rows: int = 400, seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "x": draw.normal(size=rows),
        "c": draw.choice(["red", "green", "blue"], size=rows),
        "y": draw.choice(["no", "yes"], size=rows),
    }


def test_noise_raises_no_alarm(make_case: Any) -> None:
    for seed in range(5):
        case = make_case(noise(seed=seed))
        assert run_checks(case.table, case.schema, case.split) == []
        assert identifiers(case.table, case.schema, case.split.train, DataRecipe())[1] == []


class TestLeak:
    """TG-13."""

    @pytest.mark.parametrize("make", [lambda y: y, lambda y: np.where(y == "yes", 3.5, 1.25)], ids=["copy", "numbers"])
    def test_a_copy_of_the_target(self, found: Any, make: Any) -> None:
        columns = noise()
        (finding,) = found("target-leak", columns | {"result": make(columns["y"])})
        assert finding.severity == "warning"
        assert finding.title.startswith('"result" alone gives "y" away: 100.0% balanced accuracy')
        assert finding.remedy is not None
        assert finding.remedy.set == {"data.ignore": ["result"]}

    def test_a_copy_with_few_errors(self, found: Any) -> None:
        columns = noise(4000)
        result = columns["y"].copy()
        result[:20] = "yes"
        assert len(found("target-leak", columns | {"result": result})) == 1

    def test_a_strong_honest_column_is_left_alone(self, found: Any) -> None:
        columns = noise(2000)
        wrong = np.random.default_rng(1).random(2000) < 0.05
        strong = np.where(wrong ^ (columns["y"] == "yes"), "a", "b")
        assert found("target-leak", columns | {"strong": strong}) == []

    @pytest.mark.parametrize("values", [("none", "some"), (0, 1)], ids=["words", "flags"])
    def test_a_column_that_gives_one_class_away(self, found: Any, values: tuple[Any, Any]) -> None:
        """As "arrested again, ever" does where "within two years" is asked for: COMPAS has both."""
        columns, draw = noise(4000), np.random.default_rng(1)
        later = (columns["y"] == "no") & (draw.random(4000) < 0.06)
        ever = np.where((columns["y"] == "yes") | later, values[1], values[0])
        (finding,) = found("target-leak", columns | {"ever": ever})
        assert finding.evidence["class"] == "no"
        share = 1 - later.sum() / (columns["y"] == "no").sum()
        assert finding.evidence["score"] == pytest.approx(share, abs=0.02)
        seldom = np.where((columns["y"] == "yes") | (draw.random(4000) < 0.2), values[1], values[0])
        assert found("target-leak", columns | {"ever": seldom}) == []

    def test_many_values_of_a_rare_answer_are_no_leak(self, found: Any) -> None:
        draw = np.random.default_rng(0)
        y = np.where(draw.random(20_000) < 0.001, "yes", "no")
        assert found("target-leak", noise(20_000) | {"y": y, "town": draw.integers(0, 15, 20_000).astype(str)}) == []

    def test_imbalance_alone_is_no_leak(self, found: Any) -> None:
        columns = noise(2000) | {"y": np.array(["yes"] * 10 + ["no"] * 1990)}
        assert found("target-leak", columns) == []

    @pytest.mark.parametrize(
        "make",
        [lambda y: 3 * y + 1, lambda y: -np.exp(y), lambda y: (y - 3) ** 3],
        ids=["line", "curve", "cube"],
    )
    def test_regression(self, found: Any, make: Any) -> None:
        columns = noise(1000) | {"y": np.random.default_rng(2).normal(size=1000)}
        (finding,) = found("target-leak", columns | {"copy": make(columns["y"])})
        assert finding.evidence["column"] == "copy"
        assert finding.evidence["score"] > 0.99

    def test_regression_with_a_heavy_tail(self, found: Any) -> None:
        y = np.exp(3 * np.random.default_rng(2).normal(size=1000))
        assert len(found("target-leak", noise(1000) | {"y": y, "copy": 2 * y})) == 1

    def test_regression_with_noise_is_left_alone(self, found: Any) -> None:
        draw = np.random.default_rng(3)
        y = draw.normal(size=1000)
        assert found("target-leak", noise(1000) | {"y": y, "good": y + 0.3 * draw.normal(size=1000)}) == []

    def test_it_comes_first(self, make_case: Any) -> None:
        columns = noise(400)
        columns |= {"patient_id": np.arange(400) // 4, "result": columns["y"]}
        case = make_case(columns)
        assert [f.rule for f in run_checks(case.table, case.schema, case.split)][:2] == [
            "target-leak",
            "group-leak",
        ]


class TestIdentifiers:
    """TG-14."""

    def run(self, columns: dict[str, Any], recipe: DataRecipe | None = None) -> tuple[Schema, list[Finding]]:
        table = Table(pa.table(columns), "t.csv")
        recipe = recipe or DataRecipe()
        schema = Schema.infer(table, recipe, ["y"])
        split, _ = make_split(table, schema, recipe, 0)
        return identifiers(table, schema, split.train, recipe)

    @pytest.mark.parametrize(
        "cells",
        [
            [f"u{i:04x}" for i in range(400)],
            [f"{i:05d}" for i in range(400)],
            np.arange(400),
            np.random.default_rng(0).permutation(500)[:400] + 10_000,
        ],
        ids=["words", "leading zeros", "counter", "shuffled counter"],
    )
    def test_a_value_for_each_row_is_left_out(self, cells: Any) -> None:
        schema, (finding,) = self.run(noise() | {"code": cells})
        assert schema["code"].role == "ignored"
        assert [field.name for field in schema.inputs] == ["x", "c"]
        assert finding.severity == "warning"
        assert finding.remedy is not None
        assert finding.remedy.set == {"data.keep": ["code"]}

    def test_it_can_be_kept(self) -> None:
        schema, findings = self.run(noise() | {"code": np.arange(400)}, DataRecipe(keep=["code"]))
        assert (schema["code"].role, findings) == ("input", [])

    @pytest.mark.parametrize("name", ["customer_id", "ID", "customerId", "invoice number", "key"])
    def test_sparse_whole_numbers_by_name(self, name: str) -> None:
        cells = np.random.default_rng(0).permutation(10**6)[:400]
        assert len(self.run(noise() | {name: cells})[1]) == 1

    @pytest.mark.parametrize("name", ["population", "paid", "solid", "monkey"])
    def test_sparse_whole_numbers_stay(self, name: str) -> None:
        cells = np.random.default_rng(0).permutation(10**6)[:400]
        assert self.run(noise() | {name: cells})[1] == []

    def test_texts_and_measurements_stay(self) -> None:
        texts = [f"the number {i} is a fine one" for i in range(400)]
        assert self.run(noise() | {"text": texts, "size": np.arange(400) + 0.5})[1] == []


class TestDuplicates:
    def test_rows_in_two_parts(self, found: Any) -> None:
        columns = {name: np.concatenate([cells, cells[:20]]) for name, cells in noise().items()}
        findings = found("rows-in-two-parts", columns, parts={"train": range(400), "test": range(400, 420)})
        by_part = {finding.evidence["part"]: finding for finding in findings}
        assert by_part["test"].severity == "warning"
        evidence = by_part["test"].evidence
        assert (evidence["rows"], evidence["of"]) <= (20, 20)
        example = evidence["examples"][0]
        assert example["test"]["row"] == example["train"]["row"] + 400

    def test_few_columns_of_few_values_agree_by_chance(self, found: Any) -> None:
        draw = np.random.default_rng(0)
        columns = {
            "a": draw.choice(list("pqrst"), 400),
            "b": draw.choice(list("pqrst"), 400),
            "y": noise()["y"],
        }
        assert {finding.severity for finding in found("rows-in-two-parts", columns)} == {"info"}

    def test_copies_within_training(self, found: Any) -> None:
        columns = {name: np.concatenate([cells, cells[:7]]) for name, cells in noise(300).items()}
        parts = {"train": range(307), "validation": range(0, 0), "test": range(0, 0)}
        (finding,) = found("duplicate-rows", columns, parts=parts)
        assert (finding.severity, finding.evidence) == ("info", {"rows": 7, "of": 307})

    def test_missing_is_not_a_word(self, make_case: Any) -> None:
        columns = {"x": np.arange(40) * 0.5, "c": [None, "a"] * 20, "y": ["u", "v"] * 20}
        case = make_case(columns)
        assert len(np.unique(Examined(case.table, case.schema, case.split, case.encoded).fingerprints)) == 40

    def test_pictures_by_content(self) -> None:
        pictures = np.random.default_rng(0).integers(0, 256, size=(5000, 1, 5, 5), dtype=np.uint8)
        pictures[4999] = pictures[3]
        pictures[4998] = pictures[3][..., ::-1]
        codes = picture_codes(pictures)
        assert len(np.unique(codes)) == 4999
        assert codes[4999] == codes[3]


class TestLabels:
    def test_conflicts(self, found: Any) -> None:
        columns = noise(300)
        twins = {name: np.concatenate([cells, cells[:10]]) for name, cells in columns.items()}
        twins["y"][300:] = np.where(columns["y"][:10] == "yes", "no", "yes")
        (finding,) = found("conflicting-labels", twins)
        assert finding.severity == "warning"
        assert finding.evidence["rows"] == 20
        assert finding.evidence["best_possible_accuracy"] == pytest.approx(300 / 310)
        labels = {example["label"] for example in finding.evidence["examples"][:2]}
        assert labels == {"no", "yes"}

    def test_conflicts_by_chance_are_no_alarm(self, found: Any) -> None:
        draw = np.random.default_rng(0)
        (finding,) = found("conflicting-labels", {"a": draw.choice(list("pqrst"), 400), "y": noise()["y"]})
        assert finding.severity == "info"
        assert 0.5 < finding.evidence["best_possible_accuracy"] < 0.7


class TestClasses:
    def test_tg_18_extreme_imbalance(self, found: Any) -> None:
        columns = noise(3000) | {"y": np.array(["yes"] * 20 + ["no"] * 2980)}
        (finding,) = found("class-imbalance", columns)
        assert finding.severity == "warning"
        assert '99.33% of the training rows are "no"' in finding.title
        assert finding.remedy is not None
        assert finding.remedy.set == {"training.class_weights": True}

    def test_usual_imbalance_is_no_alarm(self, found: Any) -> None:
        assert found("class-imbalance", noise(300) | {"y": np.array(["a"] * 270 + ["b"] * 30)}) == []

    def test_near_empty(self, found: Any) -> None:
        columns = noise(300) | {"y": np.array(["a"] * 150 + ["b"] * 145 + ["rare"] * 5)}
        (finding,) = found("near-empty-classes", columns)
        assert finding.evidence["classes"] == {"rare": 3}

    def test_unmeasured(self, found: Any) -> None:
        columns = noise(300) | {"y": np.array(["a"] * 150 + ["b"] * 149 + ["once"])}
        (finding,) = found("unmeasured-classes", columns)
        assert finding.evidence["classes"] == ["once"]


class TestGroups:
    """TG-16."""

    def test_patients_on_both_sides(self, found: Any) -> None:
        (finding,) = found("group-leak", noise() | {"patient": np.arange(400) // 8})
        assert finding.severity == "warning"
        assert finding.evidence["groups"] == 50
        assert finding.remedy is not None
        assert finding.remedy.set == {"data.group": "patient"}

    def test_an_ignored_column_counts_too(self, found: Any) -> None:
        columns = noise() | {"patient": np.arange(400) // 8}
        assert len(found("group-leak", columns, settings={"data.ignore": ["patient"]})) == 1

    def test_no_word_once_it_is_split_by(self, found: Any) -> None:
        columns = noise() | {"patient": np.arange(400) // 8}
        assert found("group-leak", columns, settings={"data.group": "patient"}) == []

    @pytest.mark.parametrize("name", ["households", "age_group", "country", "paid", "population"])
    def test_other_columns_with_many_rows_for_a_value(self, found: Any, name: str) -> None:
        assert found("group-leak", noise() | {name: np.arange(400) // 8}) == []

    @pytest.mark.parametrize("name", ["patient_id", "PatientID", "customer", "speaker name", "group", "site-nr"])
    def test_names(self, found: Any, name: str) -> None:
        assert len(found("group-leak", noise() | {name: np.arange(400) // 8})) == 1


class TestOutliers:
    """TG-11."""

    def test_far_targets_are_stated(self, found: Any) -> None:
        y = np.exp(np.random.default_rng(0).normal(size=400))
        y[3] = 1e12
        (finding,) = found("target-outliers", noise() | {"y": y}, parts={"train": range(400)} | _nothing())
        assert finding.severity == "info"
        assert finding.evidence["examples"][0]["row"] == 3
        assert finding.remedy is not None
        assert "logarithm" in finding.remedy.text

    def test_a_normal_target_has_none(self, found: Any) -> None:
        assert found("target-outliers", noise() | {"y": np.random.default_rng(0).normal(size=400)}) == []


def _nothing() -> dict[str, range]:
    return {"validation": range(0, 0), "test": range(0, 0)}


def test_nearly_constant(found: Any) -> None:
    flag = np.zeros(4000)
    flag[[5, 6]] = 1
    (finding,) = found(
        "nearly-constant-columns", noise(4000) | {"flag": flag}, parts={"train": range(4000)} | _nothing()
    )
    assert finding.evidence["columns"] == {"flag": 3998 / 4000}
    assert found("nearly-constant-columns", noise(4000)) == []


class TestDrift:
    def test_a_moved_number_and_other_shares(self, found: Any) -> None:
        columns = noise(1000)
        columns["x"][800:] += 1
        columns["c"][800:] = "red"
        (finding,) = found("drift", columns, parts={"train": range(800), "test": range(800, 1000)})
        assert finding.severity == "info"
        assert list(finding.evidence["distances"]) == ["c", "x"]

    def test_chance_is_no_drift(self, found: Any) -> None:
        for seed in range(20):
            assert found("drift", noise(300, seed)) == []

    def test_what_is_certain_but_small_is_no_drift(self, found: Any) -> None:
        columns = noise(40_000)
        columns["x"][20_000:] += 0.1
        assert found("drift", columns, parts={"train": range(20_000), "test": range(20_000, 40_000)}) == []

    def test_distance_against_scipy(self) -> None:
        from scipy.stats import ks_2samp

        draw = np.random.default_rng(0)
        for _ in range(20):
            one, other = draw.integers(0, 9, size=50) / 3, draw.normal(size=70).round(1)
            assert kolmogorov_smirnov(one, other) == pytest.approx(ks_2samp(one, other).statistic)

    def test_total_variation_by_hand(self) -> None:
        assert total_variation(np.array([0, 0, 1, 5]), np.array([1, 1, 1, 1])) == (0.75, 3)


def test_every_check_bears_a_table_of_pictures_only(make_case: Any) -> None:
    case = make_case(noise(60))
    pictures = np.random.default_rng(0).integers(0, 256, size=(60, 1, 4, 4), dtype=np.uint8)
    examined = Examined(case.table, case.schema, case.split, Encoded(case.encoded.blocks | {"image:p": pictures}))
    for check in CHECKS.values():
        assert list(check(examined)) == []


def test_rd_20_columns_named_like_internals(found: Any) -> None:
    columns = noise() | {name: np.random.default_rng(1).normal(size=400) for name in ("numbers", "categories", "row")}
    assert found("target-leak", columns) == []
    assert found("target-leak", columns | {"__row__": np.where(columns["y"] == "yes", 1.5, 2.5)}) != []


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["@adult", "@california-housing", "@german-credit", "@digits", "@breast-cancer"])
def test_no_false_alarms_on_public_sets(name: str) -> None:
    from sounding.data.sources import read_source

    if name in ("@adult", "@california-housing", "@german-credit") and not os.environ.get("SOUNDING_DATA"):
        pytest.skip(f"{name} is not here: set SOUNDING_DATA")
    recipe = DataRecipe()
    table = read_source(name, recipe)
    schema = Schema.infer(table, recipe, list(table.target))
    split, _ = make_split(table, schema, recipe, 0)
    schema, left_out = identifiers(table, schema, split.train, recipe)
    schema, _ = schema.fit(table, split.train, recipe)
    alarms = [finding for finding in run_checks(table, schema, split) if finding.severity != "info"]
    assert [finding.title for finding in [*left_out, *alarms]] == []
