"""What a detector is trained for: which places answer for which box, and what their answers cost.

Sources: Feng et al. 2021, arXiv:2108.07755 (TOOD), section 3.2: task-aligned assignment, with which a box is answered
for by those places that already say its class and its edges best; Li et al. 2020, arXiv:2006.04388, equation 6 (the
score that is learned is how well the edges fit, with a loss that looks at what is hard); Rezatofighi et al. 2019,
arXiv:1902.09630 (the loss of the edges).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.data.box_geometry import generalised_overlaps, overlaps
from sounding.kinds.boxes import NOTHING
from sounding.networks.detector import Detections

ANSWERING = 10
"""Places that answer for a box, at most."""
OF_CLASS, OF_EDGES = 0.5, 6.0
"""Exponents of a place's score and overlap in how well it is aligned with a box."""
HARD = 2.0
"""Exponent of the distance between score and goal by which places count."""
EDGES = 2.0
"""Weight of the loss of the edges, against that of the classes."""


class Assigned(NamedTuple):
    """Which box each place answers for."""

    box: Tensor
    """(B, A) int64: its number in the picture; of places that answer for none any."""
    goal: Tensor
    """(B, A): the score that a place is to have for the class of its box; 0 where it answers for none."""


@torch.no_grad()
def assign(outputs: Detections, boxes: Tensor) -> Assigned:
    """Let the places that are aligned best answer for each box.

    boxes:  (B, M, 5): code, then edges in pixels; -1 is no box.

    A place can answer for a box if its middle lies in it, or at most half a stride beside the middle of the box, so
    that a tiny box has a place. Its alignment is score^0.5 x overlap^6. Of the ten best places each has as its goal the
    alignment, scaled so that the largest is the best overlap. A place that could answer for several boxes takes that
    which it overlaps most.
    """
    codes, edges = boxes[..., 0], boxes[..., 1:]
    there = codes > NOTHING
    share = overlaps(edges, outputs.boxes)  # (B, M, A)
    scores = outputs.logits.sigmoid().transpose(1, 2)
    scores = scores.gather(1, codes.long().clamp(min=0)[..., None].expand(-1, -1, scores.shape[2]))
    place, half = outputs.places[:, None, :, :2], outputs.places[:, None, :, 2:] / 2
    low, high = edges[:, :, None, :2], edges[:, :, None, 2:]
    middle = (low + high) / 2
    within = (place >= low) & (place <= high)
    beside = (place + half >= middle) & (place - half <= middle)  # compared only: no sum of answers and truth
    near = (within | beside).all(-1)
    near &= there[..., None]
    aligned = torch.where(near, scores**OF_CLASS * share**OF_EDGES, 0.0)
    best = aligned.topk(min(ANSWERING, aligned.shape[2]), 2)
    answers = torch.zeros_like(near).scatter(2, best.indices, best.values > 0)
    box = torch.where(answers, share, -1.0).argmax(1)  # (B, A)
    answers &= torch.arange(boxes.shape[1], device=box.device)[:, None] == box[:, None]
    aligned, share = (torch.where(answers, values, 0.0) for values in (aligned, share))
    scale = share.amax(2, keepdim=True) / aligned.amax(2, keepdim=True).clamp(min=torch.finfo(aligned.dtype).tiny)
    return Assigned(box, (aligned * scale).sum(1))


def row_losses(outputs: Detections, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) what the answers for each picture cost, summed over its places; and (B,) the sum of its goals.

    boxes:  (B, M, 5): code, then edges in pixels; -1 is no box.

    The score of every place and class is held to its goal; the edges of places that answer for a box to that box, in
    proportion to their goal. As answers get better the goals rise, and with them both sums: only the one over the other
    tells how good answers are.
    """
    assigned = assign(outputs, boxes)
    codes, edges = boxes[..., 0], boxes[..., 1:]
    code = codes.gather(1, assigned.box).long().clamp(min=0)
    goals = torch.zeros_like(outputs.logits).scatter(2, code[..., None], assigned.goal[..., None])
    cost = F.binary_cross_entropy_with_logits(outputs.logits, goals, reduction="none")
    cost = cost * (outputs.logits.sigmoid() - goals).abs() ** HARD
    box = edges.gather(1, assigned.box[..., None].expand(-1, -1, 4))
    missed = (1 - generalised_overlaps(outputs.boxes, box)) * assigned.goal
    return cost.sum((1, 2)) + EDGES * missed.sum(1), assigned.goal.sum(1)
