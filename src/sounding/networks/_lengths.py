"""What all networks for series of several lengths do with padding: they never let it change a result."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def apart(series: Tensor, varying: bool) -> tuple[Tensor, Tensor | None]:
    """Values (B, C, L), and where they are points (B, 1, L), 1 or 0; none where all are.

    series: (B, C, L), or where lengths vary (B, C + 1, L), of which the last channel says where there are points.
    """
    if not varying:
        return series, None
    series = shortened(series)
    return series[:, :-1], series[:, -1:]


def shortened(series: Tensor) -> Tensor:
    """Series (B, C + 1, L) without the end at which none has a point; one place is always left.

    It only saves time, so a graph that is traced for any length keeps it. A GPU is waited for here.
    """
    if torch.compiler.is_compiling():
        return series
    used = series[:, -1].any(0).nonzero()
    return series[..., : int(used[-1]) + 1 if len(used) else 1]


def blanked(values: Tensor, real: Tensor | None) -> Tensor:
    """The same, with zeros in the padding: there a convolution sees what it sees beyond the end of any series."""
    return values if real is None else values * real


def mean_over_time(values: Tensor, real: Tensor | None) -> Tensor:
    """The mean of (B, C, L) over the points of each series: (B, C)."""
    if real is None:
        return values.mean(2)
    return (values * real).sum(2) / real.sum(2).clamp(min=1.0)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of series by the points that there are, not by padding.

    >>> norm, real = MaskedBatchNorm(1), torch.tensor([[[1.0, 1.0, 0.0]]])
    >>> norm(torch.tensor([[[3.0, 5.0, 99.0]]]), real)[0, 0, :2].detach()
    tensor([-1.0000,  1.0000])
    """

    def forward(self, values: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, C, L), and where there are points (B, 1, L), to (B, C, L); what is in the padding means nothing."""
        if real is None or not self.training:
            normed: Tensor = super().forward(values)
            return normed
        count = real.sum()
        mean = (values * real).sum((0, 2)) / count
        away = values - mean[:, None]
        variance = (away * real).square().sum((0, 2)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            unbiased = variance * count / (count - 1).clamp(min=1.0)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
            self.num_batches_tracked.add_(1)
        return away * (torch.rsqrt(variance + self.eps) * self.weight)[:, None] + self.bias[:, None]
