"""Pictures in the style of one other, painted in one pass by a network that learned to.

Source: Johnson et al. 2016, arXiv:1603.08155.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError, RecipeError
from sounding.kinds import Encoded
from sounding.recipe import Recipe
from sounding.tasks.build import arrange
from sounding.tasks.drawing import evenly
from sounding.tasks.painting import Painted, read_colours
from sounding.tasks.perception import Distances, Perception, weighed
from sounding.tasks.task import Predictions, Task, Thumbnail, weighted_mean

MOST_SHOWN = 6
"""Paintings on the page."""


class Painting(NamedTuple):
    """What is kept of each row."""

    picture: Tensor
    """(B, C, H, W), 0 to 255."""
    distances: Tensor
    """(B, 2): to the content, and to the style."""


@dataclass(frozen=True)
class Paintings(Predictions):
    """Of each row its distances to content and style (N, 2), and the painting."""

    pictures: np.ndarray
    """(N, C, H, W) uint8."""

    def take(self, rows: np.ndarray) -> Paintings:
        """Those of some rows."""
        return Paintings(self.values[rows], self.pictures[rows])


class Style(Task):
    """Paint pictures so that they keep their content, and have the style of one other.

    The truth are the pictures themselves (N, C, H, W) uint8. Predictions are (N, 2): the squared distance to the
    features of the picture as it was, over their size, and that of the Gram matrices to those of the style, over
    theirs. Both are measured by the backbone, which is not trained.
    """

    name: ClassVar[str] = "style"
    needs_target: ClassVar[bool] = False
    gives_back: ClassVar[bool] = True
    answers: ClassVar[str] = "painting"
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ()
    outputs = 0
    headline = "style_distance"
    higher_is_better = False
    reason = "the distance to the content is the price that is paid for it"

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.settings, self.seed = schema, recipe.style, recipe.seed
        self.brought: Mapping[str, str] = {}

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Pictures alone."""
        return "pictures are to be painted in the style of one other"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """Whose style is wanted is told by `style.picture`.

        Raises:
            DataError: if there is anything but pictures.
            RecipeError: if no picture is named.
        """
        if [block.form for block in schema.blocks()] != ["pictures"]:
            raise DataError("only pictures can be painted", "leave other columns out with data.ignore")
        if not recipe.style.picture:
            raise RecipeError("no picture is named whose style is wanted", "give --set style.picture=FILE")
        return cls(schema, recipe)

    @cached_property
    def perception(self) -> Perception:
        """Whose features are compared; read when it is needed first: painting does without.

        Raises:
            RecipeError: if it is not here, or not the one that the model was trained with.
        """
        eyes = Perception.of(self.settings.backbone, seed=self.seed)
        if self.brought.get("backbone", eyes.fingerprint) != eyes.fingerprint:
            raise RecipeError(
                f"the backbone is another than this model was trained with ({self.brought['backbone'][:12]} then, "
                f"{eyes.fingerprint[:12]} now)",
                "bring the old one back: distances by others mean something else",
                file=self.settings.backbone,
            )
        return eyes

    @cached_property
    def wanted(self) -> list[Tensor]:
        """The Gram matrices of the style."""
        return self.perception.style_of(self.style)

    @cached_property
    def style(self) -> Tensor:
        """The picture whose style is wanted, (1, 3, H, W), as large as the pictures that are painted.

        A model brings it along, so that it does not ask for the file.
        """
        if self.brought:
            return torch.from_numpy(_from_text(self.brought["picture"]))[None].float() / 255
        block = self.schema.blocks()[0]
        return read_colours(self.settings.picture, max(block.height, block.width))

    def facts(self) -> dict[str, str]:
        """The picture whose style is wanted, and the backbone."""
        style = hashlib.sha256(self.style.numpy().tobytes()).hexdigest()
        return {"style": style, "backbone": self.perception.fingerprint}

    def learned(self) -> dict[str, Any]:
        """The picture, and which backbone it was."""
        pixels = (self.style[0] * 255).round().to(torch.uint8).numpy()
        return {"picture": _to_text(pixels), "backbone": self.perception.fingerprint}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse."""
        task = copy(self)
        task.brought = dict(learned)
        return task

    def distances(self, pictures: Tensor, originals: Tensor) -> Distances:
        """How far pictures (B, C, H, W) in [0, 1] are from what they were, and from the style."""
        wanted = [matrix.to(pictures.device) for matrix in self.wanted]
        return self.perception.to(pictures.device).distances(pictures, originals, wanted)

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """The pictures."""
        return arrange(encoded.blocks)[0].numpy()

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """As it is."""
        return torch.from_numpy(truth)

    def goals(self, truth: np.ndarray, inputs: tuple[Tensor, ...]) -> Tensor:
        """The pictures, as they are varied."""
        return inputs[0]

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """As it is."""
        return target.cpu().numpy()

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean of what content, style and roughness cost.

        outputs: (B, C, H, W) in [0, 1], or a little beyond; target: uint8, or float in [0, 1].
        """
        return weighted_mean(weighed(self.distances(outputs.float(), _unit(target)), self.settings), weight)

    def kept(self, outputs: Tensor, inputs: tuple[Tensor, ...]) -> Painting:
        """Paintings in whole values, and their distances."""
        pictures = (outputs.float().clamp(0.0, 1.0) * 255).round()
        distances = self.distances(pictures / 255, _unit(inputs[0]))
        return Painting(pictures, torch.stack([distances.content, distances.style], 1))

    def decode(self, outputs: Painting) -> Paintings:
        """From what is kept."""
        return Paintings(outputs.distances.double().numpy(), outputs.picture.to(torch.uint8).numpy())

    def decide(self, predictions: Predictions) -> np.ndarray:
        """The paintings."""
        return cast("Paintings", predictions).pictures

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """`content_distance` and `style_distance`, means over rows."""
        weights = np.ones((1, len(values))) if weight is None else np.atleast_2d(weight)
        means = weights @ values / weights.sum(1, keepdims=True)
        several = weight is not None and np.ndim(weight) == 2
        found = {"style_distance": means[:, 1], "content_distance": means[:, 0]}
        return {k: v if several else float(v[0]) for k, v in found.items() if not names or k in names}

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """What each row costs, but for its roughness."""
        weights = np.array([self.settings.content_weight, self.settings.style_weight])
        return np.asarray(predictions.values @ weights)

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Nothing is true or said but the row itself."""
        return [{"truth": None, "prediction": None, "confidence": None} for _ in rows]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """Both distances."""
        return {"content_distance": predictions.values[:, 0], "style_distance": predictions.values[:, 1]}

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """`painted`: the style, and some pictures as they were and as they are painted."""
        rows = evenly(len(truth), MOST_SHOWN)
        pictures = self.decide(predictions)
        pairs = [
            {
                "original": Thumbnail(truth[row]),
                "painted": Thumbnail(pictures[row]),
                "style": float(predictions.values[row, 1]),
            }
            for row in rows
        ]
        style = (self.style[0] * 255).round().to(torch.uint8).numpy()
        return {"painted": {"style": Thumbnail(style), "pairs": pairs, "told": self.perception.told}}

    def painted(self, network: nn.Module, picture: Tensor) -> Painted:
        """One picture (1, 3, H, W) in [0, 1] of any size, in one pass."""
        channels = self.schema.blocks()[0].channels
        seen = picture if channels == 3 else picture.mean(1, keepdim=True)
        device = next(iter(network.parameters())).device
        with torch.inference_mode():
            painting = network(seen.to(device)).float().cpu().clamp(0.0, 1.0).expand(1, 3, -1, -1)
        whole = [(one[0] * 255).round().to(torch.uint8).numpy() for one in (picture, self.style, painting)]
        return Painted(whole[0], whole[1], whole[2], [], "")


def _to_text(pixels: np.ndarray) -> str:
    """(3, H, W) uint8 as a PNG in base64."""
    sink = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(sink, format="PNG")
    return base64.b64encode(sink.getvalue()).decode()


def _from_text(text: str) -> np.ndarray:
    """The inverse."""
    with Pillow.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
        return np.array(picture.convert("RGB")).transpose(2, 0, 1)


def _unit(pictures: Tensor) -> Tensor:
    """uint8 as float in [0, 1]; float as it is."""
    return pictures.float() if pictures.is_floating_point() else pictures.float() / 255
