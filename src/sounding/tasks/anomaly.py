"""How strange each row is, and whether so strange that normal rows hardly ever are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.data.windows import FIRST_POINT, point_means
from sounding.errors import DataError, RecipeError, nearest
from sounding.kinds import Block, Encoded
from sounding.networks import NETWORKS, reconstruction_errors
from sounding.recipe import AnomalyRecipe, Recipe
from sounding.tasks import conformal, occlusion
from sounding.tasks import metrics as measures
from sounding.tasks.examples import Examples
from sounding.tasks.given_back import as_one, as_seen
from sounding.tasks.task import Predictions, Task, Thumbnail, weighted_mean

NORMAL = ("0", "normal", "inlier", "good", "ok", "false", "no", "negative", "benign", "none")
"""Labels that mean that a row is normal, in small letters; the first that occurs counts."""
WEAKEST_AMONG = 1.0
"""Standard deviation of the weakest noise of a denoiser, where there may be anomalies among the training rows."""
MOST_NAMED = 3
"""Columns that are named for a row."""
MOST_EXPLAINED = 5
"""Columns that are shown for a row in a report."""
MOST_SHOWN = 12
"""Strange rows that a report draws."""
BARS = 40


@dataclass(frozen=True)
class AnomalyPredictions(Predictions):
    """Scores and p-values, (N, 2), and what each column did to the score."""

    parts: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """(N, columns) float32: the strangeness of each column, whose mean is most of the score, or what a distance falls
    by where a column is as usual; for series, of each point (N, channels * length). Without columns for pictures."""

    def take(self, rows: np.ndarray) -> AnomalyPredictions:
        """The predictions of some rows."""
        return AnomalyPredictions(self.values[rows], self.parts[rows])


class NormalRows(Examples):
    """Rows that are known to be anomalies are measured on, not learned from."""

    def narrowed(
        self, table: Table, schema: Schema, split: Split, recipe: Recipe
    ) -> tuple[Split, dict[str, Any], list[str]]:
        """Known anomalies are kept out of training and calibration, and measured on, unless the settings say otherwise.

        Raises:
            RecipeError: for a label in `anomaly.normal` that no row has.
            DataError: if no training or validation row is left.
        """
        if not schema.targets:
            return split, _among(schema, recipe), []
        words = schema.targets[0].column(table).words
        normal = _normal_labels(words, recipe)
        strange = ~_is_in(words, normal)
        quoted = " or ".join(f'"{label}"' for label in normal)
        column = schema.targets[0].name
        lines = [f'{strange.sum():,} of {len(table):,} rows are known anomalies: their "{column}" is not {quoted}']
        follows: dict[str, Any] = {"anomaly.normal": normal}
        if recipe.anomaly.known == "leave_out":
            parts = {name: rows[~strange[rows]] for name, rows in split.parts.items() if name != "test"}
            kept_out = np.concatenate([rows[strange[rows]] for name, rows in split.parts.items() if name != "test"])
            drawn = "test" not in table.parts and not recipe.data.window and not recipe.data.time
            test = np.sort(np.concatenate([split.test, kept_out])) if drawn else split.test
            split = Split(parts["train"], parts["validation"], test)
            if recipe.anomaly.trimmed == AnomalyRecipe().trimmed:
                follows["anomaly.trimmed"] = 0.0
            lines.append(
                f"{len(kept_out):,} of them are left out of training and calibration"
                + (", and are test rows instead: there are more of these than among new rows" if drawn else "")
                + " (anomaly.known=train learns from them as from all others)"
            )
        else:
            follows |= _among(schema, recipe)
            lines.append("the network learns from them as from all others: anomaly.known is train")
        if not len(split.train) or not len(split.validation):
            raise DataError(
                "no normal rows are left to train with and to calibrate by",
                f"see anomaly.normal, which is {quoted}, and data.validation",
                file=table.name,
            )
        return split, follows, lines


class Anomaly(Task):
    """Rows that are unlike those that the network was trained on.

    The score of a row is the network's loss for it: what it could not give back, with the divergence of its code where
    the network is variational (the negative evidence bound, up to a factor), or the distance from the centre of a
    one-class network. The validation rows, which choose nothing here, turn scores into conformal p-values; a row is
    called an anomaly where that is at most `anomaly.false_alarms`.

    truth: 1 for a known anomaly, 0 for a normal row, -1 where no column says so.
    """

    name: ClassVar[str] = "anomaly"
    from_source: ClassVar[Examples] = NormalRows()
    target_kind: ClassVar[str] = "category"
    needs_target: ClassVar[bool] = False
    gives_back: ClassVar[bool] = True
    answers: ClassVar[tuple[str, ...]] = ("strangeness", "reconstruction", "distances")
    monitor: ClassVar[str] = "score"
    watched: ClassVar[tuple[str, ...]] = ()

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.false_alarms, self.data = schema, recipe.anomaly.false_alarms, recipe.data
        self.leaves_out = recipe.anomaly.known == "leave_out"
        self.trimmed = recipe.anomaly.trimmed
        self.normal = frozenset(recipe.anomaly.normal)
        self.blocks = {block.name: block for block in schema.blocks()}
        self.cardinalities = tuple(count for block in self.blocks.values() for count in block.cardinalities)
        family = NETWORKS.get(recipe.network.name)
        self.by_distance = family is not None and family.answers == "distances"
        self.columns = _columns(schema)
        self.outputs = min(recipe.network.code_size, _largest_code(list(self.blocks.values())))
        self.labelled = bool(schema.targets)
        self.headline = "roc_auc" if self.labelled else "alarm_rate"
        self.higher_is_better = self.labelled
        self.first = np.empty(0, dtype=np.int64)
        """(N,) where rows are windows: with which point each row of the table begins."""
        self.calibration = np.empty(0)
        """(n,) scores of the validation rows, rising."""
        self.points = np.empty(0)
        """The same for single points of time, where rows are windows."""
        self.usual = np.zeros(len(self.columns), dtype=np.float32)
        """The mean strangeness of each column over the validation rows."""

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """No target, or one that labels anomalies."""
        if len(schema.targets) > 1:
            return None
        return f'"{schema.targets[0].name}" says which rows are anomalies' if schema.targets else "no target is needed"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The task, not calibrated yet."""
        for name, lowest in (("false_alarms", 0.0), ("trimmed", -1e-9)):
            if not lowest < (share := getattr(recipe.anomaly, name)) < 1:
                raise RecipeError(f"anomaly.{name} is {share}", "give a share between 0 and 1, such as 0.05")
        return cls(schema, recipe)

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """With the first point of every row, where rows are windows."""
        if not self.data.window:
            return self
        task = copy(self)
        task.first = np.asarray(table.data[FIRST_POINT], dtype=np.int64)
        return task

    def learns_from(self, truth: np.ndarray) -> np.ndarray:
        """All rows but known anomalies, where these are left out."""
        return truth != 1 if self.leaves_out else np.ones(len(truth), dtype=bool)

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N,) int64.

        Raises:
            DataError: if the column that labels the training rows is not here.
        """
        if not self.labelled:
            return np.full(len(table), -1, dtype=np.int64)
        column = self.schema.targets[0].column(table)
        strange = ~_is_in(column.words, self.normal)
        return np.where(column.present, strange.astype(np.int64), -1)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N,) int64."""
        return torch.from_numpy(truth)

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N,) int64."""
        return target.cpu().numpy()

    def goals(self, truth: np.ndarray, inputs: tuple[Tensor, ...]) -> Tensor:
        """The inputs, which are to be given back."""
        return as_one(inputs)

    def loss(self, outputs: Any, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean score of the rows, without the strangest share of them that is trimmed."""
        scores = self._scores(outputs, target)[0]
        kept = len(scores) - int(self.trimmed * len(scores))
        if kept < len(scores):
            rows = scores.detach().topk(kept, largest=False).indices
            scores, weight = scores[rows], None if weight is None else weight[rows]
        return weighted_mean(scores, weight)

    def decode(self, outputs: Any) -> AnomalyPredictions:
        """Predictions from scores (N,) and parts (N, columns)."""
        scores, parts = (tensor.double().numpy() for tensor in outputs)
        p = conformal.p_values(scores, self.calibration)
        return AnomalyPredictions(np.stack([scores, p], 1), parts.astype(np.float32))

    def kept(self, outputs: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Scores, and the strangeness of each column or point."""
        score, part = self._scores(outputs, as_one(inputs))
        if self.by_distance:  # features are no columns: see `predict`
            return score, part[:, :0]
        return score, self._by_column(part) if self.columns else part[:, : self._points]

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 512) -> AnomalyPredictions:
        """As every task; where the network answers with a distance alone, its columns are put to the test."""
        found = cast("AnomalyPredictions", super().predict(network, inputs, batch_size))
        if not self.by_distance or not self.columns:
            return found
        device = next(network.parameters()).device
        widths = list(self.columns.values())[: len(self.columns) - inputs[1].shape[1]]
        parts = []
        with torch.inference_mode():
            for at in range(0, max(len(inputs[0]), 1), batch_size):
                numbers, categories = (tensor[at : at + batch_size].to(device) for tensor in inputs)
                parts.append(occlusion.by_column(network, numbers, categories, widths).float().cpu())
        return replace(found, parts=torch.cat(parts).numpy())

    def calibrated(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray, rows: np.ndarray) -> Self:
        """With the scores of the validation rows."""
        task = copy(self)
        task.calibration = np.empty(0)
        found = task.predict(network, inputs)
        task.calibration = np.sort(found.values[:, 0])
        if self.columns:
            task.usual = found.parts.mean(0)
        if self.data.window and found.parts.shape[1]:
            scores = self._of_points(found, self.first[rows])[0]
            task.points = np.sort(scores[~np.isnan(scores)])
        return task

    def learned(self) -> dict[str, Any]:
        """Scores of the validation rows, of their points, and the usual strangeness of columns."""
        return {
            "calibration": self.calibration.tolist(),
            "points": self.points.tolist(),
            "usual": self.usual.astype(np.float64).tolist(),
        }

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse of `learned`."""
        task = copy(self)
        task.calibration, task.points = np.array(learned["calibration"]), np.array(learned["points"])
        task.usual = np.array(learned["usual"], dtype=np.float32)
        return task

    @property
    def threshold(self) -> float:
        """The score above which a row is called an anomaly; infinite where too few rows calibrate it."""
        return conformal.threshold(self.calibration, self.false_alarms)

    def decide(self, predictions: Predictions) -> np.ndarray:
        """(N,) bool: whether a row is called an anomaly."""
        return np.asarray(predictions.values[:, 1] <= self.false_alarms + 1e-12)

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """See `metrics.anomaly_metrics`."""
        return measures.anomaly_metrics(values, truth, weight, false_alarms=self.false_alarms, names=names)

    def validation_metrics(self, outputs: Any, target: Tensor) -> dict[str, float]:
        """The mean score: no label is looked at while training."""
        return {"score": float(self._scores(outputs, target)[0].mean())}

    def unjudged(self, predictions: Predictions) -> str:
        """Without labels, how many rows are called anomalies."""
        if self.labelled:
            return ""
        alarms, rows = int(self.decide(predictions).sum()), len(predictions)
        return (
            f"No labels, so no verdict: {alarms:,} of {rows:,} test rows ({alarms / max(rows, 1):.1%}) are stranger "
            f"than all but {self.false_alarms:.3g} of normal rows are expected to be."
        )

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The score of rows that are not known anomalies; of these, by how much it falls short of the highest."""
        scores = predictions.values[:, 0]
        return np.asarray(np.where(truth == 1, scores.max(initial=0.0) - scores, scores))

    def worst(self, predictions: Predictions, truth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """None: what is strange has a drawing of its own."""
        return np.empty(0, dtype=np.int64), np.empty(0)

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Normal or anomaly, and how sure: 1 minus the p-value."""
        called = self.decide(predictions)
        known = {1: "anomaly", 0: "normal", -1: None}
        return [
            {
                "truth": known[int(truth[row])],
                "prediction": "anomaly" if called[row] else "normal",
                "confidence": 1 - float(predictions.values[row, 1]),
            }
            for row in rows
        ]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """score, p_value, is_anomaly, and for tables the columns that made a row strange, the strangest first."""
        assert isinstance(predictions, AnomalyPredictions)
        columns = {
            "score": predictions.values[:, 0],
            "p_value": predictions.values[:, 1],
            "is_anomaly": self.decide(predictions),
        }
        if self.columns:
            excess = self.excess(predictions)
            order = np.argsort(-excess, axis=1, kind="stable")[:, :MOST_NAMED]
            names = np.array(list(self.columns), dtype=object)
            named = [", ".join(names[at] for at in row if its[at] > 0) for row, its in zip(order, excess, strict=True)]
            columns |= {"strangest_column": names[order[:, 0]], "strangest_columns": np.array(named, dtype=object)}
        return columns

    def excess(self, predictions: AnomalyPredictions) -> np.ndarray:
        """(N, columns): by how much each column is stranger than it usually is."""
        return predictions.parts - self.usual

    # Points of time, where rows are windows

    def to_point_columns(self, predictions: Predictions, first: np.ndarray, points: int) -> dict[str, np.ndarray]:
        """The same for every point of a long table, from all windows that hold it.

        first: (N,), with which point each window begins.
        """
        assert isinstance(predictions, AnomalyPredictions)
        scores, channels = self._of_points(predictions, first, points)
        p = conformal.p_values(scores, self.points)
        columns = {"point": np.arange(points), "score": scores, "p_value": p, "is_anomaly": p <= self.false_alarms}
        names = self._channels
        if len(names) > 1:
            columns["strangest_column"] = np.array(names, dtype=object)[channels.argmax(0)]
        return columns

    def _of_points(
        self, predictions: AnomalyPredictions, first: np.ndarray, points: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores (points,) and those of each channel (channels, points)."""
        (block,) = self.blocks.values()
        parts = predictions.parts.reshape(len(predictions), block.channels, block.length)
        means = point_means(parts, first, points or int(first[-1]) + block.length)
        return means.mean(0), means

    @property
    def _channels(self) -> list[str]:
        (block,) = self.blocks.values()
        names = block.columns[0].split(", ")
        return names if len(names) == block.channels else [f"channel {at + 1}" for at in range(block.channels)]

    @property
    def _points(self) -> int:
        """Numbers of a row that are kept as its parts, where it is no table."""
        block = next(iter(self.blocks.values()))
        return block.channels * block.length if block.form == "series" else 0

    # Scores

    def _scores(self, outputs: Any, goals: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) scores, and (B, features) of which they are the mean, but for a penalty."""
        if isinstance(outputs, Tensor):
            return outputs.mean(1), outputs
        parts = reconstruction_errors(outputs.values, as_seen(goals, list(self.blocks.values())), self.cardinalities)
        return parts.mean(1) + outputs.penalty, parts

    def _by_column(self, parts: Tensor) -> Tensor:
        """(B, features) to (B, columns), for each the sum of its features."""
        sums = [one.sum(1) for one in torch.split(parts, list(self.columns.values()), 1)]
        return torch.stack(sums, 1)

    def figures(self, predictions: Predictions, truth: np.ndarray) -> dict[str, Any]:
        """Scores of normal and strange rows, the threshold, and how sure it is."""
        if not len(predictions):
            return {}
        scores = predictions.values[:, 0]
        groups = {"anomalies": truth == 1, "normal rows": truth == 0, "rows": truth == -1}
        low, high = (float(np.log10(np.maximum(bound, 1e-12))) for bound in (scores.min(), scores.max()))
        edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
        logs = np.clip(np.log10(np.maximum(scores, 1e-12)), edges[0], edges[-1])
        rates = conformal.realised_rates(len(self.calibration), self.false_alarms)
        return {
            "anomalies": {
                "edges": (10**edges).tolist(),
                "counts": {name: np.histogram(logs[of], edges)[0].tolist() for name, of in groups.items() if of.any()},
                "threshold": self.threshold if np.isfinite(self.threshold) else None,
                "false_alarms": self.false_alarms,
                "calibrated_on": len(self.calibration),
                "fewest": conformal.fewest(self.false_alarms),
                "rates": list(rates),
                "called": int(self.decide(predictions).sum()),
                "rows": len(predictions),
            }
        }

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """The same, and the strangest rows with what made them so: columns, a map of pixels, or a line of points."""
        assert isinstance(predictions, AnomalyPredictions)
        drawn = self.figures(predictions, truth)
        if not drawn:
            return {}
        order = self._apart(np.argsort(-predictions.values[:, 0], kind="stable"))[:MOST_SHOWN]
        rows = [
            {
                "row": int(row),
                "score": float(predictions.values[row, 0]),
                "p_value": float(predictions.values[row, 1]),
                "truth": {1: "anomaly", 0: "normal"}.get(int(truth[row])),
                **self._shown(network, tuple(tensor[row : row + 1] for tensor in inputs), predictions, int(row)),
            }
            for row in order
        ]
        drawn["anomalies"]["strangest"] = rows
        return drawn

    def _apart(self, order: np.ndarray) -> list[int]:
        """The rows in this order; of windows that share points, the first alone."""
        if not self.data.window:
            return [int(row) for row in order]
        free, chosen = np.ones(len(order), dtype=bool), []
        reach = (self.data.window - 1) // self.data.stride
        for row in order:
            if free[row]:
                chosen.append(int(row))
                free[max(row - reach, 0) : row + reach + 1] = False
        return chosen

    def _shown(
        self, network: nn.Module, inputs: tuple[Tensor, ...], predictions: AnomalyPredictions, row: int
    ) -> dict[str, Any]:
        if self.columns:
            excess = self.excess(predictions)[row]
            shown = np.argsort(-excess, kind="stable")[:MOST_EXPLAINED]
            names = list(self.columns)
            return {"columns": [[names[at], float(excess[at])] for at in shown if excess[at] > 0]}
        block = next(iter(self.blocks.values()))
        if block.form not in ("pictures", "series"):
            return {}
        device = next(network.parameters()).device
        given = tuple(tensor.to(device) for tensor in inputs)
        with torch.inference_mode():
            outputs = network.eval()(*given)
        if isinstance(outputs, Tensor):
            if block.form != "pictures":
                return {}
            heat = occlusion.by_pixel(network, given[0])[0].cpu().numpy()
            return {"picture": Thumbnail(inputs[0][0].numpy()), "influence": Thumbnail(_heat(heat))}
        errors = (
            reconstruction_errors(outputs.values, as_seen(given[0], list(self.blocks.values())))
            .float()
            .cpu()
            .numpy()[0]
        )
        values = outputs.values[0].float().cpu().numpy()
        if block.form == "pictures":
            mean, std = (np.array(values)[:, None, None] for values in (block.mean, block.std))
            back = np.clip(np.rint(values * std + mean), 0, 255).astype(np.uint8)
            heat = errors.reshape(values.shape).mean(0)
            return {
                "picture": Thumbnail(inputs[0][0].numpy()),
                "reconstruction": Thumbnail(back),
                "heat": Thumbnail(_heat(heat)),
            }
        mean, std = (np.array(values)[:, None] for values in (block.mean, block.std))
        return {
            "names": self._channels,
            "series": (inputs[0][0].numpy() * std + mean).tolist(),
            "expected": (values * std + mean).tolist(),
            "strangeness": errors.reshape(values.shape).tolist(),
        }


def _among(schema: Schema, recipe: Recipe) -> dict[str, Any]:
    """Settings for anomalies among the training rows: weak noise would learn groups of them by heart."""
    table = not {"image", "series", "text"} & {one.kind for one in schema.inputs}
    if not table or recipe.network.name not in ("auto", "denoiser"):
        return {}
    return {"network.options": {"weakest": WEAKEST_AMONG, **recipe.network.options}}


def _columns(schema: Schema) -> dict[str, int]:
    """For a table the name of each input column and how many features it has, numbers first, as errors come."""
    fitted = [(one.name, one.fitted.block(one.name)) for one in schema.inputs if one.fitted is not None]
    numbers = {name: len(block.features) for name, block in fitted if block.form == "numbers"}
    return numbers | {name: 1 for name, block in fitted if block.form == "categories"}


def _largest_code(blocks: Sequence[Block]) -> int:
    """The most numbers in the code of a row: what is given back from too many of them is never strange."""
    if any(block.form in ("pictures", "series") for block in blocks):
        (block,) = blocks
        parts = block.length if block.form == "series" else block.height * block.width
        return max(2, block.channels * parts // 8)
    return max(2, sum(len(one.features) + len(one.cardinalities) for one in blocks) // 2)


def _normal_labels(words: Any, recipe: Recipe) -> list[str]:
    """The labels of normal rows: as the settings say, a word that means it, or else the most frequent one."""
    counted = words.drop_null().value_counts()
    counts = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    for label in recipe.anomaly.normal:
        if label not in counts:
            raise RecipeError(f'no row has the label "{label}" (anomaly.normal)', nearest(label, counts))
    if recipe.anomaly.normal:
        return list(recipe.anomaly.normal)
    for word in NORMAL:
        meant = [label for label in counts if label.lower() == word]
        if meant:
            return meant
    return [max(sorted(counts), key=lambda label: counts[label])]


def _is_in(words: Any, labels: Collection[str]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(words, value_set=pa.array(sorted(labels), pa.large_string()))
    return np.asarray(pc.fill_null(found, False))


def _heat(values: np.ndarray) -> np.ndarray:
    """(H, W) of at least 0 as a picture (3, H, W) uint8 from black over red and yellow to white."""
    share = np.clip(values / max(float(np.quantile(values, 0.995)), 1e-12), 0, 1)
    channels = [np.clip(3 * share - step, 0, 1) for step in range(3)]
    return (np.stack(channels) * 255).astype(np.uint8)
