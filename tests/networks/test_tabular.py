from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from tabm import TabM
from torch import Tensor, nn

from sounding.networks import TabularEnsemble, TabularFeedForward, quantile_bins
from sounding.networks.tabular import TableColumns

NO_CATEGORIES = torch.zeros(6, 0, dtype=torch.int64)


def test_columns_are_numbers_then_one_hot_or_embedded_categories() -> None:
    columns = TableColumns(2, [3, 50], None, 16, one_hot_limit=10)
    numbers, categories = torch.randn(4, 2), torch.tensor([[0, 7], [1, 49], [2, 0], [1, 7]])
    row = columns(numbers, categories)
    assert columns.sizes == [1, 1, 3, 14]
    assert torch.equal(row[:, :2], numbers)
    assert row[:, 2:5].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert torch.equal(row[:, 5:], columns.categories[1].weight[categories[:, 1]])


@pytest.mark.parametrize("build", [TabularFeedForward, TabularEnsemble])
@pytest.mark.parametrize(("numbers", "cardinalities"), [(0, [3, 5]), (4, [])])
def test_either_kind_of_column_may_be_absent(build: type[nn.Module], numbers: int, cardinalities: list[int]) -> None:
    network = build(numbers, cardinalities, 2, hidden_sizes=[8])
    categories = torch.zeros(6, len(cardinalities), dtype=torch.int64)
    logits = network(torch.randn(6, numbers), categories)
    assert (len(logits), logits.shape[-1]) == (6, 2)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_ensemble_is_tabm() -> None:
    torch.manual_seed(0)
    bins = quantile_bins(torch.randn(200, 3), 8)
    embeddings = PiecewiseLinearEmbeddings(bins, 4, activation=False, version="B")
    oracle = TabM(
        n_num_features=3,
        cat_cardinalities=[2, 5],
        d_out=2,
        num_embeddings=embeddings,
        n_blocks=2,
        d_block=16,
        dropout=0.1,
        activation="ReLU",
        k=4,
        arch_type="tabm",
        start_scaling_init="normal",
    ).eval()
    network = TabularEnsemble(
        3, [2, 5], 2, bins=bins, number_embedding_size=4, members=4, hidden_sizes=[16, 16], one_hot_limit=5
    ).eval()
    nn.init.normal_(oracle.num_module.linear.weight)  # zero at first, which would hide a wrong encoding
    ours, theirs = network.state_dict(), oracle.state_dict()
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]
    network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    numbers = torch.randn(6, 3)
    categories = torch.stack([torch.randint(2, (6,)), torch.randint(5, (6,))], 1)
    torch.testing.assert_close(network(numbers, categories), oracle(numbers, categories))


def test_members_begin_apart_and_each_is_a_plain_network_of_its_own() -> None:
    torch.manual_seed(0)
    network = TabularEnsemble(9, [], 2, members=3, hidden_sizes=[8]).eval()
    layer, head = network.layers[0], network.head
    numbers = torch.randn(6, 9)
    logits = network(numbers, NO_CATEGORIES)
    for k in range(3):
        hidden = torch.relu((numbers * layer.r[k]) @ layer.weight.T * layer.s[k] + layer.bias[k])
        torch.testing.assert_close(logits[:, k], hidden @ head.weight[k] + head.bias[k])
    assert len(layer.r.unique(dim=0)) == 3


def test_random_scalings_are_one_value_for_each_column() -> None:
    bins = quantile_bins(torch.randn(100, 2), 4)
    network = TabularEnsemble(2, [3], 1, bins=bins, number_embedding_size=4, members=5, hidden_sizes=[8, 8])
    first, second = network.layers[0], network.layers[3]
    for columns in first.r.split([4, 4, 3], dim=1):
        assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert len(first.r.unique()) == 5 * 3
    assert (second.r == 1).all()
    assert (second.s == 1).all()


def slow_encoding(x: float, edges: list[float]) -> list[float]:
    """Equation 1 of Gorishniy et al. 2022; the first bin goes on downwards, the last one upwards."""
    parts = []
    for place, (low, high) in enumerate(pairwise(edges)):
        part = (x - low) / (high - low)
        if place > 0:
            part = max(part, 0.0)
        if place < len(edges) - 2:
            part = min(part, 1.0)
        parts.append(part)
    return parts


def test_numbers_are_embedded_piecewise_linearly() -> None:
    edges = [-1.0, 0.0, 0.5, 4.0]
    columns = TableColumns(1, [], [torch.tensor(edges)], 3, 10)
    nn.init.normal_(columns.numbers.linear.weight)
    for x in (-2.0, -0.3, 0.2, 3.0, 9.0):
        linear = columns.numbers.linear0
        expected = linear.bias[0] + x * linear.weight[0]
        expected = expected + torch.tensor(slow_encoding(x, edges)) @ columns.numbers.linear.weight[0]
        torch.testing.assert_close(columns(torch.tensor([[x]]), NO_CATEGORIES[:1])[0], expected)


@pytest.mark.parametrize("build", [TabularFeedForward, TabularEnsemble])
def test_numbers_may_enter_as_they_are_although_there_are_bins(build: type[nn.Module]) -> None:
    network = build(2, [3], 1, bins=[torch.arange(3.0)] * 2, number_embedding_size=0)
    assert network.columns.sizes[:2] == [1, 1]


@pytest.mark.parametrize("build", [TabularFeedForward, TabularEnsemble])
def test_the_state_brings_the_edges_of_the_bins(build: type[nn.Module]) -> None:
    """Columns with one, two and three bins: every buffer that they need."""
    bins = [torch.tensor(edges) for edges in ([0.0, 1.0], [0.0, 1.0, 3.0], [-1.0, 0.0, 1.0, 2.0])]
    others = [torch.arange(len(edges)) * 7.0 for edges in bins]
    network = build(3, [], 2, bins=bins, hidden_sizes=[8]).eval()
    other = build(3, [], 2, bins=others, hidden_sizes=[8]).eval()
    nn.init.normal_(network.columns.numbers.linear.weight)
    other.load_state_dict(network.state_dict())
    numbers = torch.randn(6, 3)
    assert torch.equal(other(numbers, NO_CATEGORIES), network(numbers, NO_CATEGORIES))


def test_bins_for_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="bins for 1 columns and 2 columns of numbers"):
        TabularFeedForward(2, [], 1, bins=[torch.arange(3.0)])


def test_an_ensemble_without_hidden_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_sizes"):
        TabularEnsemble(2, [], 1, hidden_sizes=[])


def test_quantile_bins_of_distinct_values_hold_as_many_rows_each() -> None:
    values = np.random.default_rng(0).lognormal(size=4000)
    (edges,) = quantile_bins(torch.tensor(values)[:, None], 10)
    np.testing.assert_allclose(edges.numpy(), np.quantile(values, np.linspace(0, 1, 11)))
    counts, _ = np.histogram(values, edges.numpy())
    assert counts.tolist() == [400] * 10


def test_quantile_bins_give_a_rare_tail_its_own_resolution() -> None:
    tail = np.random.default_rng(0).lognormal(size=100)
    (edges,) = quantile_bins(torch.tensor([0.0] * 9900 + tail.tolist(), dtype=torch.float64)[:, None], 10)
    expected = np.quantile([0.0, *sorted(tail)], np.linspace(0, 1, 11))
    np.testing.assert_allclose(edges.numpy(), expected)


@pytest.mark.parametrize(
    "column",
    [[0.0, 1.0] * 5, [3.0] * 10, [1e9] * 10, [-2e20] * 10, [0.0] * 9 + [1.0], [5.0]],
    ids=["two values", "constant", "large constant", "huge constant", "rare value", "one row"],
)
def test_columns_of_few_values_have_bins_too(column: list[float]) -> None:
    numbers = torch.tensor(column)[:, None]
    bins = quantile_bins(numbers, 48)
    assert (bins[0].diff() > 0).all()
    features = TableColumns(1, [], bins, 4, 10)(numbers, torch.zeros(len(column), 0, dtype=torch.int64))
    assert features.isfinite().all()


def test_more_bins_than_rows_are_no_harm() -> None:
    numbers: Tensor = torch.randn(5, 2)
    assert all(edges.isfinite().all() and (edges.diff() > 0).all() for edges in quantile_bins(numbers, 48))
