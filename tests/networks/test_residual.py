from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.networks import ResNet, build_normalization, resnet18, resnet34, resnet50
from sounding.networks.residual import Block, Bottleneck


@pytest.mark.parametrize(
    ("build", "parameters"), [(resnet18, 11_689_512), (resnet34, 21_797_672), (resnet50, 25_557_032)]
)
def test_parameter_counts_are_those_of_the_paper(build: Callable[..., ResNet], parameters: int) -> None:
    network = build(3, 1000, picture_size=(224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def shape_after(network: ResNet, part: str, size: tuple[int, int]) -> tuple[int, ...]:
    values = network.stem(torch.zeros(1, 3, *size))
    return tuple(values.shape[1:]) if part == "stem" else tuple(network.blocks(values).shape[1:])


@pytest.mark.parametrize(
    ("size", "stem", "blocks"),
    [
        ((224, 224), (64, 56, 56), (512, 7, 7)),
        ((96, 130), (64, 24, 33), (512, 3, 5)),
        ((32, 32), (64, 32, 32), (512, 4, 4)),
        ((8, 8), (64, 8, 8), (512, 1, 1)),
        ((1, 3), (64, 1, 3), (512, 1, 1)),
    ],
)
def test_the_stem_suits_the_size(
    size: tuple[int, int], stem: tuple[int, int, int], blocks: tuple[int, int, int]
) -> None:
    network = resnet18(3, 10, picture_size=size).eval()
    assert shape_after(network, "stem", size) == stem
    assert shape_after(network, "blocks", size) == blocks


@pytest.mark.parametrize(("side", "left"), [(8, 2), (15, 4), (16, 2), (28, 4), (64, 8), (65, 5)])
def test_the_first_stage_halves_what_entered_whole_and_is_not_tiny(side: int, left: int) -> None:
    network = ResNet(3, 10, picture_size=(side, side)).eval()
    assert shape_after(network, "blocks", (side, side)) == (256, left, left)


def test_the_stem_may_be_narrower_than_the_first_stage() -> None:
    sizes = {
        stem: ResNet(3, 10, picture_size=(8, 8), stem_size=stem, hidden_sizes=[24], depths=[1]).stem[0].out_channels
        for stem in (0, 7)
    }
    assert sizes == {0: 24, 7: 7}


@pytest.mark.parametrize("build", [Block, Bottleneck])
def test_a_block_begins_as_the_identity(build: type[Block] | type[Bottleneck]) -> None:
    channels = 4 * build.expansion
    x = torch.randn(2, channels, 6, 6).relu()
    assert torch.equal(build(channels, 4, 1, True, "relu", "batch", 0.0).eval()(x), x)


@pytest.mark.parametrize("average", [False, True])
def test_a_block_is_the_formula_of_the_paper(average: bool) -> None:
    torch.manual_seed(0)
    block = Block(2, 3, 2, average, "relu", "batch", 0.0).eval()
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)

    def norm(x: torch.Tensor, layer: nn.BatchNorm2d) -> torch.Tensor:
        scale = layer.weight / (layer.running_var + layer.eps).sqrt()
        return (x - layer.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)

    x = torch.randn(2, 2, 7, 7)
    first, norm1, _, second, norm2 = block.change
    projection, norm3 = block.shortcut[-2:]
    hidden = torch.relu(norm(F.conv2d(x, first.weight, stride=2, padding=1), norm1))
    change = norm(F.conv2d(hidden, second.weight, padding=1), norm2)
    if average:  # of what there is: the last row and column have but two pixels, and the corner one
        quarters = F.unfold(F.pad(x, (0, 1, 0, 1)), 2, stride=2).view(2, 2, 4, 4, 4)
        counts = F.unfold(F.pad(torch.ones_like(x), (0, 1, 0, 1)), 2, stride=2).view(2, 2, 4, 4, 4)
        smaller = quarters.sum(2) / counts.sum(2)
    else:
        smaller = x[:, :, ::2, ::2]
    expected = torch.relu(norm(F.conv2d(smaller, projection.weight), norm3) + change)
    torch.testing.assert_close(block(x), expected)


def test_only_the_small_network_averages_in_its_shortcuts() -> None:
    def averages(network: ResNet) -> int:
        return sum(isinstance(layer, nn.AvgPool2d) for layer in network.modules())

    assert averages(ResNet(1, 2, picture_size=(28, 28))) == 3
    assert averages(resnet18(1, 2, picture_size=(28, 28))) == 0


def test_stages_and_depths_must_match() -> None:
    with pytest.raises(ValueError, match="2 stages and depths 3"):
        ResNet(1, 2, picture_size=(8, 8), hidden_sizes=[4, 8], depths=[1, 1, 1])


def test_grey_pictures_in_channels_last_give_the_same_answer() -> None:
    torch.manual_seed(0)
    network = ResNet(1, 10, picture_size=(28, 28)).eval()
    x = torch.randn(2, 1, 28, 28)
    expected = network(x)
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


NAMES = """stem.0.weight stem.1.weight stem.1.bias stem.1.running_mean stem.1.running_var stem.1.num_batches_tracked
    blocks.0.change.0.weight blocks.0.change.1.weight blocks.0.change.1.bias blocks.0.change.1.running_mean
    blocks.0.change.1.running_var blocks.0.change.1.num_batches_tracked blocks.0.change.3.weight
    blocks.0.change.4.weight blocks.0.change.4.bias blocks.0.change.4.running_mean blocks.0.change.4.running_var
    blocks.0.change.4.num_batches_tracked blocks.0.shortcut.0.weight blocks.0.shortcut.1.weight
    blocks.0.shortcut.1.bias blocks.0.shortcut.1.running_mean blocks.0.shortcut.1.running_var
    blocks.0.shortcut.1.num_batches_tracked head.weight head.bias""".split()


def test_defaults_are_the_layers_they_have_always_been() -> None:
    """Weights that were saved by older versions must find their names, and give the same bits."""
    torch.manual_seed(0)
    network = ResNet(1, 2, picture_size=(8, 8), stem_size=3, hidden_sizes=[4], depths=[1])
    assert list(network.state_dict()) == NAMES
    (block,) = network.blocks
    nn.init.ones_(block.change[-1].weight)
    x, state = torch.randn(5, 1, 8, 8), torch.get_rng_state()
    found = network(x)
    assert torch.equal(torch.get_rng_state(), state)
    values = network.stem[1](network.stem[0](x)).relu()
    first, norm, _, second, last = block.change
    change = last(second(norm(first(values)).relu()))
    expected = network.head((block.shortcut(values) + change).relu().mean((2, 3)))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("normalization", ["layer", "group", "instance", "rms"])
def test_other_normalizations_replace_every_one_and_begin_silent(normalization: str, bottleneck: bool) -> None:
    torch.manual_seed(0)
    sizes = {"picture_size": (8, 8), "hidden_sizes": [4, 8], "depths": [1, 2], "bottleneck": bottleneck}
    plain = ResNet(1, 2, **sizes)
    network = ResNet(1, 2, **sizes, normalization=normalization)
    kind = type(build_normalization(normalization, 4, 2))

    def count(network: ResNet, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in network.modules())

    assert count(network, nn.BatchNorm2d) == 0
    assert count(network, kind) == count(plain, nn.BatchNorm2d)
    values = network.stem(torch.randn(2, 1, 8, 8))
    for block in network.blocks:
        assert torch.equal(block(values), block.shortcut(values).relu())
        values = block(values)


def test_without_normalization_it_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot do without normalization"):
        ResNet(1, 2, picture_size=(8, 8), normalization="none")
