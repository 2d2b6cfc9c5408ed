"""A class for every pixel of a picture."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from pathlib import PurePath
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from sounding.batches import Batch, Batches, Transform
from sounding.data.mask_augmentation import MaskAugmentation
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import Problems
from sounding.kinds import Column, Encoded, Image, Mask
from sounding.kinds.image import shapes_of
from sounding.kinds.mask import UNLABELLED
from sounding.recipe import Recipe
from sounding.tasks import metrics as measures
from sounding.tasks.drawing import evenly, in_colours, small
from sounding.tasks.examples import Examples
from sounding.tasks.map_losses import dice_losses, pixel_losses
from sounding.tasks.map_metrics import BOUNDARY, Agreement, agreement, map_metrics
from sounding.tasks.task import Predictions, Task, Thumbnail, is_varied, weighted_mean
from sounding.tasks.tiles import ALL, ONE, SIDEWAYS, probabilities

MOST_PICTURES = 8
"""On the page."""
LARGEST_SHOWN = 256
"""Pixels of a side there."""
RIGHT, WRONG, OUTSIDE = (235, 238, 240), (200, 40, 60), (255, 255, 255)
"""Colours of the map of mistakes."""
FEWEST_PIECES = 64
"""Of all pictures together in an epoch: after fewer steps nothing new can be validated."""
VEIL = 0.4
"""How much of a pixel is the colour of its class, where pictures are shown with their masks."""
UNIT = "of a hundred pixels of each true class"
MOST_WEIGHT = 20.0
"""Times the weight of the most frequent class."""


class Pieces(Batches):
    """Every row so many times in an epoch; it is for the transform to make something else of it each time."""

    def __init__(self, times: int, inputs: Sequence[Tensor], *rest: Any, batch_size: int, **options: Any) -> None:
        super().__init__(inputs, *rest, batch_size=batch_size, **options)
        self.distinct, self.rows = self.rows, self.rows * times
        self.batch_size = min(batch_size, max(self.rows, 1))

    def gather(self, rows: Tensor) -> Batch:
        """The batch of some rows, untransformed."""
        return super().gather(rows % self.distinct)


class PicturesAndMasks(Examples):
    """A single target of pictures is one of masks."""

    def are_meant_by(self, targets: Sequence[Column]) -> bool:
        """Whether it is."""
        return len(targets) == 1 and Image.recognise(targets[0]) is not None


class Segmentation(Task):
    """A class for every pixel of a picture.

    Truth and predictions are maps of codes: arrays (N, H, W) uint8; 255 is a pixel without a class, which is neither
    learned nor measured. Intervals draw whole pictures: pixels of one are alike.
    """

    name: ClassVar[str] = "segmentation"
    from_source: ClassVar[Examples] = PicturesAndMasks()
    target_kind: ClassVar[str] = "mask"
    answers: ClassVar[str | tuple[str, ...]] = "maps"
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ("iou", "pixel_accuracy")
    headline = "iou"
    higher_is_better = True

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.rules, self.training = schema, recipe.segmentation, recipe.training
        self.target = schema.targets[0]
        assert isinstance(self.target.fitted, Mask)
        self.mask = self.target.fitted
        self.classes = self.mask.classes
        self.outputs = len(self.classes)
        self.weights: Tensor | None = None

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """A single target of masks, and pictures."""
        targets = schema.targets
        if [field.kind for field in targets] != ["mask"] or "image" not in {field.kind for field in schema.inputs}:
            return None
        return f'"{targets[0].name}" has a class for every pixel'

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """As many outputs as there are classes."""
        return cls(schema, recipe)

    def knowing(self, truth: np.ndarray) -> Self:
        """With weights of classes, where they are asked for: by the inverse root of their share of the pixels."""
        if not self.training.class_weights:
            return self
        task = copy(self)
        counts = sum((np.bincount(one.ravel(), minlength=256) for one in truth), np.zeros(256))[: self.outputs]
        share = np.asarray(counts / max(counts.sum(), 1))
        weights = np.minimum(np.sqrt(share.max() / np.maximum(share, 1e-12)), MOST_WEIGHT)
        task.weights = torch.from_numpy(weights / max(float(weights @ share), 1e-12)).float()
        return task

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, H, W) uint8, as large as the encoded pictures.

        Raises:
            DataError: for a row without a mask, one that cannot be read or is not as large as its picture, or a value
                that training did not meet.
        """
        (picture,) = (field for field in self.schema.inputs if field.kind == "image")
        masks, problems = self.target.column(table), Problems()
        pairs = (shapes_of(column) for column in (picture.column(table), masks))
        for row, (size, own) in enumerate(zip(*pairs, strict=True)):
            if size != own:
                problems.add(
                    masks.error(
                        f"the mask{_named(masks.file_name(row))} is {own[1]} x {own[0]} pixels, "
                        f"its picture {size[1]} x {size[0]}",
                        "give masks of the size of their pictures",
                        row=row,
                    )
                )
        problems.raise_if_any()
        return self.mask.encode_as(masks, *encoded.blocks[f"image:{picture.name}"].shape[2:])

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, H, W) uint8."""
        return torch.from_numpy(np.ascontiguousarray(truth))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N, H, W) uint8."""
        return target.cpu().numpy().astype(np.uint8)

    def batches(self, inputs: tuple[Tensor, ...], goals: Tensor, weight: Tensor | None, **options: Any) -> Batches:
        """As usual; but few pictures that are trained on come several times in an epoch, as other pieces."""
        times = self.rules.pieces or max(1, round(FEWEST_PIECES / max(len(goals), 1)))
        if options.get("transform") is None or times == 1:
            return super().batches(inputs, goals, weight, **options)
        return Pieces(times, inputs, goals, weight, **options)

    def transform(self, seed: int) -> Transform | None:
        """Pieces of pictures and masks, varied together; without augmentation, at a place that is drawn alone."""
        crop = self.rules.crop or 1 << 16
        size = (min(crop, self.mask.height), min(crop, self.mask.width))
        if not is_varied(self.training, self.name):
            return MaskAugmentation(crop=size, seed=seed)
        rules = self.rules
        return MaskAugmentation(
            crop=size,
            scale=rules.scale,
            turn=rules.turn,
            flip=rules.flip,
            elastic=rules.elastic,
            spacing=rules.elastic_spacing,
            colour=rules.colour,
            seed=seed,
        )

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Of each picture the mean over its pixels that have a class, and the mean of these.

        outputs: (B, classes, H, W); target: (B, H, W) codes.
        """
        parts = self.rules.loss.split("+")
        losses = torch.zeros(len(outputs), device=outputs.device)
        if "dice" in parts:
            losses = losses + dice_losses(outputs, target)
        if "cross_entropy" in parts or "focal" in parts:
            losses = losses + pixel_losses(
                outputs,
                target,
                weights=self.weights,
                smoothing=self.training.label_smoothing,
                focus=self.rules.focus if "focal" in parts else 0.0,
            )
        return weighted_mean(losses, weight)

    def compact(self, outputs: Tensor) -> Tensor:
        """(B, H, W) uint8: the likeliest class alone."""
        return outputs.argmax(1).to(torch.uint8) if outputs.ndim == 4 else outputs

    def decode(self, outputs: Tensor) -> Predictions:
        """The likeliest class of each pixel, of logits (N, classes, H, W) or of what `compact` left of them."""
        return Predictions(self.compact(outputs).cpu().numpy())

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 1) -> Predictions:
        """Maps of classes, one picture at a time: of none more than one map of probabilities is held."""
        network.eval()
        device, (pictures,) = next(network.parameters()).device, inputs
        values = np.empty((len(pictures), *pictures.shape[2:]), dtype=np.uint8)
        rules = self.rules
        views = (ALL if rules.flip == "all" else SIDEWAYS) if rules.mirrored else ONE
        with torch.inference_mode():
            for row in range(len(pictures)):
                picture = pictures[row : row + 1].to(device)
                said = probabilities(network, picture, tile=rules.tile, overlap=rules.overlap, views=views)
                values[row] = said[0].argmax(0).cpu().numpy()
        return Predictions(values)

    def decide(self, predictions: Predictions) -> np.ndarray:
        """(N, H, W) codes of classes."""
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
        """See `map_metrics`."""
        return map_metrics(self._agreement(values, truth, names), self.classes, weight, names)

    def _agreement(self, values: np.ndarray, truth: np.ndarray, names: Collection[str] = ()) -> Agreement:
        return agreement(values, truth, self.outputs, boundaries=not names or BOUNDARY in names)

    def resampled(
        self,
        predictions: Predictions,
        truth: np.ndarray,
        *,
        samples: int,
        seed: int,
        weight: np.ndarray | None = None,
        names: Collection[str] = (),
    ) -> dict[str, np.ndarray]:
        """See `Task.resampled`: of whole pictures, whose pixels are counted once."""
        found = self._agreement(predictions.values, truth, names)

        def measure(rows: np.ndarray, _: np.ndarray, weights: Any = None, /, *, names: Any = ()) -> dict[str, Any]:
            return map_metrics(found, self.classes, weights, names)

        rows = np.arange(len(truth))
        return measures.bootstrap(measure, rows, rows, samples=samples, seed=seed, weight=weight, names=names)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """(N,) the share of pixels that are wrong."""
        known = truth != UNLABELLED
        wrong = (predictions.values != truth) & known
        return np.asarray(wrong.sum((1, 2)) / np.maximum(known.sum((1, 2)), 1))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """The classes that cover most of each, in words: the maps themselves are drawn elsewhere."""
        return [
            {
                "truth": self._covered(truth[row]),
                "prediction": self._covered(predictions.values[row]),
                "confidence": None,
            }
            for row in rows
        ]

    def _covered(self, codes: np.ndarray) -> str:
        counts = np.bincount(codes.ravel(), minlength=256)[: self.outputs]
        most = np.argsort(-counts, kind="stable")[:3]
        total = max(counts.sum(), 1)
        return ", ".join(f"{self.classes[at]} {counts[at] / total:.0%}" for at in most if counts[at])

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`share_CLASS`: of the pixels of each picture, for each class; the maps themselves are files."""
        flat = predictions.values.reshape(len(predictions), -1)
        return {f"share_{name}": (flat == code).mean(1) for code, name in enumerate(self.classes)}

    def to_files(self, predictions: Predictions, table: Table) -> Iterator[tuple[str, bytes]]:
        """A PNG for each picture, of its size, called as it is: values or colours as the masks of the training had."""
        (field,) = (field for field in self.schema.inputs if field.kind == "image")
        column, taken = field.column(table), set[str]()
        for row, (height, width) in enumerate(shapes_of(column)):
            stem = PurePath(column.file_name(row)).stem or f"{row:05d}"
            name = f"{stem}.png" if stem not in taken else f"{stem}-{row:05d}.png"
            taken.add(stem)
            picture = self.mask.picture(predictions.values[row])
            if picture.size != (width, height):
                picture = picture.resize((width, height), Picture.Resampling.NEAREST)
            sink = io.BytesIO()
            picture.save(sink, format="PNG")
            yield name, sink.getvalue()

    def marked(self, picture: Tensor, target: Tensor) -> Tensor:
        """With a veil in the colour of its class over each pixel that has one."""
        codes = target.cpu().numpy()
        colours = torch.from_numpy(self.mask.painted(codes)).movedim(2, 0).float()
        veil = torch.from_numpy(np.where(codes == UNLABELLED, 0.0, VEIL)).float()
        return ((1 - veil) * in_colours(picture.cpu()) + veil * colours).round().to(torch.uint8)

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Some pictures from the best to the worst: as they are, true, predicted, and where these differ; and counts.

        segmented: `classes`, their `colours`, and `pictures` with four `Thumbnail`s and the share of right pixels.
        confusion: of a hundred pixels of each true class (rows), how many are said to be of which.
        """
        if not len(truth):
            return {}
        losses = self.row_losses(predictions, truth)
        rows = np.argsort(losses, kind="stable")[evenly(len(losses), MOST_PICTURES)]
        counts = self._agreement(predictions.values, truth, ("iou",)).confusion.sum(0)
        shown = [
            {
                "picture": Thumbnail(small(inputs[0][row].numpy(), LARGEST_SHOWN)),
                "truth": self._painted(truth[row]),
                "prediction": self._painted(predictions.values[row]),
                "mistakes": Thumbnail(_smaller(_mistakes(predictions.values[row], truth[row]))),
                "right": 1 - losses[row],
            }
            for row in rows
        ]
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in self.mask.colours.tolist()]
        return {
            "segmented": {
                "classes": [*self.classes, *(["no class"] if (truth == UNLABELLED).any() else [])],
                "colours": colours,
                "pictures": shown,
            },
            "confusion": {"labels": list(self.classes), "counts": _of_a_hundred(counts).tolist(), "unit": UNIT},
        }

    def _painted(self, codes: np.ndarray) -> Thumbnail:
        return Thumbnail(_smaller(np.moveaxis(self.mask.painted(codes), 2, 0)))


def _of_a_hundred(counts: np.ndarray) -> np.ndarray:
    """Whole numbers in place of counts (classes, classes), by row."""
    shares: np.ndarray = np.rint(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    return shares.astype(np.int64)


def _named(name: str) -> str:
    return f' "{name}"' if name else ""


def _mistakes(said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(3, H, W) uint8."""
    painted = np.where((said == true)[..., None], *(np.array(colour, np.uint8) for colour in (RIGHT, WRONG)))
    painted[true == UNLABELLED] = OUTSIDE
    return np.moveaxis(painted, 2, 0)


def _smaller(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) uint8 as it goes into the page: no colour is mixed with another."""
    height, width = pixels.shape[1:]
    factor = LARGEST_SHOWN / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = Picture.Resampling.NEAREST
    layers = [np.asarray(Picture.fromarray(np.ascontiguousarray(layer)).resize(size, how)) for layer in pixels]
    return np.stack(layers)
