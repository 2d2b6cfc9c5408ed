"""Another text for each text: translations, summaries, transliterations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.batches import Batch
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.finding import Finding
from sounding.kinds import BytePairs, Encoded, Kind
from sounding.kinds.byte_pairs import BEGIN, PADDING
from sounding.kinds.text import cut_findings
from sounding.networks.decoding import Writer, beam_search, greedy
from sounding.recipe import DataRecipe, Recipe
from sounding.tasks.drawing import evenly
from sounding.tasks.examples import Examples
from sounding.tasks.task import Predictions, Task, weighted_mean
from sounding.tasks.text_metrics import ORDER, character_counts, chrf, text_metrics

MOST_TEXTS, MOST_MAPS = 12, 4
"""Examples on the page, and maps of where the network looked for some of them."""
ON_THE_WAY, MOST_WRITTEN = 64, 3
"""Validation rows that are written after some epochs, greedily, and of these the texts that are shown."""
LONGEST_MAPPED = 32
"""Subwords of a text that is mapped."""


class Texts(Examples):
    """Columns of strings are texts, cut into subwords of one vocabulary."""

    def reads(self, table: Table, target: Sequence[str], data: DataRecipe) -> DataRecipe:
        """Every column of strings is a text, be it as short as a word."""
        roles = {*target, *data.ignore, *table.aside, data.weight, data.group, data.time}
        texts = [name for name in table.columns if name not in roles and table.column(name, data).is_text]
        return replace(data, kinds={**dict.fromkeys(texts, "text"), **data.kinds})

    def arranged(
        self, table: Table, schema: Schema, rows: np.ndarray, asked: Recipe
    ) -> tuple[Schema, dict[str, Kind], list[Finding]]:
        """One vocabulary of subwords for source and target."""
        fields = [field for field in (*schema.inputs, *schema.targets) if field.kind == "text"]
        columns = [field.column(table) for field in fields]
        length = asked.data.text_length
        shared = BytePairs.shared_by(columns, rows, subwords=asked.translation.subwords, length=length)
        return schema, dict.fromkeys((field.name for field in fields), shared), []


class Translation(Task):
    """A text to be written for each text that is read.

    Truth and predictions are texts: arrays (N,) of str. Source and target are cut into subwords that they share,
    learned from the training rows of both. The network is trained with what it should have written so far; the loss is
    the sum of the cross-entropies of a row's subwords and of its end, over the mean number of these in a training row.
    """

    name: ClassVar[str] = "translation"
    varies: ClassVar[frozenset[str]] = frozenset()
    from_source: ClassVar[Examples] = Texts()
    target_kind: ClassVar[str] = "text"
    answers: ClassVar[str | tuple[str, ...]] = "next_codes"
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ()
    headline = "bleu"
    higher_is_better = True

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.rules = schema, recipe.translation
        self.target = schema.targets[0]
        assert isinstance(self.target.fitted, BytePairs)
        self.subwords = self.target.fitted
        self.outputs = self.subwords.size
        self.label_smoothing = recipe.training.label_smoothing
        self.usual_length = 1.0
        self.findings: tuple[Finding, ...] = ()
        self.shown: tuple[Tensor, np.ndarray] | None = None

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """A single target of texts, and a text."""
        targets = schema.targets
        if [field.kind for field in targets] != ["text"] or "text" not in {field.kind for field in schema.inputs}:
            return None
        return f'"{targets[0].name}" is the text to be written'

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """As many outputs as there are codes."""
        return cls(schema, recipe)

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """With a finding where texts to be written are longer than what is learned of them."""
        if self.target.name not in table.columns:
            return self
        column = self.target.column(table)
        lengths = self.subwords.lengths(column)
        task = copy(self)
        task.findings = tuple(cut_findings(column, lengths, self.subwords.length, int(lengths.max(initial=0))))
        return task

    def noticed(self) -> Sequence[Finding]:
        """Texts that are too long to be learned whole."""
        return self.findings

    def knowing(self, truth: np.ndarray) -> Self:
        """With the mean number of subwords of a training text; BLEU says nothing where most have fewer words than 4."""
        task = copy(self)
        words = np.array([len(text.split()) for text in truth.tolist()])
        if len(words) and np.median(words) < ORDER:
            task.headline = "chrf"
            task.reason = f"half of the texts have fewer than {ORDER} words, so that chrF is the measure, not BLEU"
        task.usual_length = float((self.to_tensor(truth) != PADDING).sum(1).double().mean()) if len(truth) else 1.0
        return task

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N,) of str.

        Raises:
            DataError: for a row without a text.
        """
        (texts,) = self.schema.encode_targets(table).values()
        return texts

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, length) int32 codes, that of the end behind the last, then padding."""
        return torch.from_numpy(self.subwords.codes(truth.tolist()))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N,) of str."""
        return _texts(self.subwords.texts(target.cpu().numpy()))

    def taught(self, inputs: tuple[Tensor, ...], goals: Tensor) -> tuple[Tensor, ...]:
        """The source, and of each place what is written before it."""
        return (*inputs, torch.cat([goals.new_full((len(goals), 1), BEGIN), goals[:, :-1]], 1))

    def lengths(self, inputs: tuple[Tensor, ...], goals: Tensor) -> Tensor:
        """(N,) by the target first, whose places cost more, then by the source."""
        source = inputs[0]
        return (goals != PADDING).sum(1) * source.shape[1] + (source != PADDING).sum(1)

    def trim(self, batch: Batch) -> Batch:
        """Without padding that all rows have."""
        assert batch.target is not None
        source, written = batch.inputs
        read = max(int((source != PADDING).sum(1).max()), 1)
        length = max(int((batch.target != PADDING).sum(1).max()), 1)
        return batch._replace(inputs=(source[:, :read], written[:, :length]), target=batch.target[:, :length])

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy, in nats per subword of the training rows.

        outputs: (B, T, codes); target: (B, T) codes, 0 where nothing is to be said.
        """
        losses = F.cross_entropy(
            outputs.flatten(0, 1),
            target.flatten().long(),
            ignore_index=PADDING,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return weighted_mean(losses.view(target.shape).sum(1) / self.usual_length, weight)

    def decode(self, outputs: Tensor) -> Predictions:
        """The texts of (N, any) codes."""
        return Predictions(self.from_tensor(outputs))

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 64) -> Predictions:
        """What the network writes for (N, L) codes, found by beam search."""
        network.eval()
        writer, device = cast("Writer", network), next(network.parameters()).device
        texts = list[str]()
        with torch.inference_mode():
            for at in range(0, len(inputs[0]), batch_size):
                source = inputs[0][at : at + batch_size].to(device)
                longest = ((source != PADDING).sum(1) * self.rules.longest + 10).long()
                if self.rules.beam == 1:
                    codes = greedy(writer, source, longest)
                else:
                    codes, _ = beam_search(
                        writer, source, longest, beam=self.rules.beam, alpha=self.rules.length_penalty
                    )
                texts += self.subwords.texts(codes.cpu().numpy())
        return Predictions(_texts(texts))

    def decide(self, predictions: Predictions) -> np.ndarray:
        """The texts."""
        return predictions.values

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """See `text_metrics`."""
        known = [name for name in names if name != self.monitor]
        return text_metrics(values.tolist(), truth.tolist(), weight, known) if known or not names else {}

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """By how much the chrF of each row is less than 100."""
        return 100 - chrf(character_counts(tuple(predictions.values.tolist()), tuple(truth.tolist())))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Both texts."""
        return [
            {"truth": str(truth[row]), "prediction": str(predictions.values[row]), "confidence": None} for row in rows
        ]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`prediction`."""
        return {"prediction": predictions.values}

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Some rows from the best to the worst, and for a few where the network looks while it writes.

        texts: source, truth, prediction and chrF.
        maps:  the pieces that were read, those that were written, and weights (written, read) that sum to 1 by row.
        """
        if not len(truth):
            return {}
        source, losses = inputs[0], self.row_losses(predictions, truth)
        rows = np.argsort(losses, kind="stable")[evenly(len(losses), MOST_TEXTS)]
        read = self.subwords.texts(source[rows].numpy())
        texts = [
            {"source": text, "truth": truth[row], "prediction": predictions.values[row], "chrf": 100 - losses[row]}
            for row, text in zip(rows, read, strict=True)
        ]
        written = self.to_tensor(predictions.values)
        short = ((source != PADDING).sum(1) <= LONGEST_MAPPED) & ((written != PADDING).sum(1) <= LONGEST_MAPPED)
        chosen = np.flatnonzero(short.numpy())
        mapped = chosen[evenly(len(chosen), MOST_MAPS)] if len(chosen) else chosen
        maps = [self._map(network, source[row : row + 1], written[row : row + 1]) for row in mapped]
        return {"translations": {"texts": texts, "maps": maps}}

    def showing(
        self, inputs_of: Callable[[np.ndarray], tuple[Tensor, ...]], rows: np.ndarray, truth: np.ndarray
    ) -> Self:
        """With a few validation rows."""
        task, some = copy(self), evenly(len(rows), ON_THE_WAY)
        if len(some):
            task.shown = inputs_of(rows[some])[0], truth[some]
        return task

    def snapshot(self, network: nn.Module) -> dict[str, Any] | None:
        """How well a few validation rows are written, word by word the likeliest: BLEU, chrF, and some texts."""
        if self.shown is None:
            return None
        source, truth = self.shown
        quick = copy(self)
        quick.rules = replace(self.rules, beam=1)
        said = quick.predict(network, (source,)).values
        scores = text_metrics(said.tolist(), truth.tolist(), names=["bleu", "chrf"])
        return {
            **scores,
            "rows": len(truth),
            "texts": said[:MOST_WRITTEN].tolist(),
            "true": truth[:MOST_WRITTEN].tolist(),
        }

    def _map(self, network: nn.Module, source: Tensor, written: Tensor) -> dict[str, Any]:
        """Where the network looks while it writes (1, T) for (1, L)."""
        device = next(network.parameters()).device
        before = self.taught((source,), written)[1]
        with torch.inference_mode():
            look = cast("Any", network).attention(source.to(device), before.to(device))[0].float().cpu()
        read, said = (codes[0][codes[0] != PADDING].tolist() for codes in (source, written))
        return {
            "read": self.subwords.pieces(read),
            "written": self.subwords.pieces(said),
            "weights": look[: len(said), : len(read)].numpy().round(4),
        }


def _texts(texts: list[str]) -> np.ndarray:
    """(N,) of str, as objects: NumPy's own strings would lose what ends in a NUL."""
    return np.array([*texts, None], dtype=object)[:-1]
