"""Training is killed without warning, again and again, and ends in the bits of a run that was left alone.

`python -m benchmarks.kills` does the same as often as one likes.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from _killable import TRAINERS, Outcome, Server, differences, kill_at_random, server

KILLS = 13
"""Of each of the four kinds of training."""
MIDWAY = 8
"""At least so many of them after its first step."""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: a process that is killed loses nothing it gave to the system."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=where) as name:
        yield Path(name)


@pytest.mark.parametrize("work", TRAINERS)
def test_killed_at_any_instant_a_run_ends_in_the_same_bits(work, running, folder):
    alone = running.attempt(work, folder / "alone")
    again = running.attempt(work, folder / "again", every=60.0)
    assert differences(alone.result, again.result) == []  # RS-27: neither repeating nor saving changes a bit
    draws, kills = random.Random(work), list[Outcome]()
    for run in range(100):
        outcomes, result = kill_at_random(
            running, work, folder / str(run), draws, kills=4, seconds=min(alone.seconds, again.seconds)
        )
        assert differences(alone.result, result) == [], (run, outcomes)
        kills += outcomes
        if len(kills) >= KILLS and sum(kill.steps > 0 for kill in kills) >= MIDWAY:
            break
    assert sum(kill.steps > 0 for kill in kills) >= MIDWAY


@pytest.mark.parametrize("work", TRAINERS)
def test_killed_twice_before_there_is_a_new_checkpoint(work, running, folder):  # RS-07
    alone = running.attempt(work, folder / "alone", seed=1)
    assert running.attempt(work, folder / "run", seed=1, kill_at_step=15).killed
    newest = max(path.name for path in (folder / "run").iterdir() if path.name.isdecimal())
    for step in (9, 4):
        outcome = running.attempt(work, folder / "run", seed=1, every=60.0, kill_at_step=step)
        assert outcome.killed
        assert outcome.steps >= step
        assert max(path.name for path in (folder / "run").iterdir() if path.name.isdecimal()) == newest
    assert differences(alone.result, running.attempt(work, folder / "run", seed=1).result) == []


@pytest.mark.parametrize("work", TRAINERS)
def test_killed_before_the_first_step_and_while_it_finds_its_checkpoint(work, running, folder):
    alone = running.attempt(work, folder / "alone", seed=2)
    for step in (0, 0, 3, 0, 0):
        assert running.attempt(work, folder / "run", seed=2, kill_at_step=step).killed
    assert differences(alone.result, running.attempt(work, folder / "run", seed=2).result) == []


def test_a_healing_run_killed_at_any_instant_ends_in_the_same_bits(running, folder):
    alone = running.attempt("healing", folder / "alone")
    assert "healed" in alone.result["findings"]
    outcomes = [running.attempt("healing", folder / "steps", kill_at_step=step) for step in (10, 50, 45, 20)]
    assert all(outcome.killed for outcome in outcomes)  # in the first training, the second, the third, and it
    assert differences(alone.result, running.attempt("healing", folder / "steps").result) == []
    draws = random.Random("healing")
    for run in range(2):
        outcomes, result = kill_at_random(running, "healing", folder / str(run), draws, kills=3, seconds=alone.seconds)
        assert differences(alone.result, result) == [], (run, outcomes)


SIGNS = {"preparing": "flowers.csv", "training": "run/recipe.toml", "finishing": "run/model"}
"""What is there as soon as a phase of the whole way has begun."""


def test_the_whole_way_from_a_file_to_the_report(running, folder):  # RS-05
    alone = running.attempt("house", folder / "alone")
    assert differences(alone.result, running.attempt("house", folder / "again").result) == []
    draws = random.Random("house")
    for phase, sign in SIGNS.items():
        killed = 0
        for run in range(3):
            place = folder / f"{phase} {run}"
            killed += running.attempt("house", place, kill_when=sign).killed
            for _ in range(2):
                if (place / "run" / "results.json").is_file():
                    break
                running.attempt("house", place, kill_after=draws.uniform(0.0, alone.seconds))
            assert differences(alone.result, running.attempt("house", place).result) == [], phase
        assert killed, phase
