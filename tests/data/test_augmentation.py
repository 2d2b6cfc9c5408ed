from __future__ import annotations

import math
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from sounding.batches import Batch, Batches
from sounding.data.augmentation import COLOURS, GREY, POLICIES, Augmentation, Policy, _boxes, move, policy_for
from sounding.data.geometry import warp
from sounding.data.picture_operations import recolour
from sounding.errors import RecipeError
from sounding.networks import Standardize
from sounding.randomness import generator
from sounding.recipe import TrainingRecipe

GENERATOR = torch.Generator().manual_seed(0)
PICTURES = torch.randint(0, 256, (24, 3, 10, 12), dtype=torch.uint8, generator=GENERATOR)
CLASSES = torch.arange(24) % 5


def batch(count: int = 24) -> Batch:
    return Batch((PICTURES[:count],), CLASSES[:count], None, torch.arange(count))


def varied(count: int = 24, epoch: int = 0, step: int = 0, **settings) -> Batch:
    return Augmentation(**settings, number_of_classes=5, seed=1)(batch(count), epoch, step)


# Each transform against the slow and obvious way, pixel by pixel


def test_move():
    down, right = torch.tensor([2, -1, 0]), torch.tensor([-2, 0, 1])
    mirrored = torch.tensor([False, True, True])
    moved = move(PICTURES[:3], down, right, mirrored, reach=2)
    assert moved.dtype == torch.uint8
    for i in range(3):
        for y in range(10):
            for x in range(12):
                from_y, from_x = y - int(down[i]), (11 - x if mirrored[i] else x) - int(right[i])
                inside = 0 <= from_y < 10 and 0 <= from_x < 12
                expected = PICTURES[i, :, from_y, from_x] if inside else torch.zeros(3, dtype=torch.uint8)
                assert moved[i, :, y, x].equal(expected)


@pytest.mark.parametrize("size", [(10, 12), (9, 9)])
def test_turning_goes_about_the_middle_and_what_is_mirrored_is_mirrored_first(size):
    height, width = size
    pictures = PICTURES[:, :, :height, :width].contiguous()
    policy = Policy(flip=True, turn=75.0)
    result = Augmentation(policy, seed=1)(Batch((pictures,), None, None, torch.arange(24)), 0, 0).inputs[0]
    moved = Augmentation(Policy(flip=True), seed=1)(Batch((pictures,), None, None, torch.arange(24)), 0, 0)
    degrees = generator(1, 0, 0, "turn").uniform(-75, 75, 24)
    assert result.dtype == torch.uint8
    for i in range(4):
        cos, sin = math.cos(math.radians(degrees[i])), math.sin(math.radians(degrees[i]))
        for y in range(height):
            for x in range(width):
                # counter-clockwise as seen, with y pointing down: the pixel comes from clockwise of it
                right, down = x - (width - 1) / 2, y - (height - 1) / 2
                from_x, from_y = (
                    cos * right - sin * down + (width - 1) / 2,
                    sin * right + cos * down + (height - 1) / 2,
                )
                expected = torch.zeros(3)
                for corner_y in (math.floor(from_y), math.floor(from_y) + 1):
                    for corner_x in (math.floor(from_x), math.floor(from_x) + 1):
                        if 0 <= corner_y < height and 0 <= corner_x < width:
                            share = (1 - abs(from_y - corner_y)) * (1 - abs(from_x - corner_x))
                            expected += share * moved.inputs[0][i, :, corner_y, corner_x]
                torch.testing.assert_close(result[i, :, y, x].float(), expected, atol=0.51, rtol=0)


def test_maps_say_where_the_pixels_went_for_masks_and_boxes():
    policy = Policy(shift=0.2, flip=True)
    vary = Augmentation(policy, seed=1)
    for step in range(3):
        maps = vary.maps(policy, 24, (10, 12), 2, step)
        assert torch.equal(warp(PICTURES, maps, (10, 12)), vary(batch(), 2, step).inputs[0])


def test_recolour():
    factors = torch.tensor([[1.3, 1.0, 1.0], [1.0, 0.5, 1.0], [1.0, 1.0, 0.2], [0.7, 1.4, 1.5]])
    coloured = recolour(PICTURES[:4], factors)
    for i in range(4):
        brightness, contrast, saturation = factors[i].double().numpy()
        x = np.clip(PICTURES[i].double().numpy() * brightness, 0, 255)
        mean = np.mean(0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])
        x = np.clip(mean + (x - mean) * contrast, 0, 255)
        grey = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        x = np.clip(grey + (x - grey) * saturation, 0, 255)
        np.testing.assert_allclose(coloured[i].numpy(), x, atol=0.51)
    assert recolour(PICTURES[:4], torch.ones(4, 3)).equal(PICTURES[:4])


def test_one_channel_has_brightness_and_contrast():
    grey = PICTURES[:2, :1]
    assert recolour(grey, torch.tensor([[1.0, 1.0, 0.0]] * 2)).equal(grey)
    flat = recolour(grey, torch.tensor([[1.0, 0.0, 1.0]] * 2))
    assert flat.equal(grey.float().mean((1, 2, 3), keepdim=True).round().to(torch.uint8).expand_as(flat))


def test_boxes():
    sides = np.array([[4.0, 0.0, 7.3], [3.0, 0.0, 30.0]])
    masks = _boxes(generator(0, "boxes"), sides, 10, 12, torch.device("cpu"))
    draws = generator(0, "boxes")
    centre_y, centre_x = draws.uniform(0, 10, 3), draws.uniform(0, 12, 3)
    for i in range(3):
        top, left = round(centre_y[i] - sides[0, i] / 2), round(centre_x[i] - sides[1, i] / 2)
        for y in range(10):
            for x in range(12):
                inside = top <= y < top + round(sides[0, i]) and left <= x < left + round(sides[1, i])
                assert bool(masks[i, 0, y, x]) is inside


def test_erase_blanks_to_the_mean_colour():
    result = varied(erase=1.0).inputs[0]
    mean = PICTURES.float().mean((0, 2, 3)).round().to(torch.uint8)
    changed = (result != PICTURES).any(1)
    assert (result.permute(0, 2, 3, 1)[changed] == mean).all()
    areas = (result.permute(0, 2, 3, 1) == mean).all(-1).float().mean((1, 2))
    assert ((areas > 0) & (areas <= 0.45)).all()  # sides are rounded to whole pixels
    assert not changed.any(2).all(1).any()


def test_mixup_blends_pictures_and_targets_alike():
    result = varied(mixup=0.4)
    draws = generator(1, 0, 0, "mixup")
    share, partner = draws.beta(0.4, 0.4, 24), draws.permutation(24)
    for i, (s, j) in enumerate(zip(share, partner, strict=True)):
        expected = s * PICTURES[i].double() + (1 - s) * PICTURES[int(j)].double()
        torch.testing.assert_close(result.inputs[0][i].double(), expected / 255, atol=1e-5, rtol=0)
        target = torch.zeros(5)
        target[CLASSES[i]] += s
        target[CLASSES[int(j)]] += 1 - s
        torch.testing.assert_close(result.target[i], target)


def test_cutmix_pastes_a_patch_and_shares_the_target_by_area():
    result = varied(cutmix=1.0)
    draws = generator(1, 0, 0, "cutmix")
    draws.beta(1.0, 1.0, 24)
    partner = draws.permutation(24)
    assert result.inputs[0].dtype == torch.uint8
    for i, j in enumerate(partner):
        j = int(j)
        own = (result.inputs[0][i] == PICTURES[i]).all(0)
        other = (result.inputs[0][i] == PICTURES[j]).all(0)
        assert (own | other).all()
        kept = own.float().mean() if i != j else torch.tensor(1.0)
        expected = torch.zeros(5)
        expected[CLASSES[i]] += kept
        expected[CLASSES[j]] += 1 - kept
        torch.testing.assert_close(result.target[i], expected)


def test_a_target_of_numbers_is_blended_as_it_is():
    numbers = torch.linspace(0, 1, 24)
    result = Augmentation(mixup=1.0, seed=1)(Batch((PICTURES,), numbers, None, torch.arange(24)), 0, 0)
    draws = generator(1, 0, 0, "mixup")
    share = torch.from_numpy(draws.beta(1.0, 1.0, 24)).float()
    partner = torch.from_numpy(draws.permutation(24))
    torch.testing.assert_close(result.target, share * numbers + (1 - share) * numbers[partner])


# Draws


EVERYTHING = {"policy": "strong", "erase": 0.5, "mixup": 0.2, "cutmix": 1.0}


def test_same_place_same_draws_other_place_other_draws():
    first, again = varied(**EVERYTHING), varied(**EVERYTHING)
    assert first.inputs[0].equal(again.inputs[0])
    assert first.target.equal(again.target)
    for place in ({"epoch": 1}, {"step": 1}):
        assert not varied(**EVERYTHING, **place).inputs[0].equal(first.inputs[0])


def test_what_the_others_contain_does_not_matter():
    other = PICTURES.clone()
    other[1:] = 0
    policy = Augmentation("trivialaugment", seed=1)
    changed = policy(Batch((other,), CLASSES, None, torch.arange(24)), 0, 0)
    assert changed.inputs[0][0].equal(policy(batch(), 0, 0).inputs[0][0])


def test_draws_of_one_transform_do_not_depend_on_the_others():
    alone, with_more = (
        varied(policy=Policy(flip=True)),
        varied(policy=Policy(flip=True, colour=1e-9, turn=1e-9)),
    )
    assert with_more.inputs[0].equal(alone.inputs[0])
    operations = varied(policy=Policy(operations=2)).inputs[0]
    assert varied(policy=Policy(operations=1)).inputs[0].equal(varied(policy=Policy(operations=1, erase=0.0)).inputs[0])
    assert not operations.equal(PICTURES)
    shifted = varied(policy=Policy(shift=0.1, flip=True)).inputs[0]
    only = varied(policy=Policy(shift=0.1)).inputs[0]
    mirrored = (alone.inputs[0] != PICTURES).flatten(1).any(1)
    for i in range(24):
        assert shifted[i].equal(only[i].flip(2) if mirrored[i] else only[i])


def test_shares_are_as_asked():
    flipped = torch.stack(
        [(varied(policy=Policy(flip=True), step=s).inputs[0] != PICTURES).flatten(1).any(1) for s in range(40)]
    )
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.06)
    erased = torch.stack([(varied(erase=0.25, step=s).inputs[0] != PICTURES).flatten(1).any(1) for s in range(40)])
    assert erased.float().mean() == pytest.approx(0.25, abs=0.06)
    kinds = [varied(mixup=1.0, cutmix=1.0, step=s).inputs[0].dtype for s in range(60)]
    assert kinds.count(torch.uint8) == pytest.approx(30, abs=15)


@pytest.mark.parametrize(("side", "reach"), [(8, 1), (28, 2)])
def test_the_shift_policy_moves_small_pictures_by_so_many_pixels(side, reach):
    dot = torch.zeros(400, 1, side, side, dtype=torch.uint8)
    dot[:, :, side // 2, side // 2] = 255
    moved = Augmentation("default")(Batch((dot,), None, None, torch.arange(400)), 0, 0).inputs[0]
    places = moved.squeeze(1).nonzero()[:, 1:] - side // 2
    assert places.abs().max() == reach
    assert len(places.unique(dim=0)) == (2 * reach + 1) ** 2


def test_nothing_asked_nothing_done():
    asked = batch()
    result = Augmentation()(asked, 0, 0)
    assert result.inputs[0] is asked.inputs[0]
    assert result.target is asked.target


def test_only_pictures_are_varied_and_any_batches_take_it():
    numbers = torch.randn(24, 4)
    batches = Batches((numbers, PICTURES), CLASSES, batch_size=10, transform=Augmentation("default"))
    first = next(iter(batches.epoch(0)))
    assert first.inputs[0].equal(numbers[:10])
    assert not first.inputs[1].equal(PICTURES[:10].float())
    assert first.inputs[1].min() >= 0
    assert first.inputs[1].max() <= 255


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "stron"}, 'did you mean "strong"'),
        ({"erase": 1.5}, "from 0 to 1"),
        ({"mixup": -0.1}, "cannot be negative"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(RecipeError, match=message):
        Augmentation(**settings)


def test_rows_of_numbers_cannot_be_mixed():
    with pytest.raises(RecipeError, match="need pictures as the only input"):
        Augmentation(mixup=0.2)(Batch((torch.randn(4, 3),), torch.zeros(4), None, torch.arange(4)), 0, 0)


def test_policies_are_those_of_the_recipe():
    words = get_args(get_type_hints(TrainingRecipe)["augment"])
    assert words == POLICIES == tuple(COLOURS) == tuple(GREY)


def test_what_a_word_means_depends_on_the_colours():
    grey = Batch((PICTURES[:, :1].contiguous(),), CLASSES, None, torch.arange(24))
    as_grey, as_colours = (Augmentation(policy, seed=1) for policy in (GREY["default"], COLOURS["default"]))
    chosen = Augmentation("default", seed=1)
    assert torch.equal(chosen(grey, 0, 0).inputs[0], as_grey(grey, 0, 0).inputs[0])
    assert torch.equal(chosen(batch(), 0, 0).inputs[0], as_colours(batch(), 0, 0).inputs[0])
    assert not GREY["strong"].flip
    assert policy_for("strong", 12) == GREY["strong"]


def test_policies_say_what_they_do():
    assert COLOURS["default"].told() == "moved by up to 0.125 of the side, mirrored"
    assert COLOURS["strong"].told().endswith("1 of 14 operations, a rectangle blanked in 25% of them")
    assert COLOURS["trivialaugment"].told().endswith("1 of 14 operations, wide")
    assert Policy().told() == "as they are"


def test_a_standardising_network_sees_the_same_picture_whatever_was_done_to_it():
    standardize = Standardize([0.4], [0.3])
    plain = standardize(varied(policy=Policy()).inputs[0])
    hardly = standardize(varied(policy=Policy(colour=1e-9)).inputs[0])
    torch.testing.assert_close(hardly, plain, atol=1e-4, rtol=0)
    alone = Batch((PICTURES[:1],), CLASSES[:1], None, torch.arange(1))  # blended with itself
    blended = Augmentation(mixup=1.0, number_of_classes=5)(alone, 0, 0).inputs[0]
    torch.testing.assert_close(standardize(blended), plain[:1], atol=1e-4, rtol=0)
