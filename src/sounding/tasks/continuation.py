"""How a language network writes on: token by token, each drawn from what the network thinks comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sounding.errors import RecipeError


def drawn(
    logits: np.ndarray, draw: np.random.Generator, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> int:
    """A code, drawn from the softmax of logits (codes,).

    temperature: divides the logits first; 0 takes the largest.
    top_k:       only the so many largest are drawn from; 0 is all.
    top_p:       only the largest that together have this probability are: the one that reaches it is the last
                 (Holtzman et al. 2020, arXiv:1904.09751, section 3.1).

    >>> drawn(np.array([0.0, 9.0, 1.0]), np.random.default_rng(0), temperature=0.0)
    1
    """
    if temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    if top_k:
        order = order[:top_k]
    scaled = (logits[order].astype(np.float64) - logits[order[0]]) / temperature
    probabilities = np.exp(scaled)
    probabilities /= probabilities.sum()
    if top_p < 1:
        kept = int(np.searchsorted(probabilities.cumsum(), top_p)) + 1
        order, probabilities = order[:kept], probabilities[:kept]
    reached = probabilities.cumsum()
    return int(order[np.searchsorted(reached / reached[-1], draw.random(), side="right")])


def continued(
    network: nn.Module,
    prompt: Sequence[int],
    draw: np.random.Generator,
    *,
    length: int,
    context: int,
    never: Sequence[int] = (),
    end: int | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[int]:
    """So many codes behind a prompt of at least one, as they are drawn.

    context: tokens that the network was trained to read together. Where it has read so many, it begins anew with the
             latter half of them.
    never:   codes that are never drawn.
    end:     the code after which there is nothing more; it is not given.

    Raises:
        RecipeError: for a temperature below 0, a top_k below 0 or a top_p outside (0, 1].
    """
    if not (temperature >= 0 and top_k >= 0 and 0 < top_p <= 1):
        raise RecipeError(
            f"temperature {temperature:g}, top_k {top_k} and top_p {top_p:g} cannot be drawn with",
            "give a temperature and a top_k of at least 0, and a top_p above 0 and up to 1",
        )
    device = next(network.parameters()).device
    read = list(prompt)[-context:]
    unread, memory = read, None
    step: Any = network.step
    for _ in range(length):
        if len(read) > context:
            read = read[-max(context // 2, 1) :]
            unread, memory = read, None
        with torch.inference_mode():
            logits, memory = step(torch.tensor([unread], device=device), memory)
        values = as_logits(logits)
        values[list(never)] = -np.inf
        code = drawn(values, draw, temperature=temperature, top_k=top_k, top_p=top_p)
        if code == end:
            return
        yield code
        unread = [code]
        read = [*read, code]


def as_logits(logits: Tensor) -> np.ndarray:
    """(codes,) float64 from (1, codes)."""
    values: np.ndarray = logits[0].double().cpu().numpy()
    return values
