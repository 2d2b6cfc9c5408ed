from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.signal import ShortTimeFFT

from sounding import kinds
from sounding.networks import LogMel
from sounding.networks.spectrogram import FLOOR, SILENCE, Masked, mel, mel_filters


def slow_energies(samples: np.ndarray, layer: LogMel, rate: int) -> np.ndarray:
    """(bands, frames): every frame by itself, every frequency by a sum of sines and cosines."""
    wave, size, window = samples / 32768, layer.size, layer.window
    taper = [0.5 - 0.5 * math.cos(2 * math.pi * n / window) for n in range(window)]
    frames = []
    for middle in range(0, len(wave) + 1, layer.hop):
        part = np.zeros(size)
        for n in range(window):
            at = middle - size // 2 + (size - window) // 2 + n
            if 0 <= at < len(wave):
                part[(size - window) // 2 + n] = wave[at] * taper[n]
        power = []
        for k in range(size // 2 + 1):
            angle = 2 * np.pi * k * np.arange(size) / size
            power.append((part @ np.cos(angle)) ** 2 + (part @ np.sin(angle)) ** 2)
        frames.append(slow_filters(rate, size, len(layer.filters)) @ np.array(power))
    return np.log(np.array(frames).T + FLOOR)


def slow_filters(rate: int, size: int, bands: int) -> np.ndarray:
    def to_mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    middles = [to_mel(rate / 2) * band / (bands + 1) for band in range(bands + 2)]
    weights = np.zeros((bands, size // 2 + 1))
    for band in range(bands):
        low, middle, high = middles[band : band + 3]
        for k in range(size // 2 + 1):
            here = to_mel(k * rate / size)
            if low < here <= middle:
                weights[band, k] = (here - low) / (middle - low)
            elif middle < here < high:
                weights[band, k] = (high - here) / (high - middle)
    return weights


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, length).astype(np.int16)


def test_filters_are_the_triangles_of_the_formula() -> None:
    np.testing.assert_allclose(mel_filters(8000, 256, 40), slow_filters(8000, 256, 40), atol=1e-6)
    assert float(mel(torch.tensor(1000.0))) == pytest.approx(1000, abs=0.1)  # how the scale was laid out
    assert (mel_filters(16000, 512, 40).sum(1) > 0).all()


def test_energies_are_those_of_the_slow_way() -> None:
    layer, samples = LogMel(1000, bands=10), noise(130)
    energies, lengths = layer.energies(torch.from_numpy(samples)[None])
    assert lengths.tolist() == [14]
    np.testing.assert_allclose(energies[0].numpy(), slow_energies(samples, layer, 1000), rtol=1e-4, atol=1e-4)


def test_energies_agree_with_scipy() -> None:
    layer, samples = LogMel(8000), noise(1600)
    taper = np.zeros(layer.size)
    start = (layer.size - layer.window) // 2
    taper[start : start + layer.window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(layer.window) / layer.window)
    power = np.abs(ShortTimeFFT(taper, layer.hop, 8000).stft(samples / 32768, p0=0, p1=21)) ** 2
    expected = np.log(mel_filters(8000, layer.size, 40).numpy() @ power + FLOOR)
    energies, _ = layer.energies(torch.from_numpy(samples)[None])
    np.testing.assert_allclose(energies[0].numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_sine_is_loudest_in_the_band_around_it() -> None:
    layer = LogMel(8000)
    wave = (8000 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)).astype(np.int16)
    loudest = layer.energies(torch.from_numpy(wave)[None])[0][0, :, 50].argmax()
    middles = torch.linspace(0, float(mel(torch.tensor(4000.0))), 42)[1:-1]
    assert int(loudest) == int((middles - mel(torch.tensor(1000.0))).abs().argmin())


def test_measured_recordings_have_mean_0_and_deviation_1() -> None:
    layer = LogMel(8000).eval()
    lengths = torch.tensor([1600, 900, 80, 0] * 20)
    samples = torch.from_numpy(np.stack([noise(1600, seed) // (seed + 1) for seed in range(80)]))
    samples = samples.masked_fill(torch.arange(1600) >= lengths[:, None], SILENCE)
    layer.measure(samples)
    values, frames = layer(samples)
    real = torch.cat([row[:, :count] for row, count in zip(values, frames, strict=True)], 1)
    assert real.shape[1] == int((1 + lengths // 80).sum())
    torch.testing.assert_close(real.mean(1), torch.zeros(40), atol=1e-3, rtol=0)
    torch.testing.assert_close(real.std(1), torch.ones(40), atol=1e-3, rtol=0)


def test_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, samples = LogMel(8000), torch.from_numpy(np.stack([noise(800, seed) for seed in range(5)]))
    whole, _ = layer.energies(samples)
    monkeypatch.setattr("sounding.networks.spectrogram.AT_ONCE", 1700)
    assert torch.equal(layer.energies(samples)[0], whole)


def test_no_recordings_are_no_fault() -> None:
    values, lengths = LogMel(8000)(torch.zeros(0, 800, dtype=torch.int16))
    assert values.shape[:2] == (0, 40)
    assert lengths.shape == (0,)


def test_silence_is_called_alike_everywhere() -> None:
    assert SILENCE == kinds.SILENCE


def test_masks_hide_whole_bands_and_times_within_their_bounds_and_only_while_training() -> None:
    masked, lengths = Masked(2, bands=6, share=0.25), torch.tensor([100, 40] * 50)
    values = torch.ones(100, 40, 100)
    assert torch.equal(masked.eval()(values, lengths), values)
    torch.manual_seed(0)
    hidden = masked.train()(values, lengths) == 0
    bands, times = hidden.all(2), hidden.all(1)
    assert torch.equal(hidden, bands[:, :, None] | times[:, None])
    assert 4 < bands.sum(1).float().mean() < 6  # two stretches of 3 on average, which may overlap
    assert bands.sum(1).max() <= 12
    for length in (100, 40):
        shares = times[lengths == length].sum(1) / length
        assert shares.max() <= 0.5
        assert 0.17 < shares.mean() < 0.26
        assert not times[lengths == length, length:].any()
