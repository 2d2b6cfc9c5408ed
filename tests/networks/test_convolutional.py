from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.networks import NORMALIZATIONS, ConvolutionalNetwork, Standardize, TextConvolution
from sounding.networks.normalization import RMSNorm


def layers_of(network: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def test_one_stage_is_the_textbook_formula() -> None:
    network = ConvolutionalNetwork(
        2, 3, picture_size=(6, 5), hidden_sizes=[4], depth=1, normalization="none", initialization="default"
    ).eval()
    (convolution,) = layers_of(network, nn.Conv2d)
    x = torch.randn(7, 2, 6, 5)
    windows = F.unfold(x, 3, padding=1)  # (B, 2 * 9, H * W)
    hidden = torch.relu(convolution.weight.flatten(1) @ windows + convolution.bias[:, None])
    torch.testing.assert_close(network.forward_features(x), hidden.mean(2))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 8), (28, 28), (33, 47), (64, 64), (65, 200), (256, 256)])
def test_pictures_of_any_size_and_cost_that_stays_in_bounds(size: tuple[int, int]) -> None:
    network = ConvolutionalNetwork(3, 2, picture_size=size, hidden_sizes=[4, 8, 8], depth=1).eval()
    largest = 0

    def measure(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, min(output.shape[2:]))

    for layer in layers_of(network, nn.Conv2d):
        layer.register_forward_hook(measure)
    assert network(torch.randn(2, 3, *size)).isfinite().all()
    assert min(min(size), 33) <= largest <= 64


KINDS = {
    **{"none": nn.Identity, "batch": nn.BatchNorm2d, "layer": nn.GroupNorm},
    **{"group": nn.GroupNorm, "instance": nn.InstanceNorm2d, "rms": RMSNorm},
}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_normalizations(normalization: str) -> None:
    network = ConvolutionalNetwork(1, 2, picture_size=(8, 8), hidden_sizes=[4, 4], normalization=normalization)
    assert len(layers_of(network, KINDS[normalization])) == 4
    biased = [layer.bias is not None for layer in layers_of(network, nn.Conv2d)]
    assert biased == [normalization not in ("batch", "instance")] * 4
    assert network(torch.randn(3, 1, 8, 8)).isfinite().all()


def test_a_shifted_dot_is_found_anywhere() -> None:
    """What convolution is for: away from the border, the features of a picture move nowhere when it does."""
    network = ConvolutionalNetwork(1, 2, picture_size=(16, 16), hidden_sizes=[4], normalization="none").eval()
    here, there = torch.zeros(2, 1, 1, 16, 16)
    here[0, 0, 4, 5] = there[0, 0, 10, 8] = 1.0
    torch.testing.assert_close(network.forward_features(here), network.forward_features(there))


def slow_text_features(network: TextConvolution, text: list[int]) -> torch.Tensor:
    """One phrase at a time, from each word and from the silence after the last."""
    found = []
    for convolution in network.convolutions:
        window = convolution.weight.shape[2]
        words = network.embedding.weight[text + [0] * 2 * window]  # (words, embedding)
        phrases = [words[at : at + window] for at in range(len(text) + 1)]
        values = [(convolution.weight * phrase.T).sum((1, 2)) + convolution.bias for phrase in phrases]
        found.append(torch.relu(torch.stack(values)).amax(0))
    return torch.cat(found)


def test_text_is_searched_for_phrases() -> None:
    torch.manual_seed(0)
    network = TextConvolution(20, 2, embedding_size=5, windows=[2, 3, 5], hidden_size=4).eval()
    texts = [[3, 5, 7, 2, 9, 11, 4], [8], [6, 6, 1], []]
    for padding in (7, 12):
        tokens = torch.tensor([text + [0] * (padding - len(text)) for text in texts])
        expected = torch.stack([slow_text_features(network, text) for text in texts])
        torch.testing.assert_close(network.forward_features(tokens), expected)


def test_text_shorter_than_every_phrase() -> None:
    network = TextConvolution(20, 2, windows=[5]).eval()
    assert network(torch.tensor([[3]])).isfinite().all()


def test_standardize_reads_bytes_and_fractions_alike() -> None:
    stored = torch.randint(256, (4, 3, 5, 5), dtype=torch.uint8)
    fractions = stored.float() / 255
    mean, deviation = fractions.mean((0, 2, 3)), fractions.std((0, 2, 3))
    standardize = Standardize(mean.tolist(), deviation.tolist())
    seen = standardize(stored)
    torch.testing.assert_close(seen, standardize(fractions))
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(3))
    assert list(standardize.state_dict()) == ["mean", "deviation"]


def test_a_constant_channel_is_only_moved() -> None:
    assert not Standardize([1.0], [0.0])(torch.full((2, 1, 3, 3), 255, dtype=torch.uint8)).any()


def test_defaults_are_the_layers_they_have_always_been() -> None:
    """Weights that were saved by older versions must find their names, and give the same bits."""
    torch.manual_seed(0)
    network = ConvolutionalNetwork(1, 2, picture_size=(8, 8), hidden_sizes=[4, 6], depth=1)
    torch.manual_seed(0)
    plain = nn.ModuleDict(
        {
            "layers": nn.Sequential(
                *(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
                nn.MaxPool2d(2, ceil_mode=True),
                *(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            ),
            "head": nn.Linear(6, 2),
        }
    )
    assert list(network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(network.state_dict())
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(network.eval()(x), plain["head"](plain.eval()["layers"](x).mean((2, 3))))
