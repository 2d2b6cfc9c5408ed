"""Recordings varied while training: whole batches at once, every draw a function of (seed, epoch, step, purpose)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.kinds import SILENCE
from sounding.randomness import generator

LARGEST = 32_767


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundPolicy:
    """How far a recording is varied without becoming one of something else."""

    shift: float = 0.1
    """Largest shift, as a fraction of its length: so much is silence at its beginning, or is lost there."""
    loudness: float = 6.0
    """Largest change of loudness in decibels, either way."""
    noisy: float = 0.5
    """The probability that noise is added."""
    quietest: float = 40.0
    """Decibels that noise is below the recording at least where it is faintest."""
    loudest: float = 10.0
    """The same where it is loudest."""

    def told(self) -> str:
        """What it does, in words."""
        noise = f", noise in {self.noisy:.0%} of them" if self.noisy else ""
        return f"moved by up to {self.shift:.3g} of the length, up to {self.loudness:.3g} dB louder or softer{noise}"


SOUND_POLICIES = {
    "light": SoundPolicy(shift=0.05, loudness=3.0, noisy=0.0),
    "default": SoundPolicy(),
    "strong": SoundPolicy(shift=0.2, loudness=12.0, noisy=0.8, loudest=5.0),
}


class SoundAugmentation:
    """Varies the recordings of a batch; a transform for `Batches`.

    Recordings are inputs of shape (B, L), int16, `SILENCE` behind the last sample of each; they stay so, and keep their
    lengths. An example's draws depend on seed, epoch, step and its place in the batch alone.

    >>> batch = Batch((torch.full((2, 100), 1000, dtype=torch.int16),), None, None, torch.arange(2))
    >>> varied = SoundAugmentation(seed=1)(batch, 0, 0)
    >>> varied.inputs[0].shape, varied.inputs[0].dtype
    (torch.Size([2, 100]), torch.int16)
    """

    def __init__(self, policy: SoundPolicy | None = None, *, seed: int = 0) -> None:
        self.policy, self.seed = policy or SoundPolicy(), seed

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch, varied."""
        inputs = tuple(self._vary(x, epoch, step) if x.dtype == torch.int16 else x for x in batch.inputs)
        return batch._replace(inputs=inputs)

    def _vary(self, samples: Tensor, epoch: int, step: int) -> Tensor:
        count, device, policy = len(samples), samples.device, self.policy
        there = samples != SILENCE
        lengths = there.sum(1)
        longest = max(int(lengths.max()) if count else 0, 1)  # what is behind it stays as it is
        rest, samples, there = samples[:, longest:], samples[:, :longest], there[:, :longest]

        def draws(purpose: str, low: float, high: float) -> Tensor:
            drawn = generator(self.seed, epoch, step, purpose).uniform(low, high, count)
            return torch.from_numpy(drawn).float().to(device)[:, None]

        shift = (draws("shift", -policy.shift, policy.shift) * lengths[:, None]).round().long()
        source = torch.arange(longest, device=device) - shift
        inside = (source >= 0) & (source < lengths[:, None])
        wave = samples.float() * there
        wave = wave.gather(1, source.clamp(0, longest - 1)) * inside
        energy = (wave.square().sum(1) / lengths.clamp(min=1)).sqrt()[:, None]
        wave = wave * 10 ** (draws("loudness", -policy.loudness, policy.loudness) / 20)
        below = draws("noise level", policy.loudest, policy.quietest)
        level = energy * 10 ** (-below / 20) * (draws("noisy", 0.0, 1.0) < policy.noisy)
        noise = generator(self.seed, epoch, step, "noise").standard_normal((count, longest), dtype=np.float32)
        wave = wave + level * torch.from_numpy(noise).to(device)
        varied = wave.round().clamp(-LARGEST, LARGEST).to(torch.int16)
        return torch.cat([torch.where(there, varied, SILENCE).to(torch.int16), rest], 1)
