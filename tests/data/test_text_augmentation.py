from __future__ import annotations

import torch

from sounding.batches import Batch
from sounding.data.text_augmentation import TextAugmentation

LENGTHS = torch.arange(64) % 12 + 1
CODES = torch.arange(1, 13).repeat(64, 1) * (torch.arange(12) < LENGTHS[:, None])


def varied(share: float, tokens: torch.Tensor = CODES, epoch: int = 0, step: int = 0, seed: int = 0) -> torch.Tensor:
    batch = Batch((torch.zeros(64, 2), tokens.int()), None, None, torch.arange(64))
    after = TextAugmentation(share, [1], seed=seed)(batch, epoch, step)
    assert after.inputs[0] is batch.inputs[0]
    return after.inputs[1]


def test_what_stays_stays_in_order_and_padding_is_at_the_end() -> None:
    after = varied(0.5)
    assert after.dtype == torch.int32
    for row, length in zip(after.tolist(), LENGTHS.tolist(), strict=True):
        kept = [code for code in row if code]
        assert row == kept + [0] * (12 - len(kept))
        assert kept == sorted(set(kept))
        assert 1 <= len(kept) <= length


def test_the_share_is_as_asked() -> None:
    long = torch.ones(64, 400, dtype=torch.int32)
    assert abs(1 - varied(0.2, long).count_nonzero() / long.numel() - 0.2) < 0.02
    assert torch.equal(varied(0.0), CODES.int())
    assert (varied(1.0) != 0).sum(1).eq(1).all()


def test_pieces_go_with_their_tokens() -> None:
    with_pieces = torch.stack([CODES, CODES * 10, CODES * 100], 2)
    after = varied(0.3, with_pieces)
    assert torch.equal(after[..., 0], varied(0.3))
    assert torch.equal(after[..., 1], after[..., 0] * 10)
    assert torch.equal(after[..., 2], after[..., 0] * 100)


def test_draws_depend_on_seed_epoch_step_and_place_alone() -> None:
    other = CODES.clone()
    other[1:] = other[1:].flip(0)
    assert torch.equal(varied(0.3, other)[0], varied(0.3)[0])
    for change in ({"epoch": 1}, {"step": 1}, {"seed": 1}):
        assert not torch.equal(varied(0.3, **change), varied(0.3))
