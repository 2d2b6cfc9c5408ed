"""Series of different lengths: those of about one length share a batch, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sounding import fit, load, resume
from sounding.kinds import SILENCE, Block
from sounding.tasks.build import lengths_of
from sounding.tasks.prepare import Prepared, prepare

QUICK = {
    "training.plan": "reference",
    "training.watch": False,
    "evaluation.bootstrap": 20,
    "network.options": {"hidden_size": 4, "depth": 3, "members": 1},
    "training.epochs": 3,
    "training.batch_size": 8,
}


@pytest.fixture
def waves() -> pa.Table:
    """Slow waves and quick ones, from 5 to 59 points."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(5, 60, 200)
    quick = draw.integers(0, 2, 200)
    series = [
        list(np.sin(np.arange(n) * (0.3 + 0.9 * fast) + draw.uniform(0, 6)) + draw.normal(0, 0.1, n))
        for n, fast in zip(lengths, quick, strict=True)
    ]
    return pa.table({"wave": series, "pace": ["quick" if fast else "slow" for fast in quick]})


def padding(prepared: Prepared, *, in_buckets: bool) -> tuple[float, list[np.ndarray]]:
    """The share of points of an epoch that are padding in their batch, and the rows of its batches."""
    batches = prepared.batches(prepared.split.train, training=True)
    if not in_buckets:
        batches.lengths = None
    points = real = 0
    rows = []
    for batch in batches.epoch(0):
        there = batch.inputs[0][:, -1]
        real += int(there.sum())
        points += int(there.sum(1).max()) * len(there)
        rows.append(batch.rows.numpy())
    return 1 - real / points, rows


def test_less_of_each_batch_is_padding(waves: pa.Table) -> None:
    prepared = prepare(waves, {**QUICK, "target": ["pace"]})
    apart, rows = padding(prepared, in_buckets=True)
    mixed, _ = padding(prepared, in_buckets=False)
    assert apart < 0.2 < 0.35 < mixed
    assert sorted(np.concatenate(rows)) == list(range(len(prepared.split.train)))
    _, again = padding(prepare(waves, {**QUICK, "target": ["pace"]}), in_buckets=True)
    assert all(np.array_equal(one, other) for one, other in zip(rows, again, strict=True))


def test_the_same_seed_gives_the_same_bits_and_so_does_going_on(waves: pa.Table, tmp_path: Path) -> None:
    few = waves.slice(0, 60)

    def run(name: str) -> Any:
        return fit(few, "pace", settings=QUICK, out=tmp_path / name, say=None, progress=False)

    whole, again = run("whole"), run("again")
    np.testing.assert_array_equal(whole.predict(few), again.predict(few))
    (tmp_path / "again" / "results.json").unlink()
    last = max((tmp_path / "again" / "checkpoints").iterdir())
    for file in last.iterdir():  # as if it had been killed before the last checkpoint
        file.unlink()
    last.rmdir()
    resume(tmp_path / "again", few, say=None, progress=False)
    after = load(tmp_path / "again")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, after.network.state_dict()[name]), name


def test_lengths_of_inputs() -> None:
    block = Block("series:a", "series", ("a",), channels=1, length=4, varying=True)
    table = Block("numbers", "numbers", ("b",), features=("b",), bins=((0.0, 1.0),))
    series = torch.tensor([[[1.0, 2.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0]]])
    empty = torch.zeros(2, 1), torch.zeros(2, 0)
    found = lengths_of([block, table], [*empty, series])
    assert found is not None
    assert found.tolist() == [2, 4]  # half octaves
    assert lengths_of([table], empty) is None
    sound = Block("sound:c", "sound", ("c",), rate=8)
    samples = torch.tensor([[1, SILENCE, SILENCE], [0, 4, SILENCE]], dtype=torch.int16)
    found = lengths_of([sound, table], [*empty, samples])
    assert found is not None
    assert found.tolist() == [1, 2]
