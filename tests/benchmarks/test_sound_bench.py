"""The parts of the benchmark of sound that compute something."""

from __future__ import annotations

import numpy as np
from benchmarks.sound import FEWEST, MOST, RATE, WORDS, string


def test_strings_hold_their_recordings_in_order_with_pauses_and_noise() -> None:
    recordings = [(digit, np.sin(2 * np.pi * (300 + 200 * digit) * np.arange(2000) / RATE)) for digit in range(10)]
    draw = np.random.default_rng(0)
    numbers = set()
    for _ in range(20):
        wave, text = string(recordings, draw)
        words = text.split()
        numbers.add(len(words))
        assert set(words) <= set(WORDS)
        assert np.abs(wave).max() <= 0.9
        blocks = wave[: len(wave) // 80 * 80].reshape(-1, 80)
        loud = np.square(blocks).mean(1) > 0.2 * np.square(blocks).mean(1).max()
        ends = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
        heard = []
        for low, high in ends.reshape(-1, 2):  # the pauses part the tones
            assert 23 <= high - low <= 26
            spectrum = np.abs(np.fft.rfft(blocks[low + 2 : low + 22].ravel()))
            heard.append(WORDS[round((spectrum.argmax() * RATE / 1600 - 300) / 200)])
        assert heard == words
    assert numbers <= set(range(FEWEST, MOST + 1))
    assert len(numbers) > 3
