"""What is in a picture, and where: a labelled box around each thing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Transform
from sounding.data.box_augmentation import BoxAugmentation
from sounding.data.box_geometry import suppressed
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Boxes, Encoded, Image
from sounding.kinds.boxes import EDGES, NOTHING, bad_boxes, has_area, objects
from sounding.kinds.image import shapes_of
from sounding.networks.detector import Detections
from sounding.recipe import Recipe
from sounding.tasks import detection_counts as counting
from sounding.tasks.detection_losses import row_losses
from sounding.tasks.detection_metrics import OVERLAPS, average_precisions, counts
from sounding.tasks.drawing import evenly, framed
from sounding.tasks.task import Predictions, Task, Thumbnail, is_varied, weighted_mean

CANDIDATES = 500
"""Answers of a picture with the highest scores, of all places and classes, of which overlapping ones are left out."""
TOGETHER = 16
"""Pictures whose answers are looked through at once."""
MOST_DRAWN = 9
FRAMES = (
    *((78, 121, 167), (242, 142, 43), (225, 87, 89), (87, 184, 176), (89, 161, 79)),
    *((217, 181, 63), (165, 111, 150), (247, 143, 160), (156, 117, 95), (141, 149, 154)),
)
"""Of the boxes of each class where examples are shown, as on the rest of the page; further classes share the last."""
MOST_CLASSES = 12
"""With more there is no metric of its own for each."""


class Detection(Task):
    """A labelled box around each thing in a picture.

    Truth is (N, M, 5) float32: the code of the class, then left, top, right and bottom in pixels of the pictures as the
    network sees them; predictions are (N, K, 6) float64 with a score behind the code, the highest first. A code of -1
    is no box. The loss is that of all places, over the sum of what their scores are to be.
    """

    name: ClassVar[str] = "detection"
    answers: ClassVar[str | tuple[str, ...]] = "detections"
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ("map50",)
    headline = "map50"
    higher_is_better = True

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.rules, self.training = schema, recipe.detection, recipe.training
        self.target = schema.targets[0]
        (self.input,) = (field for field in schema.inputs if field.kind == "image")
        assert isinstance(self.target.fitted, Boxes)
        assert isinstance(self.input.fitted, Image)
        self.boxes, self.picture = self.target.fitted, self.input.fitted
        self.classes = self.boxes.classes
        self.outputs = len(self.classes)
        self.thresholds = np.full(self.outputs, self.rules.threshold or counting.UNCALIBRATED)
        self.margins = np.full(self.outputs, np.inf)
        self.findings: tuple[Finding, ...] = ()
        self.sizes = np.zeros((0, 2), dtype=np.int64)
        self.names: list[str] = []

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """A single target of boxes, and one column of pictures."""
        pictures = sum(field.kind == "image" for field in schema.inputs)
        if [field.kind for field in schema.targets] != ["boxes"] or pictures != 1:
            return None
        return f'"{schema.targets[0].name}" are boxes in pictures'

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """As many outputs as there are labels."""
        return cls(schema, recipe)

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """With the names of its pictures and their sizes as they are stored."""
        task, column = copy(self), self.input.column(table)
        task.sizes = np.array(shapes_of(column), dtype=np.int64).reshape(-1, 2)
        task.names = _names(column.plain.to_pylist()) if column.is_text or not column.is_word else []
        if self.target.name in table.columns:
            _, task.findings = task._read(table)
        return task

    def noticed(self) -> Sequence[Finding]:
        """Boxes that are none."""
        return self.findings

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, M, 5) float32, in pixels of the pictures as the network sees them.

        Raises:
            DataError: for a row without a list of boxes, or a label that no training row has.
        """
        return self._read(table)[0]

    def _read(self, table: Table) -> tuple[np.ndarray, tuple[Finding, ...]]:
        """Boxes that have an area within their picture, and findings about the others."""
        if self.target.name not in table.columns:
            raise DataError(f'there is no column "{self.target.name}"', "give pictures with boxes", file=table.name)
        column = self.target.column(table)
        row, labels, edges = objects(column)
        sizes = self.sizes[:, ::-1][row].astype(np.float64)  # width and height of the picture of each box
        limits = np.concatenate([sizes, sizes], 1)
        cut = np.clip(edges, 0, limits)
        sound, within = has_area(edges), has_area(cut)
        findings = [
            *bad_boxes(column, row, labels, edges, ~sound, "have no area", "no-area"),
            *bad_boxes(column, row, labels, edges, sound & ~within, "lie outside of their picture", "outside"),
            *bad_boxes(
                column,
                row,
                labels,
                edges,
                within & sound & (np.abs(cut - edges).max(1, initial=0) > 0),
                "reach out of their picture",
                "cut",
                "cut at its border",
            ),
        ]
        kept = sound & within
        seen = np.array([self.picture.width, self.picture.height] * 2)
        scaled = cut[kept] * seen / limits[kept]
        return self.boxes.arranged(column, row[kept], labels[kept], scaled), tuple(findings)

    def transform(self, seed: int) -> Transform | None:
        """Mosaics and the like, unless `training.augment` is `none`."""
        rules = self.rules
        if not is_varied(self.training, self.name):
            return None
        return BoxAugmentation(
            mosaic=rules.mosaic,
            scale=rules.scale,
            shift=rules.shift,
            flip=rules.flip,
            upside_down=rules.upside_down,
            colour=rules.colour,
            until=round(self.training.epochs * rules.mosaic_until),
            seed=seed,
        )

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """As it is."""
        return torch.from_numpy(truth)

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """As it is."""
        return target.cpu().numpy()

    def loss(self, outputs: Detections, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """What the answers cost, over the sum of their goals, in all pictures together; see `detection_losses`."""
        cost, goals = row_losses(outputs, target)
        return weighted_mean(cost, weight) / weighted_mean(goals, weight).clamp(min=1.0)

    def kept(self, outputs: Detections, inputs: tuple[Tensor, ...]) -> Tensor:
        """The boxes alone."""
        return self.found(outputs)

    def compact(self, outputs: Detections) -> Tensor:
        """The boxes alone."""
        return self.found(outputs)

    def found(self, outputs: Detections) -> Tensor:
        """(B, K, 6): what is left of the answers when of those that overlap the best is kept."""
        starts = range(0, max(len(outputs.logits), 1), TOGETHER)
        parts = [self._found(Detections(*(part[at : at + TOGETHER] for part in outputs))) for at in starts]
        return torch.cat(parts)

    def _found(self, outputs: Detections) -> Tensor:
        _, places, classes = outputs.logits.shape
        scores, which = outputs.logits.float().sigmoid().flatten(1).topk(min(CANDIDATES, places * classes), 1)
        codes = which % classes
        boxes = outputs.boxes.float().gather(1, (which // classes)[..., None].expand(-1, -1, 4))
        limit = boxes.new_tensor([self.picture.width, self.picture.height] * 2)
        boxes = boxes.clamp(min=0).minimum(limit)
        stay = suppressed(boxes, scores, codes, self.rules.overlap) & (scores >= self.rules.faintest)
        ranked = torch.where(stay, scores, -1.0)
        scores, order = ranked.topk(min(self.rules.most, ranked.shape[1]), 1)
        nothing = scores < 0
        codes = torch.where(nothing, int(NOTHING), codes.gather(1, order))
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        scores, boxes = scores.clamp(min=0), torch.where(nothing[..., None], 0.0, boxes)
        return torch.cat([codes[..., None].to(boxes), scores[..., None], boxes], 2)

    def decode(self, outputs: Any) -> Predictions:
        """From what a network says, or from what was kept of it."""
        found = self.found(outputs) if isinstance(outputs, Detections) else outputs
        return Predictions(found.detach().double().cpu().numpy())

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = TOGETHER) -> Predictions:
        """In small batches: pictures are large."""
        return super().predict(network, inputs, batch_size)

    def calibrated(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray, rows: np.ndarray) -> Self:
        """With the score from which on a box of each class counts, and how far counts may be off."""
        task = copy(self)
        if len(truth):
            found = self.predict(network, inputs).values
            if not self.rules.threshold:
                task.thresholds = counting.thresholds(found, truth, self.outputs)
            task.margins = counting.margins(
                counts(found, self.outputs, task.thresholds), _true_counts(truth, self.outputs), self.rules.coverage
            )
        return task

    def learned(self) -> dict[str, Any]:
        """Thresholds and margins by class."""
        margins = [float(margin) if np.isfinite(margin) else None for margin in self.margins]
        return {"thresholds": self.thresholds.tolist(), "margins": margins}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse."""
        task = copy(self)
        task.thresholds = np.array(learned["thresholds"], dtype=np.float64)
        task.margins = np.array([np.inf if one is None else one for one in learned["margins"]], dtype=np.float64)
        return task

    def counted(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """A row for each picture and class: `picture`, `label`, `count`, and the interval from `low` to `high`."""
        count = counts(predictions.values, self.outputs, self.thresholds)
        low, high = counting.interval(count, self.margins)
        rows = np.arange(len(count))
        return {
            "picture": np.repeat(self._named(rows), self.outputs),
            "label": np.tile(np.array(self.classes), len(count)),
            "count": count.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }

    def decide(self, predictions: Predictions) -> np.ndarray:
        """(N,) of lists: of each box label, score and edges, in pixels of the picture as it is stored."""
        columns, names = self.to_columns(predictions), ("label", "score", *EDGES)
        values = zip(*(columns[name].tolist() for name in names), strict=True)
        boxes = [dict(zip(names, one, strict=True)) for one in values]
        answer, at = np.empty(len(predictions), dtype=object), 0
        for row, count in enumerate(self._certain(predictions.values).sum(1)):
            answer[row], at = boxes[at : at + count], at + count
        return answer

    def _certain(self, found: np.ndarray) -> np.ndarray:
        """(N, K) bool: the boxes that count."""
        code = found[..., 0].astype(np.int64)
        return np.asarray((code >= 0) & (found[..., 1] >= self.thresholds[code.clip(min=0)]))

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """A row for each box whose score is high enough: `picture`, `label`, `score`, edges in its pixels."""
        found = predictions.values
        row, place = np.nonzero(self._certain(found))
        boxes = found[row, place]
        factor = self.sizes[row][:, ::-1] / [self.picture.width, self.picture.height]
        edges = boxes[:, 2:] * np.concatenate([factor, factor], 1)
        return {
            "picture": self._named(row),
            "label": np.array(self.classes)[boxes[:, 0].astype(np.int64)],
            "score": boxes[:, 1],
            **{edge: edges[:, at] for at, edge in enumerate(EDGES)},
        }

    def _named(self, rows: np.ndarray) -> np.ndarray:
        """The names of pictures, or their numbers."""
        return np.array(self.names, dtype=object)[rows] if self.names else rows

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """`map50`, `map75`, `map` over overlaps from 0.5 to 0.95; `ap50_LABEL` and `count_error_LABEL` for few classes.

        `count_error` is the mean over pictures of how far the number of boxes is off.
        """
        whole = not names or bool(set(names) - {"map50", "loss"})
        few = self.outputs <= MOST_CLASSES
        weights = None if weight is None else np.atleast_2d(weight)
        each = average_precisions(values, truth, self.outputs, weights, OVERLAPS if whole else OVERLAPS[:1])
        found = {"map50": _mean(each[:, 0])}
        if whole:
            found |= {"map75": _mean(each[:, 5]), "map": _mean(each.mean(1))}
            off = np.abs(counts(values, self.outputs, self.thresholds) - _true_counts(truth, self.outputs))
            share = np.ones((1, len(off))) if weights is None else weights
            errors = share @ off / share.sum(1, keepdims=True)
            for code, label in enumerate(self.classes if few else ()):
                found |= {f"ap50_{label}": each[:, 0, code], f"count_error_{label}": errors[:, code]}
        several = weight is not None and np.ndim(weight) == 2
        return {
            name: value if several else float(value[0]) for name, value in found.items() if not names or name in names
        }

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """(N,) boxes of the truth that are not found, and boxes that are none of the truth."""
        return counting.mistakes(predictions.values, truth, self.outputs, self.thresholds)

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """How many of each class there are, and were found."""
        found = counts(predictions.values, self.outputs, self.thresholds)
        there = _true_counts(truth, self.outputs)
        return [
            {"truth": self._said(there[row]), "prediction": self._said(found[row]), "confidence": None} for row in rows
        ]

    def _said(self, count: np.ndarray) -> str:
        return ", ".join(f"{n} {label}" for n, label in zip(count, self.classes, strict=True) if n) or "nothing"

    def marked(self, picture: Tensor, target: Tensor) -> Tensor:
        """With its boxes, in the colours of their classes."""
        boxes = target[target[:, 0] >= 0].tolist()
        return framed(picture.cpu(), [(edges, FRAMES[min(int(code), len(FRAMES) - 1)]) for code, *edges in boxes])

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Pictures with both kinds of boxes, curves of precision and recall, and counts.

        pictures: from the fewest mistakes to the most: `picture`, `true` boxes (code and edges), `found` ones (with
                  their scores), `mistakes`.
        curves:   see `detection_counts.curves`.
        counts:   by class the true number and the found one of every picture, and the margin.
        """
        if not len(truth):
            return {}
        losses = self.row_losses(predictions, truth)
        rows = np.argsort(losses, kind="stable")[evenly(len(losses), MOST_DRAWN)]
        certain = self._certain(predictions.values)
        pictures = [
            {
                "picture": Thumbnail(inputs[0][row].numpy()),
                "true": truth[row][truth[row][:, 0] >= 0].round(1).astype(float),
                "found": predictions.values[row][certain[row]].round(3),
                "mistakes": losses[row],
            }
            for row in rows
        ]
        found, there = counts(predictions.values, self.outputs, self.thresholds), _true_counts(truth, self.outputs)
        low, high = counting.interval(found, self.margins)
        counted = [
            {
                "label": label,
                "true": there[:, code],
                "found": found[:, code],
                "low": low[:, code],
                "high": high[:, code],
                "threshold": self.thresholds[code],
            }
            for code, label in enumerate(self.classes)
        ]
        return {
            "detection": {
                "classes": list(self.classes),
                "size": [self.picture.width, self.picture.height],
                "pictures": pictures,
                "curves": counting.curves(predictions.values, truth, self.classes),
                "counts": counted,
                "coverage": self.rules.coverage,
            }
        }


def _true_counts(truth: np.ndarray, classes: int) -> np.ndarray:
    """(N, classes) int64."""
    return np.stack([(truth[..., 0] == code).sum(1) for code in range(classes)], 1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, of what is defined there; NaN where nothing is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(-1) / there.sum(-1))


def _names(cells: list[Any]) -> list[str]:
    """What pictures are called, where all have a name."""
    names = [cell.get("path") if isinstance(cell, dict) else cell for cell in cells]
    return [str(name) for name in names] if all(isinstance(name, str) for name in names) else []
