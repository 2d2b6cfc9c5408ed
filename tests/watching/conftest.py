"""For all tests of the watch: what it sees does not depend on how busy the machine is."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sounding.watching.watcher.ALLOWANCE", 60.0)
    monkeypatch.setattr("sounding.watching.watcher.EXPERIMENTS_ALLOWANCE", 600.0)
    monkeypatch.setattr("sounding.watching.watcher.CALM_ALLOWANCE", 600.0)
