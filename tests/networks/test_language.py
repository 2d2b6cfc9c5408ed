"""Networks that foretell the next token, against slow and obvious versions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from sounding.networks import NETWORKS, LanguageRecurrent, LanguageTransformer

CODES = 20
SMALL: dict[str, dict[str, Any]] = {
    "language_transformer": {"hidden_size": 32, "depth": 2, "heads": 4},
    "language_recurrent": {"embedding_size": 16, "hidden_sizes": (16, 24)},
}
NAMES = [name for name, family in NETWORKS.items() if family.answers == "next_token"]


def make(name: str, seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    network = NETWORKS[name].build(CODES, CODES, **{**SMALL[name], **options})
    for parameter in network.parameters():  # so that attention is far from even
        nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(CODES, (3, 11), generator=torch.Generator().manual_seed(1))


def test_shapes_are_as_documented(name: str, tokens: Tensor) -> None:
    network = make(name).eval()
    features = network.forward_features(tokens)
    assert features.shape == (3, 11, network.num_features)
    torch.testing.assert_close(network.head(features), network(tokens))
    assert network(tokens.int()).shape == (3, 11, CODES)


def test_no_later_token_and_no_other_text_changes_a_logit(name: str, tokens: Tensor) -> None:
    network = make(name).eval()
    changed = tokens.clone()
    changed[0, 6:] = (changed[0, 6:] + 1) % CODES
    before, after = network(tokens), network(changed)
    torch.testing.assert_close(after[0, :6], before[0, :6])
    torch.testing.assert_close(after[1:], before[1:])
    assert not torch.allclose(after[0, 6:], before[0, 6:])


@pytest.mark.parametrize("chunks", [[1] * 11, [4, 7], [5, 1, 5]], ids=["one by one", "prompt and rest", "unequal"])
def test_reading_on_gives_the_logits_of_reading_at_once(name: str, tokens: Tensor, chunks: list[int]) -> None:
    network = make(name).eval()
    expected, memory, end = network(tokens), None, 0
    for chunk in torch.split(tokens, chunks, 1):
        logits, memory = network.step(chunk, memory)
        end += chunk.shape[1]
        torch.testing.assert_close(logits, expected[:, end - 1], rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient_and_the_state_holds_all(name: str, tokens: Tensor) -> None:
    network = make(name)
    nn.functional.cross_entropy(network(tokens).flatten(0, 1), tokens.flatten()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    other = make(name, seed=7)
    other.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(other.eval()(tokens), network.eval()(tokens))


def test_a_few_texts_are_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name].build(CODES, CODES, **SMALL[name])
    tokens = torch.randint(CODES, (2, 9))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(CODES), rel=0.1)
    assert losses[-1] < losses[0] / 4


def test_it_is_exported_for_any_number_of_texts(tokens: Tensor) -> None:
    network = make("language_transformer").eval()
    rows = torch.export.Dim("rows", min=2, max=64)
    graph = torch.export.export(network, (tokens,), dynamic_shapes=({0: rows},)).module()
    more = tokens.repeat(2, 1)
    torch.testing.assert_close(graph(more), network(more), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_transformer_is_its_formula(tokens: Tensor, normalized: bool) -> None:
    """One text, one token at a time, every pair of numbers turned by hand (Su et al. 2021, equation 34)."""
    network = make("language_transformer", depth=1, heads=2, normalized_queries=normalized).eval()
    assert isinstance(network, LanguageTransformer)
    layer, size = network.layers[0], 16

    def rms(values: Tensor, gain: Tensor) -> Tensor:
        return values / (values.square().mean() + torch.finfo(torch.float32).eps).sqrt() * gain

    def turned(values: Tensor, place: int) -> Tensor:
        out = values.clone()
        for pair in range(size // 2):
            angle = place * 10_000.0 ** (-2 * pair / size)
            x, y = values[2 * pair], values[2 * pair + 1]
            out[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
            out[2 * pair + 1] = x * math.sin(angle) + y * math.cos(angle)
        return out

    embedded = [network.embedding.weight[token] for token in tokens[0]]
    mapped = [layer.attention.inward.weight @ rms(one, layer.attention_norm.weight) for one in embedded]
    for place in range(11):
        heads = []
        for head in range(2):
            at = [slice(part * 32 + head * size, part * 32 + (head + 1) * size) for part in range(3)]
            query = turned(mapped[place][at[0]], place)
            keys = [turned(mapped[earlier][at[1]], earlier) for earlier in range(place + 1)]
            if normalized:
                sharpness = layer.attention.sharpness[head, 0, 0]
                query, keys = query / query.norm() * sharpness, [key / key.norm() for key in keys]
            scores = torch.stack([query @ key for key in keys]) / (1 if normalized else math.sqrt(size))
            weights = scores.softmax(0)
            heads.append(sum(w * mapped[e][at[2]] for e, w in enumerate(weights)))
        value = embedded[place] + layer.attention.outward.weight @ torch.cat(heads)  # type: ignore[arg-type]
        inner = torch.relu(layer.inward.weight @ rms(value, layer.feed_forward_norm.weight)).square()
        logits = network.head(rms(value + layer.outward.weight @ inner, network.norm.weight))
        torch.testing.assert_close(logits, network(tokens)[0, place], rtol=1e-3, atol=1e-4)


def test_the_recurrent_network_is_torchs_lstm(tokens: Tensor) -> None:
    network = make("language_recurrent", hidden_sizes=(16, 16)).eval()
    assert isinstance(network, LanguageRecurrent)
    lstm = nn.LSTM(16, 16, num_layers=2, batch_first=True)
    for number, layer in enumerate(network.layers):
        lstm.load_state_dict({**lstm.state_dict(), **{
            key.replace("_l0", f"_l{number}"): value for key, value in layer.state_dict().items()
        }})  # fmt: skip
    torch.testing.assert_close(network.forward_features(tokens), lstm(network.embedding(tokens))[0])


def test_forget_gates_begin_open() -> None:
    layer = LanguageRecurrent(CODES, CODES, hidden_sizes=(8,)).layers[0]
    assert (layer.bias_ih_l0[8:16] == 1).all()


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice the 4 heads"):
        LanguageTransformer(CODES, CODES, hidden_size=30)
