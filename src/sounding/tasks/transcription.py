"""What is said in a recording, as text."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import UserError
from sounding.kinds import SILENCE, Characters, Encoded
from sounding.networks import Frames, SoundFrames
from sounding.recipe import Recipe
from sounding.tasks.alignments import beam_search, frames_needed, greedy
from sounding.tasks.task import Predictions, Task, weighted_mean


class Transcription(Task):
    """What is said in a recording, character by character, by connectionist temporal classification.

    Truth and predictions are texts: arrays (N,) of str. `wer` is the share of words that would have to be changed, put
    in or taken out, `cer` that of characters; both are counted by jiwer.
    """

    name: ClassVar[str] = "transcription"
    target_kind: ClassVar[str] = "text"
    answers: ClassVar[str | tuple[str, ...]] = "frames"
    monitor: ClassVar[str] = "cer"
    watched: ClassVar[tuple[str, ...]] = ("wer", "cer")
    headline = "wer"
    higher_is_better = False

    def __init__(self, schema: Schema, characters: Characters, beam: int) -> None:
        self.schema, self.characters, self.beam = schema, characters, beam
        self.outputs = len(characters.alphabet) + 1

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """A single target of texts, and recordings."""
        targets = schema.targets
        if len(targets) != 1 or targets[0].kind != "text" or "audio" not in {field.kind for field in schema.inputs}:
            return None
        return f'"{targets[0].name}" is the text of recordings'

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """One output for each character, and one for none."""
        (field,) = schema.targets
        assert isinstance(field.fitted, Characters)
        return cls(schema, field.fitted, recipe.transcription.beam)

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N,) of str.

        Raises:
            DataError: for a row without a text, or with one that is longer than its recording has frames.
        """
        (texts,) = self.schema.encode_targets(table).values()
        (block,) = self.schema.blocks()
        needed = frames_needed(self.characters.codes(texts.tolist()))
        samples = (encoded.blocks[block.name] != SILENCE).sum(1)
        short = needed > SoundFrames.frames_of(samples, block.rate)
        if short.any():
            row, count = int(short.argmax()), int(short.sum())
            column = self.schema.targets[0].column(table)
            raise column.error(
                f"a text of {len(texts[row])} characters for a recording of {samples[row] / block.rate:.2f} s, "
                f"too short to hold them (in {count} row{'s' * (count > 1)})",
                "correct text or recording, or leave such rows out",
                row=row,
            )
        return np.asarray(texts)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, longest) int64 codes, 0 behind the last; characters that no training row has are left out."""
        return torch.from_numpy(self.characters.codes(truth.tolist()))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N,) of str."""
        return _texts(self.characters.texts(target.cpu().numpy()))

    def loss(self, outputs: Frames, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Of each row -log(probability of all alignments of its text) for each of its characters."""
        log_probabilities = outputs.logits.float().log_softmax(2).transpose(0, 1)  # (frames, B, outputs)
        lengths = (target > 0).sum(1)
        losses = F.ctc_loss(log_probabilities, target, outputs.lengths.long(), lengths, blank=0, reduction="none")
        return weighted_mean(losses / lengths.clamp(min=1), weight)

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 512) -> Predictions:
        """A batch at a time: what is said of all frames of all rows would take much memory."""
        starts = range(0, max(len(inputs[0]), 1), batch_size)
        parts = [
            super(Transcription, self).predict(network, tuple(one[at : at + batch_size] for one in inputs), batch_size)
            for at in starts
        ]
        return Predictions(np.concatenate([part.values for part in parts]))

    def decode(self, outputs: Frames) -> Predictions:
        """The texts that a beam search finds, or with a beam of 1 those of the most probable alignments."""
        return self._read(outputs, self.beam)

    def validation_metrics(self, outputs: Frames, target: Tensor) -> dict[str, float]:
        """Of the most probable alignments, which are found at once."""
        found = self._read(outputs, 1)
        return {name: float(value) for name, value in self.measure(found.values, self.from_tensor(target)).items()}

    def _read(self, outputs: Frames, beam: int) -> Predictions:
        scores = outputs.logits.float().log_softmax(2).cpu().numpy()
        lengths = outputs.lengths.long().tolist()
        rows = (row[:length] for row, length in zip(scores, lengths, strict=True))
        codes = [greedy(row) if beam == 1 else beam_search(row, beam) for row in rows]
        return Predictions(_texts(self.characters.texts(codes)))  # type: ignore[arg-type]

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
        """`wer` and `cer`: the edits of all rows together, over the words or characters of their true texts."""
        counts = edits(tuple(values.tolist()), tuple(truth.tolist()))
        weights = np.ones((1, len(truth))) if weight is None else np.atleast_2d(weight)
        found = {}
        for name, (wrong, among) in counts.items():
            if not names or name in names:
                with np.errstate(invalid="ignore", divide="ignore"):
                    share = (weights @ wrong) / (weights @ among)
                found[name] = share if weight is not None and np.ndim(weight) == 2 else float(share[0])
        return found

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The character error rate of each row; of an empty text the number of characters that were written."""
        wrong, among = edits(tuple(predictions.values.tolist()), tuple(truth.tolist()))["cer"]
        return np.asarray(wrong / np.maximum(among, 1))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Both texts."""
        return [
            {"truth": str(truth[row]), "prediction": str(predictions.values[row]), "confidence": None} for row in rows
        ]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`prediction`."""
        return {"prediction": predictions.values}


@lru_cache(maxsize=8)  # a bootstrap asks for the same texts again and again
def edits(said: tuple[str, ...], truth: tuple[str, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For `wer` and `cer` the edits of each row, (N,), and the words or characters of its true text.

    Raises:
        UserError: where jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError:
        raise UserError("error rates need jiwer, not installed here", "pip install 'sounding[audio]'") from None
    found = {}
    spoken = [row for row, text in enumerate(truth) if text.split()]  # jiwer takes no empty text as the truth
    for name, process, parts in (("wer", jiwer.process_words, str.split), ("cer", jiwer.process_characters, list)):
        wrong = np.array([len(parts(text)) for text in said], dtype=np.float64)
        among = np.zeros(len(truth))
        if spoken:
            done = process([truth[row] for row in spoken], [said[row] for row in spoken])
            for row, reference, aligned in zip(spoken, done.references, done.alignments, strict=True):
                pieces = [piece for piece in aligned if piece.type != "equal"]
                spans = [
                    (piece.ref_end_idx - piece.ref_start_idx, piece.hyp_end_idx - piece.hyp_start_idx)
                    for piece in pieces
                ]
                wrong[row], among[row] = sum(map(max, spans)), len(reference)
        found[name] = wrong, among
    return found


def _texts(texts: list[str]) -> np.ndarray:
    """(N,) of str, as objects: NumPy's own strings would lose what ends in a NUL."""
    return np.array([*texts, None], dtype=object)[:-1]
