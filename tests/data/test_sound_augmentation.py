from __future__ import annotations

import numpy as np
import torch

from sounding.batches import Batch
from sounding.data.sound_augmentation import SoundAugmentation, SoundPolicy
from sounding.kinds import SILENCE

STILL = {"shift": 0.0, "loudness": 0.0, "noisy": 0.0}


def batch(rows: int = 64, length: int = 400) -> Batch:
    draw = np.random.default_rng(0)
    samples = draw.integers(-3000, 3000, (rows, length)).astype(np.int16)
    samples[np.arange(length) >= draw.integers(0, length + 1, (rows, 1))] = SILENCE
    return Batch((torch.from_numpy(samples), torch.zeros(rows, 2)), torch.arange(rows), None, torch.arange(rows))


def varied(policy: dict[str, float], at: Batch, epoch: int = 0, step: int = 0, seed: int = 0) -> torch.Tensor:
    return SoundAugmentation(SoundPolicy(**{**STILL, **policy}), seed=seed)(at, epoch, step).inputs[0]


def test_nothing_drawn_changes_nothing() -> None:
    assert torch.equal(varied({}, batch()), batch().inputs[0])


def test_lengths_other_inputs_and_the_target_stay() -> None:
    before = batch()
    after = SoundAugmentation(seed=3)(before, 1, 2)
    assert torch.equal(after.inputs[0] == SILENCE, before.inputs[0] == SILENCE)
    assert after.inputs[0].dtype == torch.int16
    assert after.inputs[1] is before.inputs[1]
    assert after.target is before.target


def test_a_shift_moves_silence_in() -> None:
    before, after = batch().inputs[0].numpy(), varied({"shift": 0.2}, batch()).numpy()
    moved = set()
    for old, new in zip(before, after, strict=True):
        old, new = old[old != SILENCE].astype(int), new[new != SILENCE].astype(int)
        reach = round(0.2 * len(old))
        shifts = [s for s in range(-reach, reach + 1) if np.array_equal(new, _shifted(old, s))]
        assert shifts
        moved.add(shifts[0])
    assert min(moved) < -10
    assert max(moved) > 10


def _shifted(wave: np.ndarray, by: int) -> np.ndarray:
    silence = np.zeros(abs(by), int)
    return np.concatenate([silence, wave[: len(wave) - by]]) if by >= 0 else np.concatenate([wave[-by:], silence])


def test_loudness_changes_by_so_many_decibels() -> None:
    before, after = batch().inputs[0].double(), varied({"loudness": 6.0}, batch()).double()
    there = before != SILENCE
    ratios = (after * there).square().sum(1).div((before * there).square().sum(1)).log10() * 10
    ratios = ratios[there.sum(1) > 20]
    assert ratios.abs().max() < 6.1
    assert ratios.std() > 2


def test_noise_is_as_far_below_as_it_is_said() -> None:
    before = batch()
    after = varied({"noisy": 1.0, "quietest": 20.0, "loudest": 20.0}, before).double()
    wave, there = before.inputs[0].double(), before.inputs[0] != SILENCE
    ratio = ((after - wave) * there).square().sum() / (wave * there).square().sum()
    assert abs(10 * float(ratio.log10()) + 20) < 0.5
    half = varied({"noisy": 0.5}, before)
    touched = (half != before.inputs[0]).any(1).float().mean()
    assert 0.25 < touched < 0.75


def test_draws_depend_on_seed_epoch_step_and_place_alone() -> None:
    whole = varied({"shift": 0.1, "noisy": 0.0}, batch())
    other = batch()
    other.inputs[0][1:] = other.inputs[0][1:].flip(0)
    assert torch.equal(varied({"shift": 0.1, "noisy": 0.0}, other)[0], whole[0])
    assert torch.equal(
        SoundAugmentation(seed=1)(batch(), 2, 3).inputs[0], SoundAugmentation(seed=1)(batch(), 2, 3).inputs[0]
    )
    for change in ({"epoch": 1}, {"step": 1}, {"seed": 1}):
        assert not torch.equal(varied({"shift": 0.1}, batch(), **change), whole)
