"""What simple models hear in a recording: the shape of its spectrum, on average over time, and how much that varies.

Source: cepstral coefficients: Davis and Mermelstein 1980 (there the cosine transform of the logarithm of the energy in
bands on the mel scale).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dct

from sounding.networks import LogMel

COEFFICIENTS = 20


def cepstra(samples: np.ndarray, rate: int, seen: np.ndarray) -> np.ndarray:
    """(N, 40) float32: mean and deviation over time of the first coefficients, standardised by some rows.

    samples: (N, L) int16, `SILENCE` behind the last of each.
    seen:    the rows that tell mean and deviation.
    """
    spectrum, parts = LogMel(rate).eval(), []
    for some in torch.split(torch.from_numpy(np.asarray(samples)), 64):
        energies, lengths = spectrum.energies(some)
        found = dct(energies.numpy(), axis=1, norm="ortho")[:, :COEFFICIENTS]  # (B, coefficients, frames)
        real = (np.arange(found.shape[2]) < lengths.numpy()[:, None])[:, None]
        count = real.sum(2)
        mean = (found * real).sum(2) / count
        square = ((found - mean[:, :, None]) ** 2 * real).sum(2) / count
        parts.append(np.concatenate([mean, np.sqrt(square)], 1))
    features = np.concatenate([*parts, np.empty((0, 2 * COEFFICIENTS), np.float32)])
    middle, spread = features[seen].mean(0), features[seen].std(0)
    return np.asarray((features - middle) / np.where(spread > 0, spread, 1.0), dtype=np.float32)
