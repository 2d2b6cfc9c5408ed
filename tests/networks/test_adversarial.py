from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks import AdversarialNetwork, picture_adversarial, tabular_adversarial
from sounding.networks.adversarial import Block, DenseGenerator, as_row

CARDINALITIES = [3, 2]
CLASSES = 4


def build(kind: str, classes: int = CLASSES, seed: int = 0, **options: Any) -> AdversarialNetwork:
    torch.manual_seed(seed)
    if kind == "table":
        return tabular_adversarial(2, CARDINALITIES, classes, hidden_sizes=[16, 16], noise_size=5, **options)
    return picture_adversarial(2, classes, picture_size=(9, 14), width=4, noise_size=5, **options)


@pytest.fixture(params=["table", "pictures"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def drawn(network: AdversarialNetwork, count: int = 6) -> tuple[Tensor, Tensor | None]:
    return network.draw(count, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_shapes(kind: str, classes: int) -> None:
    network = build(kind, classes)
    noise, codes = drawn(network)
    made = network(noise, codes)
    assert made.shape == ((6, 2 + sum(CARDINALITIES)) if kind == "table" else (6, 2, 9, 14))
    assert network.discriminator(made, codes).shape == (6,)


@pytest.mark.parametrize("side", [1, 5, 8, 14, 15, 28, 33, 64])
def test_pictures_of_any_size(side: int) -> None:
    network = picture_adversarial(1, 0, picture_size=(side, side + 1), width=4)
    made = network.sample(2)
    assert made.shape == (2, 1, side, side + 1)
    assert network.discriminator(made).shape == (2,)
    smallest = network.generator.first
    assert max(smallest[1:]) <= 7
    assert smallest[0] == 4 * 2 ** (len(network.generator.blocks) - 1)


def test_categories_are_drawn_by_their_probabilities() -> None:
    generator = DenseGenerator(1, 0, [3], hidden_sizes=[])
    nn.init.zeros_(generator.head.weight)
    shares = torch.tensor([0.2, 0.5, 0.3])
    with torch.no_grad():
        generator.head.bias.copy_(shares.log())
        made = generator(torch.randn(10_000, 4, generator=torch.Generator().manual_seed(0)))
    assert (made.mean(0) - shares).abs().max() < 0.02


def test_categories_are_one_hot_with_the_gradient_of_the_softmax() -> None:
    network = build("table")
    noise, codes = drawn(network)
    caught: list[Tensor] = []
    network.generator.head.register_forward_hook(lambda module, inputs, output: caught.append(output))
    made = network(noise, codes)
    gumbel = torch.cat([torch.zeros(6, 2), -(-torch.special.ndtr(noise[:, 5:]).log()).log()], 1)
    logits, own = caught[0] + gumbel, (caught[0].detach() + gumbel.detach()).requires_grad_()
    first, second = made[:, 2:5], made[:, 5:]
    torch.testing.assert_close(first, F.one_hot(logits[:, 2:5].argmax(1), 3).float())
    torch.testing.assert_close(second, F.one_hot(logits[:, 5:].argmax(1), 2).float())
    weights = torch.randn(6, 3)
    (found,) = torch.autograd.grad((first * weights).sum(), caught[0], retain_graph=True)
    (expected,) = torch.autograd.grad((own[:, 2:5].softmax(1) * weights).sum(), own)
    torch.testing.assert_close(found, expected)
    rows = as_row(made[:, :2], torch.stack([first.argmax(1), second.argmax(1)], 1), CARDINALITIES)
    torch.testing.assert_close(rows, made)


def test_a_score_is_linear_in_the_features_and_projected_on_the_class() -> None:
    judge = build("table").discriminator
    rows, codes = torch.randn(6, 7), torch.arange(6) % CLASSES
    features = judge.layers(rows)
    head, embedding = judge.judgement.head, judge.judgement.embedding.weight
    expected = features @ head.weight[0] + head.bias + (features * embedding[codes]).sum(1)
    torch.testing.assert_close(judge(rows, codes), expected)


def test_the_class_matters_to_both(kind: str) -> None:
    network = build(kind)
    noise, codes = drawn(network)
    other = (codes + 1) % CLASSES
    made = network(noise, codes)
    assert not torch.allclose(network(noise, other), made)
    assert not torch.allclose(network.discriminator(made, other), network.discriminator(made, codes))


def test_every_parameter_gets_a_gradient_from_its_own_player(kind: str) -> None:
    network = build(kind)
    noise, codes = network.draw(64)
    network.discriminator(network(noise, codes), codes).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_no_example_sees_another(kind: str) -> None:
    network = build(kind)
    noise, codes = drawn(network)
    made = network(noise, codes)
    alone = network(noise[2:3], codes[2:3])
    torch.testing.assert_close(alone, made[2:3], rtol=1e-4, atol=1e-5)
    judged = network.discriminator(made, codes)
    torch.testing.assert_close(network.discriminator(alone, codes[2:3]), judged[2:3], rtol=1e-4, atol=1e-5)


def test_a_block_begins_as_the_identity_and_smaller_the_deeper() -> None:
    values = torch.randn(2, 3, 5, 5)
    assert torch.equal(Block(3, 4)(values), values)
    torch.manual_seed(0)
    one = Block(3, 1).first.weight
    torch.manual_seed(0)
    torch.testing.assert_close(Block(3, 16).first.weight, one / 4)


def test_a_block_is_two_convolutions_added_to_what_came_in() -> None:
    block, values = Block(3, 1), torch.randn(2, 3, 5, 5)
    nn.init.normal_(block.second.weight)
    hidden = F.conv2d(F.leaky_relu(values, 0.2), block.first.weight, padding=1)
    expected = values + F.conv2d(F.leaky_relu(hidden, 0.2), block.second.weight, padding=1)
    torch.testing.assert_close(block(values), expected)


def test_spectral_normalization_holds_every_layer_of_the_discriminator_alone(kind: str) -> None:
    network = build(kind, spectral_normalization=True).train()
    noise, codes = drawn(network)
    for _ in range(200):  # power iterations
        network.discriminator(network(noise, codes).detach(), codes)
    layers = [m for m in network.discriminator.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]
    assert len(layers) > 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.02)
    assert not any("parametrizations" in name for name, _ in network.generator.named_parameters())


@pytest.mark.parametrize("spectral", [False, True])
def test_save_and_load_agree_bit_for_bit(kind: str, spectral: bool) -> None:
    network, other = (build(kind, seed=seed, spectral_normalization=spectral).eval() for seed in (0, 7))
    network.frequencies.copy_(torch.tensor([0.7, 0.1, 0.1, 0.1]))
    other.load_state_dict(load(save(network.state_dict())))
    noise, codes = drawn(network)
    made = network(noise, codes)
    assert torch.equal(other(noise, codes), made)
    assert torch.equal(other.discriminator(made, codes), network.discriminator(made, codes))
    assert torch.equal(other.frequencies, network.frequencies)


def test_classes_are_drawn_by_their_frequencies_and_all_by_the_generator(kind: str) -> None:
    network = build(kind).eval()
    network.frequencies.copy_(torch.tensor([0.5, 0.25, 0.25, 0.0]))
    _, codes = network.draw(4000, torch.Generator().manual_seed(0))
    shares = codes.bincount(minlength=CLASSES) / 4000
    assert (shares - network.frequencies).abs().max() < 4 * math.sqrt(0.25 / 4000)
    first, again, other = (network.sample(3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    asked = network.sample(3, torch.Generator().manual_seed(5), classes=torch.tensor([1, 1, 2]))
    noise, _ = network.draw(3, torch.Generator().manual_seed(5))
    assert torch.equal(asked, network(noise, torch.tensor([1, 1, 2])))


def test_options_that_do_not_exist_are_refused(kind: str) -> None:
    with pytest.raises(TypeError, match="widht"):
        build(kind, widht=3)
