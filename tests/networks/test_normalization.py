from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import NORMALIZATIONS, build_normalization
from sounding.networks.normalization import RMSNorm

SHAPES = {0: (5, 12), 1: (5, 12, 7), 2: (5, 12, 4, 3)}
CASES = [(name, places) for name in NORMALIZATIONS for places in SHAPES if (name, places) != ("instance", 0)]


def standardized(values: Tensor, over: tuple[int, ...]) -> Tensor:
    mean = values.mean(over, keepdim=True)
    return (values - mean) / ((values - mean).square().mean(over, keepdim=True) + 1e-5).sqrt()


def by_hand(name: str, values: Tensor) -> Tensor:
    everything, places = tuple(range(1, values.ndim)), tuple(range(2, values.ndim))
    if name == "batch":
        return standardized(values, (0, *places))
    if name == "layer":
        return standardized(values, everything)
    if name == "instance":
        return standardized(values, places)
    if name == "group":  # 4 groups of 3 channels: 4 divides both 32 and 12
        parts = [standardized(part, everything) for part in values.split(3, dim=1)]
        return torch.cat(parts, 1)
    if name == "rms":
        return values / (values.square().mean(everything, keepdim=True) + 1e-5).sqrt()
    return values


def example(places: int) -> Tensor:
    torch.manual_seed(places)
    return torch.randn(SHAPES[places]) * 3 + 1


@pytest.mark.parametrize(("name", "places"), CASES)
def test_each_is_its_formula(name: str, places: int) -> None:
    values = example(places)
    module = build_normalization(name, 12, places)
    expected = by_hand(name, values.double())
    weights = dict(module.named_parameters())
    for kind, parameter in weights.items():
        nn.init.normal_(parameter)
        wide = parameter.detach().double().view(-1, *(1,) * places)
        expected = expected * wide if kind == "weight" else expected + wide
    assert list(weights) == {"none": [], "rms": ["weight"]}.get(name, ["weight", "bias"])
    torch.testing.assert_close(module(values).double(), expected, rtol=1e-4, atol=1e-5)


TORCH: dict[tuple[str, int], Callable[[], nn.Module]] = {
    ("batch", 0): lambda: nn.BatchNorm1d(12),
    ("batch", 1): lambda: nn.BatchNorm1d(12),
    ("batch", 2): lambda: nn.BatchNorm2d(12),
    ("layer", 0): lambda: nn.LayerNorm(12),
    ("layer", 2): lambda: nn.GroupNorm(1, 12),
    ("group", 2): lambda: nn.GroupNorm(4, 12),
    ("instance", 1): lambda: nn.InstanceNorm1d(12, affine=True),
    ("instance", 2): lambda: nn.InstanceNorm2d(12, affine=True),
    ("rms", 0): lambda: nn.RMSNorm(12, eps=1e-5),
}


@pytest.mark.parametrize("case", TORCH)
def test_each_gives_the_bits_of_torch(case: tuple[str, int]) -> None:
    values = example(case[1])
    ours, theirs = build_normalization(case[0], 12, case[1]), TORCH[case]()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(values), theirs.train(mode)(values))


def test_rms_over_channels_and_places_is_that_of_torch_over_all_of_them() -> None:
    values = example(2)
    theirs = nn.functional.rms_norm(values, values.shape[1:], eps=1e-5)
    torch.testing.assert_close(RMSNorm(12)(values), theirs)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (32, 32), (48, 16), (12, 4), (7, 1)])
def test_groups_are_32_or_as_many_as_divide_the_channels(channels: int, groups: int) -> None:
    module = build_normalization("group", channels, 2)
    assert isinstance(module, nn.GroupNorm)
    assert module.num_groups == groups


def test_a_channel_of_one_number_is_no_instance() -> None:
    with pytest.raises(ValueError, match='normalization "instance" needs more than one number'):
        build_normalization("instance", 4, 0)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'unknown normalization "bach"; did you mean "batch"\?'):
        build_normalization("bach", 4, 0)
