"""What simple models hear of recordings, and what they write without listening."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sounding.kinds import SILENCE
from sounding.networks import LogMel
from sounding.trust.sounds import COEFFICIENTS, cepstra


def slow_features(samples: np.ndarray, rate: int) -> np.ndarray:
    """Of one recording: the cosine transform by its formula, frame by frame."""
    energies = LogMel(rate).eval().energies(torch.from_numpy(samples)[None])[0][0].numpy()
    bands, frames = energies.shape
    found = np.zeros((frames, COEFFICIENTS))
    for frame in range(frames):
        for k in range(COEFFICIENTS):
            scale = np.sqrt((1 if k == 0 else 2) / bands)
            cosines = np.cos(np.pi * k * (np.arange(bands) + 0.5) / bands)
            found[frame, k] = scale * (energies[:, frame] * cosines).sum()
    return np.concatenate([found.mean(0), found.std(0)])


def test_features_are_those_of_each_recording_by_itself() -> None:
    draw, rate = np.random.default_rng(0), 2000
    lengths = [400, 150, 60, 333]
    samples = np.full((4, 500), SILENCE, dtype=np.int16)
    for row, length in enumerate(lengths):
        samples[row, :length] = draw.integers(-5000, 5000, length) // (row + 1)
    expected = np.stack([slow_features(row[:length], rate) for row, length in zip(samples, lengths, strict=True)])
    seen = np.array([0, 1, 3])
    expected = (expected - expected[seen].mean(0)) / expected[seen].std(0)
    np.testing.assert_allclose(cepstra(samples, rate, seen), expected, rtol=1e-2, atol=1e-2)
    assert not cepstra(samples[[0, 0]], rate, np.array([0])).any()  # what does not vary is 0


def test_a_linear_model_tells_noises_apart(make_case: Any) -> None:
    from sounding.trust.baseline import linear
    from sounding.trust.problem import Problem

    draw, cells, kinds = np.random.default_rng(0), [], []
    for row in range(60):
        wave = draw.normal(0, 0.1, 300 + row)
        wave = np.diff(wave) if row % 2 else np.cumsum(wave) / 30
        cells.append({"array": wave.tolist(), "sampling_rate": 2000})
        kinds.append("bright" if row % 2 else "dark")
    case = make_case({"sound": pa.array(cells), "y": kinds})
    problem = Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0)
    values, _ = linear(problem)
    assert (values.argmax(1) == case.truth)[case.split.test].all()
