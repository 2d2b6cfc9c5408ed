"""Examples made up by a generator that learnt to deceive a discriminator."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Batch
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.kinds import Category, Encoded
from sounding.networks.adversarial import AdversarialNetwork, as_row
from sounding.recipe import Recipe, TrainingRecipe
from sounding.tasks import metrics as measures
from sounding.tasks.adversarial_losses import LOSSES
from sounding.tasks.build import Standardized, arrange
from sounding.tasks.sample_metrics import frechet_distance, within_reach
from sounding.tasks.samples import (
    Samples,
    cardinalities_of,
    columns_of,
    draw_samples,
    encoded_rows,
    features_of,
    refuse_undecodable,
    sampler_of,
)
from sounding.tasks.sheets import drawn
from sounding.tasks.task import Predictions, Task
from sounding.training import Clipping, Player, build_optimizer, build_schedule
from sounding.training.averaging import ExponentialMovingAverage

MOST_COMPARED = 2000
"""Samples and rows for precision and recall, which look at all pairs; of more, every so many are taken."""
SNAPSHOT = 256
"""Samples that are drawn for a sheet on the way."""


class Generation(Task):
    """New examples like the rows, of a class that is asked for where the target is a category.

    Two players: the discriminator learns to tell real rows from made-up ones, the generator to deceive it.

    The truth of a row are the features by which real and made-up examples are compared, behind the code of its class:
    (N, 1 + d). A prediction is no answer for a row: there are as many samples as rows.
    """

    name: ClassVar[str] = "generation"
    needs_target: ClassVar[bool] = False
    answers: ClassVar[str] = "samples"
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ()
    headline = "f1"
    higher_is_better = True
    reason = "f1 is the harmonic mean of precision (how many samples could be real) and recall (how much is covered)"

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.recipe = schema, recipe
        kinds = [field.fitted for field in schema.targets]
        self.classes = kinds[0].classes if len(kinds) == 1 and isinstance(kinds[0], Category) else ()
        self.outputs = len(self.classes)
        self.cardinalities = cardinalities_of(schema)
        self.frequencies = torch.empty(0)

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Anything, when it is asked for."""
        targets = schema.targets
        if len(targets) == 1 and targets[0].kind == "category":
            return f'rows are to be made up, each for a "{targets[0].name}" that is asked for'
        return "rows are to be made up" + "".join(f', without "{field.name}"' for field in targets)

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The classes are those of the target.

        Raises:
            DataError: naming columns that cannot be made up.
        """
        refuse_undecodable(schema)
        return cls(schema, recipe)

    def knowing(self, truth: np.ndarray) -> Self:
        """How frequent each class is among the training rows."""
        task = copy(self)
        counts = np.bincount(truth[:, 0].astype(np.int64), minlength=self.outputs)[: self.outputs]
        task.frequencies = torch.from_numpy(counts / max(counts.sum(), 1)).float()
        return task

    def players(self, network: nn.Module, recipe: TrainingRecipe) -> Sequence[Player]:
        """The discriminator, then the generator, whose average weights are those that are kept."""
        game = cast("AdversarialNetwork", sampler_of(network))
        if len(self.frequencies):
            game.frequencies.copy_(self.frequencies)
        rules, own = self.recipe.generation, recipe.optimizer
        loss = LOSSES[rules.loss]
        penalty = loss.penalty

        def real(batch: Batch) -> tuple[Tensor, Tensor | None]:
            """Examples as the generator makes them, and their classes."""
            if isinstance(network, Standardized):
                examples: Tensor = network.standardize(batch.inputs[0])
            else:
                numbers, codes = batch.inputs
                examples = as_row(numbers, codes, self.cardinalities)
            return examples, batch.target if self.outputs else None

        def made(count: int, classes: Tensor | None) -> Tensor:
            noise = torch.randn(count, game.noise_size).to(game.frequencies.device)
            examples: Tensor = game.generator(noise, classes)
            return examples

        def discriminator_loss(batch: Batch) -> Tensor:
            examples, classes = real(batch)
            with _frozen(game.generator):
                forged = made(len(examples), classes).detach().to(examples.dtype)
            scores = game.discriminator(torch.cat([examples, forged]), _twice(classes)).float()
            value = loss.discriminator(*scores.chunk(2))
            if rules.penalty and game.discriminator.training:
                part = slice(max(round(rules.penalised * len(examples)), 1))
                own_classes = None if classes is None else classes[part]
                value = value + rules.penalty * penalty(
                    lambda one: game.discriminator(one, own_classes).float(), examples[part], forged[part]
                )
            return value

        def generator_loss(batch: Batch) -> Tensor:
            examples, classes = real(batch)
            with _frozen(game.discriminator):
                scores = game.discriminator(examples, classes).float()
                return loss.generator(scores, game.discriminator(made(len(examples), classes), classes).float())

        schedule = build_schedule(recipe.schedule, warmup=recipe.warmup)
        average = recipe.averaging == "ema"
        return [
            Player(
                name,
                player,
                lossfunction,
                build_optimizer(player, replace(own, lr=own.lr * factor)),
                schedule,
                Clipping(recipe.clip_norm) if recipe.clip_norm else None,
                average=ExponentialMovingAverage(player, recipe.average_decay) if averaged else None,
            )
            for name, player, lossfunction, factor, averaged in (
                ("discriminator", game.discriminator, discriminator_loss, rules.discriminator_rate, False),
                ("generator", game.generator, generator_loss, 1.0, average),
            )
        ]

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, 1 + d) float32: the code of the class, 0 without classes, then the features; see `features_of`."""
        features = features_of(encoded_rows(self.schema, arrange(encoded.blocks)))
        codes = np.zeros(len(features))
        if self.outputs:
            (codes,) = self.schema.encode_targets(table).values()
        return np.concatenate([codes[:, None], features], axis=1).astype(np.float32)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, 1 + d) float32."""
        return torch.from_numpy(truth)

    def goals(self, truth: np.ndarray, inputs: tuple[Tensor, ...]) -> Tensor:
        """(N,) int64 codes of classes: what both players are told."""
        return torch.from_numpy(truth[:, 0].astype(np.int64))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N, 1 + d) float32."""
        return target.cpu().numpy()

    def loss(self, outputs: Any, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """There is none: each player has its own."""
        raise NotImplementedError("generator and discriminator have losses of their own: see players")

    def decode(self, outputs: Tensor) -> Predictions:
        """Samples as their features."""
        return Predictions(features_of(outputs.numpy()))

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 512) -> Samples:
        """As many samples as rows, the same ones for the same number; what is in the rows does not matter."""
        return draw_samples(self.schema, network, len(inputs[0]), self.recipe.seed)

    def decide(self, predictions: Predictions) -> np.ndarray:
        """Pictures (N, C, H, W) uint8, or records with the user's columns."""
        assert isinstance(predictions, Samples)
        if predictions.made.ndim == 4:
            return predictions.made
        columns = self.to_columns(predictions)
        records = np.empty(len(predictions), dtype=[(name, cells.dtype) for name, cells in columns.items()])
        for name, cells in columns.items():
            records[name] = cells
        return records

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """See `columns_of`."""
        assert isinstance(predictions, Samples)
        return columns_of(self.schema, predictions)

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """Precision, recall and f1 of samples against real rows, and their Fréchet distance (unweighted)."""
        few = _few(len(truth))
        found = _shares(_reached(values, truth), truth, None if weight is None else np.asarray(weight)[..., few])
        if weight is None or np.ndim(weight) == 1:
            found["frechet_distance"] = frechet_distance(truth[:, 1:], values) if len(truth) > 1 else float("nan")
        return {name: value for name, value in found.items() if not names or name in names}

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
        """See `Task.resampled`: of samples and rows; not of the Fréchet distance, which a resample biases."""
        reached, few = _reached(predictions.values, truth), _few(len(truth))
        weight = None if weight is None else weight[few]
        return measures.bootstrap(_shares, reached, truth[few], samples=samples, seed=seed, weight=weight, names=names)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """(N,) 1 for a sample that could not be real, else 0."""
        return 1.0 - within_reach(predictions.values, truth[:, 1:])

    def worst(self, predictions: Predictions, truth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """None: no sample is the answer for a row."""
        return np.empty(0, dtype=np.int64), np.empty(0)

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """None, as there are no worst rows."""
        return []

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Made-up examples beside real ones: see `sheets`."""
        assert isinstance(predictions, Samples)
        codes = truth[:, 0].astype(np.int64) if self.outputs else None
        real = Samples(truth[:, 1:], encoded_rows(self.schema, inputs), codes)
        both = {"made": drawn(self.schema, predictions), "real": drawn(self.schema, real)}
        return {"samples": {"classes": list(self.classes), **both}}

    def snapshot(self, network: nn.Module) -> dict[str, Any]:
        """A sheet of the same draws each time."""
        return drawn(self.schema, draw_samples(self.schema, network, SNAPSHOT, self.recipe.seed), few=True)


def _reached(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, 2) float64 for a few: whether each sample could be real, and each real row could have been made up."""
    few = _few(len(truth))
    values, real = values[few], truth[few, 1:].astype(np.float64)
    return np.stack([within_reach(values, real), within_reach(real, values)], axis=1).astype(np.float64)


def _few(rows: int) -> np.ndarray:
    """Evenly spaced rows for what looks at all pairs."""
    return np.unique(np.linspace(0, max(rows - 1, 0), min(rows, MOST_COMPARED)).astype(np.int64))


def _shares(
    reached: np.ndarray,
    truth: np.ndarray,
    weight: np.ndarray | None = None,
    /,
    *,
    names: Collection[str] = (),
) -> dict[str, Any]:
    """Precision and recall from (N, 2), for none, one or many weightings of the rows."""
    weights = np.ones((1, len(reached))) if weight is None else np.atleast_2d(weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = (weights @ reached / weights.sum(1, keepdims=True)).T
        f1 = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
    one = weight is None or np.ndim(weight) == 1
    found = {"f1": f1, "precision": precision, "recall": recall}
    return {name: float(v[0]) if one else v for name, v in found.items() if not names or name in names}


def _twice(classes: Tensor | None) -> Tensor | None:
    return None if classes is None else torch.cat([classes, classes])


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Nothing in the network is to get a gradient, which spares a third of a backward pass.

    Without gradients altogether (`no_grad`) the watch would take the pass for a validation.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad = True
