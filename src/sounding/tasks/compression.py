"""Few numbers for each row, from which it can be given back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import RecipeError
from sounding.kinds import Block, Category, Encoded, Number
from sounding.networks import Autoencoder, Reconstruction, VariationalAutoencoder, reconstruction_errors
from sounding.randomness import draw_seed, generator
from sounding.recipe import Recipe
from sounding.tasks.build import Standardized, arrange
from sounding.tasks.drawing import MOST_MAPPED, evenly, map_of, small
from sounding.tasks.given_back import as_one, as_seen
from sounding.tasks.task import Predictions, Task, Thumbnail, weighted_mean

CHUNK = 1024
"""Rows whose errors are computed at once."""
MOST_COPIES, MOST_SAMPLES, MOST_WALKS, STEPS = 12, 36, 5, 9
"""Pictures beside what was made of them; pictures imagined; walks from one picture to another, and their steps."""
GROUPS = 5
"""Of a label that is a number, each of as many rows."""
ACTIVE = 0.01
"""An entry of a code is used if its mean varies by more from row to row: Burda et al. 2016, arXiv:1509.00519, section
5.2. That of one that is not used is nearly 0 for all."""


@dataclass(frozen=True)
class Compressed(Predictions):
    """What came of some rows. `values` are their reconstruction errors, (N,)."""

    codes: np.ndarray
    """(N, code size) float64."""

    def take(self, rows: np.ndarray) -> Compressed:
        """Of some rows."""
        return Compressed(self.values[rows], self.codes[rows])


class Told(NamedTuple):
    """What is kept of an answer: not the reconstructions, which take more room than all else."""

    code: Tensor
    error: Tensor
    """(B,), the mean over the features of a row."""


class Compression(Task):
    """Few numbers for each row, from which it can be given back.

    The truth is the inputs themselves: pictures (N, C, H, W) uint8, series (N, C, L) float32, or rows of a table
    (N, features + columns) float32, the numbers and then the codes of categories. The error of a row is the mean over
    its features: squared errors of numbers, points and pixels in the standardised space that the network sees,
    cross-entropy in nats of categories.
    """

    name: ClassVar[str] = "compression"
    needs_target: ClassVar[bool] = False
    gives_back: ClassVar[bool] = True
    answers: ClassVar[str] = "reconstruction"
    monitor: ClassVar[str] = "reconstruction_error"
    watched: ClassVar[tuple[str, ...]] = ("reconstruction_error",)
    headline = "reconstruction_error"
    higher_is_better = False

    def __init__(self, schema: Schema, code_size: int) -> None:
        self.schema, self.outputs = schema, code_size
        self.blocks = schema.blocks()
        blocks = {block.form: block for block in self.blocks}
        self.pictures: Block | None = blocks.get("pictures")
        self.is_table = not {"pictures", "series"} & blocks.keys()
        self.features = blocks["numbers"].features if "numbers" in blocks else ()
        self.categories = blocks["categories"].columns if "categories" in blocks else ()
        self.cardinalities = blocks["categories"].cardinalities if "categories" in blocks else ()

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Whatever can be put in, can be given back."""
        return "rows are to be told in few numbers"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The size of the code is the network's `code_size`.

        Raises:
            RecipeError: if that is less than 1.
        """
        if recipe.network.code_size < 1:
            raise RecipeError(f"network.code_size is {recipe.network.code_size}", "give 1 or more numbers for each row")
        return cls(schema, recipe.network.code_size)

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """The inputs."""
        return as_one(arrange(encoded.blocks)).numpy()

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """As it is."""
        return torch.from_numpy(truth)

    def goals(self, truth: np.ndarray, inputs: tuple[Tensor, ...]) -> Tensor:
        """The inputs, as one tensor."""
        return as_one(inputs)

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """As it is."""
        return target.cpu().numpy()

    def standardised(self, target: Tensor) -> tuple[Tensor, ...]:
        """The inputs as the network is to give them back: (pictures,), (series,), or (numbers, categories)."""
        return as_seen(target, self.blocks)

    def errors(self, values: Tensor, target: Tensor) -> Tensor:
        """(B, features): how wrong each pixel, number or category is; see `reconstruction_errors`."""
        return reconstruction_errors(values, self.standardised(target), self.cardinalities)

    def loss(self, outputs: Reconstruction, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean error, and what the network adds to it."""
        return weighted_mean(self.errors(outputs.values, target).mean(1) + outputs.penalty, weight)

    def kept(self, outputs: Reconstruction, inputs: tuple[Tensor, ...]) -> Told:
        """Codes and errors."""
        return Told(outputs.code, self.errors(outputs.values, as_one(inputs)).mean(1))

    def decode(self, outputs: Told) -> Compressed:
        """From what is kept."""
        return Compressed(*(part.detach().double().cpu().numpy() for part in (outputs.error, outputs.code)))

    def validation_metrics(self, outputs: Reconstruction, target: Tensor) -> dict[str, float]:
        """The mean error alone."""
        return {self.monitor: float(self.errors(outputs.values, target).mean())}

    def decide(self, predictions: Predictions) -> np.ndarray:
        """The codes."""
        return cast("Compressed", predictions).codes

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """`reconstruction_error`, and the share by which it is less than that of always giving the mean of these rows.

        For numbers and pixels this share is that of the variance which is explained.
        """
        weights = np.ones((1, len(values))) if weight is None else np.atleast_2d(weight)
        error = weights @ values / weights.sum(1)
        found: dict[str, Any] = {"reconstruction_error": error}
        if not names or "variance_explained" in names:
            constant = weights @ self.constant_errors(truth, truth) / weights.sum(1)
            found["variance_explained"] = 1 - error / np.where(constant > 0, constant, np.nan)
        several = weight is not None and np.ndim(weight) == 2
        return {
            name: value if several else float(value[0]) for name, value in found.items() if not names or name in names
        }

    def constant_errors(self, truth: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """(N,) the errors of always the same answer: the mean of what was seen, and how frequent categories were."""
        answer = self.constant_answer(seen)
        errors = [
            reconstruction_errors(answer.expand(len(part[0]), *answer.shape), part, self.cardinalities).mean(1)
            for part in self.parts(truth)
        ]
        return np.asarray(torch.cat(errors).double().numpy()) if errors else np.zeros(0)

    def constant_answer(self, seen: np.ndarray) -> Tensor:
        """The `Reconstruction.values` that are best for all rows alike; each category counts as seen once more."""
        total: Tensor | float = 0.0
        frequencies = [np.ones(count) for count in self.cardinalities]
        for part in self.parts(seen):
            total = total + part[0].double().sum(0)
            for counts, codes in zip(frequencies, part[-1].T if self.cardinalities else (), strict=True):
                counts += np.bincount(codes, minlength=len(counts))
        mean = torch.as_tensor(total / max(len(seen), 1)).float()
        logits = [torch.from_numpy(np.log(counts / counts.sum())).float() for counts in frequencies]
        return torch.cat([mean, *logits]) if logits else mean

    def parts(self, truth: np.ndarray) -> Iterator[tuple[Tensor, ...]]:
        """Some rows at a time, in the standardised space."""
        for at in range(0, len(truth), CHUNK):
            yield self.standardised(torch.from_numpy(truth[at : at + CHUNK]))

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The error of each row."""
        return predictions.values

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Nothing is true or said but the row itself."""
        return [{"truth": None, "prediction": None, "confidence": None} for _ in rows]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`code_1`, `code_2`, ... and `reconstruction_error`."""
        codes = self.decide(predictions)
        columns = {f"code_{place + 1}": codes[:, place] for place in range(codes.shape[1])}
        return {**columns, "reconstruction_error": predictions.values}

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """A map of the rows, what the network made of some, and what it imagines.

        map          see `drawing.map_of`
        columns      of a table: how much of each is kept, as `variance_explained`
        copies       of pictures and series: some beside what was made of them, from the least error to the largest
        walks        pictures on the straight line from the code of one to that of another
        samples      pictures from codes drawn at random, where the network is variational
        units        the variance of each entry of the codes; of a variational network, how many are used
        """
        codes, errors = self.decide(predictions), predictions.values
        if not len(codes):
            return {}
        autoencoder = cast("Autoencoder", network.network if isinstance(network, Standardized) else network)
        variational = isinstance(autoencoder, VariationalAutoencoder)
        spread = codes.var(0)
        drawn: dict[str, Any] = {
            "units": {"variances": spread, "used": int((spread > ACTIVE).sum()) if variational else None}
        }
        pictures = None if self.pictures is None else truth
        drawn["map"] = map_of(codes, pictures, *self._groups(labels))
        if self.is_table:
            drawn["columns"] = self._kept(autoencoder, inputs, truth)
            return drawn

        def decoded(some: np.ndarray | Tensor) -> list[Any]:
            with torch.inference_mode():
                device = next(iter(autoencoder.parameters())).device
                values = autoencoder.decode(torch.as_tensor(some).float().to(device)).float().cpu()
            return values.tolist() if self.pictures is None else self.thumbnails(values)

        shown = np.argsort(errors, kind="stable")[evenly(len(errors), MOST_COPIES)]
        originals = truth[shown] if self.pictures is None else [Thumbnail(small(picture)) for picture in truth[shown]]
        drawn["copies"] = [
            {"original": original, "copy": copy, "error": float(error)}
            for original, copy, error in zip(originals, decoded(codes[shown]), errors[shown], strict=True)
        ]
        if self.pictures is None:
            return drawn
        places = generator(0, "drawing", "walks").permutation(len(codes))
        ends = zip(places[0::2], places[1::2], strict=False)
        share = np.linspace(0.0, 1.0, STEPS)[:, None]
        drawn["walks"] = [
            decoded((1 - share) * codes[first] + share * codes[last]) for first, last in islice(ends, MOST_WALKS)
        ]
        if isinstance(autoencoder, VariationalAutoencoder):
            draws = torch.Generator().manual_seed(draw_seed(0, "drawing", "samples"))
            drawn["samples"] = decoded(torch.randn(MOST_SAMPLES, self.outputs, generator=draws))
        return drawn

    def thumbnails(self, values: Tensor) -> list[Thumbnail]:
        """Pictures in the standardised space as they are shown."""
        assert self.pictures is not None
        mean, std = (values.new_tensor(known).view(-1, 1, 1) for known in (self.pictures.mean, self.pictures.std))
        pixels = (values * std + mean).round().clamp(0, 255).to(torch.uint8).numpy()
        return [Thumbnail(small(picture)) for picture in pixels]

    def _groups(self, labels: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, list[str]]:
        """The label of each row as a code, and the names of these codes; numbers fall into groups of as many rows."""
        if not labels:
            return None, []
        name, values = next(iter(labels.items()))
        fitted = self.schema[name].fitted
        if isinstance(fitted, Category):
            return values, list(fitted.classes)
        numbers = fitted.decode_target(values) if isinstance(fitted, Number) else values
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, GROUPS + 1)[1:-1]))
        named = [f"up to {edge:.4g}" for edge in edges] + [f"above {edges[-1]:.4g}"]
        return np.searchsorted(edges, numbers), named

    def _kept(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray) -> list[dict[str, Any]]:
        """Of each number and each category, by how much its error is less than that of the best constant."""
        rows = evenly(len(truth), MOST_MAPPED)
        device = next(iter(network.parameters())).device
        with torch.inference_mode():
            outputs = network(*(tensor[rows].to(device) for tensor in inputs))
            errors = self.errors(outputs.values.float().cpu(), torch.from_numpy(truth[rows])).mean(0)
        answer = self.constant_answer(truth[rows])
        constant = self.errors(answer.expand(len(rows), -1), torch.from_numpy(truth[rows])).mean(0)
        names = [*self.features, *self.categories]
        return [
            {"name": name, "kept": 1 - float(error / best) if best > 0 else None}
            for name, error, best in zip(names, errors, constant, strict=True)
        ]
