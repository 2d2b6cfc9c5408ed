"""The network for a schema, and encoded columns in the order in which it takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.errors import DataError, RecipeError, nearest
from sounding.kinds import SILENCE, Block
from sounding.networks import NETWORKS, PRETRAINED, Autoencoder, CompositeNetwork, Family, LogMel, Standardize
from sounding.recipe import NetworkRecipe, is_pretrained

DEFAULTS = {
    ("logits", "table"): ("ensemble", "an ensemble that shares its weights, which measured best on tables"),
    ("logits", "pictures"): ("resnet", "a small residual network, which measured best on small pictures"),
    ("logits", "series"): (
        "series_convolution",
        "an ensemble of convolutions over time, which measured best on series",
    ),
    ("logits", "sound"): ("sound_convolution", "residual convolutions over time, which measured best on spoken digits"),
    ("frames", "sound"): ("sound_frames", "convolutions and recurrent layers that speak of every frame"),
    ("logits", "tokens"): ("text_ensemble", "an ensemble of readers, which measured best on short texts"),
    ("next_codes", "tokens"): ("seq2seq_transformer", "a transformer that reads one text and writes another"),
    ("reconstruction", "table"): ("autoencoder", "fully connected layers to a code and back"),
    ("reconstruction", "pictures"): (
        "picture_autoencoder",
        "fully connected layers, which measured best in a given time",
    ),
    ("strangeness", "table"): ("denoiser", "a denoiser at many strengths of noise, which measured best on tables"),
    ("reconstruction", "series"): ("series_autoencoder", "convolutions over time to a code and back"),
    ("forecasts", "series"): (
        "linear_forecaster",
        "linear maps of trend and rest, which measured best in a given time",
    ),
    ("scores", "interactions"): (
        "matrix_factorization",
        "factors of users and items, by several members where ratings are predicted",
    ),
    ("next_items", "interactions"): (
        "history_transformer",
        "a transformer that reads what a user met, in order of time",
    ),
    ("next_token", "tokens"): ("language_recurrent", "an LSTM, which measured best in a given time"),
    ("detections", "pictures"): ("detector", "residual stages, and a pyramid of maps that say what is where"),
    ("maps", "pictures"): (
        "encoder_decoder",
        "a residual encoder and a light decoder, which measured best in a given time",
    ),
    ("painting", "pictures"): ("style_network", "convolutions to a quarter of the sides and back"),
    ("samples", "table"): ("tabular_adversarial", "a generator and a discriminator of fully connected layers"),
    ("samples", "pictures"): ("picture_adversarial", "a generator and a discriminator of residual blocks"),
}
"""For what is asked of a network, and each form of input, the network that `auto` means, and why."""

FORMS = ("table", "interactions", "sound", "pictures", "series", "tokens")
"""In the order of `arrange`, which is that of their blocks' names."""

SIDES = ("user", "item")
"""Of interactions, in the order of `arrange`."""
TENSORS = {"table": 2, "interactions": 4}
"""In how many an input comes, where it is not one."""

COMPOSITE = "composite"
"""The name of a network for inputs of several forms: the default for each, and one head over all of them."""
COMPOSITE_OPTIONS = ("dropout",)

INSTALL = "pip install 'sounding[transformers]'"
"""What brings the libraries of encoders that were trained elsewhere."""


def choose_network(
    blocks: Sequence[Block], name: str = "auto", answers: str | Sequence[str] = "logits"
) -> tuple[str, str]:
    """The name of the network, and why, in one sentence.

    answers: what it is to give; see `networks.Family`. Of several, `auto` means the first that there is.

    Raises:
        RecipeError: for a name that does not exist, that takes none of these inputs or answers with something else.
        DataError: where nothing that gives such answers takes these inputs.

    >>> choose_network([Block("numbers", "numbers", ("age",), features=("age",), bins=((0.0, 1.0),))])[0]
    'ensemble'
    """
    inputs = inputs_of(blocks)
    forms, several = list(dict.fromkeys(form for form, _ in inputs.values())), len(inputs) > 1
    given = (answers,) if isinstance(answers, str) else tuple(answers)
    usual = {form: default for answer in reversed(given) for (its, form), default in DEFAULTS.items() if its == answer}
    if set(forms) - set(usual) or (several and given != ("logits",)):
        raise DataError(
            f"no network gives {' or '.join(given)} for {' and '.join(inputs)}",
            f"there are some for {' or '.join(usual)} alone; leave other columns out with data.ignore",
        )
    if name == "auto" and several:
        return COMPOSITE, f"one network for each of {', '.join(inputs)}, and one head over all of them"
    if name == "auto":
        return usual[forms[0]]
    if name == COMPOSITE and several:
        return name, "as the settings say"
    if is_pretrained(name) and set(given) <= {"logits", "detections"}:
        return name, "as the settings say"
    known = [known for known, family in NETWORKS.items() if family.takes in forms and family.answers in given]
    known += [COMPOSITE] * several
    if name not in NETWORKS and name != COMPOSITE:
        raise RecipeError(f'there is no network "{name}"', nearest(name, known))
    if name not in known:
        family = NETWORKS.get(name)
        if family is not None and family.answers not in given:
            asked = " or ".join(given)
            raise RecipeError(f'"{name}" gives {family.answers}, and the task asks for {asked}', _take(known))
        takes = "several inputs" if family is None else family.takes
        raise RecipeError(f'"{name}" takes {takes}, and the inputs are {", ".join(forms)}', _take(known))
    return name, "as the settings say"


def _take(names: Sequence[str]) -> str:
    return f"take {', '.join(names)}"


def build_network(
    blocks: Sequence[Block], outputs: int, recipe: NetworkRecipe, answers: str | Sequence[str] = "logits"
) -> nn.Module:
    """The network for some blocks, with random weights; it takes what `arrange` gives.

    A table alone, a picture alone or a text alone get the named network; several inputs get a `CompositeNetwork`, in
    which the named network stands for the inputs that it takes, and the defaults for the others.

    outputs: of a network that gives logits; of one that gives something else, such as an autoencoder, its code.

    Raises:
        RecipeError: for an unknown network, or options that it does not have.
    """
    name, _ = choose_network(blocks, recipe.name, answers)
    inputs = inputs_of(blocks)
    family = _family(name, recipe.options)
    if is_pretrained(name) and family is not None and family.answers not in answers:
        what = f'"{name}" gives {family.answers}, and the task asks for {answers}'
        raise RecipeError(what, "take a detector for boxes, and an encoder for all else")
    fits = {key: family is not None and family.takes == form for key, (form, _) in inputs.items()}
    names = {key: name if fits[key] else DEFAULTS["logits", form][0] for key, (form, _) in inputs.items()}
    known = COMPOSITE_OPTIONS if family is None else tuple(family.options)
    for option in recipe.options:
        if option not in known:
            raise RecipeError(f'the network "{name}" has no option "{option}"', nearest(option, known))
    parts = [
        (
            _build(names[key], form, own, outputs, recipe.options if names[key] == name else {}),
            TENSORS.get(form, 1),
        )
        for key, (form, own) in inputs.items()
    ]
    if len(parts) == 1:
        return parts[0][0]
    return CompositeNetwork(parts, outputs, **(recipe.options if name == COMPOSITE else {}))


def measure_on(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Show training rows to the parts of a network that bring what they see to mean 0 and deviation 1 by themselves."""
    if isinstance(network, CompositeNetwork):
        rest = list(inputs)
        for part, count in zip(network.parts, network.inputs, strict=True):
            measure_on(part, rest[:count])
            rest = rest[count:]
        return
    for module in network.modules():
        if isinstance(module, LogMel):
            module.measure(inputs[0])


def arrange(blocks: Mapping[str, np.ndarray]) -> tuple[Tensor, ...]:
    """Encoded columns as tensors, in the order in which the network takes them.

    The table first, unless there is none: numbers (N, features) float32 and categories (N, columns) int32, of which one
    may have no columns; of interactions those of users, then those of items. Then recordings (N, L) int16, pictures
    (N, C, H, W) uint8, series (N, C, L) float32 and texts (N, L) or (N, L, 1 + pieces) int32, each by name.

    >>> [tuple(tensor.shape) for tensor in arrange({"numbers": np.zeros((4, 2), np.float32)})]
    [(4, 2), (4, 0)]
    """
    rows = len(next(iter(blocks.values())))
    ordered, tables = list[np.ndarray](), list[str]()
    for prefix in ("", *(f"{side}:" for side in SIDES)):
        names = (f"{prefix}numbers", f"{prefix}categories")
        if names[0] in blocks or names[1] in blocks:
            ordered.append(blocks.get(names[0], np.empty((rows, 0), np.float32)))
            ordered.append(blocks.get(names[1], np.empty((rows, 0), np.int32)))
            tables += names
    ordered += [blocks[name] for name in sorted(blocks) if name not in tables]
    return tuple(_tensor(array) for array in ordered)


def lengths_of(blocks: Sequence[Block], inputs: Sequence[Tensor]) -> Tensor | None:
    """(N,) how long the recording, or else the series that varies, in each row is; none where there are none.

    Series are few as often as not: their lengths are told apart by half an octave, so that batches still differ from
    epoch to epoch.

    inputs: as `arrange` gives them.
    """
    at = 0
    for form, own in inputs_of(blocks).values():
        if form == "sound":
            return (inputs[at] != SILENCE).sum(1)
        if form == "series" and own[0].varying:
            return (2 * inputs[at][:, -1].sum(1).clamp(min=1).log2()).long()
        at += TENSORS.get(form, 1)
    return None


class Standardized(nn.Module):
    """A network whose pictures come as they are stored, and are standardised by its training pictures.

    standardize, network: what is applied to pictures (B, C, H, W) uint8, one after the other; `forward` answers as the
                          network does.
    """

    def __init__(self, standardize: Standardize, network: nn.Module) -> None:
        super().__init__()
        self.standardize, self.network = standardize, network

    def forward(self, pictures: Tensor) -> Any:
        """(B, C, H, W) uint8, or float in [0, 1]."""
        return self.network(self.standardize(pictures))


class StandardizedAutoencoder(Standardized):
    """An autoencoder that takes pictures as they are stored, and can say them in codes and tell them from codes.

    >>> from sounding.networks import picture_autoencoder
    >>> network = StandardizedAutoencoder(Standardize([0.5], [0.25]), picture_autoencoder(1, 3, picture_size=(8, 8)))
    >>> code = network.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    >>> code.shape, network.decode(code).shape
    (torch.Size([2, 3]), torch.Size([2, 1, 8, 8]))
    """

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], to codes (B, size)."""
        return cast("Autoencoder", self.network).encode(self.standardize(pictures))

    def decode(self, code: Tensor) -> Tensor:
        """Codes (B, size) to pictures (B, C, H, W) in [0, 1]."""
        values = cast("Autoencoder", self.network).decode(code)
        pictures: Tensor = (values * self.standardize.deviation + self.standardize.mean).clamp(0.0, 1.0)
        return pictures


class StandardizedPainter(Standardized):
    """A network that gives pictures back in the space that it sees; here they come out in [0, 1], or nearly so."""

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], to (B, C, H, W) float."""
        values: Tensor = self.network(self.standardize(pictures))
        return values * self.standardize.deviation + self.standardize.mean


class PictureNetwork(nn.Module):
    """A network for pictures that takes them as they are stored, and standardises them by its training pictures.

    >>> from sounding.networks import ResNet
    >>> network = PictureNetwork(Standardize([0.5], [0.25]), ResNet(1, 10, picture_size=(8, 8)))
    >>> network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, standardize: Standardize, network: nn.Module) -> None:
        super().__init__()
        self.standardize, self.network = standardize, network
        self.num_features = int(network.num_features)  # type: ignore[arg-type]
        self.head: nn.Module = network.get_submodule("head")
        network.head = nn.Identity()

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], to (B, num_features)."""
        features: Tensor = self.network(self.standardize(pictures))
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], to logits (B, outputs)."""
        logits: Tensor = self.head(self.forward_features(pictures))
        return logits


class PictureMaps(Standardized):
    """A network that gives a map for each picture, takes these as they are stored, and standardises them.

    >>> from sounding.networks import UNet
    >>> network = PictureMaps(Standardize([0.5], [0.25]), UNet(1, 3, picture_size=(9, 9), hidden_size=4, levels=2))
    >>> network(torch.zeros(2, 1, 9, 9, dtype=torch.uint8)).shape
    torch.Size([2, 3, 9, 9])
    """

    def __init__(self, standardize: Standardize, network: nn.Module) -> None:
        super().__init__(standardize, network)
        self.num_features = int(network.num_features)  # type: ignore[arg-type]
        self.head: nn.Module = network.get_submodule("head")
        network.head = nn.Identity()

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], to (B, num_features, h, w)."""
        features: Tensor = self.network.forward_features(self.standardize(pictures))  # type: ignore[operator]
        return features

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], to logits (B, outputs, H, W)."""
        logits: Tensor = self.network.resized(self.head(self.forward_features(pictures)), pictures)  # type: ignore[operator]
        return logits


WRAPPERS: Mapping[str, Callable[[Standardize, nn.Module], nn.Module]] = {
    "logits": PictureNetwork,
    "reconstruction": StandardizedAutoencoder,
    "painting": StandardizedPainter,
    "maps": PictureMaps,
}
"""By what a network for pictures gives, what makes it take them as they are stored; others: `Standardized`."""


def inputs_of(blocks: Sequence[Block]) -> dict[str, tuple[str, list[Block]]]:
    """For each input by name its form and blocks, in the order of `arrange`; numbers and categories are the table.

    Numbers and categories of users and items are the interactions.
    """
    inputs: dict[str, tuple[str, list[Block]]] = {}
    for form in FORMS:
        for block in sorted(blocks, key=lambda block: block.name):
            if _form(block) == form:
                name = form if form in ("table", "interactions") else block.name
                inputs.setdefault(name, (form, []))[1].append(block)
    return inputs


def _form(block: Block) -> str:
    return ("interactions" if block.side else "table") if block.form in ("numbers", "categories") else block.form


def _columns(blocks: Sequence[Block], side: str) -> tuple[int, tuple[int, ...]]:
    """How many numbers one side of interactions has, and the codes of its categories."""
    by_form = {block.form: block for block in blocks if block.side == side}
    numbers = by_form.get("numbers")
    return len(numbers.features) if numbers else 0, by_form["categories"].cardinalities


def _family(name: str, options: Mapping[str, Any]) -> Family | None:
    """The family of a name; that of an encoder from elsewhere is told by the options that come with it."""
    if not is_pretrained(name):
        return NETWORKS.get(name)
    return PRETRAINED["detector" if "queries" in options else "pictures" if "size" in options else "tokens"]


def _build(name: str, form: str, blocks: Sequence[Block], outputs: int, options: Mapping[str, Any]) -> nn.Module:
    family = _family(name, options)
    assert family is not None
    build = family.build
    try:
        if form == "table":
            by_form = {block.form: block for block in blocks}
            numbers, categories = by_form.get("numbers"), by_form.get("categories")
            options = dict(options)
            bins = [torch.tensor(edges, dtype=torch.float32) for edges in numbers.bins] if numbers else None
            if options.get("number_embedding_size") == 0:  # numbers enter as they are
                bins = options.pop("number_embedding_size") or None
            return build(
                len(numbers.features) if numbers else 0,
                categories.cardinalities if categories else (),
                outputs,
                bins=bins,
                **options,
            )
        if form == "interactions":
            return build(*(_columns(blocks, side) for side in SIDES), **options)
        (block,) = blocks
        if form == "pictures":
            network = build(block.channels, outputs, picture_size=(block.height, block.width), **options)
            if is_pretrained(name):  # it standardises them as it was taught
                return network
            scale = [[value / 255 for value in values] for values in (block.mean, block.std)]
            return WRAPPERS.get(family.answers, Standardized)(Standardize(*scale), network)
        if form == "sound":
            return build(outputs, rate=block.rate, **options)
        if form == "series":
            if block.varying and "varying" not in signature(build).parameters:
                raise RecipeError(
                    f'the network "{name}" takes series of one length, and these differ', "cut or pad them"
                )
            options = {**options, "varying": True} if block.varying else options
            if block.targets:
                options = {**options, "targets": block.targets, "horizon": block.horizon}
            return build(block.channels, outputs, length=block.length, **options)
        if block.piece_buckets and "piece_buckets" in signature(build).parameters:
            options = {**options, "piece_buckets": block.piece_buckets}
        return build(block.vocabulary_size, outputs, **options)
    except ModuleNotFoundError as error:
        raise RecipeError(f'the network "{name}" needs {error.name}, not installed here', INSTALL) from None
    except (TypeError, ValueError) as error:
        raise RecipeError(f'the network "{name}" cannot be built: {error}', "correct network.options") from None


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor that shares its memory; a memory-mapped one, which cannot be written to, is copied."""
    return torch.from_numpy(array if array.flags.writeable else np.array(array))
