"""The simple models learn what they should, and the verdict says what the numbers say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from sounding.kinds import Encoded
from sounding.tasks import Predictions
from sounding.trust import baseline
from sounding.trust.baseline import BaselineResult, Problem, Verdict, compare, guess, linear, trees, verdict


def problem_of(case: Any) -> Problem:
    return Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0)


def judged(case: Any, predictions: Predictions) -> tuple[list[BaselineResult], Verdict]:
    truth = case.truth[case.split.test]
    results = compare(
        case.task, case.table, case.schema, case.split, case.encoded, case.truth, predictions, case.recipe
    )
    return results, verdict(case.task, predictions, truth, results)


def perfect(case: Any, doubt: float = 0.01) -> Predictions:
    classes = case.task.outputs
    shares = np.eye(classes)[case.truth[case.split.test]]
    return Predictions(shares * (1 - doubt) + doubt / classes)


def test_guess_is_the_frequency_of_each_class(make_case: Any, columns: Any) -> None:
    case = make_case(columns("three"))
    values, _ = guess(problem_of(case))
    shares = np.bincount(case.truth[case.split.train]) / len(case.split.train)
    np.testing.assert_allclose(values, np.tile(shares, (200, 1)))


def test_guess_is_the_mean_of_numbers(make_case: Any, columns: Any) -> None:
    case = make_case(columns("amount"))
    values, _ = guess(problem_of(case))
    np.testing.assert_allclose(values, np.full(200, case.truth[case.split.train].mean()))


def test_linear_is_a_logistic_regression_of_the_columns(make_case: Any) -> None:
    """Against scikit-learn on columns built by hand, for the strength that the validation rows choose."""
    draw = np.random.default_rng(0)
    x, c = draw.normal(size=300), draw.choice(["a", "b"], size=300)
    case = make_case({"c": c, "y": np.where(x + (c == "a") > 0.5, "yes", "no")})
    values, note = linear(problem_of(case))
    hot = np.stack([np.zeros(300), c == "a", c == "b"], axis=1)  # code 0, for unseen ones, occurs in no row
    train, check = case.split.train, case.split.validation
    fits = [LogisticRegression(C=1 / s, max_iter=200).fit(hot[train], case.truth[train]) for s in (0.1, 1.0, 10.0)]
    losses = [-np.log(f.predict_proba(hot[check])[np.arange(len(check)), case.truth[check]]).mean() for f in fits]
    np.testing.assert_allclose(values, fits[int(np.argmin(losses))].predict_proba(hot), atol=1e-3)
    assert note == ""


def test_categories_of_two_columns_are_told_apart(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.choice(["no", "maybe", "yes"], size=400), draw.choice(["no", "maybe", "yes"], size=400)
    case = make_case({"a": a, "b": b, "y": np.where((a == "yes") & (b != "yes"), "u", "v")})
    values, _ = linear(problem_of(case))
    assert case.task.metrics(Predictions(values), case.truth)["accuracy"] == 1


def test_linear_finds_a_line_that_ranks_would_bend(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    x = np.exp(draw.normal(size=500))
    case = make_case({"x": x, "y": 3 * x + 0.01 * draw.normal(size=500)})
    values, _ = linear(problem_of(case))
    assert case.task.metrics(Predictions(values), case.truth)["r2"] > 0.98


def test_trees_find_what_a_line_cannot(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=600), draw.normal(size=600)
    case = make_case({"a": a, "b": b, "y": np.where(a * b > 0, "same", "differ")})
    by_line, by_trees = linear(problem_of(case)), trees(problem_of(case))
    assert by_trees is not None
    test = case.split.test
    scores = [
        case.task.metrics(Predictions(values[test]), case.truth[test])["accuracy"] for values, _ in (by_line, by_trees)
    ]
    assert scores[0] < 0.7 < 0.85 < scores[1]


@pytest.mark.parametrize("target", [["two"], ["three"], ["amount"], ["wet", "cold"]])
def test_every_task_has_its_baselines(make_case: Any, columns: Any, target: list[str]) -> None:
    every = columns()
    case = make_case({name: every[name] for name in ("x", "colour", *target)}, target)
    values, _ = guess(problem_of(case))
    results, _ = judged(case, Predictions(values[case.split.test]))
    assert len(results) == 3
    first, *others = results
    assert (first.difference, first.interval) == (0, (0, 0))  # the guess against itself
    for result in others:
        assert set(result.metrics) == {"validation", "test"}
        assert case.task.headline in result.metrics["test"]
        sign = 1 if case.task.higher_is_better else -1
        assert sign * result.difference < 0
        assert result.interval[0] <= result.difference <= result.interval[1]


def test_texts(make_case: Any) -> None:
    draw = np.random.default_rng(0)
    fillers = np.array("the a one this that film story plot actor scene music".split())
    texts, labels = [], []
    for _ in range(400):
        good = bool(draw.integers(2))
        words = [*draw.choice(fillers, size=9), "wonderful" if good else "terrible"]
        texts.append(" ".join(draw.permutation(words)))
        labels.append("pos" if good else "neg")
    case = make_case({"review": texts, "y": labels}, settings={"data.kinds.review": "text"})
    assert trees(problem_of(case)) is None
    values, _ = linear(problem_of(case))
    assert case.task.metrics(Predictions(values), case.truth)["accuracy"] == 1


def test_pictures(make_case: Any) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    case = make_case({"x": np.zeros(1797) + np.arange(1797) % 7, "y": [f"d{label}" for label in digits.target]})
    pictures = (digits.images[:, None] * 15.9375).astype(np.uint8)
    problem = Problem(case.task, case.table, case.schema, case.split, Encoded({"image:p": pictures}), case.truth, 0)
    assert trees(problem) is None
    values, _ = linear(problem)
    test = case.split.test
    assert case.task.metrics(Predictions(values[test]), case.truth[test])["accuracy"] > 0.93


def test_much_is_learned_from_a_part_and_said(make_case: Any, columns: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MOST_LINEAR_CELLS", 1)
    monkeypatch.setattr(baseline, "LINEAR_ITERATIONS", 2)
    case = make_case(columns("three", 3000))
    _, note = linear(problem_of(case))
    assert note == "trained on 1000 of 2400 rows, drawn at random; stopped after 2 iterations"


def test_weights_reach_the_simple_models(make_case: Any) -> None:
    columns = {"x": np.arange(100) % 5 + 0.5, "w": [9.0] * 50 + [1.0] * 50, "y": ["a"] * 50 + ["b"] * 50}
    parts = {"train": range(100), "validation": range(0, 0), "test": range(0, 0)}
    case = make_case(columns, parts=parts, settings={"data.weight": "w"})
    np.testing.assert_allclose(guess(problem_of(case))[0][0], [0.9, 0.1])
    assert linear(problem_of(case))[0][:, 0] == pytest.approx(np.full(100, 0.9), abs=0.01)


def test_a_class_of_one_row_and_tiny_tables(make_case: Any) -> None:
    case = make_case({"x": np.arange(12) * 0.5, "y": ["a"] * 6 + ["b"] * 5 + ["once"]})
    for model in (guess, linear, trees):
        answer = model(problem_of(case))
        assert answer is not None
        np.testing.assert_allclose(answer[0].sum(1), 1)


class TestVerdict:
    @pytest.fixture
    def case(self, make_case: Any, columns: Any) -> Any:
        return make_case(columns("two", 2000))

    def test_the_network_wins(self, case: Any) -> None:
        _, judgement = judged(case, perfect(case))
        assert judgement.winner == "network"
        assert judgement.headline.startswith("The network wins: accuracy 100.0 % against ")
        assert judgement.difference is not None
        assert judgement.difference > 0

    def test_the_simple_model_is_as_good(self, case: Any) -> None:
        values, _ = linear(problem_of(case))
        _, judgement = judged(case, Predictions(values[case.split.test]))
        assert judgement.winner == "neither"
        assert judgement.headline.startswith("The simple model is as good: accuracy ")
        assert "Use " in judgement.advice

    def test_the_simple_model_is_better(self, case: Any) -> None:
        values, _ = linear(problem_of(case))
        half = values[case.split.test].copy()
        half[::8] = half[::8, ::-1]  # every eighth row turned around
        _, judgement = judged(case, Predictions(half))
        assert judgement.headline.startswith("The simple model is better: ")
        assert judgement.winner in ("a linear model", "gradient-boosted trees")

    def test_a_network_that_learned_nothing_where_there_is_something(self, case: Any) -> None:
        values, _ = guess(problem_of(case))
        _, judgement = judged(case, Predictions(values[case.split.test]))
        assert judgement.headline.startswith("No better than guessing: ")
        assert judgement.winner in ("a linear model", "gradient-boosted trees")
        assert "has not learned it" in judgement.advice

    @pytest.mark.parametrize("seed", range(5))
    def test_tg_19_shuffled_labels(self, make_case: Any, columns: Any, seed: int) -> None:
        table = columns("two", 1000, seed)
        table["y"] = np.random.default_rng(seed).permutation(table["y"])
        case = make_case(table)
        by_trees = trees(problem_of(case))  # stands in for a network that has learned noise
        assert by_trees is not None
        _, judgement = judged(case, Predictions(by_trees[0][case.split.test]))
        assert judgement.headline.startswith("No better than guessing: accuracy ")
        assert judgement.winner == "nothing"
        assert "labels and rows belong together" in judgement.advice

    def test_knowing_something_without_a_gain_in_accuracy_is_no_guess(self, make_case: Any) -> None:
        draw = np.random.default_rng(0)
        x = draw.normal(size=4000)
        likely = np.where(x > 0, 0.3, 0.02)  # never above one half: the best answer is always no
        case = make_case({"x": x, "y": np.where(draw.random(4000) < likely, "yes", "no")})
        test = likely[case.split.test]
        _, judgement = judged(case, Predictions(np.stack([1 - test, test], axis=1)))
        assert judgement.winner == "neither"

    def test_regression_speaks_in_units(self, make_case: Any, columns: Any) -> None:
        case = make_case(columns("amount", 2000))
        _, judgement = judged(case, Predictions(case.truth[case.split.test] + 0.001))
        assert judgement.headline.startswith("The network wins: typical error (rmse) 0.001 against ")

    def test_no_test_rows(self, make_case: Any, columns: Any) -> None:
        case = make_case(columns("two"), settings={"data.test": 0.0})
        results, judgement = judged(case, Predictions(np.empty((0, 2))))
        assert np.isnan(results[0].difference)
        assert judgement.winner == "unknown"
        assert judgement.headline == "No verdict: accuracy is undefined on 0 test rows."

    def test_no_baselines(self, case: Any) -> None:
        truth = case.truth[case.split.test]
        assert verdict(case.task, perfect(case), truth, []).headline == "No verdict: no simple model was trained."


def test_same_seed_same_numbers(make_case: Any, columns: Any) -> None:
    case = make_case(columns("three"))
    one, other = (judged(case, perfect(case))[0] for _ in range(2))
    assert [result.metrics for result in one] == [result.metrics for result in other]
    assert [result.interval for result in one] == [result.interval for result in other]


def test_labels_with_gaps_in_training(make_case: Any) -> None:
    """A class that only the table knows gets no probability, and nothing breaks."""
    labels = ["a", "b"] * 40 + ["c"] * 3
    case = make_case({"x": np.arange(83) * 0.5, "y": pa.array(labels)}, parts={"train": range(83)})
    answer = linear(problem_of(case))
    assert answer[0].shape == (83, 3)
