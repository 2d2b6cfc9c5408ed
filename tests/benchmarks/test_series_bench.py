"""The parts of the benchmarks of series that compute something."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from benchmarks import forecasting, time_series


def test_sets_are_rows_with_means_over_seeds() -> None:
    row = {"set": "GunPoint", "network": "n", "baseline": {"guess": 0.5}, "cpu": 3.0}
    lines = time_series.table_of([{**row, "accuracy": accuracy} for accuracy in (0.9, 1.0)])
    assert lines[0] == "| test accuracy | n | guess | floor | CPU s |"
    assert lines[2] == "| GunPoint | 0.950 (0.900, 1.000) | 0.500 | 0.98 | 3 |"


def test_of_etth1_the_first_twenty_months_are_used(tmp_path: Path) -> None:
    (tmp_path / "ett").mkdir()
    rows = "date,OT\n" + "".join(f"{row},1\n" for row in range(17_420))
    (tmp_path / "ett" / "ETTh1.csv.gz").write_bytes(gzip.compress(rows.encode()))
    lines = forecasting.source("etth1", tmp_path, tmp_path).read_text().splitlines()
    assert (lines[0], lines[-1]) == ("date,OT", "14399,1")
    with pytest.raises(FileNotFoundError):
        forecasting.source("airline", tmp_path, tmp_path)


def test_networks_and_simple_models_are_rows() -> None:
    scores = dict.fromkeys(forecasting.SHOWN, 0.25)
    row = {"set": "airline", "network": "n", "test": scores, "baseline": {"naive": scores}, "cpu": 2.0}
    lines = forecasting.table_of([row, row], "airline")
    assert lines[2] == "| n | 0.250 | 0.250 | 0.250 | 0.250 | 0.2500, 0.2500 | 2 |"
    assert lines[3].startswith("| naive | 0.250")
