"""A recurrent network that reads a text from its beginning and says at each place what comes next.

Sources: Mikolov et al. 2010, "Recurrent neural network based language model"; LSTM: Hochreiter and Schmidhuber 1997;
dropout between layers alone: Zaremba et al. 2014, arXiv:1409.2329.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sounding.networks._choice import choose
from sounding.networks.recurrent import CELLS

Memory = tuple[Tensor | tuple[Tensor, Tensor], ...]
"""For each layer its last state (1, B, hidden), of an LSTM with that of its cell."""


class LanguageRecurrent(nn.Module):
    """Reads tokens from the first to the last, carries a state along, and foretells the next token at each.

    Args:
        vocabulary_size: how many codes there are, with that of padding.
        out_features: how many codes are foretold: mostly the same number.
        cell: `rnn`, `gru` or `lstm`.
        embedding_size: numbers that stand for a token.
        hidden_sizes: the state of each layer, from the tokens up.
        dropout: probability in [0, 1) that an entry of an embedding, of a state between layers or before the head is
            blanked while training.

    >>> import torch
    >>> network = LanguageRecurrent(50, 50, hidden_sizes=(32,))
    >>> network(torch.tensor([[5, 7, 2, 9]])).shape
    torch.Size([1, 4, 50])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        cell: str = "lstm",
        embedding_size: int = 128,
        hidden_sizes: Sequence[int] = (256,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        build = choose("cell", cell, CELLS)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.dropout = nn.Dropout(dropout)
        sizes = [embedding_size, *hidden_sizes]
        self.layers = nn.ModuleList(build(below, size, batch_first=True) for below, size in pairwise(sizes))
        for layer in self.layers:
            if isinstance(layer, nn.LSTM):  # its gates of forgetting open: Jozefowicz et al. 2015, section 4.3
                bias = layer.get_parameter("bias_ih_l0").data
                nn.init.ones_(bias[layer.hidden_size : 2 * layer.hidden_size])
        self.num_features = sizes[-1]
        self.head = nn.Linear(sizes[-1], out_features)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) codes to (B, L, num_features); no later token changes an earlier feature."""
        return self._read(tokens, None)[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) codes in [0, vocabulary_size) to logits (B, L, out_features) of the token behind each."""
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits

    def step(self, tokens: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Read on: the logits (B, out_features) of what follows the last of (B, L) tokens, and what to remember.

        memory: what an earlier step gave, for the tokens before these; none at the beginning.
        """
        features, memory = self._read(tokens, memory)
        logits: Tensor = self.head(features[:, -1])
        return logits, memory

    def _read(self, tokens: Tensor, memory: Memory | None) -> tuple[Tensor, Memory]:
        values: Tensor = self.dropout(self.embedding(tokens))
        states = []
        for number, layer in enumerate(self.layers):
            values, state = layer(values, None if memory is None else memory[number])
            values = self.dropout(values)
            states.append(state)
        return values, tuple(states)
