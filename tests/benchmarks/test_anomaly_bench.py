"""The parts of the benchmark of anomaly detection that compute something."""

from __future__ import annotations

import numpy as np
from benchmarks.anomaly import divided, plain, table_of


def test_both_ways_measure_on_the_same_rows() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(100, 3)), (np.arange(100) < 20).astype(np.int64)
    tables, train, test = divided(x, y, 0, leave_out=False)
    cleaned, fewer, same = divided(x, y, 0, leave_out=True)
    assert np.array_equal(test, same)
    assert y[test].sum() == 6
    assert not np.intersect1d(train, test).size
    assert np.array_equal(fewer, train[y[train] == 0])
    assert tables["test"].equals(cleaned["test"])
    assert set(cleaned["train"]["y"].to_pylist()) == {"0"}
    assert np.array_equal(np.array(tables["test"]["x1"]), x[test, 1])


def test_plain_models_find_what_is_far_out() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(300, 4)), (np.arange(300) < 20).astype(np.int64)
    x[:20] += 6
    x[:, 3] = 1.0  # a column that does not vary is left out
    scores = plain(x, y, np.arange(20, 300), np.arange(300), 0)
    assert list(scores) == ["plain isolation forest", "plain PCA, 50%", "plain PCA, 90%"]
    assert scores["plain isolation forest"][0] > 0.95


def test_the_table_has_means_over_seeds_and_sets() -> None:
    results = [
        {"set": name, "way": "among", "scores": {"one": (roc, 0.5)}}
        for name, roc in (("a", 0.6), ("a", 0.8), ("b", 0.9))
    ]
    assert table_of(results, "among", ["one"]) == [
        "| among | one |",
        "|---|---|",
        "| a | 0.700 / 0.500 |",
        "| b | 0.900 / 0.500 |",
        "| **mean** | 0.800 / 0.500 |",
    ]
