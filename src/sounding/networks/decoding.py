"""Writing a sequence token by token with a network that says what comes next: greedily, or by beam search.

Source of the search and of its length penalty: Wu et al. 2016, arXiv:1609.08144, section 7 and equation 14.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

PADDING, BEGIN, END = 0, 1, 2
"""Codes with a meaning of their own; all others are tokens proper."""

State = tuple[Tensor, ...]
"""What a network remembers of B rows: tensors of B rows each."""


class Writer(Protocol):
    """A network that writes a sequence for each sequence that it reads."""

    def begin(self, source: Tensor) -> State:
        """What it remembers of (B, L) codes before it has written anything."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, codes) of what comes after (B,) codes, the last ones written, and what it remembers then."""


def greedy(network: Writer, source: Tensor, longest: int | Tensor) -> Tensor:
    """The likeliest token at each place, until the end or `longest` tokens.

    source:   (B, L) codes, 0 for padding at the end.
    longest:  of all rows, or (B,) of each.
    Returns:  (B, longest or fewer) codes without begin and end, 0 behind the last.
    """
    if not len(source):
        return source.new_zeros(0, 0)
    rows = torch.arange(len(source), device=source.device)  # those that are not at their end
    limits = _limits(longest, source)
    written = source.new_zeros(len(source), int(limits.max()))
    tokens, state = source.new_full((len(source),), BEGIN), network.begin(source)
    for place in range(written.shape[1]):
        logits, state = network.step(tokens, state)
        logits[:, :END] = -torch.inf
        tokens = logits.argmax(1)
        goes_on = (tokens != END) & (limits[rows] > place)
        if not goes_on.all():
            rows, tokens, state = rows[goes_on], tokens[goes_on], tuple(tensor[goes_on] for tensor in state)
        if not len(rows):
            return written[:, :place]
        written[rows, place] = tokens.to(written)
    return written


def length_penalty(lengths: Tensor | float, alpha: float) -> Tensor | float:
    """By what the log-probability of a sequence is divided: ((5 + length) / 6) ^ alpha.

    lengths:  tokens, the mark of the end included.

    >>> length_penalty(1.0, 0.6), round(length_penalty(13.0, 1.0), 1)
    (1.0, 3.0)
    """
    return ((5.0 + lengths) / 6.0) ** alpha


def beam_search(
    network: Writer, source: Tensor, longest: int | Tensor, *, beam: int = 4, alpha: float = 0.6
) -> tuple[Tensor, Tensor]:
    """The sequences with the best log-probability, divided by the length penalty, among those that the search meets.

    At each place the `beam` likeliest beginnings of each row are kept; what ended goes to its finished sequences. A row
    is done when no beginning of it can become better than its best finished sequence, or after `longest` tokens, where
    beginnings count as they are.

    source:   (B, L) codes, 0 for padding at the end.
    longest:  of all rows, or (B,) of each.
    beam:     1 or more.
    alpha:    0 compares log-probabilities as they are; larger ones favour long sequences.

    Returns: (B, longest or fewer) codes without begin and end, 0 behind the last; and (B,) scores.
    """
    count, device = len(source), source.device
    if not count:
        return source.new_zeros(0, 0), torch.zeros(0, device=device)
    state = tuple(tensor.repeat_interleave(beam, 0) for tensor in network.begin(source))
    limits = _limits(longest, source)
    places = int(limits.max())
    open_rows = torch.arange(count, device=device)  # (R,) rows that are not done
    scores = torch.full((count, beam), -torch.inf, device=device)  # (R, beam) of beginnings
    scores[:, 0] = 0.0  # at first all are the same one
    written = source.new_zeros(count, beam, places)  # (R, beam, places)
    tokens = source.new_full((count * beam,), BEGIN)
    best = torch.full((count,), -torch.inf, device=device)
    found = source.new_zeros(count, places)
    bounds = torch.as_tensor(length_penalty(limits + 1.0, max(alpha, 0.0)))  # no sequence of a row is divided by more
    for place in range(places + 1):
        logits, state = network.step(tokens, state)
        logits = logits.float()
        logits[:, :END] = -torch.inf
        likely = logits.log_softmax(1).view(len(open_rows), beam, -1) + scores[..., None]  # (R, beam, codes)
        ended = likely[:, :, END] / length_penalty(place + 1.0, alpha)
        value, which = ended.max(1)
        better = value > best[open_rows]
        rows = open_rows[better]
        best[rows] = value[better]
        found[rows] = written[better, which[better]]
        if place == places:
            break
        likely[:, :, END] = -torch.inf
        scores, chosen = likely.flatten(1).topk(min(beam, likely[0].numel()), 1)  # (R, beam)
        parents, next_tokens = chosen // likely.shape[2], chosen % likely.shape[2]
        going = (scores[:, 0] / bounds[open_rows] > best[open_rows]) & (limits[open_rows] > place)
        if not going.any():
            break
        kept = going.nonzero()[:, 0]
        scores, parents, next_tokens = scores[kept], parents[kept], next_tokens[kept]
        flat = (kept[:, None] * beam + parents).flatten()
        state = tuple(tensor[flat] for tensor in state)
        written = written.flatten(0, 1)[flat].view(len(kept), beam, places)
        written[:, :, place] = next_tokens
        tokens, open_rows = next_tokens.flatten(), open_rows[kept]
    return found[:, : int((found != PADDING).sum(1).max())], best


def _limits(longest: int | Tensor, source: Tensor) -> Tensor:
    return torch.as_tensor(longest, device=source.device).expand(len(source))
