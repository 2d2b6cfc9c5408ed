"""How loud each band of a recording is over time, as networks for sound see it, and the masks of SpecAugment.

Sources: the mel scale as in HTK, 2595 log10(1 + f / 700): O'Shaughnessy 1987, and Young et al., The HTK Book, section
5.4; triangular bands of equal height on it: Davis and Mermelstein 1980; masks: Park et al. 2019, arXiv:1904.08779,
section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SILENCE = -32768
"""What stands behind the last sample of a recording."""
HOP = 0.01
"""Seconds from one frame to the next."""
AT_ONCE = 1 << 23
"""Samples that are transformed together."""
FLOOR = 1e-6
"""Added to the energy of a band before its logarithm: that of a sine 94 dB below full scale."""


def mel(frequency: Tensor) -> Tensor:
    """Hertz to mel, after HTK.

    >>> mel(torch.tensor([0.0, 1000.0])).round()
    tensor([   0., 1000.])
    """
    return 2595.0 * torch.log10(1.0 + frequency / 700.0)


def mel_filters(rate: int, size: int, bands: int) -> Tensor:
    """(bands, size // 2 + 1): how much of each frequency of a transform of `size` points every band takes.

    The middles of the bands lie at equal distances in mel from 0 to half the rate; each band rises from the middle of
    the one below it to 1 at its own, and falls to that of the one above.

    >>> mel_filters(8000, 256, 40).shape
    torch.Size([40, 129])
    """
    frequencies = mel(torch.linspace(0.0, rate / 2, size // 2 + 1, dtype=torch.float64))
    edges = torch.linspace(0.0, float(mel(torch.tensor(rate / 2, dtype=torch.float64))), bands + 2, dtype=torch.float64)
    step = edges[1] - edges[0]
    return (1.0 - (frequencies - edges[1:-1, None]).abs() / step).clamp(min=0.0).float()


class LogMel(nn.Module):
    """The logarithm of the energy in each band, every ten milliseconds, with mean 0 and deviation 1 by band.

    Frame t is a Hann window around sample t * hop; before the first sample and behind the last one is silence.
    Mean and deviation are those of the recordings that `measure` was shown.

    Args:
        rate: samples a second.
        bands: how many there are, from 0 Hz to half the rate.
        window: seconds.
        hop: seconds from one frame to the next.

    >>> values, lengths = LogMel(8000)(torch.zeros(2, 800, dtype=torch.int16))
    >>> values.shape, lengths
    (torch.Size([2, 40, 11]), tensor([11, 11]))
    """

    filters: Tensor
    mean: Tensor
    deviation: Tensor
    taper: Tensor

    def __init__(self, rate: int, *, bands: int = 40, window: float = 0.025, hop: float = HOP) -> None:
        super().__init__()
        self.window, self.hop = max(round(window * rate), 2), max(round(hop * rate), 1)
        self.size = 1 << (self.window - 1).bit_length()
        self.register_buffer("filters", mel_filters(rate, self.size, bands), persistent=False)
        self.register_buffer("taper", torch.hann_window(self.window), persistent=False)
        self.register_buffer("mean", torch.zeros(bands, 1))
        self.register_buffer("deviation", torch.ones(bands, 1))

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) int16, `SILENCE` behind the last sample of each, to (B, bands, frames) and (B,) frames of each.

        Behind its last frame a row is 0. While training, frames that no row has are left out.
        """
        energies, lengths = self.energies(samples)
        values = (energies - self.mean) / self.deviation
        real = torch.arange(values.shape[2], device=values.device) < lengths[:, None]
        return values * real[:, None], lengths

    def energies(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The same before mean and deviation are brought to 0 and 1, and before rows are blanked behind their end."""
        counts = (samples != SILENCE).sum(1)
        if self.training and not torch.compiler.is_compiling():  # waits for a GPU
            longest = max(int(counts.max()) if counts.shape[0] else 0, 1)
            samples = samples[:, :longest]
        if samples.shape[0] == 0:  # of which the transform of MKL knows nothing
            frames = 1 + samples.shape[1] // self.hop
            return self.mean.new_zeros(0, len(self.filters), frames), counts
        energies = self._of(samples) if torch.compiler.is_compiling() else self._in_parts(samples)
        return energies, 1 + counts // self.hop

    def _in_parts(self, samples: Tensor) -> Tensor:
        """A spectrum takes many times the memory of its bands, so that few rows have one at a time."""
        rows = max(AT_ONCE // max(samples.shape[1], 1), 1)
        return torch.cat([self._of(some) for some in torch.split(samples, rows)])

    def _of(self, samples: Tensor) -> Tensor:
        wave = samples.float() * (samples != SILENCE) / 32768.0
        with torch.autocast(wave.device.type, enabled=False):  # a spectrum has more digits than bfloat16
            spectrum = torch.stft(
                wave,
                self.size,
                self.hop,
                self.window,
                self.taper,
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()  # (B, size // 2 + 1, frames)
            return (self.filters @ power + FLOOR).log()

    @torch.no_grad()
    def measure(self, samples: Tensor) -> None:
        """Take mean and deviation of each band from recordings, (B, L) int16 as in `forward`."""
        total = torch.zeros(2, len(self.filters), dtype=torch.float64)
        count = 0
        for some in torch.split(samples, 64):
            energies, lengths = self.energies(some)
            real = torch.arange(energies.shape[2], device=energies.device) < lengths[:, None]
            known = energies.double() * real[:, None]
            total += torch.stack([known.sum((0, 2)), known.square().sum((0, 2))]).cpu()
            count += int(real.sum())
        mean, square = total / max(count, 1)
        deviation = (square - mean.square()).clamp(min=0.0).sqrt()
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(torch.where(deviation > 1e-4, deviation, torch.ones_like(deviation))[:, None])


class Masked(nn.Module):
    """SpecAugment without warping: while training, some stretches of time and of bands are 0, which is the mean.

    The draws are those of torch's default generator, as for dropout.

    Args:
        masks: stretches of time, and as many of bands, in each recording.
        bands: the most bands of one stretch.
        share: the largest share of a recording's time in one stretch.

    >>> Masked(2, bands=8, share=0.2).eval()(torch.ones(1, 40, 11), torch.tensor([11])).mean()
    tensor(1.)
    """

    def __init__(self, masks: int, *, bands: int, share: float) -> None:
        super().__init__()
        self.masks, self.bands, self.share = masks, bands, share

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """(B, bands, frames), and (B,) frames of each."""
        if not self.training or not self.masks:
            return values
        count, bands, frames = values.shape
        draws = torch.rand(4, self.masks, count, 1, device=values.device)
        places = torch.arange(bands, device=values.device), torch.arange(frames, device=values.device)
        hidden_bands = _stretches(draws[0], draws[1] * min(self.bands, bands), bands, places[0])
        hidden_times = _stretches(draws[2], draws[3] * self.share * lengths[:, None], lengths[:, None], places[1])
        return values * ~(hidden_bands[:, :, None] | hidden_times[:, None, :])


def _stretches(starts: Tensor, widths: Tensor, whole: Tensor | int, places: Tensor) -> Tensor:
    """(B, len(places)): whether each lies in any of some stretches; `starts` in [0, 1) of the room that there is."""
    widths = widths.round()
    begin = (starts * (whole - widths + 1)).floor()
    return ((places >= begin) & (places < begin + widths)).any(0)
