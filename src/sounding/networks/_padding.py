"""What all networks for text do with padding: they never let it change a result."""

from __future__ import annotations

import torch
from torch import Tensor


def trimmed(tokens: Tensor) -> Tensor:
    """Tokens (B, L, ...) without the places at the end where no text has a word; one place is always left.

    It only saves time, so a graph that is traced for any length keeps them. A GPU is waited for here.

    >>> trimmed(torch.tensor([[5, 7, 0, 0], [9, 0, 0, 0]]))
    tensor([[5, 7],
            [9, 0]])
    """
    if torch.compiler.is_compiling():
        return tokens
    used = (tokens if tokens.ndim == 2 else tokens[..., 0]).any(0).nonzero()
    return tokens[:, : int(used[-1]) + 1 if len(used) else 1]


def words_of(tokens: Tensor) -> Tensor:
    """The codes of words (B, L), trimmed, of tokens with or without pieces: (B, L) or (B, L, 1 + pieces)."""
    return trimmed(tokens if tokens.ndim == 2 else tokens[..., 0])


def real_places(words: Tensor) -> Tensor:
    """Where (B, L) bool a text has words; an empty text is read as one word of padding."""
    real = words != 0
    real[:, 0] = True
    return real
