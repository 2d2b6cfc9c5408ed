from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sounding.networks import RecurrentEncoder, RecurrentNetwork

LENGTHS = [4, 7, 1, 3]


def make_sequences() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    values = torch.randn(len(LENGTHS), 7, 5)  # what stands after an end is noise, not zero
    return values, torch.tensor(LENGTHS)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_it_agrees_with_torch_on_each_sequence_alone(cell: str, bidirectional: bool, pooling: str) -> None:
    values, lengths = make_sequences()
    encoder = RecurrentEncoder(5, cell=cell, hidden_sizes=[6, 6], bidirectional=bidirectional, pooling=pooling)
    oracle = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](
        5, 6, num_layers=2, bidirectional=bidirectional, batch_first=True
    )
    names = oracle.state_dict()
    oracle.load_state_dict(dict(zip(names, encoder.state_dict().values(), strict=True)))
    for row, (sequence, length) in enumerate(zip(values, LENGTHS, strict=True)):
        outputs, _ = oracle(sequence[None, :length])  # no padding at all
        expected = {
            "mean": outputs[0].mean(0),
            "max": outputs[0].amax(0),
            "last": torch.cat([outputs[0, -1, :6], outputs[0, 0, 6:]]),  # the backward direction ends at the start
        }[pooling]
        torch.testing.assert_close(encoder(values, lengths)[row], expected)


def test_layers_may_differ_in_size() -> None:
    values, lengths = make_sequences()
    encoder = RecurrentEncoder(5, hidden_sizes=[8, 3], bidirectional=True)
    assert [layer.input_size for layer in encoder.layers] == [5, 16]
    assert encoder(values, lengths).shape == (4, 6)
    assert encoder.num_features == 6


def test_what_stands_after_the_end_gets_no_gradient() -> None:
    values, lengths = make_sequences()
    values.requires_grad_()
    RecurrentEncoder(5, hidden_sizes=[6, 6], pooling="mean")(values, lengths).sum().backward()
    for sequence, length in zip(values.grad, LENGTHS, strict=True):
        assert sequence[:length].abs().sum(1).all()
        assert not sequence[length:].any()


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_padding_changes_nothing(pooling: str) -> None:
    network = RecurrentNetwork(30, 2, hidden_sizes=[8, 8], pooling=pooling).eval()
    tokens = torch.tensor([[3, 9, 4, 0], [5, 0, 0, 0], [0, 0, 0, 0]])
    longer = nn.functional.pad(tokens, (0, 6))
    assert torch.equal(network(longer), network(tokens))


def test_dropout_falls_between_layers_in_training_alone() -> None:
    values, lengths = make_sequences()
    encoder = RecurrentEncoder(5, hidden_sizes=[6, 6], dropout=0.5)
    assert not torch.equal(encoder(values, lengths), encoder(values, lengths))
    encoder.eval()
    assert torch.equal(encoder(values, lengths), encoder(values, lengths))


def test_unknown_names_and_no_layers_are_told() -> None:
    with pytest.raises(ValueError, match=r'unknown cell "gruu"; did you mean "gru"\?'):
        RecurrentEncoder(5, cell="gruu")
    with pytest.raises(ValueError, match="unknown pooling"):
        RecurrentEncoder(5, pooling="first")
    with pytest.raises(ValueError, match="hidden_sizes"):
        RecurrentEncoder(5, hidden_sizes=[])
