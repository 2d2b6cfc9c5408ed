"""Networks that give a class to every pixel: what is promised of all networks, and what is special about them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks import NETWORKS, EncoderDecoder, ResNet, UNet

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"hidden_size": 4, "levels": 2},
    "encoder_decoder": {"stem_size": 4, "hidden_sizes": [8, 8], "depths": [1, 1], "decoder_size": 8},
}
SIZE, OUT, ROWS = (18, 27), 3, 4


def make(name: str, seed: int = 0, size: tuple[int, int] = SIZE, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return NETWORKS[name].build(2, OUT, picture_size=size, **{**SMALL[name], **options})


@pytest.fixture(params=sorted(name for name, family in NETWORKS.items() if family.answers == "maps"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(ROWS, 2, *SIZE)


def test_maps_are_as_large_as_the_pictures_and_are_the_head_of_the_features(name: str, pictures: Tensor) -> None:
    network = make(name).eval()
    features = network.forward_features(pictures)
    assert network(pictures).shape == (ROWS, OUT, *SIZE)
    assert features.shape[:2] == (ROWS, network.num_features)
    torch.testing.assert_close(F.interpolate(network.head(features), network(pictures).shape[2:]).shape, (4, 3, *SIZE))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 70), (64, 5)])
def test_pictures_of_every_size_are_read(name: str, size: tuple[int, int]) -> None:
    assert make(name).eval()(torch.randn(2, 2, *size)).shape == (2, OUT, *size)


@pytest.mark.parametrize("size", [(18, 27), (80, 100)])
def test_large_and_small_pictures_enter_differently_and_leave_alike(size: tuple[int, int]) -> None:
    assert make("encoder_decoder", size=size).eval()(torch.randn(1, 2, *size)).shape == (1, OUT, *size)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_stem_may_make_pictures_smaller(stride: int, pictures: Tensor) -> None:
    network = make("unet", stem_stride=stride).eval()
    assert network(pictures).shape == (ROWS, OUT, *SIZE)
    assert network.forward_features(pictures).shape[2:] == (-(-18 // stride), -(-27 // stride))


def test_every_parameter_gets_a_finite_gradient(name: str, pictures: Tensor) -> None:
    network = make(name)
    F.cross_entropy(network(pictures), torch.randint(0, OUT, (ROWS, *SIZE))).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_save_and_load_agree_bit_for_bit(name: str, pictures: Tensor) -> None:
    network, other = make(name), make(name, seed=7).eval()
    network(pictures)  # batch statistics move
    other.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(other(pictures), network.eval()(pictures))


def test_no_row_sees_another_and_one_alone_works(name: str, pictures: Tensor) -> None:
    network = make(name).eval()
    before = network(pictures)
    changed = network(torch.cat([torch.randn(1, 2, *SIZE), pictures[1:]]))
    torch.testing.assert_close(changed[1:], before[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(pictures[2:3]), before[2:3], rtol=1e-4, atol=1e-5)


def test_a_few_pictures_can_be_learnt_by_heart(name: str, pictures: Tensor) -> None:
    network, goals = make(name), (pictures[:, 0] > 0).long() + (pictures[:, 1] > 1).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = list[float]()
    for _ in range(60):
        loss = F.cross_entropy(network(pictures), goals)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_it_is_exported_for_batches_of_any_size(name: str, pictures: Tensor) -> None:
    network = make(name).eval()
    graph = torch.export.export(network, (pictures,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},)).module()
    more = torch.randn(7, 2, *SIZE)
    torch.testing.assert_close(graph(more), network(more), rtol=1e-4, atol=1e-5)


def test_what_is_far_away_is_seen_and_borders_are_kept() -> None:
    """A U-Net with four halvings sees across 100 pixels; a pixel of its map lies above that of the picture."""
    network = UNet(1, 1, picture_size=(96, 96), hidden_size=4, levels=4)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)
    network.eval()
    picture = torch.rand(1, 1, 96, 96, requires_grad=True)
    network(picture)[0, 0, 48, 48].backward()
    assert picture.grad is not None
    seen = picture.grad[0, 0] != 0
    assert seen[48, 0]
    assert seen[0, 48]


@pytest.mark.parametrize(
    "options", [{"normalization": "none"}, {"levels": 0}, {"depth": 0}, {"stem_stride": 3}], ids=str
)
def test_a_unet_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give|take"):
        UNet(1, 2, picture_size=(8, 8), **options)


def test_sizes_grow_up_to_the_widest() -> None:
    network = UNet(1, 2, picture_size=(64, 64), hidden_size=8, widest=16, levels=3)
    assert [part[0].change[0].out_channels for part in network.down] == [8, 16, 16, 16]  # type: ignore[index, union-attr]


def test_any_encoder_with_stages_will_do() -> None:
    class Own(nn.Module):
        stage_sizes = (3, 5)
        multiple = 2

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 5, 3, 2, padding=1)

        def forward_stages(self, pictures: Tensor) -> list[Tensor]:
            fine = self.first(pictures)
            return [fine, self.second(fine)]

    network = EncoderDecoder(Own(), 4, hidden_size=8).eval()
    assert network(torch.randn(2, 1, 9, 7)).shape == (2, 4, 9, 7)


@pytest.mark.parametrize("size", [(32, 32), (96, 128)])
def test_stages_of_a_residual_network_end_in_its_maps(size: tuple[int, int]) -> None:
    network = ResNet(1, 2, picture_size=size, stem_size=4, hidden_sizes=[8, 12], depths=[2, 1]).eval()
    pictures = torch.randn(2, 1, *size)
    maps = network.forward_stages(pictures)
    assert torch.equal(maps[-1], network.forward_maps(pictures))
    assert [one.shape[1] for one in maps] == list(network.stage_sizes) == [4, 8, 12]
    assert size[0] // maps[-1].shape[2] == network.multiple
