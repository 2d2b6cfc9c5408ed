"""Examples that a network makes up: drawn, and brought back from its own space to columns and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.data.schema import Schema
from sounding.errors import DataError, UserError
from sounding.kinds import Category, Number
from sounding.networks import Standardize
from sounding.randomness import draw_seed
from sounding.tasks.build import Standardized
from sounding.tasks.task import Predictions

AT_A_TIME = 256
"""Samples of a batch: always so many are drawn, so that the first of many are those of a few."""
PIXELS_KEPT = 8
"""On a side of the coarse picture by which generated and real ones are compared."""


@dataclass(frozen=True)
class Samples(Predictions):
    """Made-up examples. `values` (N, d) are their features, by which they are compared with real ones."""

    made: np.ndarray
    """Rows (N, numbers + one-hot categories) float32, encoded as the inputs are, or pictures (N, C, H, W) uint8."""
    classes: np.ndarray | None
    """(N,) codes of the classes that were asked for, where the network has some."""

    def labels(self, schema: Schema) -> Sequence[str]:
        """The classes by name; empty where the network has none."""
        if self.classes is None:
            return ()
        (field,) = schema.targets
        assert isinstance(field.fitted, Category)
        labels: list[str] = field.fitted.decode_target(self.classes).tolist()
        return labels

    def take(self, rows: np.ndarray) -> Samples:
        """Some of them."""
        return Samples(self.values[rows], self.made[rows], None if self.classes is None else self.classes[rows])


def draw_samples(schema: Schema, network: nn.Module, count: int, seed: int, code: int | None = None) -> Samples:
    """So many examples; the same ones for the same seed, and the first ones of more.

    network: one that has `sample(count, generator)`, or wraps one that has: an adversarial one, or a variational
             autoencoder.
    code:    of the class that all of them are to have; none takes what the network draws.

    Raises:
        UserError: if the network makes nothing up, or knows no classes.
    """
    inner: Any = sampler_of(network)
    if not hasattr(inner, "sample"):
        raise UserError("this model makes nothing up", "train one with the task generation")
    known = bool(getattr(inner, "classes", 0))
    if code is not None and not known:
        raise UserError("this model was not told of classes", "leave the class out, or train it with a target")
    generator = torch.Generator().manual_seed(draw_seed(seed, "samples"))
    made, classes = list[Tensor](), list[Tensor]()
    network.eval()
    with torch.inference_mode():
        for _ in range(0, max(count, 1), AT_A_TIME):
            if known:
                noise, drawn = inner.draw(AT_A_TIME, generator)
                classes.append(drawn if code is None else torch.full_like(drawn, code))
                made.append(inner(noise, classes[-1]).float().cpu())
            else:
                made.append(inner.sample(AT_A_TIME, generator).float().cpu())
    values = torch.cat(made)[:count]
    rows = as_pixels(network, values) if values.ndim == 4 else _decided(schema, values)
    return Samples(features_of(rows), rows, torch.cat(classes)[:count].cpu().numpy() if known else None)


def sampler_of(network: nn.Module) -> nn.Module:
    """The network that knows how to sample: within the one that standardises pictures, where there is that."""
    return network.network if isinstance(network, Standardized) else network


def as_pixels(network: nn.Module, pictures: Tensor) -> np.ndarray:
    """Pictures (N, C, H, W) in the standardised space of a network as uint8."""
    if isinstance(network, Standardized) and isinstance(network.standardize, Standardize):
        scale = network.standardize
        pictures = pictures * scale.deviation.cpu() + scale.mean.cpu()
    pixels: np.ndarray = (pictures.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()
    return pixels


def features_of(rows: np.ndarray) -> np.ndarray:
    """What made-up and real examples are compared by, (N, d) float64: rows as they are, pictures in coarse pixels.

    A picture becomes the means of at most 8 x 8 areas, in units of the brightest pixel: that sees shapes, shades and
    whether they are various, but no fine strokes. A classifier's features see more, where there is one.
    """
    if rows.ndim == 2:
        return rows.astype(np.float64)
    size = min(rows.shape[2], PIXELS_KEPT), min(rows.shape[3], PIXELS_KEPT)
    parts = [
        F.adaptive_avg_pool2d(torch.from_numpy(rows[at : at + 4096]).float() / 255, size).flatten(1)
        for at in range(0, max(len(rows), 1), 4096)
    ]
    return torch.cat(parts).numpy().astype(np.float64)


def encoded_rows(schema: Schema, inputs: tuple[Tensor, ...]) -> np.ndarray:
    """Real rows as made-up ones are: what the network takes, with categories as one-hot; pictures as they are."""
    if len(inputs) == 1:
        return inputs[0].numpy()
    numbers, codes = inputs
    hot = [F.one_hot(one.long(), count) for one, count in zip(codes.unbind(1), cardinalities_of(schema), strict=True)]
    return torch.cat([numbers.float(), *(one.float() for one in hot)], 1).numpy()


def columns_of(schema: Schema, samples: Samples) -> dict[str, np.ndarray]:
    """Made-up rows in the user's own columns and units; of pictures each pixel, channel by channel, is a column.

    Whole numbers stay whole. Where values were missing in training, they can be missing here.
    """
    columns: dict[str, np.ndarray] = {}
    if samples.classes is not None:
        columns[schema.targets[0].name] = np.array(samples.labels(schema), dtype=object)
    if samples.made.ndim == 4:
        flat = samples.made.reshape(len(samples), -1)
        return columns | {f"pixel {place}": flat[:, place] for place in range(flat.shape[1])}
    made = {name: kind.decode(part) for name, kind, part in _parts(schema, samples.made)}
    return columns | {field.name: made[field.name] for field in schema.inputs}


def refuse_undecodable(schema: Schema) -> None:
    """See that all inputs can be made up.

    Raises:
        DataError: naming the columns that cannot.
    """
    cannot = [f'"{f.name}" ({f.kind})' for f in schema.inputs if not isinstance(f.fitted, Number | Category)]
    if cannot and not all(block.form == "pictures" for block in schema.blocks()):
        raise DataError(
            f"numbers and categories, or pictures alone, can be made up; {', '.join(cannot)} cannot",
            "leave these columns out with data.ignore",
        )


def cardinalities_of(schema: Schema) -> list[int]:
    """Codes of each category column, in the order of the encoded columns."""
    return [count for block in schema.blocks() for count in block.cardinalities]


def _decided(schema: Schema, values: Tensor) -> np.ndarray:
    """Rows whose categories are logits, or one-hot already, with one category for certain."""
    sizes = cardinalities_of(schema)
    numbers, *categories = torch.split(values, [values.shape[1] - sum(sizes), *sizes], 1)
    hot = [F.one_hot(one.argmax(1), one.shape[1]).float() for one in categories]
    rows: np.ndarray = torch.cat([numbers, *hot], 1).numpy()
    return rows


def _parts(schema: Schema, rows: np.ndarray) -> Iterator[tuple[str, Number | Category, np.ndarray]]:
    """Each input column with its kind and its part of encoded rows: features of a number, codes of a category."""
    at, kinds = 0, [(field.name, field.fitted) for field in schema.inputs]
    for wanted in (Number, Category):
        for name, kind in kinds:
            if isinstance(kind, wanted):
                block = kind.block(name)
                width = len(block.features) or block.cardinalities[0]
                part = rows[:, at : at + width]
                yield name, kind, part if isinstance(kind, Number) else part.argmax(1)
                at += width
