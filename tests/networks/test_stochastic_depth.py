from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.networks import ResNet, StochasticDepth, TransformerNetwork
from sounding.networks.stochastic_depth import linear_decay


def test_each_example_is_kept_whole_and_scaled_up_or_left_out() -> None:
    torch.manual_seed(0)
    values = torch.randn(20_000, 3, 2)
    after = StochasticDepth(0.3)(values)
    left_out = (after == 0).all(2).all(1)
    torch.testing.assert_close(after[~left_out], values[~left_out] / 0.7)
    assert left_out.float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_the_mean_over_draws_is_what_evaluation_gives() -> None:
    torch.manual_seed(0)
    drop, change = StochasticDepth(0.4), torch.tensor([[1.0, -2.0]]).expand(50_000, 2)
    assert torch.equal(drop.eval()(change), change)
    torch.testing.assert_close(drop.train()(change).mean(0), change[0], rtol=0.02, atol=0)


def test_without_a_probability_nothing_is_drawn() -> None:
    state, values = torch.get_rng_state(), torch.randn(4, 2)
    state = torch.get_rng_state()
    assert StochasticDepth(0.0)(values) is values
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range(probability: float) -> None:
    with pytest.raises(ValueError, match="stochastic_depth is"):
        StochasticDepth(probability)


def test_probabilities_grow_with_depth_as_in_the_paper() -> None:
    """Equation 4: block l of L survives with probability 1 - l / L * (1 - p_L)."""
    survival = [1 - block / 5 * (1 - 0.5) for block in range(1, 6)]
    assert [1 - p for p in linear_decay(0.5, 5)] == pytest.approx(survival)


def probabilities(network: nn.Module) -> list[float]:
    return [module.probability for module in network.modules() if isinstance(module, StochasticDepth)]


def test_networks_take_it_block_by_block() -> None:
    resnet = ResNet(1, 2, picture_size=(8, 8), hidden_sizes=[4, 8], depths=[1, 3], stochastic_depth=0.4)
    assert probabilities(resnet) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    transformer = TransformerNetwork(9, 2, hidden_size=16, heads=2, depth=2, stochastic_depth=0.5)
    assert probabilities(transformer) == pytest.approx([0.25, 0.5])


def test_a_residual_block_that_is_left_out_is_its_shortcut() -> None:
    torch.manual_seed(0)
    network = ResNet(1, 2, picture_size=(8, 8), stem_size=4, hidden_sizes=[4], depths=[1], stochastic_depth=0.5)
    block = network.blocks[0]
    nn.init.ones_(block.change[-1].weight)
    values = torch.randn(64, 4, 8, 8).relu()
    torch.manual_seed(1)
    after = block(values)
    shortcut, change = block.shortcut(values), block.change(values)
    out = torch.tensor([torch.equal(a, s.relu()) for a, s in zip(after, shortcut, strict=True)])
    assert 16 < out.sum() < 48
    torch.testing.assert_close(after[~out], (shortcut + 2 * change)[~out].relu())


def test_parts_of_a_transformer_are_left_out_one_by_one() -> None:
    torch.manual_seed(0)
    network = TransformerNetwork(9, 2, hidden_size=16, heads=2, depth=1, dropout=0.0, stochastic_depth=0.5)
    layer, mask = network.encoder.layers[0], torch.ones(1, 1, 1, 3, dtype=torch.bool)
    values = torch.randn(1, 3, 16).expand(200, 3, 16)
    kinds = layer(values, mask, None).detach().round(decimals=4).unique(dim=0)
    attended = values[0] + 2 * layer.attention(layer.attention_norm(values[:1]), mask, None)[0]

    def fed(before: torch.Tensor) -> torch.Tensor:
        return before + 2 * layer.feed_forward(layer.feed_forward_norm(before))

    expected = torch.stack([values[0], attended, fed(values[0]), fed(attended)]).detach()
    assert len(kinds) == 4
    distances = torch.cdist(kinds.flatten(1), expected.flatten(1))
    assert (distances.amin(0) < 1e-2).all()
    assert (distances.amin(1) < 1e-2).all()
