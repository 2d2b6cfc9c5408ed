"""Recurrent layers that read a sequence, and others that write another, looking back at what was read.

Source: Bahdanau et al. 2015, arXiv:1409.0473, section 3 and appendix A, with the outputs by the matrix of the
embeddings (Press and Wolf 2017, arXiv:1608.05859).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sounding.networks._choice import choose
from sounding.networks._padding import real_places, trimmed
from sounding.networks._tied import TiedHead
from sounding.networks.decoding import State

CELLS: dict[str, tuple[type[nn.GRU | nn.LSTM], type[nn.GRUCell | nn.LSTMCell]]] = {
    "gru": (nn.GRU, nn.GRUCell),
    "lstm": (nn.LSTM, nn.LSTMCell),
}
"""By name what reads a whole sequence, and what writes step by step."""


class Seq2SeqRecurrent(nn.Module):
    """Reads a sequence in both directions, and says of each place of another what comes next there.

    At each step the state decides by additive attention where to look in what was read. Padding never changes the
    result. What is read, what is written and the outputs have one vocabulary and one matrix.

    Args:
        vocabulary_size: how many codes there are, with those of padding, begin and end.
        out_features: the same number.
        embedding_size: numbers that stand for a token.
        hidden_size: outputs of the layer that writes, and of each direction of the one that reads.
        attention_size: hidden outputs of the network that says where to look.
        cell: `gru` or `lstm`.
        dropout: probability in [0, 1) that an entry is blanked while training: of embeddings, and before the outputs.

    >>> network = Seq2SeqRecurrent(50, 50, embedding_size=8, hidden_size=16, attention_size=16)
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 2, 0, 0]]), torch.tensor([[1, 8, 6], [1, 4, 0]])).shape
    torch.Size([2, 3, 50])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        embedding_size: int = 256,
        hidden_size: int = 256,
        attention_size: int = 128,
        cell: str = "gru",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if out_features != vocabulary_size:
            raise ValueError(f"out_features is {out_features}; give that of the vocabulary, {vocabulary_size}")
        reads, writes = choose("cell", cell, CELLS)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0
        self.reader = reads(embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.first_state = nn.Linear(2 * hidden_size, hidden_size)
        self.writer = writes(embedding_size + 2 * hidden_size, hidden_size)
        self.attention_of_read = nn.Linear(2 * hidden_size, attention_size)
        self.attention_of_state = nn.Linear(hidden_size, attention_size, bias=False)
        self.attention_score = nn.Linear(attention_size, 1, bias=False)
        self.mixed = nn.Linear(3 * hidden_size + embedding_size, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.num_features = embedding_size
        self.head = TiedHead(self.embedding)

    def begin(self, source: Tensor) -> State:
        """Where the source is no padding, what was read, its part in the attention, and the state to write from."""
        source = trimmed(source)
        real = real_places(source)
        embedded = self.dropout(self.embedding(source) * self.num_features**0.5)
        packed = pack_padded_sequence(embedded, real.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        read = pad_packed_sequence(self.reader(packed)[0], batch_first=True, total_length=source.shape[1])[0]
        backward = read[:, 0, read.shape[2] // 2 :]  # what the way back saw of the whole sequence
        forward = read[torch.arange(len(read)), real.sum(1) - 1, : read.shape[2] // 2]
        state = torch.tanh(self.first_state(torch.cat([forward, backward], 1)))
        cell = (torch.zeros_like(state),) if isinstance(self.writer, nn.LSTMCell) else ()
        return (real, read, self.attention_of_read(read), state, *cell)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, codes) after (B,) codes, and the state with what is now written."""
        embedded = self.dropout(self.embedding(tokens) * self.num_features**0.5)
        features, state, _ = self._step(embedded, state)
        return self.head(self._features(features)), state

    def forward_features(self, source: Tensor, written: Tensor) -> Tensor:
        """(B, L) codes that are read and (B, T) codes that were written before each place, to (B, T, num_features)."""
        features, _ = self._written(source, written)
        return self._features(features)

    def forward(self, source: Tensor, written: Tensor) -> Tensor:
        """Logits of what comes next.

        source:   (B, L) codes in [0, vocabulary_size), 0 for padding at the end.
        written:  (B, T) codes: the mark of the beginning, then what was written before each place.
        Returns:  (B, T, vocabulary_size).
        """
        logits: Tensor = self.head(self.forward_features(source, written))
        return logits

    def attention(self, source: Tensor, written: Tensor) -> Tensor:
        """(B, T, L') where in the source each step looks; rows sum to 1."""
        return self._written(source, written)[1]

    def _written(self, source: Tensor, written: Tensor) -> tuple[Tensor, Tensor]:
        """Of all steps what `_features` takes, and where they look."""
        state, features, looks = self.begin(source), [], []
        embedded = self.dropout(self.embedding(written) * self.num_features**0.5)
        for place in range(written.shape[1]):
            one, state, weights = self._step(embedded[:, place], state)
            features.append(one)
            looks.append(weights)
        return torch.stack(features, 1), torch.stack(looks, 1)

    def _step(self, embedded: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        """Embeddings (B, size) to (B, 3 hidden_size + size), the state then, and where it looked (B, L)."""
        real, read, keys, *own = state
        looked_for = self.attention_of_state(own[0])[:, None]
        scores = self.attention_score(torch.tanh(keys + looked_for)).squeeze(2)
        weights = scores.float().masked_fill(~real, -torch.inf).softmax(1).to(read)
        context = torch.bmm(weights[:, None], read).squeeze(1)
        after = self.writer(torch.cat([embedded, context], 1), own[0] if len(own) == 1 else tuple(own))
        new = (after,) if isinstance(after, Tensor) else tuple(after)
        return torch.cat([new[0], context, embedded], 1), (real, read, keys, *new), weights

    def _features(self, features: Tensor) -> Tensor:
        mixed: Tensor = self.dropout(torch.tanh(self.mixed(features)))
        return mixed
