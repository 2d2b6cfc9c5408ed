from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import TransformerEncoder, TransformerNetwork
from sounding.networks.transformer import (
    Attention,
    TransformerLayer,
    rotary_turns,
    sinusoidal_positions,
    turn,
)

POSITIONS = ["learned", "sinusoidal", "rotary", "none"]


def make_values() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    real = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    return torch.randn(3, 6, 16), real


def test_attention_agrees_with_torch() -> None:
    values, real = make_values()
    attention = Attention(16, 4, dropout=0.0)
    oracle = nn.MultiheadAttention(16, 4, batch_first=True)
    oracle.in_proj_weight, oracle.in_proj_bias = attention.inward.weight, attention.inward.bias
    oracle.out_proj.weight, oracle.out_proj.bias = attention.outward.weight, attention.outward.bias
    nn.init.normal_(attention.inward.bias)
    expected, _ = oracle(values, values, values, key_padding_mask=~real)
    torch.testing.assert_close(attention(values, real[:, None, None]), expected, rtol=1e-4, atol=1e-6)


def slow_attention(attention: Attention, sequence: Tensor, rotary: bool) -> Tensor:
    """One head and one pair of steps at a time, for one sequence without padding."""
    length, size = sequence.shape
    width = size // attention.heads
    questions, keys, answers = attention.inward(sequence).split(size, dim=1)
    gathered = torch.zeros(length, size)
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        for here in range(length):
            scores = []
            for there in range(length):
                question, key = questions[here, part], keys[there, part]
                if rotary:  # as complex numbers: turned by place times frequency
                    turned = torch.view_as_complex(question.view(-1, 2)) * torch.view_as_complex(key.view(-1, 2)).conj()
                    frequencies = 10_000 ** -(torch.arange(0, width, 2) / width)
                    scores.append((turned * torch.exp(1j * (here - there) * frequencies)).sum().real)
                else:
                    scores.append(question @ key)
            weights = torch.stack(scores).div(math.sqrt(width)).softmax(0)
            gathered[here, part] = weights @ answers[:, part]
    return attention.outward(gathered)


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_agrees_with_the_slow_way(rotary: bool) -> None:
    values, real = make_values()
    attention = Attention(16, 2, dropout=0.0)
    attended = attention(values, real[:, None, None], rotary_turns(6, 8) if rotary else None)
    for row, length in enumerate([6, 2, 4]):
        expected = slow_attention(attention, values[row, :length], rotary)
        torch.testing.assert_close(attended[row, :length], expected, rtol=1e-4, atol=1e-6)


def test_a_layer_agrees_with_torch() -> None:
    values, real = make_values()
    layer = TransformerLayer(16, 4, 32, "gelu", 0.1, 0.0).eval()
    oracle = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True, norm_first=True).train()
    for module in oracle.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    oracle.self_attn.dropout = 0.0
    ours = layer.state_dict()
    names = {
        "self_attn.in_proj_": "attention.inward.",
        "self_attn.out_proj.": "attention.outward.",
        "norm1.": "attention_norm.",
        "norm2.": "feed_forward_norm.",
        "linear1.": "feed_forward.0.",
        "linear2.": "feed_forward.3.",
    }
    oracle.load_state_dict(
        {theirs + kind: ours[own + kind] for theirs, own in names.items() for kind in ("weight", "bias")}
    )
    expected = oracle(values, src_key_padding_mask=~real)
    torch.testing.assert_close(layer(values, real[:, None, None], None)[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_changes_nothing(positions: str) -> None:
    torch.manual_seed(0)
    network = TransformerNetwork(30, 2, hidden_size=32, positions=positions).eval()
    tokens = torch.tensor([[3, 9, 4, 0], [5, 0, 0, 0], [0, 0, 0, 0]])
    longer = nn.functional.pad(tokens, (0, 6))
    torch.testing.assert_close(network(longer), network(tokens))
    torch.testing.assert_close(network(tokens[1:2, :1]), network(tokens)[1:2])


@pytest.mark.parametrize("positions", POSITIONS)
def test_order_matters_unless_positions_are_none(positions: str) -> None:
    torch.manual_seed(0)
    network = TransformerNetwork(30, 2, hidden_size=32, positions=positions).eval()
    there, back = network(torch.tensor([[3, 9, 4, 7], [7, 4, 9, 3]]))
    assert torch.allclose(there, back, atol=1e-5) == (positions == "none")


def test_sinusoidal_positions_are_those_of_the_paper() -> None:
    table = sinusoidal_positions(50, 8)
    for place, channel in [(0, 0), (1, 0), (7, 3), (49, 6), (13, 5)]:
        angle = place / 10_000 ** (2 * (channel // 2) / 8)
        expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
        assert table[place, channel].item() == pytest.approx(expected, abs=1e-5)


def test_turned_values_meet_by_distance_alone() -> None:
    question, key = torch.randn(2, 8)
    turns = rotary_turns(20, 8)
    questions, keys = turn(question.expand(20, 8), turns), turn(key.expand(20, 8), turns)
    products = questions @ keys.T
    for distance in (-5, 0, 3):
        same = products.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(questions.norm(dim=1), question.norm().expand(20))


def test_learned_positions_end() -> None:
    encoder = TransformerEncoder(16, positions="learned", longest=4)
    with pytest.raises(ValueError, match="a sequence has 5 steps and `longest` is 4"):
        encoder(torch.zeros(1, 5, 16), torch.ones(1, 5, dtype=torch.bool))


def test_unknown_names_and_odd_sizes_are_told() -> None:
    with pytest.raises(ValueError, match=r'unknown positions "rotari"; did you mean "rotary"\?'):
        TransformerEncoder(16, positions="rotari")
    with pytest.raises(ValueError, match="hidden_size is 18"):
        TransformerEncoder(18, heads=4)


def test_dropout_falls_on_attention_in_training_alone() -> None:
    values, real = make_values()
    attention = Attention(16, 4, dropout=0.5)
    mask = real[:, None, None]
    assert not torch.equal(attention(values, mask), attention(values, mask))
    attention.eval()
    assert torch.equal(attention(values, mask), attention(values, mask))


def test_defaults_are_the_parts_they_have_always_been() -> None:
    """Weights that were saved by older versions must find their names, and draws stay where they were."""
    parts = ["attention_norm", "attention.inward", "attention.outward", "feed_forward_norm", "feed_forward.0"]
    names = [f"{part}.{kind}" for part in [*parts, "feed_forward.3"] for kind in ("weight", "bias")]
    network = TransformerNetwork(9, 2, hidden_size=16, heads=2, depth=1)
    layer = network.encoder.layers[0]
    assert list(layer.state_dict()) == names
    values, real = make_values()
    mask = real[:, None, None]
    torch.manual_seed(1)
    found = layer(values, mask, None)
    torch.manual_seed(1)
    middle = values + layer.dropout(layer.attention(layer.attention_norm(values), mask, None))
    assert torch.equal(found, middle + layer.dropout(layer.feed_forward(layer.feed_forward_norm(middle))))
