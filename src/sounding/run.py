"""The folder that a run leaves behind: enough to repeat it, to go on with it, or to use the model.

runs/adult-1/
  recipe.toml        the complete recipe, defaults included
  environment.json   versions, machine, plan, fingerprint of the data
  schema.json        the fitted schema
  events.jsonl       one line per record; append-only, a torn last line is tolerated
  checkpoints/       one folder each, with its manifest
  model/             what is shipped
  results.json       everything the report draws
  report.html
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import torch
from PIL import Image as Picture
from safetensors.torch import load as parse_tensors
from torch import nn

from sounding import __version__
from sounding.data.schema import Schema
from sounding.data.sources import read_source
from sounding.data.table import Table
from sounding.data.windows import FIRST_POINT
from sounding.errors import DamagedError, RecipeError, UserError, nearest
from sounding.finding import Finding
from sounding.kinds import Encoded
from sounding.recipe import Recipe
from sounding.tasks import TASKS, Predictions, Style, Task, arrange, build_network
from sounding.tasks.painting import Painted, optimized, read_colours, refuse_ending, write_picture
from sounding.tasks.perception import Perception
from sounding.tasks.samples import Samples, columns_of, draw_samples
from sounding.training import EpochRecord, StepRecord
from sounding.training.checkpoint import verify_manifest


def load(path: str | os.PathLike[str]) -> Run:
    """Open a run, or the model folder of one, to use its network.

    Raises:
        UserError: if there is no run at that place.
        DamagedError: if a file of the model is not what its manifest says.
    """
    return Run(Path(path))


@dataclass(frozen=True)
class Evaluation:
    """How a model does on labelled rows."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap intervals."""
    rows: int


class Run:
    """A finished run.

    >>> run = load("runs/digits")                                      # doctest: +SKIP
    >>> run.metrics["test"]["accuracy"]                                # doctest: +SKIP
    >>> run.predict(new_pictures)                                      # doctest: +SKIP
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model_folder = path / "model" if (path / "model").is_dir() else path
        if not (self.model_folder / "manifest.json").is_file():
            hint = "finish it with: sounding resume" if (path / "checkpoints").is_dir() else "give the folder of a run"
            raise UserError("this holds no finished model", hint, file=path)

    @cached_property
    def _files(self) -> dict[str, bytes]:
        """The model's files, each checked against the manifest before anything is read from it."""
        return verify_manifest(self.model_folder)

    @cached_property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return Recipe.from_toml(self._files["recipe.toml"].decode(), file=self.model_folder / "recipe.toml")

    @cached_property
    def schema(self) -> Schema:
        """The fitted schema."""
        return Schema.from_json(json.loads(self._files["schema.json"]))

    @cached_property
    def task(self) -> Task:
        """What is asked of the network."""
        task = TASKS[self.recipe.task].for_schema(self.schema, self.recipe)
        return task.with_learned(json.loads(self._files["task.json"])) if "task.json" in self._files else task

    @cached_property
    def network(self) -> nn.Module:
        """The trained network, in evaluation mode: a plain module."""
        blocks = self.task.blocks_of(self.schema, self.recipe)
        network = build_network(blocks, self.task.outputs, self.recipe.network, self.task.answers)
        network = self.task.around(network)
        load_tensors(network, parse_tensors(self._files["network.safetensors"]), self.model_folder)
        return network.eval()

    @cached_property
    def results(self) -> dict[str, Any]:
        """Everything the report draws, as it was written at the end of the run."""
        path = self.path / "results.json"
        if not path.is_file():
            raise UserError("there are no results here", "give the folder of a run", file=path)
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return results

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics on the validation and the test rows."""
        metrics: dict[str, dict[str, float]] = self.results["metrics"]
        return metrics

    @property
    def findings(self) -> list[Finding]:
        """Everything that the checks found."""
        return [Finding.from_json(values) for values in self.results["findings"]]

    def predict(self, source: object) -> np.ndarray:
        """Predictions for new rows: labels of classes, or numbers in the units of the target.

        source: anything that `fit` understands: a file, a folder, arrays, a frame; the target may be missing.
        """
        predictions, _, task = self._predictions(self._read(source))
        return task.decide(predictions)

    def predict_probabilities(self, source: object) -> np.ndarray:
        """(N, classes) probabilities, for a classification."""
        return self._predictions(self._read(source))[0].values

    def predict_table(self, source: object) -> tuple[pa.Table, Sequence[Finding]]:
        """Predictions with their probabilities as columns, and what was odd about the rows.

        Where `data.window` cuts a long table into windows, there is a row for each of its points.
        """
        table = self._read(source)
        predictions, findings, task = self._predictions(table)
        columns = task.to_columns(predictions)
        if self.recipe.data.window:
            first = np.asarray(table.data[FIRST_POINT])
            columns = task.to_point_columns(predictions, first, int(first[-1]) + self.recipe.data.window)
            if group := self.recipe.data.group:
                holding = np.searchsorted(first, columns.get("point", first), side="right") - 1
                columns = {group: table.data[group].to_numpy()[holding], **columns}
        return pa.table(columns), findings

    def predict_files(self, source: object) -> tuple[Iterator[tuple[str, bytes]], Sequence[Finding]]:
        """A name and a content for each row, for tasks whose answers are files, and what was odd about the rows.

        Raises:
            RecipeError: if the answers are no files.
        """
        table = self._read(source)
        predictions, findings, task = self._predictions(table)
        files = task.to_files(predictions, table)
        if files is None:
            raise RecipeError("the predictions are a table", "give --out a .csv or a .parquet file")
        return files, findings

    def sample(self, count: int, *, seed: int = 0, label: str | None = None) -> Samples:
        """So many new examples from a model that makes some up; the same seed gives the same, and the first of more.

        label: the class that all of them are to have, for a model that was trained with a target.

        Raises:
            UserError: if the model makes nothing up, knows no classes, or not this one; or for a count below 1.
        """
        if count < 1:
            raise UserError(f"{count} samples are asked for", "give 1 or more")
        code = None
        if label is not None:
            classes = getattr(self.task, "classes", ())
            if label not in classes:
                raise UserError(f'there is no class "{label}"', nearest(label, classes))
            code = classes.index(label)
        return draw_samples(self.schema, self.network, count, seed, code)

    def write(self, prompt: str = "", *, seed: int = 0, **how: Any) -> Iterator[str]:
        """What a language model writes behind a prompt, piece by piece as it comes; the same seed writes the same.

        how: `length` in tokens, `temperature`, `top_k`, `top_p`; those of the recipe where they are left out or none.

        Raises:
            UserError: if this is no language model, or its training never met a character of the prompt.
        """
        return self.task.written(self.network, prompt, seed=seed, **how)

    def generate(self, prompt: str = "", *, seed: int = 0, **how: Any) -> str:
        """The prompt and what a language model writes behind it, as one text; see `write`."""
        return prompt + "".join(self.write(prompt, seed=seed, **how))

    def count(self, source: object) -> pa.Table:
        """How many things of each class are in pictures: a row for each of both, with an interval of the true count.

        Raises:
            UserError: if the model finds no things in pictures.
        """
        return self.count_table(source)[0]

    def count_table(self, source: object) -> tuple[pa.Table, Sequence[Finding]]:
        """The same, and what was odd about the pictures."""
        predictions, findings, task = self._predictions(self._read(source))
        return pa.table(task.counted(predictions)), findings

    def evaluate(self, source: object) -> Evaluation:
        """Metrics with intervals on labelled rows."""
        task, table = self.task.asked_of(self._read(source))
        encoded = self.schema.encode(table)
        task = task.reading(table, encoded)
        truth, rows = task.encode_target(table, encoded), task.measurable()
        truth = truth if rows is None else truth[rows]
        predictions = task.predict(self.network, _inputs(task, encoded, rows))
        return Evaluation(
            task.metrics(predictions, truth),
            task.intervals(predictions, truth, samples=self.recipe.evaluation.bootstrap, seed=self.recipe.seed),
            len(truth),
        )

    def summary(self) -> list[str]:
        """The result in a few lines for people."""
        results = self.results
        lines = [results["verdict"]["headline"]]
        for name, value in results["metrics"]["test"].items():
            low, high = results["intervals"]["test"].get(name, (None, None))
            lines.append(f"  {name:<20} {value:.4g}" + ("" if low is None else f"  [{low:.4g}, {high:.4g}]"))
        if results["verdict"].get("advice"):
            lines.append(results["verdict"]["advice"])
        warnings = [f for f in results["findings"] if f["severity"] != "info"]
        lines += [f"{finding['severity']}: {finding['title']}" for finding in warnings[:5]]
        lines.append(f"model: {self.model_folder}   report: {self.path / 'report.html'}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        keys = "run task network parameters seconds epochs metrics intervals baseline findings"
        return {key: self.results[key] for key in keys.split()}

    def _read(self, source: object) -> Table:
        table = read_source(source, self.recipe.data, self.recipe.task)
        examples = self.task.from_source
        return examples.cut(table, self.recipe, self.recipe.target, None) if examples.cuts(self.recipe) else table

    def _predictions(self, table: Table) -> tuple[Predictions, Sequence[Finding], Task]:
        """Predictions, what was odd about the rows, and the task that read them."""
        task, table = self.task.asked_of(table)
        encoded = self.schema.encode(table)
        task = task.reading(table, encoded)
        findings = [*encoded.findings, *task.noticed()]
        return task.predict(self.network, _inputs(task, encoded, task.asked())), findings, task


def _inputs(task: Task, encoded: Encoded, rows: np.ndarray | None) -> tuple[torch.Tensor, ...]:
    """What the network takes of some rows, or of all."""
    inputs = () if task.from_source.ordered else arrange(encoded.blocks)
    return inputs if rows is None else task.inputs_of(inputs, rows)


def load_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor], file: object) -> None:
    """Load weights, refusing missing, extra and wrongly shaped ones by name."""
    expected = network.state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is not of this network" for name in tensors if name not in expected]
    wrong += [
        f"{name} has shape {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    if wrong:
        raise DamagedError("; ".join(wrong[:10]), "the weights belong to another network", file=file)
    network.load_state_dict(dict(tensors))


def paint(
    content: str | Path,
    style: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
) -> Painted:
    """Paint a picture in the style of another, or in that of a run of the task `style`.

    content:  a picture file.
    style:    a picture file, whose style is taken over in some hundred steps; or the folder of a run that learned one
              style, and paints in one pass.
    settings: of the recipe, such as `{"style.steps": 400, "style.backbone": "runs/photographs-1"}`.
    out:      where the painting is written, by the ending.

    Raises:
        UserError: for a picture that cannot be read, or a run that does not paint.
    """
    recipe = Recipe().with_settings(settings or {})
    if out is not None:
        refuse_ending(out)
    if Path(style).is_dir():
        run = Run(Path(style))
        if not isinstance(run.task, Style):
            raise UserError("this run does not paint", "give a picture, or a run of --task style", file=style)
        painted = run.task.painted(run.network, read_colours(content))
    else:
        perception = Perception.of(recipe.style.backbone, seed=recipe.seed)
        before, wanted = (read_colours(path, recipe.style.size) for path in (content, style))
        painted = optimized(before, wanted, perception, recipe.style)
    if out is not None:
        write_picture(painted.picture, out)
    return painted


def write_table(table: pa.Table, path: str | None) -> None:
    """Write a table as CSV or Parquet, by the file's ending; CSV to standard output without a path."""
    import pyarrow.csv
    import pyarrow.parquet

    if path is None:
        pyarrow.csv.write_csv(table, sys.stdout.buffer)
        return
    refuse_no_table(path)
    if path.endswith(".parquet"):
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)


def refuse_no_table(path: str) -> None:
    """Refuse to write a table to a file of another ending.

    Raises:
        RecipeError: for an ending that is not known.
    """
    if not path.endswith((".parquet", ".csv")):
        raise RecipeError(f'the ending of "{path}" is not known', "write to a .csv or a .parquet file")


def write_samples(run: Run, samples: Samples, path: str | None) -> None:
    """Write samples as a table, or pictures as PNGs into a folder, in one for each class where there are some.

    path: a .csv, a .parquet, or a folder for pictures; none writes CSV to standard output.

    Raises:
        RecipeError: for an ending that is not known, or a folder that is not empty.
    """
    if samples.made.ndim != 4 or path is None or Path(path).suffix:
        write_table(pa.table(columns_of(run.schema, samples)), path)
        return
    folder = _empty(path)
    names = [quote(label, safe=" ") for label in samples.labels(run.schema)]
    for number, picture in enumerate(samples.made):
        place = folder / names[number].replace(".", "%2E") if names else folder
        place.mkdir(exist_ok=True)
        pixels = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
        Picture.fromarray(pixels).save(place / f"{number:05d}.png")


def write_files(files: Iterator[tuple[str, bytes]], path: str) -> int:
    """Write files into a folder that is empty or new, and count them.

    Raises:
        RecipeError: if there is something in the folder.
    """
    folder, count = _empty(path), 0
    for name, content in files:
        (folder / name).write_bytes(content)
        count += 1
    return count


def _empty(path: str) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise RecipeError("this folder is not empty", "give another --out", file=folder)
    return folder


def environment(fingerprint: str) -> dict[str, Any]:
    """What the bits of a run depend on besides its recipe."""
    packages = ["torch", "numpy", "pyarrow", "scikit-learn", "pillow", "safetensors", "tabm"]
    return {
        "sounding": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "data": fingerprint,
    }


BLOCK = 1 << 16
"""Bytes that are read at once when the end of a line is looked for."""


class Events:
    """Appends one line of JSON per record to `events.jsonl`; a crash can tear the last line only.

    Steps are gathered until the epoch ends, so that a step of a small network costs no write of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self._waiting: list[str] = []
        self._is_whole = False

    def append(self, kind: str, **values: Any) -> None:
        """Write one record, and those that wait."""
        self._waiting.append(json.dumps({"kind": kind, **values}))
        if not self._is_whole:
            _cut_torn(self.path)
            self._is_whole = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n".join(self._waiting) + "\n")
        self._waiting.clear()

    def record(self, record: StepRecord | EpochRecord) -> None:
        """An onlooker for the trainer."""
        if isinstance(record, EpochRecord):
            self.append("epoch", **record._asdict())
        else:
            values = record._asdict()
            del values["rows"]
            self._waiting.append(json.dumps({"kind": "step", **values}))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All records; a last line that was torn by a crash is left out, and so are damaged ones: see `findings`."""
        return (record for record, _ in self._lines() if record is not None)

    def findings(self) -> list[Finding]:
        """How many lines before the last one cannot be read, if any."""
        damaged = sum(record is None and line.endswith("\n") for record, line in self._lines())
        if not damaged:
            return []
        title = f"{damaged} lines of {self.path.name} are damaged: what they recorded is left out"
        return [Finding(rule="damaged-events", severity="warning", title=title, evidence={"lines": damaged})]

    def _lines(self) -> Iterator[tuple[dict[str, Any] | None, str]]:
        """The record of each line, or none where it cannot be read, and the line."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    record = None
                yield record if isinstance(record, dict) and "kind" in record else None, line


def _cut_torn(path: Path) -> None:
    """Cut what stands behind the last end of a line, which the next record would be glued to."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        at = file.seek(0, os.SEEK_END)
        while at:
            start = max(at - BLOCK, 0)
            file.seek(start)
            if (end := file.read(at - start).rfind(b"\n")) >= 0:
                file.truncate(start + end + 1)
                return
            at = start
        file.truncate(0)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves either the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class FolderLock:
    """Keeps a second run out of a folder that one is writing to.

    A lock whose process is gone (killed) is taken over.

    Raises:
        UserError: naming the process that holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self.findings: list[Finding] = []

    def __enter__(self) -> FolderLock:
        try:
            holder = int(self.path.read_text())
        except (FileNotFoundError, ValueError):
            holder = 0
        if holder and holder != os.getpid() and _is_running(holder):
            raise UserError(
                f"process {holder} is writing to this folder",
                "wait for it, or give another --out",
                file=self.path.parent,
            )
        if holder and holder != os.getpid():
            self.findings.append(
                Finding(
                    rule="stale-lock",
                    severity="info",
                    title=f"process {holder}, which wrote to this folder, is gone: its run is taken over",
                    evidence={"process": holder},
                )
            )
        write_text(self.path, str(os.getpid()))
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
