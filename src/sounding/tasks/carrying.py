"""A run as the beginning of another: its encoder, and what the encoder knows of its inputs, are carried over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.torch import load as parse_tensors
from torch import Tensor, nn

from sounding.data.schema import Field, Schema
from sounding.data.table import Table
from sounding.errors import RecipeError, UserError
from sounding.kinds import Block, Image, Kind
from sounding.networks import NETWORKS
from sounding.networks.tabular import TableColumns
from sounding.recipe import DataRecipe, NetworkRecipe, Recipe, TransferRecipe
from sounding.tasks.beginning import Beginning, Begun
from sounding.tasks.build import COMPOSITE, inputs_of
from sounding.training.checkpoint import verify_manifest
from sounding.training.transfer import HEAD, CarriedOver, carry_over, gradually, layer_groups

KEPT = "transfer"
"""The folder in a run where what was carried over is kept, so that the run needs no other."""
FIRST_LAYER = ("layers.0.inner.0.weight", "layers.0.shortcut.weight", "layers.0.weight", "layers.0.r")
"""Tensors of tabular networks whose last dimension is that of the columns."""
MOST_NAMED = 8


@dataclass(frozen=True)
class EarlierRun(Beginning):
    """A finished run from which an encoder is carried over."""

    kept: ClassVar[str] = KEPT
    fixes_network: ClassVar[bool] = True

    source: str
    """Its folder, as the recipe names it."""
    model: Mapping[str, bytes]
    """The files of its model, each as its manifest says."""
    recipe: Recipe
    schema: Schema
    weights: Mapping[str, Tensor]

    @classmethod
    def open(cls, transfer: TransferRecipe, kept: Path | None = None) -> EarlierRun:
        """The run that a recipe names.

        kept:  the folder of the run that is resumed: what it was begun with is kept there.

        Raises:
            UserError: if there is no finished run, or another one than the recipe was written with.
            DamagedError: if a file of the model is not what its manifest says.
        """
        path = Path(transfer.source) if kept is None else kept / KEPT
        model = path / "model" if (path / "model").is_dir() else path
        if not (model / "manifest.json").is_file():
            begun = (path / "recipe.toml").is_file()
            what = "is not finished" if begun else "holds no run" if path.is_dir() else "is not here"
            remedy = f"finish it first: sounding resume {path}" if begun else "give --from and the folder of a run"
            raise UserError(f"the run to carry over from {what}", remedy, file=path)
        files = verify_manifest(model)
        recipe = Recipe.from_toml(files["recipe.toml"].decode(), file=model / "recipe.toml")
        weights = parse_tensors(files["network.safetensors"])
        if recipe.task == "pretraining":
            weights = _without_lesson(weights)
        schema = Schema.from_json(json.loads(files["schema.json"]))
        origin = cls(transfer.source, files, recipe, schema, weights)
        if transfer.fingerprint and transfer.fingerprint != origin.fingerprint:
            raise UserError(
                f"this run has changed since the recipe was written ({transfer.fingerprint[:12]} then, "
                f"{origin.fingerprint[:12]} now)",
                f'give --from and the folder "{KEPT}" of the run that the recipe is of, where the old weights are; '
                'or transfer.fingerprint="" to begin with the new ones',
                file=path,
            )
        return origin

    def files(self) -> Mapping[str, bytes]:
        """Those of its model."""
        return self.model

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is carried over."""
        return hashlib.sha256(self.model["schema.json"] + self.model["network.safetensors"]).hexdigest()

    def known(self, schema: Schema, table: Table, rows: np.ndarray, settings: DataRecipe) -> dict[str, Kind]:
        """What the old run learned of columns that are here too: the encoder understands no other encoding.

        Columns of tables agree when name and kind do; a picture or a text agrees with the one of the same name, or
        with the only one.

        Raises:
            RecipeError: if no column agrees, or pictures have other channels.
        """
        known: dict[str, Kind] = {}
        for column in schema.inputs:
            theirs = self._counterpart(column, schema)
            if theirs is None or theirs.fitted is None:
                continue
            if isinstance(theirs.fitted, Image):
                self._check_channels(column, theirs.fitted, table, rows, settings)
            known[column.name] = theirs.fitted
        if not known:
            here = ", ".join(dict.fromkeys(column.kind for column in schema.inputs))
            there = ", ".join(f'"{column.name}" ({column.kind})' for column in self.schema.inputs[:MOST_NAMED])
            raise RecipeError(
                f"nothing carries over from {self.source}: it reads {there}, and the inputs here are {here}",
                "give a run with the same kinds of input, and in tables the same names",
            )
        return known

    def network_settings(
        self, blocks: Sequence[Block], asked: NetworkRecipe, answers: str | Sequence[str] = "logits"
    ) -> dict[str, Any]:
        """Name and options of the old run's network, for these inputs; or of one that has it as its encoder.

        answers: what the task asks of a network.

        Raises:
            RecipeError: if another network is asked for, or none that the task asks for has it as its encoder.
        """
        old, composite = self.recipe.network, len(inputs_of(blocks)) > 1
        name, options = old.name, {**old.options, **asked.options}
        if old.name == COMPOSITE and not composite:  # its parts are the networks that `auto` means
            name, options = "auto", asked.options
        given = (answers,) if isinstance(answers, str) else answers
        around = {
            other: family for other, family in NETWORKS.items() if family.answers in given and family.encoder == name
        }
        if name in NETWORKS and NETWORKS[name].answers not in given:
            if not around:
                raise self._is_no_encoder(name, given)
            name = next(iter(around))
            options = {key: value for key, value in options.items() if key in around[name].options}
        if asked.name not in ("auto", name):
            raise RecipeError(
                f'the network of {self.source} is "{old.name}": "{asked.name}" cannot take its weights',
                "leave out --network, or --from",
            )
        return {"network.name": name, "network.options": options}

    def _is_no_encoder(self, name: str, given: Sequence[str]) -> RecipeError:
        """That it cannot be carried over, and which can."""
        able = {family.encoder: other for other, family in NETWORKS.items() if family.answers in given}
        able.pop("", None)
        return RecipeError(
            f'the network of {self.source} is "{name}", and none that gives {" or ".join(given)} has it as its encoder',
            "give --from a run of " + " or ".join(f'"{encoder}" (for {other})' for encoder, other in able.items())
            if able
            else "leave out --from",
        )

    def told(self) -> str:
        """Whose network it is."""
        return f"that of {self.source}"

    def load_into(self, network: nn.Module, blocks: Sequence[Block]) -> list[Carried]:
        """Give a network the weights that fit its inputs; the head, and what is new here, stays as it is.

        Raises:
            RecipeError: if the network is of another family, or has other options.
        """
        there, done = _parts(self.schema.blocks()), []
        for key, (prefix, own) in _parts(blocks).items():
            like = _input_like(key, own, there)
            if like is None:
                continue
            old_prefix, old_own = there[like]
            part = _submodule(network, prefix)
            old = {n.removeprefix(old_prefix): w for n, w in self.weights.items() if n.startswith(old_prefix)}
            weights = _columns_moved(old, part, old_own, own) if key == "table" else _into_encoder(old, part)
            if not weights:
                continue
            try:
                done.append(Carried(key, prefix, carry_over(part, weights)))
            except RecipeError as error:
                raise RecipeError(f"{self.source} has another network: {error.what}", error.remedy) from None
        return done

    def begun(self, network: nn.Module, blocks: Sequence[Block], known: Mapping[str, Kind], recipe: Recipe) -> Begun:
        """Rates and releases of the layers that were carried over, those of each input from its lowest to its head."""
        carried = self.load_into(network, blocks)
        rates: dict[str, float] = {}
        release: dict[str, float] = {}
        for one in carried if recipe.task != "pretraining" else ():  # what was learned without labels is learned on
            groups = [group for group in layer_groups(_submodule(network, one.prefix)) if one.has(group)]
            named = [[f"{one.prefix}{pattern}" for pattern in group] for group in groups]
            how = recipe.transfer
            own_rates, own_release = gradually(named, rate=how.rate, release=how.release)
            rates |= own_rates
            release |= own_release
        return Begun(
            settings={
                "training.optimizer.rates": rates,
                "training.release": release,
                "transfer.fingerprint": self.fingerprint,
            },
            lines=(
                f"from {self.source}: what it learned of {_told(known)}",
                f"from {self.source}: {'; '.join(one.told(network) for one in carried)}",
            ),
            carried={
                "source": self.source,
                "fingerprint": self.fingerprint,
                "columns": {name: kind.describe() for name, kind in known.items()},
                "inputs": [one.to_json() for one in carried],
            },
        )

    def _counterpart(self, column: Field, schema: Schema) -> Field | None:
        """The input of the old run that a column stands for."""
        alike = [theirs for theirs in self.schema.inputs if theirs.kind == column.kind]
        named = next((theirs for theirs in alike if theirs.name == column.name), None)
        if named is not None or column.kind not in ("image", "text"):
            return named
        here = [other for other in schema.inputs if other.kind == column.kind]
        return alike[0] if len(alike) == len(here) == 1 else None

    def _check_channels(
        self, column: Field, theirs: Image, table: Table, rows: np.ndarray, settings: DataRecipe
    ) -> None:
        here = Image.fit(column.column(table), rows, settings)[0].channels
        if here != theirs.channels:
            grey, colour = f'the pictures of "{column.name}"', f"those of {self.source}"
            if here != 1:
                grey, colour = colour, grey
            raise RecipeError(f"{grey} are grey and {colour} are in colour", "begin without --from, or convert them")


@dataclass(frozen=True)
class Carried:
    """What one input's network took over."""

    input: str
    prefix: str
    """Of the names of its tensors in the whole network."""
    tensors: CarriedOver

    def has(self, group: Sequence[str]) -> bool:
        """Whether a layer below the head, as patterns of names, was carried over: what is new is no part of it."""
        names = self.tensors.carried
        return group != list(HEAD) and any(fnmatchcase(name, pattern) for name in names for pattern in group)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the names of tensors as the whole network has them."""
        named = {what: [f"{self.prefix}{name}" for name in names] for what, names in asdict(self.tensors).items()}
        return {"input": self.input, **named}

    def told(self, network: nn.Module) -> str:
        """In words, with the number of parameters."""
        sizes = {name: parameter.numel() for name, parameter in _submodule(network, self.prefix).named_parameters()}
        taken = sum(sizes.get(name, 0) for name in self.tensors.carried)
        return f"{taken:,} of {sum(sizes.values()):,} parameters that read {self.input}"


def _without_lesson(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the encoder alone, as a network of its family names them."""
    kept = {}
    for name, tensor in weights.items():
        outer, inside, inner = name.partition("encoder.")
        if inside:
            kept[outer + inner] = tensor
        elif name.startswith("standardize."):
            kept[name] = tensor
    return kept


def _into_encoder(weights: Mapping[str, Tensor], part: nn.Module) -> dict[str, Tensor]:
    """Weights of a network alone, as one names them that has it as its encoder."""
    own = part.state_dict()
    inside = {name: name.replace("network.", "network.encoder.", 1) for name in weights if name not in own}
    return {inside[name] if inside.get(name) in own else name: tensor for name, tensor in weights.items()}


Part = tuple[str, list[Block]]
"""The prefix of the tensors of one input's network, and its blocks."""


def _parts(blocks: Sequence[Block]) -> dict[str, Part]:
    """For each input the part of the network that reads it."""
    inputs = inputs_of(blocks)
    return {key: (f"parts.{at}." if len(inputs) > 1 else "", own) for at, (key, (_, own)) in enumerate(inputs.items())}


def _submodule(network: nn.Module, prefix: str) -> nn.Module:
    return network.get_submodule(prefix.removesuffix("."))


def _input_like(key: str, own: Sequence[Block], parts: Mapping[str, Part]) -> str | None:
    """The input of the old run that one here stands for: of the same name, or the only one of its form."""
    if key in parts or key == "table":
        return key if key in parts else None
    alike = [name for name, (_, blocks) in parts.items() if name != "table" and blocks[0].form == own[0].form]
    return alike[0] if len(alike) == 1 else None


def _columns_moved(
    weights: Mapping[str, Tensor], part: nn.Module, old: Sequence[Block], new: Sequence[Block]
) -> dict[str, Tensor]:
    """The weights of a tabular network, for one that reads other columns; none where no column is the same.

    What belongs to a column that both read is put in its place; columns that are new keep what `part` has for them. The
    bins of numbers come from the schema, and are the same already.
    """
    here, there = _places(new), _places(old)
    columns = getattr(part, "columns", None)
    if here == there or not isinstance(columns, TableColumns):
        return dict(weights)
    shared = [column for column in here if column in there]
    moved = {name: tensor for name, tensor in weights.items() if not name.startswith("columns.")} if shared else {}
    own = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    bins = [len(edges) - 1 for block in new for edges in block.bins]
    for column in shared:
        to, of = here[column], there[column]
        if column[0] == "categories":
            name, theirs = f"columns.categories.{to}.weight", weights.get(f"columns.categories.{of}.weight")
            if theirs is not None:
                moved[name] = theirs
            continue
        for name in ("columns.numbers.linear0.weight", "columns.numbers.linear0.bias"):
            if name in own and name in weights:
                own[name][to] = weights[name][of]
                moved[name] = own[name]
        name, last = "columns.numbers.linear.weight", bins[to] - 1  # (features, bins, size): the last bin at the end
        if name in own and name in weights:
            own[name][to, :last], own[name][to, -1] = weights[name][of, :last], weights[name][of, -1]
            moved[name] = own[name]
    spans, old_spans = _spans(here, columns.sizes), _spans(there, _sizes(weights, old))
    for name in FIRST_LAYER:
        if name in moved and name in own:
            for column in shared:
                own[name][..., spans[column]] = moved[name][..., old_spans[column]]
            moved[name] = own[name]
    return moved


ColumnOfTable = tuple[str, str]
"""The form of a column, and its name."""


def _places(blocks: Sequence[Block]) -> dict[ColumnOfTable, int]:
    """Where each column is among those of its form, in the order in which tabular networks put them side by side."""
    by_form = {block.form: block for block in blocks}
    numbers, categories = by_form.get("numbers"), by_form.get("categories")
    places = {("numbers", name): place for place, name in enumerate(numbers.features if numbers else ())}
    return places | {("categories", name): place for place, name in enumerate(categories.columns if categories else ())}


def _spans(places: Mapping[ColumnOfTable, int], sizes: Sequence[int]) -> dict[ColumnOfTable, slice]:
    ends = list(accumulate(sizes))
    return {column: slice(end - size, end) for column, size, end in zip(places, sizes, ends, strict=True)}


def _sizes(weights: Mapping[str, Tensor], blocks: Sequence[Block]) -> list[int]:
    """How many numbers stand for each column in a network whose weights these are."""
    embedding = weights.get("columns.numbers.linear.weight")
    cardinalities = [count for block in blocks for count in block.cardinalities]
    embedded = (weights.get(f"columns.categories.{place}.weight") for place in range(len(cardinalities)))
    return [1 if embedding is None else embedding.shape[-1]] * sum(len(block.features) for block in blocks) + [
        count if table is None else table.shape[1] for count, table in zip(cardinalities, embedded, strict=True)
    ]


def _told(known: Mapping[str, Kind]) -> str:
    """What was learned of each column, in words."""
    told = [f"{name}, {kind.describe()}" for name, kind in list(known.items())[:MOST_NAMED]]
    more = [f"and {len(known) - MOST_NAMED} more columns"] if len(known) > MOST_NAMED else []
    return "; ".join([*told, *more])
