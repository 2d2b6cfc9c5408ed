"""What generator and discriminator are punished for, under the usual names.

All take scores (B,) that are the larger the more real an example looks: those of real examples, and of generated ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Judge = Callable[[Tensor], Tensor]
"""From examples to their scores (B,)."""


class AdversarialLoss(NamedTuple):
    """A game for two: both losses are functions of (scores of real examples, scores of generated ones)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    penalty: Callable[[Judge, Tensor, Tensor], Tensor]
    """What else the discriminator is punished for; called with it, and with real and generated examples."""


def _real_or_not(real: Tensor, generated: Tensor) -> Tensor:
    """A classification: real ones are 1, generated ones 0."""
    return F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) + F.binary_cross_entropy_with_logits(
        generated, torch.zeros_like(generated)
    )


def zero_centred_penalty(judge: Judge, real: Tensor, generated: Tensor) -> Tensor:
    """R1 + R2: half the mean squared slope of the discriminator at real examples, and at generated ones.

    Source: Mescheder et al. 2018, arXiv:1801.04406, section 4.1; both together: Huang et al. 2024, arXiv:2501.05441.
    """
    first, second = (_slopes(judge, examples).square().sum(1).mean() for examples in (real, generated))
    return 0.5 * (first + second)


def gradient_penalty(judge: Judge, real: Tensor, generated: Tensor) -> Tensor:
    """The mean of (slope - 1)² at random places between real and generated examples.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, section 4.
    """
    share = torch.rand((len(real), *(1,) * (real.ndim - 1)), dtype=real.dtype).to(real.device)
    slopes = torch.linalg.vector_norm(_slopes(judge, torch.lerp(real, generated, share)), dim=1)
    penalty: Tensor = (slopes - 1.0).square().mean()
    return penalty


def _slopes(judge: Judge, examples: Tensor) -> Tensor:
    """(B, ...) to (B, n): the gradient of each score by its own example."""
    examples = examples.detach().requires_grad_()
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(judge(examples).sum(), examples, create_graph=True)
    return slopes.flatten(1)


LOSSES: dict[str, AdversarialLoss] = {
    # Goodfellow et al. 2014, arXiv:1406.2661, section 3
    "non_saturating": AdversarialLoss(
        _real_or_not,
        lambda real, generated: F.binary_cross_entropy_with_logits(generated, torch.ones_like(generated)),
        zero_centred_penalty,
    ),
    # Gulrajani et al. 2017, arXiv:1704.00028
    "wasserstein": AdversarialLoss(
        lambda real, generated: generated.mean() - real.mean(),
        lambda real, generated: -generated.mean(),
        gradient_penalty,
    ),
    # Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957, equations 16 and 17
    "hinge": AdversarialLoss(
        lambda real, generated: F.relu(1.0 - real).mean() + F.relu(1.0 + generated).mean(),
        lambda real, generated: -generated.mean(),
        zero_centred_penalty,
    ),
    # Jolicoeur-Martineau 2018, arXiv:1807.00734, in pairs; Huang et al. 2024, arXiv:2501.05441, equation 2
    "relativistic": AdversarialLoss(
        lambda real, generated: F.softplus(generated - real).mean(),
        lambda real, generated: F.softplus(real - generated).mean(),
        zero_centred_penalty,
    ),
}
"""By name."""
