"""What comes next in a text, and texts that are written on."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.batches import Batches
from sounding.data import passages
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError, UserError
from sounding.kinds import Encoded, Passage
from sounding.kinds.passage import BETWEEN, PADDING, UNKNOWN
from sounding.randomness import generator
from sounding.recipe import DataRecipe, Recipe
from sounding.tasks.build import arrange
from sounding.tasks.continuation import continued
from sounding.tasks.examples import Examples
from sounding.tasks.task import Predictions, Task
from sounding.tasks.token_windows import TokenWindows, stream_of

TEMPERATURES = (0.5, 0.8, 1.0)
"""Of the samples on the page."""
SAMPLE = 600
"""Tokens of a sample on the page."""
SNAPSHOT = 160
"""Tokens of a sample on the way."""
COLOURED = 1200
"""Tokens whose losses are shown one by one."""


class Stretches(Examples):
    """Documents are cut into stretches."""

    def cuts(self, recipe: Recipe) -> bool:
        """Always."""
        return True

    def cut(self, table: Table, recipe: Recipe, target: Any, held_out: Mapping[str, float] | None) -> Table:
        """The stretches of all documents; see `passages.stretches`."""
        return passages.stretches(table, recipe.data, held_out, recipe.seed)

    def of_examples(self, data: DataRecipe, table: Table) -> DataRecipe:
        """The column of stretches is a passage."""
        return passages.of_stretches(data, table.columns[0])


class LanguageModeling(Task):
    """The next token of a running text, from those before it.

    Rows are stretches of the text. The truth of a row is (2,): how many of its tokens are foretold, and how many
    characters these are. The first token of a row is not: it stands at the beginning of what is read. A prediction is
    (2,): the sum of -log p of these tokens, in nats, and how many they are.
    """

    name: ClassVar[str] = "language-modeling"
    varies: ClassVar[frozenset[str]] = frozenset()
    from_source: ClassVar[Examples] = Stretches()
    needs_target: ClassVar[bool] = False
    answers: ClassVar[str] = "next_token"
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ()
    headline = "loss"
    higher_is_better = False

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        (field,) = schema.inputs
        assert isinstance(field.fitted, Passage)
        self.passage, self.recipe = field.fitted, recipe
        self.outputs = schema.blocks()[0].vocabulary_size
        self.context = recipe.language.context

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Running text, when it is asked for."""
        return "a text is to be learned and written on" if schema.inputs[0].kind == "passage" else None

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The tokens are those of the column of text."""
        return cls(schema, recipe)

    def batches(self, inputs: tuple[Tensor, ...], goals: Tensor, weight: Tensor | None, **options: Any) -> Batches:
        """Windows of the rows as one stream.

        Raises:
            DataError: if there are less than two tokens.
        """
        stream = stream_of(inputs[0])
        if len(stream) < 2:
            raise DataError(f"a text of {len(stream)} tokens is too short to foretell any", "give a longer text")
        wanted = {key: options[key] for key in ("batch_size", "seed", "shuffle", "workers")}
        return TokenWindows(stream, self.context, pass_tokens=self.recipe.language.pass_tokens, **wanted)

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, 2) float64: tokens and characters that are foretold."""
        (tokens,) = arrange(encoded.blocks)
        ahead = tokens[:, 1:].numpy()
        characters = self.passage.characters()[ahead].sum(1)
        return np.stack([(ahead != PADDING).sum(1), characters], axis=1).astype(np.float64)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, 2) float64."""
        return torch.from_numpy(truth)

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N, 2) float64."""
        return target.cpu().numpy()

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean of -log p of the next token: outputs (B, L, codes), target (B, L) codes, 0 where there is none."""
        return F.cross_entropy(outputs.flatten(0, 1), target.flatten().long(), ignore_index=PADDING)

    def decode(self, outputs: Tensor) -> Predictions:
        """From (N, 2): sums of -log p, and how many tokens."""
        return Predictions(outputs.double().numpy())

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 64) -> Predictions:
        """What each row costs, read in windows of `context` tokens that follow each other, as in training."""
        losses = self.token_losses(network, inputs[0], batch_size)
        return self.decode(torch.stack([losses.sum(1), (inputs[0][:, 1:] != PADDING).sum(1).double()], 1))

    def token_losses(self, network: nn.Module, rows: Tensor, batch_size: int = 64) -> Tensor:
        """(N, L - 1) float64: -log p of each token of (N, L) but the first; 0 for padding."""
        network.eval()
        device = next(network.parameters()).device
        losses = torch.zeros(len(rows), rows.shape[1] - 1, dtype=torch.float64)
        with torch.inference_mode():
            for at in range(0, len(rows), batch_size):
                some = rows[at : at + batch_size].to(device)
                longest = int((some != PADDING).sum(1).max())
                for low in range(0, longest - 1, self.context):
                    high = min(low + self.context, longest - 1)
                    logits = network(some[:, low:high]).float()
                    own = F.cross_entropy(
                        logits.transpose(1, 2),
                        some[:, low + 1 : high + 1].long(),
                        ignore_index=PADDING,
                        reduction="none",
                    )
                    losses[at : at + batch_size, low:high] = own.double().cpu()
        return losses

    def decide(self, predictions: Predictions) -> np.ndarray:
        """(N,) the mean of -log p of each row."""
        return self.row_losses(predictions, predictions.values[:, 1:])

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """Loss in nats per token, perplexity, and bits per character."""
        weights = np.ones((1, len(values))) if weight is None else np.atleast_2d(weight)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            nats, (tokens, characters) = weights @ values[:, 0], (weights @ truth).T
            loss, bits = nats / tokens, nats / characters / math.log(2)
            found = {"loss": loss, "perplexity": np.exp(loss), "bits_per_character": bits}
        one = weight is None or np.ndim(weight) == 1
        return {name: float(v[0]) if one else v for name, v in found.items() if not names or name in names}

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """(N,) nats per token."""
        losses: np.ndarray = predictions.values[:, 0] / np.maximum(truth[:, 0], 1)
        return losses

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Nothing beside the text and what its tokens cost."""
        return [{} for _ in rows]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """What each stretch cost, and how many of its tokens were foretold."""
        nats, tokens = predictions.values.T
        return {"loss": self.decide(predictions), "nats": nats, "tokens": tokens.astype(np.int64)}

    def written(self, network: nn.Module, prompt: str = "", *, seed: int = 0, **how: Any) -> Iterator[str]:
        """What the network writes behind a prompt, piece by piece; the same seed writes the same.

        how: `length` in tokens, `temperature`, `top_k`, `top_p`; those of the recipe where they are none.

        Raises:
            UserError: for a prompt with characters that training never met.
        """
        rules, codes = self.recipe.language, self.passage.codes(prompt)
        if UNKNOWN in codes:
            met = set(self.passage.alphabet)
            strange = "".join(sorted({character for character in prompt if character not in met}))
            raise UserError(f'the prompt holds "{strange}", which the text of training does not', "leave it out")
        if self.passage.ends or not len(codes):
            codes = np.concatenate([[BETWEEN], codes])
        given = {key: value for key, value in how.items() if value is not None}
        names = ("length", "temperature", "top_k", "top_p")
        network.eval()
        tokens = continued(
            network,
            codes.tolist(),
            generator(seed, "text"),
            context=self.context,
            never=(PADDING, UNKNOWN) if self.passage.ends else (PADDING, UNKNOWN, BETWEEN),
            end=BETWEEN if self.passage.ends else None,
            **{**{name: getattr(rules, name) for name in names}, **given},
        )
        return self.passage.text(tokens)

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Samples at some temperatures, and a stretch of the test text with what each of its tokens cost."""
        seed, pieces, costs = self.recipe.seed, list[str](), list[float]()
        for row in inputs[0]:
            losses = self.token_losses(network, row[None])[0].tolist()
            for code, loss in zip(row[1:].tolist(), losses, strict=True):
                if code > BETWEEN:
                    pieces.append(self.passage.spellings[code - BETWEEN - 1].decode(errors="replace"))
                    costs.append(loss)
            if len(pieces) >= COLOURED:
                break
        samples = [
            {
                "temperature": temperature,
                "text": "".join(self.written(network, seed=seed, length=SAMPLE, temperature=temperature)),
            }
            for temperature in TEMPERATURES
        ]
        return {"language": {"samples": samples, "pieces": pieces[:COLOURED], "losses": costs[:COLOURED]}}

    def snapshot(self, network: nn.Module) -> dict[str, Any]:
        """A short sample of the same draws each time."""
        text = "".join(self.written(network, seed=self.recipe.seed, length=SNAPSHOT))
        return {"text": text}
