from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import TextEnsemble

TEXTS = [[3, 5, 7, 1, 9], [8], [6, 6, 1], []]
PIECES = {3: [4, 5], 5: [6], 7: [7, 8, 9], 9: [4], 8: [10, 11], 6: [], 1: [12, 13]}


def make_network(**options: object) -> TextEnsemble:
    torch.manual_seed(0)
    network = TextEnsemble(20, 2, embedding_size=5, hidden_size=4, members=3, windows=[1, 2, 4], **options)
    nn.init.normal_(network.head.bias)
    return network.eval()


def make_tokens(length: int, *, pieces: bool) -> Tensor:
    tokens = torch.zeros(len(TEXTS), length, 4, dtype=torch.int64)
    for row, text in enumerate(TEXTS):
        for place, word in enumerate(text):
            codes = [word, *PIECES[word]]
            tokens[row, place, : len(codes)] = torch.tensor(codes)
    return tokens if pieces else tokens[..., 0]


def slow_logits(network: TextEnsemble, text: list[int], pieces: bool) -> Tensor:
    """One text, one phrase and one member at a time."""
    words = [network.words.weight[word] for word in text]
    if pieces:
        assert network.pieces is not None
        table = network.pieces.weight
        words = [
            value + (table[PIECES[word]].mean(0) if PIECES[word] else 0.0)
            for value, word in zip(words, text, strict=True)
        ]
    nothing = torch.zeros(5)
    found = []
    for window, convolution in zip([1, 2, 4], network.convolutions, strict=True):
        wide = [*[nothing] * window, *words, *[nothing] * window]  # silence before and after
        phrases = [torch.stack(wide[at : at + window], 1) for at in range(len(wide) - window + 1)]
        values = [(convolution.weight * phrase).sum((1, 2)) + convolution.bias for phrase in phrases]
        found.append(torch.stack(values).amax(0).relu().split(4))
    mean = torch.stack([nothing, *words]).sum(0) / max(len(words), 1) ** 0.5
    logits = []
    for member in range(3):
        features = torch.cat([*(strongest[member] for strongest in found), mean])
        logits.append(features @ network.head.weight[member] + network.head.bias[member])
    return torch.stack(logits)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("length", [5, 11])
def test_it_agrees_with_the_slow_way_however_much_padding(length: int, pieces: bool) -> None:
    network = make_network(piece_buckets=14 if pieces else 0)
    expected = torch.stack([slow_logits(network, text, pieces) for text in TEXTS])
    torch.testing.assert_close(network(make_tokens(length, pieces=pieces)), expected)


def test_padding_changes_nothing_where_a_graph_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network()
    tokens = make_tokens(11, pieces=False)
    expected = network(tokens)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(network(tokens), expected)


def test_unknown_words_differ_by_their_pieces() -> None:
    network = make_network(piece_buckets=14)
    tokens = torch.tensor([[[1, 4, 5]], [[1, 6, 0]]])
    there, here = network(tokens)
    assert not torch.allclose(there, here)


def test_pieces_get_a_gradient_and_padding_none() -> None:
    network = make_network(piece_buckets=14)
    network(make_tokens(5, pieces=True)).square().sum().backward()
    assert network.pieces is not None
    touched = network.pieces.weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [False] * 4 + [True] * 10
    assert not network.words.weight.grad[0].any()


def test_words_and_pieces_are_dropped_at_their_rates_in_training_alone() -> None:
    torch.manual_seed(0)
    network = TextEnsemble(
        20, 2, piece_buckets=14, embedding_size=1, word_dropout=0.3, piece_dropout=0.2, embedding_dropout=0.0
    )
    with torch.no_grad():
        network.words.weight.copy_(torch.arange(20.0)[:, None])
        network.pieces.weight.fill_(100.0)
    tokens = torch.tensor([[3, 5]]).expand(1, 20_000, 2).clone()
    tokens[:, 10_000:] = 0
    trained, read = network.train().embed(tokens)[0, :, 0], network.eval().embed(tokens)[0, :, 0]
    assert set(read[:10_000].tolist()) == {103.0}
    assert not read[10_000:].any()
    assert not trained[10_000:].any()
    rates = {value: (trained[:10_000] == value).float().mean().item() for value in (103.0, 101.0, 3.0, 1.0)}
    assert rates == pytest.approx({103.0: 0.56, 101.0: 0.24, 3.0: 0.14, 1.0: 0.06}, abs=0.02)


def test_members_have_filters_and_heads_of_their_own() -> None:
    network = make_network()
    features = network.forward_features(make_tokens(5, pieces=False))
    assert features.shape == (4, 3, 3 * 4 + 5)
    assert not torch.allclose(features[:, 0, :12], features[:, 1, :12])
    assert torch.equal(features[:, 0, 12:], features[:, 1, 12:])


def test_tokens_without_pieces_are_refused_where_they_are_read() -> None:
    with pytest.raises(ValueError, match="the tokens have none"):
        make_network(piece_buckets=14)(make_tokens(5, pieces=False))
