"""What is asked of a network: the contract that every task keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Batch, Batches, Transform
from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.errors import RecipeError, UserError
from sounding.finding import Finding
from sounding.kinds import Block, Encoded
from sounding.recipe import Recipe, TrainingRecipe
from sounding.tasks import metrics as measures
from sounding.tasks.examples import Examples
from sounding.training import Player
from sounding.training.outputs import Outputs, joined, mapped


@dataclass(frozen=True)
class Predictions:
    """What a network says about some rows, in the task's own terms.

    classification:     (N, classes) probabilities
    multilabel:         (N, answers) probabilities that the answer is yes
    regression:         (N,) numbers in the units of the target
    """

    values: np.ndarray
    """float64."""

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Predictions:
        """The predictions of some rows."""
        return Predictions(self.values[rows])


@dataclass(frozen=True)
class Thumbnail:
    """A picture for the page of a run."""

    pixels: np.ndarray
    """(channels, height, width) uint8."""


class Task(ABC):
    """A question, and all that follows from it: outputs, loss, decoding, metrics, what to show.

    `truth` is what metrics compare with: codes of classes, numbers in the user's units, or the inputs themselves where
    these are what the network gives back. Adding a task is one file with a subclass, one line in `tasks/__init__.py`,
    one test file.
    """

    name: ClassVar[str]
    from_source: ClassVar[Examples] = Examples()
    """How a source becomes examples."""
    target_kind: ClassVar[str] = ""
    """What its targets are, of `kinds.TARGETS`, where it leaves no choice."""
    needs_target: ClassVar[bool] = True
    """Whether there is a column to predict. Where not, one that is named is still no input: it can colour a map,
    measure, or be a condition."""
    gives_back: ClassVar[bool] = False
    """Whether the network is to give back its inputs, as they are augmented: then `goals` are made of these alone."""
    varies: ClassVar[frozenset[str]] = frozenset({"pictures", "sound", "tokens"})
    """Forms of inputs that may be varied while training without another truth."""
    answers: ClassVar[str | tuple[str, ...]] = "logits"
    """What its networks give; see `networks.Family`. Of several, the first is the usual one."""
    monitor: ClassVar[str]
    """The metric of the validation rows that decides when to stop; lower is better."""
    watched: ClassVar[tuple[str, ...]]
    """Metrics that are quick enough to be measured after each epoch."""

    outputs: int
    """Outputs of the network for a row."""
    headline: str
    """The metric by which networks and simple models are compared."""
    higher_is_better: bool
    """Of the headline."""
    reason: str = ""
    """Why this headline, where it is not the usual one."""

    @classmethod
    @abstractmethod
    def claims(cls, schema: Schema) -> str | None:
        """Why this task fits the target columns, in words that are printed; none if it does not."""

    @classmethod
    @abstractmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The task for a fitted schema, ready to predict and to measure."""

    @classmethod
    def blocks_of(cls, schema: Schema, recipe: Recipe) -> list[Block]:
        """What a network needs to know of its inputs: mostly those of the schema."""
        return schema.blocks()

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """This task, about the rows of a table; only for one that looks at more of it than the row in question."""
        return self

    def noticed(self) -> Sequence[Finding]:
        """What is odd about the rows that were read, beyond single cells."""
        return ()

    def usable(self, split: Split) -> Split:
        """The rows that are examples, once the values of all are known: mostly all."""
        return split

    def inputs_of(self, inputs: tuple[Tensor, ...], rows: np.ndarray) -> tuple[Tensor, ...]:
        """Of some rows what a batch is made of: mostly the encoded columns, of which `inputs` are those of all rows."""
        chosen = torch.from_numpy(rows)
        return tuple(tensor[chosen] for tensor in inputs)

    def asked(self) -> np.ndarray | None:
        """The rows of the table that is read for which something is to be predicted; none for all."""
        return None

    def measurable(self) -> np.ndarray | None:
        """The rows of the table that is read on which predictions can be measured; none for all."""
        return None

    def batches(self, inputs: tuple[Tensor, ...], goals: Tensor, weight: Tensor | None, **options: Any) -> Batches:
        """Batches of some rows; options are those of `Batches`."""
        return Batches(inputs, goals, weight, **options)

    def learns_from(self, truth: np.ndarray) -> np.ndarray:
        """(N,) bool: the rows to train on, of those that a table larger than memory would give."""
        return np.ones(len(truth), dtype=bool)

    def calibrated(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray, rows: np.ndarray) -> Self:
        """This task, ready to predict with a trained network: what the validation rows teach about its answers.

        rows: (N,) where they are in the table.
        """
        return self

    def learned(self) -> dict[str, Any]:
        """What `calibrated` found out, as plain JSON values that go with the model."""
        return {}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse of `learned`."""
        return self

    def facts(self) -> Mapping[str, str]:
        """What the bits of a run depend on besides recipe, data and machine: mostly nothing."""
        return {}

    def unjudged(self, predictions: Predictions) -> str:
        """Why nothing can be compared with simple models, and what there is to say instead; mostly nothing."""
        return ""

    def keeping(self, rows: np.ndarray) -> Self:
        """This task, with what it keeps of the training rows, given by their places in the table: mostly nothing."""
        return self

    def knowing(self, truth: np.ndarray) -> Self:
        """This task, ready to train: class weights and the headline depend on the truth of the training rows."""
        return self

    def transform(self, seed: int) -> Transform | None:
        """What is done to batches that are trained on, where that is more than augmentation; mostly nothing."""
        return None

    def asked_of(self, table: Table) -> tuple[Task, Table]:
        """What is asked of new rows, and these with the columns that they may lack; mostly as they are."""
        return self, table

    def around(self, network: nn.Module) -> nn.Module:
        """What is trained, around the network that was built: mostly this alone."""
        return network

    def players(self, network: nn.Module, recipe: TrainingRecipe) -> Sequence[Player] | None:
        """Several sets of parameters, each with its own loss, into which the network falls; none for one and `loss`."""
        return None

    @abstractmethod
    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """The truth of all rows of a table, of which the inputs are encoded already.

        Raises:
            DataError: for a row without a target, or with a label that training did not meet.
        """

    @abstractmethod
    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """The truth as the loss takes it."""

    def goals(self, truth: np.ndarray, inputs: tuple[Tensor, ...]) -> Tensor:
        """What the loss takes as the target of some rows: mostly their truth."""
        return self.to_tensor(truth)

    def taught(self, inputs: tuple[Tensor, ...], goals: Tensor) -> tuple[Tensor, ...]:
        """What the network is called with where the goals are known: mostly the inputs.

        One that writes is told what it should have written so far (teacher forcing).
        """
        return inputs

    def lengths(self, inputs: tuple[Tensor, ...], goals: Tensor) -> Tensor | None:
        """(N,) how long each row is, where those of about one length are to share a batch; none for the usual.

        The usual is the length of its recording, or of its series where these differ: see `build.lengths_of`.
        """
        return None

    def trim(self, batch: Batch) -> Batch:
        """A batch without what is padding at the end of each of its rows, or with what is looked up for them.

        Only where rows have lengths, or examples are `ordered`.
        """
        return batch

    @abstractmethod
    def from_tensor(self, target: Tensor) -> np.ndarray:
        """The inverse of `to_tensor`."""

    @abstractmethod
    def loss(self, outputs: Any, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean loss over rows, and over the members of an ensemble of each member's own loss.

        outputs: (B, outputs), or (B, members, outputs); or the named tuple with which the network answers.
        weight:  (B,), with mean 1 over the training rows, or none.
        """

    @abstractmethod
    def decode(self, outputs: Any) -> Predictions:
        """Predictions from a network's outputs: (N, outputs), (N, members, outputs), or a named tuple."""

    def kept(self, outputs: Any, inputs: tuple[Tensor, ...]) -> Outputs:
        """What is kept of the outputs for a batch until those for all rows are decoded: mostly all of it."""
        return outputs

    def compact(self, outputs: Any) -> Outputs:
        """What is kept of a validation batch until `validation_metrics` has that of all: mostly all of it."""
        return outputs

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 512) -> Predictions:
        """Predictions for encoded rows, in batches of one fixed size so that a row's bits depend on its place alone."""
        network.eval()
        device = next(iter(network.parameters())).device
        outputs: list[Outputs] = []
        with torch.inference_mode():
            for at in range(0, max(len(inputs[0]), 1), batch_size):
                batch = tuple(tensor[at : at + batch_size].to(device) for tensor in inputs)
                outputs.append(mapped(lambda tensor: tensor.float().cpu(), self.kept(network(*batch), batch)))
        return self.decode(joined(outputs))

    @abstractmethod
    def decide(self, predictions: Predictions) -> np.ndarray:
        """One answer for each row: labels of classes, or numbers."""

    @abstractmethod
    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """The named metrics, or all, for none, one (N,) or many (S, N) weightings of the rows; see `metrics`."""

    def validation_metrics(self, outputs: Any, target: Tensor) -> dict[str, float]:
        """What is measured on the validation rows after each epoch; holds `monitor` and `headline`."""
        names = {self.monitor, self.headline, *self.watched}
        return measures.defined(self.measure(self.decode(outputs).values, self.from_tensor(target), names=names))

    @abstractmethod
    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """(N,) how wrong each row is."""

    @abstractmethod
    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """For some rows what is true, what is predicted and how sure the network is (none for numbers), for people."""

    @abstractmethod
    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """The columns of a file of predictions."""

    def to_files(self, predictions: Predictions, table: Table) -> Iterator[tuple[str, bytes]] | None:
        """A name and a content for each row, where an answer is a file rather than a cell; none where it is a cell.

        table: the rows that were predicted.
        """
        return None

    def to_point_columns(self, predictions: Predictions, first: np.ndarray, points: int) -> dict[str, np.ndarray]:
        """The same for every point of a long table that was cut into windows; for tasks that speak of points.

        first: (N,), with which point each window begins.
        """
        return {"first_point": first, **self.to_columns(predictions)}

    def figures(self, predictions: Predictions, truth: np.ndarray) -> dict[str, Any]:
        """What a report draws, as plain JSON values; nothing where that takes more than predictions: see `draw`."""
        return {}

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """What a report draws, for tasks that need more than predictions for it: arrays and `Thumbnail`s, too.

        inputs, predictions, truth:  of the test rows.
        labels:                      of these rows, by target column: codes of classes, or numbers.
        """
        return self.figures(predictions, truth)

    def marked(self, picture: Tensor, target: Tensor) -> Tensor:
        """A picture (C, H, W), uint8 or float in [0, 1], with what is true drawn in; mostly as it is."""
        return picture

    def showing(
        self, inputs_of: Callable[[np.ndarray], tuple[Tensor, ...]], rows: np.ndarray, truth: np.ndarray
    ) -> Self:
        """This task, with some of the validation rows for `snapshot`; mostly none, as it needs none.

        inputs_of: of rows what the network takes; truth: of all these rows.
        """
        return self

    def snapshot(self, network: nn.Module) -> dict[str, Any] | None:
        """What a report shows of the network as it is after some epochs, as in `draw`; none for nothing.

        It must not draw from torch's default generator, nor change the network.
        """
        return None

    def written(self, network: nn.Module, prompt: str = "", *, seed: int = 0, **how: Any) -> Iterator[str]:
        """What a network writes behind a prompt, piece by piece, for tasks whose networks write; see `Run.write`.

        Raises:
            UserError: where they do not.
        """
        raise UserError(f"a model for {self.name} writes no text", "give a run of --task language-modeling")

    def counted(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """How many things of each class are in each row, for tasks that find some; see `Run.count`.

        Raises:
            UserError: where they do not.
        """
        raise UserError(f"a model for {self.name} counts nothing", "give a run of --task detection")

    def metrics(
        self, predictions: Predictions, truth: np.ndarray, weight: np.ndarray | None = None
    ) -> dict[str, float]:
        """All metrics that are defined on these rows, by their usual names."""
        return measures.defined(self.measure(predictions.values, truth, weight)) if len(truth) else {}

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
        """The named metrics, or all, (samples,) each: on resamples of the rows, the same whatever is predicted."""
        values = predictions.values
        return measures.bootstrap(self.measure, values, truth, samples=samples, seed=seed, weight=weight, names=names)

    def intervals(self, predictions: Predictions, truth: np.ndarray, **options: Any) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of the metrics; options are those of `resampled`."""
        return measures.intervals(self.resampled(predictions, truth, **options))

    def difference(
        self, first: Predictions, second: Predictions, truth: np.ndarray, **options: Any
    ) -> dict[str, tuple[float, float]]:
        """95 % intervals of (first - second) on the same resamples; options are those of `resampled`."""
        one, other = (self.resampled(predictions, truth, **options) for predictions in (first, second))
        return measures.differences(one, other)

    def worst(self, predictions: Predictions, truth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows with the largest losses, worst first, and these losses."""
        losses = self.row_losses(predictions, truth)
        rows = np.argsort(-losses, kind="stable")[:count]
        return rows, losses[rows]


def is_varied(training: TrainingRecipe, section: str) -> bool:
    """Whether examples are varied at all, for tasks that do so by settings of their own.

    section: of the recipe, where these are.

    Raises:
        RecipeError: for another policy than `default`, or what goes by the answers of whole pictures.
    """
    for key in ("erase", "mixup", "cutmix"):
        if getattr(training, key):
            raise RecipeError(f"training.{key} is not for {section}", f"leave it out; see {section}.* of the recipe")
    if training.augment not in ("none", "default"):
        what = f'training.augment is "{training.augment}", and {section} has settings of its own'
        raise RecipeError(what, f"take default or none, and see {section}.* of the recipe")
    return training.augment == "default"


def members_apart(outputs: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Members of an ensemble as rows of their own, each with its row's target and weight.

    outputs (B, C) stay; (B, members, C) become (B * members, C).
    """
    if outputs.ndim == 2:
        return outputs, target, weight
    members = outputs.shape[1]
    weight = None if weight is None else weight.repeat_interleave(members)
    return outputs.flatten(0, 1), target.repeat_interleave(members, 0), weight


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of (B,) losses; with weights of mean 1 over all rows, unbiased for any batch of them."""
    return losses.mean() if weight is None else (losses * weight).mean()


def members_joined(probabilities: Tensor) -> np.ndarray:
    """The mean over members, in float64: (N, C) from (N, C) or (N, members, C)."""
    joined = probabilities if probabilities.ndim == 2 else probabilities.mean(1)
    return joined.cpu().numpy()


def as_double(outputs: Tensor) -> Tensor:
    """Outputs in float64, where the softmax of large differences still adds up to 1."""
    return outputs.detach().to(torch.float64)
