"""An encoder that was trained elsewhere as the beginning of a run: read from the hub or a folder, and kept in the run.

`hf:NAME` is a model of the library transformers on its hub, `hf:FOLDER` one in a folder; `timm:NAME` is a picture model
of the library timm. Files never run code: weights are safetensors, and no code comes from a repository.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DamagedError, RecipeError
from sounding.kinds import Block, Column, Image, Kind, Subwords
from sounding.networks.pretrained import PretrainedDetector, PretrainedPictures, PretrainedText
from sounding.recipe import DataRecipe, NetworkRecipe
from sounding.tasks.beginning import Beginning
from sounding.tasks.build import INSTALL
from sounding.training.checkpoint import verify_manifest

KEPT = "pretrained"
"""The folder in a run where the encoder is kept as it was at the start: the run needs no hub."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
"""Weights that are not read: the first four can run code."""
POOLING_OF_SENTENCES = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
}
"""What the library sentence-transformers calls them."""
NO_LIMIT = 1_000_000
"""Tokenizers that know no limit say a number beyond this."""
UNUSED = ("id2label", "label2id", "_name_or_path", "architectures", "task_specific_params")
"""What a configuration says that the encoder alone does not depend on."""


@dataclass(frozen=True)
class Encoder(Beginning):
    """What a run needs of an encoder that was trained elsewhere."""

    kept: ClassVar[str] = KEPT

    name: str
    """As the settings name it."""
    takes: str
    """The form of its input: `tokens` or `pictures`."""
    description: Mapping[str, Any]
    """Options of the network that are the encoder's: `config`, and of pictures `mean`, `std` and `size`, of detectors
    `queries` in its place."""
    pooling: str
    """The option that suits it best."""
    tokenizer: str
    """The text of `tokenizer.json`; empty for pictures."""
    limit: int
    """Tokens that it can read; 0 for pictures."""
    weights: Mapping[str, Tensor]

    @classmethod
    def open(cls, name: str, kept: Path | None = None) -> Encoder:
        """The encoder that the settings name.

        kept:  the folder of the run that is resumed: the encoder is kept there.

        Raises:
            RecipeError: if it is nowhere, is no encoder of texts or pictures, has no weights in safetensors, needs code
                of its own, or a library is missing.
            DamagedError: if a file is not what it should be.
        """
        if kept is None:
            return _read(name)
        files = verify_manifest(kept / KEPT)
        values = json.loads(files["encoder.json"])
        return cls(**values, weights=parse_tensors(files["weights.safetensors"]))

    def files(self) -> Mapping[str, bytes]:
        """The weights, and all else as JSON."""
        named = ("name", "takes", "description", "pooling", "tokenizer", "limit")
        values = {key: getattr(self, key) for key in named}
        return {"encoder.json": json.dumps(values).encode(), "weights.safetensors": tensor_bytes(dict(self.weights))}

    def facts(self) -> dict[str, str]:
        """What the bits of a run depend on, for its environment: the weights, and the libraries that read them."""
        libraries = {name: version(name) for name in ("transformers", "tokenizers", "peft") if _is_here(name)}
        return {"encoder": hashlib.sha256(tensor_bytes(dict(self.weights))).hexdigest(), **libraries}

    def known(self, schema: Schema, table: Table, rows: np.ndarray, settings: DataRecipe) -> dict[str, Kind]:
        """How the columns that it reads are encoded: texts by its tokenizer, pictures not larger than it wants them.

        Raises:
            RecipeError: if there is no such column.
        """
        known: dict[str, Kind] = {}
        for field in schema.inputs:
            column = field.column(table)
            if field.kind == "text" and self.takes == "tokens":
                known[field.name] = Subwords.cut_by(self.tokenizer, self.limit, column, rows, settings)
            elif field.kind == "image" and self.takes == "pictures":
                known[field.name] = self._pictures(column, rows, settings)
        if not known:
            reads = {"tokens": "texts", "pictures": "pictures"}[self.takes]
            kinds = ", ".join(f'"{field.name}" ({field.kind})' for field in schema.inputs[:8])
            raise RecipeError(f"{self.name} reads {reads}, and the inputs are {kinds}", "take another network")
        return known

    def _pictures(self, column: Column, rows: np.ndarray, settings: DataRecipe) -> Image:
        """Pictures of one size, not larger than the encoder's, are stored as they are, and enlarged in batches."""
        kind, notes = Image.fit(column, rows, settings)
        if "size" not in self.description:  # a detector takes pictures of any size
            return kind
        side = max(self.description["size"])
        if settings.picture_size or (not notes and max(kind.height, kind.width) <= side):
            return kind
        return Image.fit(column, rows, replace(settings, picture_size=side))[0]

    def network_settings(
        self, blocks: Sequence[Block], asked: NetworkRecipe, answers: str | Sequence[str] = "logits"
    ) -> dict[str, Any]:
        """The name as it was asked for, and all that the encoder fixes."""
        pooling = {"pooling": self.pooling} if self.pooling else {}
        options = {**pooling, **asked.options, **self.description}
        return {"network.name": self.name, "network.options": options}

    def load_into(self, network: nn.Module, blocks: Sequence[Block]) -> None:
        """Give its weights to every part of a network that was built for them."""
        for module in network.modules():
            if isinstance(module, PretrainedText | PretrainedPictures | PretrainedDetector):
                module.load(self.weights)

    def told(self) -> str:
        """In words, for people."""
        count = sum(tensor.numel() for tensor in self.weights.values())
        model = json.loads(self.description["config"])["model_type"]
        what = "detector" if "queries" in self.description else "encoder"
        return f"a {model} {what} of {count:,} parameters that was trained elsewhere, and a new head"


def _read(name: str) -> Encoder:
    """An encoder from the hub or a folder."""
    place = _place(name)
    with _quiet():
        config = _config(name, place)
        takes = _takes(name, config)
        finds = _finds_boxes(config)
        module, absent = _module(name, place, config)
        description: dict[str, Any] = {"config": _text_of(config)}
        tokenizer, limit = "", 0
        if takes == "tokens":
            tokenizer, limit = _tokenizer(name, place), _limit(place, config, module)
            pooling = _pooling_of_texts(place)
        elif finds:
            stated = _preprocessing(name, place, config)
            description |= {key: stated[key] for key in ("mean", "std")} | {"queries": _queries(config)}
            pooling = ""
        else:
            description |= _preprocessing(name, place, config)
            pooling = _pooling_of_pictures(module, description["size"], absent)
    weights = {key: tensor.detach().contiguous().clone() for key, tensor in module.state_dict().items()}
    return Encoder(name, takes, description, pooling, tokenizer, limit, weights)


def _place(name: str) -> str:
    """The folder, or the name on the hub; a folder is seen to have weights that are read."""
    library, _, place = name.partition(":")
    needed = ("transformers",) if library == "hf" else ("transformers", "timm", "torchvision")
    if lacking := [needs for needs in needed if not _is_here(needs)]:
        install = INSTALL if lacking == ["transformers"] else f"pip install {' '.join(lacking)}"
        raise RecipeError(f'"{name}" needs {" and ".join(lacking)}, not installed here', install)
    folder = Path(place).expanduser()
    if not place or not folder.is_dir():
        if not place or place.startswith((".", "/", "~")) or place.count("/") > 1:
            raise RecipeError(f'"{name}": there is no folder "{place}"', "give a folder that holds the model")
        return place if library == "hf" or "/" in place else f"timm/{place}"
    if not (folder / "config.json").is_file():
        raise RecipeError(f'"{name}": the folder holds no config.json', "give the folder of a model of transformers")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        holds = f"only {pickled[0]}, and such files can run code" if pickled else "none at all"
        raise RecipeError(
            f'"{name}": weights are read from safetensors alone, and the folder holds {holds}',
            "save the model with save_pretrained, which writes model.safetensors",
        )
    return str(folder)


def _config(name: str, place: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _refused(name, error) from None


def _refused(name: str, error: Exception) -> RecipeError:
    """What the library says, in one line."""
    said = str(error)
    if "trust_remote_code" in said:
        what, remedy = "would run code from its repository", "take a model that transformers itself knows"
    elif "safetensors" in said:
        what, remedy = "weights are read from safetensors alone, and there are none", "take a model that has them"
    elif isinstance(error, OSError):
        what = "it is no folder here, and the hub does not give it" if not Path(name[3:]).is_dir() else said
        remedy = "check the name and the connection, or give a folder"
    else:
        what, remedy = said, "take an encoder of texts or pictures"
    return RecipeError(f'"{name}": {" ".join(what.split(chr(10))[0].split())}', remedy)


def _takes(name: str, config: Any) -> str:
    """Whether an encoder reads texts or pictures, by the architectures that the library knows."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type

    def among(*names: str) -> bool:
        return any(kind in getattr(known, f"MODEL_FOR_{one}_MAPPING_NAMES") for one in names)

    if _finds_boxes(config):
        return "pictures"
    if among("AUDIO_CLASSIFICATION", "CTC", "SPEECH_SEQ_2_SEQ"):
        raise RecipeError(f'"{name}" is a {kind} model, which reads sound: no kind of column is sound yet', _TAKE)
    if getattr(config, "is_encoder_decoder", False):
        raise RecipeError(f'"{name}" is a {kind} model, an encoder with a decoder', _TAKE)
    texts = among("MASKED_LM", "TEXT_ENCODING") and not getattr(config, "is_decoder", False)
    pictures = among("IMAGE_CLASSIFICATION", "BACKBONE") and not among("CAUSAL_IMAGE_MODELING")
    if texts != pictures and not hasattr(config, "vision_config"):
        return "tokens" if texts else "pictures"
    if among("CAUSAL_LM") and not texts:
        raise RecipeError(f'"{name}" is a {kind} model, a decoder: it sees of a text only what went before', _TAKE)
    raise RecipeError(f'"{name}" is a {kind} model, and is not known to encode texts or pictures', _TAKE)


def _finds_boxes(config: Any) -> bool:
    """Whether it is a detector."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES as DETECTORS

    return config.model_type in DETECTORS


def _queries(config: Any) -> int:
    """How many boxes a detector speaks of."""
    return int(getattr(config, "num_queries", None) or config.num_detection_tokens)


_TAKE = "take an encoder of texts or pictures, such as BERT or ViT"


def _module(name: str, place: str, config: Any) -> tuple[nn.Module, list[str]]:
    """The encoder with its weights, and the names of those that the files lack: of the pooler, at most."""
    from transformers import AutoModel, AutoModelForObjectDetection

    kind = AutoModelForObjectDetection if _finds_boxes(config) else AutoModel
    try:
        module, told = kind.from_pretrained(
            place,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise _refused(name, error) from None
    except (SafetensorError, RuntimeError) as error:
        what = str(error).split("\n")[0]
        raise DamagedError(f"the weights cannot be read ({what})", "get the model again", file=place) from None
    absent = sorted(told["missing_keys"])
    if other := [key for key in absent if not key.startswith("pooler.")]:
        raise DamagedError(
            f"{len(other)} weights are missing, among them {other[0]}", "get the model again", file=place
        )
    return module.eval(), absent


def _text_of(config: Any) -> str:
    values = {key: value for key, value in config.to_dict().items() if key not in UNUSED}
    return json.dumps(values, sort_keys=True)


def _file(place: str, name: str) -> str:
    """The text of a file beside the weights; empty where there is none."""
    from transformers.utils import cached_file

    found = cached_file(
        place,
        name,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found).read_text(encoding="utf-8") if found else ""


def _json(place: str, name: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(_file(place, name) or "{}")
    except json.JSONDecodeError as error:
        raise DamagedError(f"this is not JSON: {error}", "get the model again", file=f"{place}/{name}") from None
    return values


def _tokenizer(name: str, place: str) -> str:
    from transformers import AutoTokenizer

    if text := _file(place, "tokenizer.json"):
        return text
    try:  # older models have a list of words instead
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        if len(tokenizer) > len(tokenizer.all_special_tokens):  # where there is no list either, there are marks alone
            return str(tokenizer.backend_tokenizer.to_str())
    except (OSError, ValueError, AttributeError, ImportError):
        pass
    raise RecipeError(f'"{name}" has no tokenizer.json', "take a model that has one")


def _limit(place: str, config: Any, module: nn.Module) -> int:
    """Tokens that the encoder can read."""
    stated = _json(place, "tokenizer_config.json").get("model_max_length") or NO_LIMIT
    positions = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    table = getattr(getattr(module, "embeddings", None), "position_embeddings", None)
    if (padding := getattr(table, "padding_idx", None)) is not None:  # counted from behind that of padding
        positions -= padding + 1
    return int(min(stated, positions, NO_LIMIT))


def _pooling_of_texts(place: str) -> str:
    """As the library sentence-transformers has it in its files; else the mean."""
    stated = _json(place, "1_Pooling/config.json")
    if stated.get("pooling_mode") in ("mean", "max", "cls"):
        return "first" if stated["pooling_mode"] == "cls" else str(stated["pooling_mode"])
    return next((ours for theirs, ours in POOLING_OF_SENTENCES.items() if stated.get(theirs)), "mean")


def _preprocessing(name: str, place: str, config: Any) -> dict[str, Any]:
    """Mean and deviation of the channels in [0, 1], and the size of pictures, as the model's own files say."""
    if config.model_type == "timm_wrapper":
        stated = config.pretrained_cfg
        return {"mean": list(stated["mean"]), "std": list(stated["std"]), "size": list(stated["input_size"][1:])}
    stated = _json(place, "preprocessor_config.json")
    size = stated.get("crop_size") if stated.get("do_center_crop") else stated.get("size")
    if isinstance(size, dict):
        size = [size["height"], size["width"]] if "height" in size else size.get("shortest_edge")
    size = [size, size] if isinstance(size, int) else size
    if not size or ("image_mean" not in stated and stated.get("do_normalize", True)):
        raise RecipeError(
            f'"{name}" does not say how it wants pictures', "take a model that has a preprocessor_config.json"
        )
    standardised = stated.get("do_normalize", True)
    return {
        "mean": list(stated["image_mean"]) if standardised else [0.0, 0.0, 0.0],
        "std": list(stated["image_std"]) if standardised else [1.0, 1.0, 1.0],
        "size": [int(side) for side in size],
    }


@torch.no_grad()
def _pooling_of_pictures(module: nn.Module, size: list[int], absent: list[str]) -> str:
    """Its own where it has learned one, else its first place (which is no part of the picture), or the mean of maps."""
    outputs: Any = module(pixel_values=torch.zeros(1, 3, *size))
    if getattr(outputs, "pooler_output", None) is not None and not absent:
        return "own"
    return "mean" if outputs.last_hidden_state.ndim == 4 else "first"


def _is_here(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries speak to people who load models by hand."""
    from transformers.utils import logging as theirs

    hub, level, bars = logging.getLogger("huggingface_hub"), theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    before = hub.level
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        hub.setLevel(before)
        if bars:
            theirs.enable_progress_bar()
