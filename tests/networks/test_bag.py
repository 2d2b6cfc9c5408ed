from __future__ import annotations

import pytest
import torch
from torch import nn

from sounding.networks import BagOfPhrases
from sounding.networks.bag import hash_phrases


def slow_hash(phrase: list[int], buckets: int) -> int:
    code = 0
    for word in phrase:
        code = code * 116049371 + word  # as large as it grows
    return code % buckets


@pytest.mark.parametrize("buckets", [7, 1000, 100_003, 2**35])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_phrases_are_hashed_as_by_the_slow_way(length: int, buckets: int) -> None:
    torch.manual_seed(0)
    texts = [torch.randint(1, 2**31, (n,)).tolist() for n in (8, 5, 1)]
    tokens = torch.tensor([text + [0] * (8 - len(text)) for text in texts])
    hashed = hash_phrases(tokens, length, buckets, first=10)
    assert hashed.shape == (3, 8 - length + 1)
    for text, row in zip(texts, hashed.tolist(), strict=True):
        phrases = [text[at : at + length] for at in range(len(text) - length + 1)]
        expected = [10 + slow_hash(phrase, buckets) for phrase in phrases]
        assert row == expected + [0] * (len(row) - len(expected))


def test_phrases_longer_than_the_text_are_none() -> None:
    for words in (1, 2, 3, 4):
        assert hash_phrases(torch.ones(1, words, dtype=torch.int64), 5, 100).shape == (1, 0)


def test_buckets_are_used_evenly() -> None:
    tokens = torch.cartesian_prod(torch.arange(1, 200), torch.arange(1, 200))
    counts = hash_phrases(tokens, 2, 1009).flatten().bincount(minlength=1009).double()
    mean = len(tokens) / 1009
    assert counts.var().item() < 1.5 * mean  # a random hash has the variance of a Poisson count, which is its mean


def test_features_are_the_mean_over_words_and_phrases() -> None:
    torch.manual_seed(0)
    network = BagOfPhrases(20, 2, embedding_size=5, phrases=3, buckets=31).eval()
    table = network.embedding.weight
    text = [3, 5, 7, 5]
    pairs = [20 + slow_hash(text[at : at + 2], 31) for at in range(3)]
    triples = [20 + slow_hash(text[at : at + 3], 31) for at in range(2)]
    expected = table[text + pairs + triples].mean(0)
    for padding in (0, 3):
        tokens = torch.tensor([text + [0] * padding])
        torch.testing.assert_close(network.forward_features(tokens)[0], expected)


def test_an_empty_text_has_no_features() -> None:
    features = BagOfPhrases(20, 2).eval().forward_features(torch.zeros(1, 4, dtype=torch.int64))
    assert features.isfinite().all()
    assert not features.any()


def test_words_alone_need_no_buckets() -> None:
    network = BagOfPhrases(20, 2, phrases=1)
    assert network.embedding.num_embeddings == 20


def test_order_is_seen_through_phrases_alone() -> None:
    there, back = torch.tensor([[3, 5, 7]]), torch.tensor([[7, 5, 3]])
    for phrases in (1, 2):
        torch.manual_seed(0)
        network = BagOfPhrases(20, 2, phrases=phrases).eval()
        nn.init.normal_(network.embedding.weight)
        assert torch.allclose(network(there), network(back), atol=1e-6) == (phrases == 1)
