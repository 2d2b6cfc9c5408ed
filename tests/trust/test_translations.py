from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sounding.tasks.prepare import prepare
from sounding.trust.problem import Problem
from sounding.trust.translations import as_it_is, of_the_nearest


def problem() -> Problem:
    colours, things = ["red", "green", "blue", "grey"], ["house", "tree", "car", "table", "river", "lamp"]
    rows = [
        (f"the {colour} {thing}", f"{thing.upper()} {colour.upper()}")
        for colour, thing in itertools.product(colours, things)
    ]
    data: dict[str, Any] = {"en": [row[0] for row in rows], "xx": [row[1] for row in rows]}
    prepared = prepare(data, {"task": "translation", "target": ["xx"], "translation.subwords": 256})
    return Problem(prepared.task, prepared.table, prepared.schema, prepared.split, prepared.encoded, prepared.target, 0)


def test_the_source_as_it_is() -> None:
    known = problem()
    values, note = as_it_is(known)
    assert values.tolist() == known.table.data.column("en").to_pylist()
    assert not note


def test_the_nearest_is_a_training_text_that_shares_words() -> None:
    known = problem()
    values, _ = of_the_nearest(known)
    learned = set(known.target[known.split.train].tolist())
    for row in np.concatenate([known.split.validation, known.split.test]):
        assert values[row] in learned
        assert set(values[row].split()) & set(known.target[row].split())
    assert not any(values[known.split.train])
