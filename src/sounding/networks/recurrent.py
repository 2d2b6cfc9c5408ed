"""Networks that read a sequence step by step, and carry a state along.

Sources: Elman 1990; LSTM: Hochreiter and Schmidhuber 1997; GRU: Cho et al. 2014, arXiv:1406.1078; both directions:
Schuster and Paliwal 1997.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from sounding.networks._choice import choose
from sounding.networks._padding import words_of
from sounding.networks.initialization import initialize

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentNetwork(nn.Module):
    """Reads a text word by word, from both ends, and answers from its last states or from all of them.

    Args:
        vocabulary_size: how many codes there are, with that of padding.
        out_features: outputs for a text, before any softmax.
        cell: `rnn`, `gru` or `lstm`.
        embedding_size: numbers that stand for a word.
        hidden_sizes: the state of each layer (in each direction), from the words up.
        bidirectional: whether every layer also reads from the end.
        pooling: `last` answers from the state after the last step, `mean` and `max` from the states at all steps.
        dropout: probability in [0, 1) that an entry of a word's embedding, or of a state between layers and before the
            head, is blanked while training.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = RecurrentNetwork(1000, 2, cell="lstm")
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 0, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        cell: str = "gru",
        embedding_size: int = 128,
        hidden_sizes: Sequence[int] = (128,),
        bidirectional: bool = True,
        pooling: str = "max",
        dropout: float = 0.3,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.encoder = RecurrentEncoder(
            embedding_size,
            cell=cell,
            hidden_sizes=hidden_sizes,
            bidirectional=bidirectional,
            pooling=pooling,
            dropout=dropout,
        )
        self.num_features = self.encoder.num_features
        self.head = nn.Linear(self.num_features, out_features)
        initialize(self, initialization)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) codes to (B, num_features)."""
        codes = words_of(tokens)
        words = self.dropout(self.embedding(codes))
        features: Tensor = self.dropout(self.encoder(words, (codes != 0).sum(1)))
        return features

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) codes in [0, vocabulary_size), 0 for padding at the end, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits


class RecurrentEncoder(nn.Module):
    """Recurrent layers over sequences of rows of numbers, each read exactly as far as it goes.

    Sequences are packed: a step of padding is never computed, so padding cannot change a result, and the backward
    direction begins at the last step of each sequence. See `RecurrentNetwork` for the options.

    >>> encoder = RecurrentEncoder(3, hidden_sizes=[8, 4])
    >>> encoder(torch.zeros(2, 5, 3), torch.tensor([5, 2])).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        in_features: int,
        *,
        cell: str = "gru",
        hidden_sizes: Sequence[int] = (128,),
        bidirectional: bool = True,
        pooling: str = "last",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not hidden_sizes:
            raise ValueError("a recurrent network needs a layer; give hidden_sizes, such as [128]")
        build = choose("cell", cell, CELLS)
        self.pool = choose("pooling", pooling, POOLINGS)
        self.directions = 2 if bidirectional else 1
        sizes = [in_features, *(size * self.directions for size in hidden_sizes)]
        self.layers = nn.ModuleList(
            build(before, size, batch_first=True, bidirectional=bidirectional)
            for before, size in zip(sizes, hidden_sizes, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.num_features = sizes[-1]

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Values (B, L, in_features) and lengths (B,) to (B, num_features); an empty sequence has one step."""
        # the lengths are needed on the CPU: this is where it waits for a GPU
        lengths = lengths.clamp(min=1).cpu()
        packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        for depth, layer in enumerate(self.layers):
            if depth:
                packed = packed._replace(data=self.dropout(packed.data))
            packed, state = layer(packed)
        hidden: Tensor = state[0] if isinstance(state, tuple) else state  # an LSTM also has a cell state
        return self.pool(packed, hidden)


def _last(outputs: PackedSequence, hidden: Tensor) -> Tensor:
    """The state after the last step that each direction read; hidden is (directions, B, size)."""
    return hidden.transpose(0, 1).flatten(1)


def _mean(outputs: PackedSequence, hidden: Tensor) -> Tensor:
    padded, lengths = pad_packed_sequence(outputs, batch_first=True)  # with zeros
    return padded.sum(1) / lengths[:, None].to(padded)


def _max(outputs: PackedSequence, hidden: Tensor) -> Tensor:
    padded, _ = pad_packed_sequence(outputs, batch_first=True, padding_value=-torch.inf)
    return padded.amax(1)


POOLINGS: dict[str, Callable[[PackedSequence, Tensor], Tensor]] = {"last": _last, "mean": _mean, "max": _max}
