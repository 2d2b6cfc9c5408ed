"""Every metric against scikit-learn, weights and ties included, and the bootstrap against repeated sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from sounding.tasks import metrics as ours


def sample(
    classes: int, rows: int = 300, seed: int = 0, digits: int | None = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with many ties, codes in which every class occurs, and weights with zeros."""
    draw = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), draw.integers(classes, size=rows - classes)])
    logits = draw.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if digits is not None and classes == 2:
        yes = probabilities[:, 1].round(digits)
        probabilities = np.stack([1 - yes, yes], axis=1)
    weight = draw.integers(0, 4, size=rows).astype(float)
    weight[:classes] = 1
    return probabilities, truth, weight


CASES = [(classes, weighted) for classes in (2, 3, 10) for weighted in (False, True)]


@pytest.mark.parametrize(("classes", "weighted"), CASES)
class TestAgainstScikitLearn:
    def prepare(self, classes: int, weighted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        probabilities, truth, weight = sample(classes)
        return probabilities, truth, weight if weighted else None

    def test_accuracy(self, classes: int, weighted: bool) -> None:
        p, y, w = self.prepare(classes, weighted)
        expected = oracle.accuracy_score(y, p.argmax(1), sample_weight=w)
        assert ours.accuracy(p, y, w) == pytest.approx(expected, abs=1e-12)

    def test_balanced_accuracy(self, classes: int, weighted: bool) -> None:
        p, y, w = self.prepare(classes, weighted)
        expected = oracle.balanced_accuracy_score(y, p.argmax(1), sample_weight=w)
        assert ours.balanced_accuracy(p, y, w) == pytest.approx(expected, abs=1e-12)

    def test_f1(self, classes: int, weighted: bool) -> None:
        p, y, w = self.prepare(classes, weighted)
        expected = oracle.f1_score(y, p.argmax(1), average="macro", sample_weight=w)
        assert ours.f1(p, y, w) == pytest.approx(expected, abs=1e-12)
        for positive in range(classes):
            one = oracle.f1_score(y, p.argmax(1), labels=[positive], average="macro", sample_weight=w)
            assert ours.f1(p, y, w, positive=positive) == pytest.approx(one, abs=1e-12)

    def test_log_loss(self, classes: int, weighted: bool) -> None:
        p, y, w = self.prepare(classes, weighted)
        expected = oracle.log_loss(y, p, sample_weight=w, labels=np.arange(classes))
        assert ours.log_loss(p, y, w) == pytest.approx(expected, abs=1e-12)

    def test_areas(self, classes: int, weighted: bool) -> None:
        p, y, w = self.prepare(classes, weighted)
        each = []
        for positive in range(classes):
            expected = oracle.roc_auc_score(y == positive, p[:, positive], sample_weight=w)
            assert ours.roc_auc(p, y, w, positive=positive) == pytest.approx(expected, abs=1e-12)
            precision = oracle.average_precision_score(y == positive, p[:, positive], sample_weight=w)
            assert ours.average_precision(p, y, w, positive=positive) == pytest.approx(precision, abs=1e-12)
            each.append((expected, precision))
        means = np.mean(each, axis=0)
        assert ours.roc_auc(p, y, w) == pytest.approx(means[0], abs=1e-12)
        assert ours.average_precision(p, y, w) == pytest.approx(means[1], abs=1e-12)

    def test_regression(self, classes: int, weighted: bool) -> None:
        p, _, w = self.prepare(classes, weighted)
        truth, said = 1e6 + p[:, 0], 1e6 + p[:, 0] + 0.1 * p[:, 1]
        rmse = oracle.root_mean_squared_error(truth, said, sample_weight=w)
        assert ours.rmse(said, truth, w) == pytest.approx(rmse, abs=1e-9)
        assert ours.mae(said, truth, w) == pytest.approx(
            oracle.mean_absolute_error(truth, said, sample_weight=w), abs=1e-9
        )
        assert ours.r2(said, truth, w) == pytest.approx(oracle.r2_score(truth, said, sample_weight=w), abs=1e-6)


def test_many_weightings_at_once_agree_with_one_at_a_time() -> None:
    for classes in (2, 4):
        p, y, _ = sample(classes)
        weights = np.random.default_rng(1).integers(0, 3, size=(7, len(y))).astype(float)
        together = ours.classification_metrics(p, y, weights)
        for at, weight in enumerate(weights):
            for name, value in ours.classification_metrics(p, y, weight).items():
                assert together[name][at] == pytest.approx(value, abs=1e-12), name


def test_a_row_with_weight_three_counts_as_three_rows() -> None:
    p, y, w = sample(3)
    repeated = np.repeat(np.arange(len(y)), w.astype(int))
    for name, value in ours.classification_metrics(p, y, w).items():
        assert value == pytest.approx(ours.classification_metrics(p[repeated], y[repeated])[name], abs=1e-12), name


def slow_calibration_error(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    """Equation 3 of Guo et al. 2017, as it is written."""
    confidence, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(y)) if (m - 1) / bins < confidence[i] <= m / bins]
        if inside:
            gap = abs(np.mean([right[i] for i in inside]) - np.mean([confidence[i] for i in inside]))
            total += len(inside) / len(y) * gap
    return float(total)


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error(bins: int) -> None:
    p, y, _ = sample(4, digits=None)
    assert ours.calibration_error(p, y, bins=bins) == pytest.approx(slow_calibration_error(p, y, bins), abs=1e-12)


def test_perfect_and_perfectly_wrong() -> None:
    y = np.array([0, 1, 0, 1])
    perfect = np.eye(2)[y]
    found = ours.classification_metrics(perfect, y, positive=1)
    assert found == pytest.approx(
        {
            "accuracy": 1,
            "balanced_accuracy": 1,
            "log_loss": 0,
            "calibration_error": 0,
            "f1": 1,
            "roc_auc": 1,
            "average_precision": 1,
        },
        abs=1e-15,
    )
    wrong = ours.classification_metrics(perfect[::-1], y, positive=1)
    assert wrong["accuracy"] == wrong["roc_auc"] == wrong["f1"] == 0
    assert wrong["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps))


def test_what_is_undefined_is_nan_and_left_out() -> None:
    p, y = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0])
    assert np.isnan(ours.roc_auc(p, y, positive=1))
    assert np.isnan(ours.average_precision(p, y, positive=1))
    assert np.isnan(ours.r2(np.ones(3), np.ones(3)))
    assert set(ours.defined(ours.classification_metrics(p, y, positive=1))) == {
        "accuracy",
        "balanced_accuracy",
        "calibration_error",
        "log_loss",
    } | ({"f1"} if np.isfinite(ours.f1(p, y, positive=1)) else set())


def test_asking_for_some_metrics_gives_just_these() -> None:
    p, y, _ = sample(2)
    assert set(ours.classification_metrics(p, y, names={"roc_auc", "log_loss"})) == {"roc_auc", "log_loss"}


def intervals(measure: Any, prediction: np.ndarray, truth: np.ndarray, samples: int, seed: int) -> dict[str, Any]:
    return ours.intervals(ours.bootstrap(measure, prediction, truth, samples=samples, seed=seed))


def test_interval_of_accuracy_is_that_of_a_share() -> None:
    """For a share the bootstrap has a closed form: the binomial distribution."""
    y = np.zeros(400, dtype=int)
    p = np.zeros((400, 2))
    p[:320, 0], p[320:, 1] = 1, 1
    low, high = intervals(ours.classification_metrics, p, y, 4000, 0)["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - half, abs=0.004)
    assert high == pytest.approx(0.8 + half, abs=0.004)


def test_interval_of_the_area_under_the_curve_is_as_wide_as_repeated_experiments() -> None:
    def experiment(seed: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(seed)
        y = draw.integers(2, size=200)
        yes = 1 / (1 + np.exp(-(draw.normal(size=200) + y)))
        return np.stack([1 - yes, yes], axis=1), y

    spread = np.std([ours.roc_auc(*experiment(seed), positive=1) for seed in range(400)])
    values = ours.bootstrap(ours.classification_metrics, *experiment(0), samples=400, seed=0, names={"roc_auc"})
    assert np.std(values["roc_auc"]) == pytest.approx(spread, rel=0.2)


def test_a_difference_is_paired() -> None:
    """Two predictions that are right on the same rows differ by nothing, however uncertain each is."""
    p, y, _ = sample(3)
    sharper = p**2 / (p**2).sum(1, keepdims=True)
    one, other = (ours.bootstrap(ours.classification_metrics, each, y, samples=200, seed=0) for each in (sharper, p))
    found = ours.differences(one, other)
    assert found["accuracy"] == (0, 0)
    assert found["log_loss"][0] < found["log_loss"][1]
    single = intervals(ours.classification_metrics, p, y, 200, 0)["accuracy"]
    assert single[1] - single[0] > 0.05


def test_a_difference_of_predictions_of_different_width_is_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector gives more boxes for each picture than a simple model, and is resampled less often."""
    monkeypatch.setattr(ours, "BOOTSTRAP_WORK", 300 * 60 * 3)

    def measure(values: np.ndarray, truth: np.ndarray, weight: np.ndarray, **_: object) -> dict[str, np.ndarray]:
        return {"mean": weight @ values.max((1, 2)) / weight.sum(1)}

    wide = np.random.default_rng(0).random((60, 100, 6))
    wide[:, 3:] = 0
    one, other = (ours.bootstrap(measure, each, np.zeros(60), samples=1000, seed=0) for each in (wide, wide[:, :3]))
    assert len(one["mean"]) < len(other["mean"])
    assert ours.differences(one, other)["mean"] == pytest.approx((0, 0), abs=1e-12)


def test_bootstrap_repeats_and_depends_on_the_seed() -> None:
    p, y, _ = sample(2)
    one, two, other = (intervals(ours.classification_metrics, p, y, 50, seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_bootstrap_does_less_where_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    p, y, _ = sample(2, rows=100)

    def resamples(samples: int) -> int:
        return len(ours.bootstrap(ours.classification_metrics, p, y, samples=samples, seed=0)["accuracy"])

    assert resamples(1000) == 1000
    monkeypatch.setattr(ours, "BOOTSTRAP_WORK", 100 * 2 * 300)
    assert resamples(1000) == 300
    monkeypatch.setattr(ours, "BOOTSTRAP_WORK", 1)
    assert resamples(1000) == ours.FEWEST_RESAMPLES
    assert resamples(50) == 50


def test_intervals_of_no_rows() -> None:
    assert intervals(ours.regression_metrics, np.empty(0), np.empty(0), 10, 0) == {}


class TestAnomalies:
    draw = np.random.default_rng(5)
    truth = draw.integers(-1, 2, 300)
    scores = draw.normal(size=300).round(1) + (truth == 1)
    values = np.stack([scores, 1 / (1 + np.exp(scores))], 1)

    def test_they_are_those_of_scikit_learn_on_the_rows_that_are_known(self) -> None:
        found = ours.anomaly_metrics(self.values, self.truth, false_alarms=0.3)
        known = self.truth >= 0
        truth, score, alarm = self.truth[known], self.scores[known], self.values[known, 1] <= 0.3
        assert found == pytest.approx(
            {
                "roc_auc": oracle.roc_auc_score(truth, score),
                "average_precision": oracle.average_precision_score(truth, score),
                "false_alarm_rate": oracle.recall_score(1 - truth, alarm),
                "recall": oracle.recall_score(truth, alarm),
                "precision": oracle.precision_score(truth, alarm),
            }
        )

    def test_many_weightings_agree_with_one_at_a_time(self) -> None:
        weights = self.draw.integers(0, 3, (4, 300)).astype(float)
        every = ours.anomaly_metrics(self.values, self.truth, weights, false_alarms=0.3)
        for at, weight in enumerate(weights):
            one = ours.anomaly_metrics(self.values, self.truth, weight, false_alarms=0.3)
            assert {name: values[at] for name, values in every.items()} == pytest.approx(one)

    def test_without_labels_there_is_the_share_of_alarms_alone(self) -> None:
        nothing = np.full(300, -1)
        found = ours.anomaly_metrics(self.values, nothing, false_alarms=0.3)
        assert found == {"alarm_rate": pytest.approx((self.values[:, 1] <= 0.3).mean())}
        assert ours.anomaly_metrics(self.values, nothing, false_alarms=0.3, names={"roc_auc"}) == {}

    def test_what_is_undefined_is_nan(self) -> None:
        found = ours.anomaly_metrics(self.values, np.zeros(300, np.int64), false_alarms=0.3)
        assert np.isnan(found["roc_auc"])
        assert np.isnan(found["recall"])
        assert found["precision"] == 0
