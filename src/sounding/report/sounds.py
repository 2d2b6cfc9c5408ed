"""A recording as a page has it: something to play, and its spectrogram to look at."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture

from sounding.networks import LogMel

LONGEST = 30.0
"""Seconds of a recording that a page holds; it says how long the whole is."""
BANDS = 64
WIDEST = 600
"""Frames of a spectrogram; of more some are averaged."""
RANGE = 8.0
"""What is so much fainter than the loudest place is black: in natural logarithms, about 35 dB."""
COLOURS = np.array([[8, 12, 40], [60, 30, 110], [150, 45, 110], [228, 90, 70], [250, 175, 70], [252, 250, 190]])
"""From the faintest to the loudest; each lighter than the one before, so that it also reads in grey."""


def clip(samples: np.ndarray, rate: int) -> dict[str, Any]:
    """`sound`, a WAV that needs no file, `picture`, its spectrogram as a PNG, and `length`, in words.

    samples: (L,) int16.
    """
    whole = len(samples) / rate
    heard = samples[: round(LONGEST * rate)]
    length = f"{whole:.2f} s" if whole <= LONGEST else f"the first {LONGEST:.0f} s of {whole:,.1f} s"
    return {"sound": _wav(heard, rate), "picture": _png(spectrogram(heard, rate)), "length": length}


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """(64, frames, 3) uint8: bands from the highest to the lowest, frame after frame, brighter where it is louder."""
    energies = LogMel(rate, bands=BANDS).eval().energies(torch.from_numpy(np.atleast_2d(samples)))[0][0]
    if energies.shape[1] > WIDEST:
        energies = torch.nn.functional.adaptive_avg_pool1d(energies, WIDEST)
    shades = ((energies - energies.max() + RANGE) / RANGE).clamp(0.0, 1.0).numpy()[::-1]
    steps = np.linspace(0.0, 1.0, len(COLOURS))
    channels = [np.interp(shades, steps, colours) for colours in COLOURS.T]
    return np.stack(channels, 2).round().astype(np.uint8)


def _wav(samples: np.ndarray, rate: int) -> str:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setparams((1, 2, rate, len(samples), "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def _png(pixels: np.ndarray) -> str:
    sink = io.BytesIO()
    Picture.fromarray(pixels).quantize(64).save(sink, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
