"""The mixtures of the benchmark of generators, and that a run on them is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.generation import centres_of, points, read_csv, write_csv

from benchmarks import generation


@pytest.mark.parametrize(("name", "count", "closest"), [("ring", 8, 2 * np.sin(np.pi / 8)), ("grid", 25, 2.0)])
def test_centres_are_those_of_the_papers(name: str, count: int, closest: float) -> None:
    centres, deviation = centres_of(name)
    apart = np.linalg.norm(centres[:, None] - centres, axis=2) + 1e9 * np.eye(count)
    assert centres.shape == (count, 2)
    assert apart.min() == pytest.approx(closest)
    assert deviation == {"ring": 0.01, "grid": 0.05}[name]


def test_the_turned_grid_is_a_grid_of_which_no_column_tells() -> None:
    plain, turned = centres_of("grid")[0], centres_of("turned")[0]
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(plain, axis=1))
    assert len(np.unique(turned[:, 0].round(6))) == 25


def test_rows_survive_their_file(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 2))
    write_csv(tmp_path / "a.csv", rows)
    np.testing.assert_array_equal(read_csv(tmp_path / "a.csv"), rows)


def test_a_run_on_points_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ROWS", 200)
    monkeypatch.setattr(generation, "SAMPLES", 50)
    options = ["--epochs", "1", "--set", "training.plan=given", "--set", "network.options.hidden_sizes=[8]"]
    found = points("grid", 0, tmp_path, options)
    assert found["of"] == 25
    assert 0 <= found["high_quality"] <= 1
    assert found["covered"] <= 25
    assert isinstance(found["findings"], list)
