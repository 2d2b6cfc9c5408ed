"""Time to accuracy: scores are scikit-learn's, and training ends where the goal is reached."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.speed.workloads import Arrays
from sklearn.metrics import accuracy_score, roc_auc_score

from benchmarks import time_to_accuracy as bench


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    outputs, truth = rng.normal(size=(200, 2)).round(1), rng.integers(0, 2, 200)
    assert bench.score("accuracy", outputs, truth) == accuracy_score(truth, outputs.argmax(1))
    assert bench.score("roc_auc", outputs, truth) == pytest.approx(
        roc_auc_score(truth, outputs[:, 1] - outputs[:, 0]), abs=1e-12
    )


@pytest.mark.parametrize(("goal", "reached"), [(0.3, True), (1.1, False)])
def test_training_ends_where_the_goal_is_reached(
    goal: float, reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bench.GOALS, "digits", replace(bench.GOALS["digits"], value=goal, epochs=2))
    arrays = bench.GOALS["digits"].arrays(tmp_path)
    for part in Arrays.__dataclass_fields__:
        np.save(tmp_path / f"{part}.npy", getattr(arrays, part))
    with torch.random.fork_rng():
        found = bench.work("digits", "pytorch-resident", str(tmp_path), 0, time.monotonic())
    assert found["reached"] is reached
    assert 0.3 < found["score"] <= 1


def test_a_table_names_who_got_there() -> None:
    line = {"name": "digits", "contender": "skorch", "seconds": 3.0, "score": 0.99, "reached": True}
    text = bench.report([line, {**line, "seconds": 5.0, "score": 0.9, "reached": False}])
    assert "| digits, accuracy 0.98 | skorch | 1 of 2 | 4.0 (3.0; 5.0) | 0.9900; 0.9000 |" in text
