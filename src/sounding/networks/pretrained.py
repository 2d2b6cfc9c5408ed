"""Encoders and detectors that were trained elsewhere, with a new head: models of the library transformers.

Sources: a text as the mean of its tokens: Reimers and Gurevych 2019, arXiv:1908.10084; adapters of low rank: Hu et al.
2021, arXiv:2106.09685, by the library peft.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._choice import choose
from sounding.networks._padding import real_places, trimmed
from sounding.networks.convolutional import Standardize
from sounding.networks.detector import Detections

GROUP = 16
"""Texts that pass together on a CPU, where each place of padding costs time: those of about one length."""


class _Pretrained(nn.Module):
    """What both share: the encoder, how its outputs become features, and the head."""

    def __init__(self, encoder: nn.Module, pooling: str, dropout: float) -> None:
        super().__init__()
        self.pretrained = encoder
        self.pool = choose("pooling", pooling, POOLINGS)
        self.dropout = nn.Dropout(dropout)
        if pooling != "own" and any(True for _ in _pooler(encoder).parameters()):
            encoder.register_module("pooler", None)  # never asked, so never trained
        self.num_features = 0
        self.head: nn.Module = nn.Identity()

    def _add_head(self, example: Tensor, out_features: int) -> None:
        """A head that fits the features of an example."""
        with torch.no_grad():
            self.num_features = self.eval().forward_features(example).shape[1]
        self.train()
        self.head = nn.Linear(self.num_features, out_features)

    def forward_features(self, inputs: Tensor) -> Tensor:
        """(B, ...) to (B, num_features)."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ...) to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(inputs))
        return logits

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of an encoder of the same kind and size, whether or not this one has adapters."""
        own = {name.replace(".base_layer.", "."): name for name in self.pretrained.state_dict() if ".lora_" not in name}
        self.pretrained.load_state_dict({own[name]: weights[name] for name in own}, strict=False)


class PretrainedText(_Pretrained):
    """A pre-trained encoder of texts, and a head.

    On a CPU texts of about one length pass together, so that little time goes into padding, which never changes the
    result.

    Args:
        encoder: called with `input_ids` and `attention_mask` (B, L); answers with a `last_hidden_state` (B, L, size).
        out_features: outputs for a text, before any softmax.
        pooling: how the features of tokens become those of a text: `mean`, `first`, `max`, or `own`, which is the
            `pooler_output` of the encoder.
        padding: the identifier of the token that the encoder pads with.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    Tokens (B, L) are the identifiers of the encoder's own tokenizer plus 1; 0 is padding at the end.
    """

    def __init__(
        self, encoder: nn.Module, out_features: int, *, pooling: str = "mean", padding: int = 0, dropout: float = 0.1
    ) -> None:
        super().__init__(encoder, pooling, dropout)
        self.padding = padding
        self._add_head(torch.ones(1, 1, dtype=torch.int64), out_features)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) to (B, num_features)."""
        words = trimmed(tokens)
        if words.is_cuda or torch.compiler.is_compiling():
            return cast("Tensor", self.dropout(self._read(words)))
        order = (words != 0).sum(1).argsort(stable=True)
        features = torch.cat([self._read(trimmed(words[rows])) for rows in torch.split(order, GROUP)])
        return cast("Tensor", self.dropout(features[order.argsort()]))

    def _read(self, words: Tensor) -> Tensor:
        real = real_places(words)
        identifiers = torch.where(words != 0, words - 1, self.padding)
        outputs = self.pretrained(input_ids=identifiers.long(), attention_mask=real.long())
        return self.pool(outputs, real)


class PretrainedPictures(_Pretrained):
    """A pre-trained encoder of pictures, and a head.

    Args:
        encoder: called with `pixel_values` (B, 3, H, W); answers with a `last_hidden_state`, (B, places, size) or
            (B, size, H, W), and perhaps a `pooler_output`.
        out_features: outputs for a picture, before any softmax.
        mean, std: of red, green and blue in [0, 1], by which the encoder's pictures were standardised.
        size: height and width that pictures are brought to.
        pooling: how the features of places become those of a picture: `mean`, `first`, `max`, or `own`, which is the
            `pooler_output` of the encoder.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    Pictures come as they are stored, (B, 1 or 3, H, W) uint8 or float in [0, 1], of any size.
    """

    def __init__(
        self,
        encoder: nn.Module,
        out_features: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: Sequence[int],
        pooling: str = "own",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder, pooling, dropout)
        self.standardize, self.size = Standardize(mean, std), tuple(size)
        self._add_head(torch.zeros(1, 3, *self.size), out_features)

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) to (B, num_features)."""
        standardised = self.standardize(pictures)  # grey becomes three channels
        if standardised.shape[2:] != self.size:
            standardised = F.interpolate(standardised, self.size, mode="bilinear", antialias=True)
        return cast("Tensor", self.dropout(self.pool(self.pretrained(pixel_values=standardised), None)))


class PretrainedDetector(nn.Module):
    """A pre-trained detector of the library transformers, whose queries say what is where; what they call it is new.

    It is trained as any detector here is, not with one query for each thing: those queries answer for a thing that say
    it best, and what they repeat is left out afterwards (Ouyang-Zhang et al. 2022, arXiv:2212.06137).

    Args:
        detector: called with `pixel_values` (B, 3, H, W); answers with `pred_boxes` (B, Q, 4), middle, width and
            height in fractions of the sides, and a `last_hidden_state` that ends in the Q queries.
        out_features: classes.
        mean, std: of red, green and blue in [0, 1], by which the detector's pictures were standardised.
        prior: the probability of every class for every query before training.

    Pictures come as they are stored, (B, 1 or 3, H, W) uint8 or float in [0, 1], of any size.
    """

    def __init__(
        self,
        detector: nn.Module,
        out_features: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        self.pretrained, self.standardize = detector, Standardize(mean, std)
        config = cast("Any", detector).config
        self.num_features = int(config.hidden_size)
        if hasattr(detector, "class_labels_classifier"):
            detector.register_module("class_labels_classifier", _Nameless())  # its own classes are never asked for
        self.head = nn.Linear(self.num_features, out_features)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -math.log((1 - prior) / prior))

    def forward(self, pictures: Tensor) -> Detections:
        """(B, 1 or 3, H, W) to what each query says; it may speak of any place."""
        standardised = self.standardize(pictures)
        outputs = self.pretrained(pixel_values=standardised)
        middle, sides = outputs.pred_boxes.float().split(2, dim=2)
        whole = middle.new_tensor([pictures.shape[3], pictures.shape[2]])
        boxes = torch.cat([middle - sides / 2, middle + sides / 2], 2) * torch.cat([whole, whole])
        queries = outputs.last_hidden_state[:, -boxes.shape[1] :]
        reach = whole.max().expand(*boxes.shape[:2], 1) * 2
        return Detections(self.head(queries).float(), boxes, torch.cat([middle * whole, reach], 2))

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a detector of the same kind and size."""
        own = self.pretrained.state_dict()
        self.pretrained.load_state_dict({name: weights[name] for name in own})


class _Nameless(nn.Module):
    """In the place of a classifier whose classes are not wanted: one class, which nothing is."""

    def forward(self, values: Tensor) -> Tensor:
        """(..., size) to (..., 1)."""
        return values[..., :1]


def pretrained_text(
    vocabulary_size: int,
    out_features: int,
    *,
    config: str,
    pooling: str = "mean",
    lora: int = 0,
    train_words: bool = False,
    dropout: float = 0.1,
) -> PretrainedText:
    """A text encoder by its configuration, with random weights.

    config:  the text of the `config.json` of a model of the library transformers.
    lora:    rank of adapters that are trained instead of the encoder; 0 trains the encoder itself.
    train_words: whether the embeddings of tokens are trained, too: those of tokens that the training rows lack would
             stay behind. They are half of a small encoder, and take a fifth of the time of its training.

    Raises:
        ValueError: for a vocabulary that is larger than the encoder's.
    """
    encoder = _built(config)
    words = encoder.get_input_embeddings()
    words.requires_grad_(train_words)
    size = words.num_embeddings
    if vocabulary_size > size + 1:
        raise ValueError(f"the tokenizer has {vocabulary_size - 1} tokens, and the encoder knows {size}")
    padding = json.loads(config).get("pad_token_id") or 0
    network = PretrainedText(encoder, out_features, pooling=pooling, padding=padding, dropout=dropout)
    return _adapted(network, lora)


def pretrained_pictures(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    config: str,
    mean: Sequence[float],
    std: Sequence[float],
    size: Sequence[int],
    pooling: str = "own",
    lora: int = 0,
    dropout: float = 0.1,
) -> PretrainedPictures:
    """A picture encoder by its configuration, with random weights; `config` and `lora` as in `pretrained_text`."""
    network = PretrainedPictures(
        _built(config), out_features, mean=mean, std=std, size=size, pooling=pooling, dropout=dropout
    )
    return _adapted(network, lora)


def pretrained_detector(
    in_channels: int,
    out_features: int,
    *,
    picture_size: tuple[int, int],
    config: str,
    mean: Sequence[float],
    std: Sequence[float],
    queries: int,
) -> PretrainedDetector:
    """A detector by its configuration, with random weights; `config` as in `pretrained_text`, `queries` tells of it."""
    from transformers import AutoConfig, AutoModelForObjectDetection

    settings = AutoConfig.for_model(**json.loads(config))
    detector = AutoModelForObjectDetection.from_config(settings, trust_remote_code=False, dtype=torch.float32)
    return PretrainedDetector(detector, out_features, mean=mean, std=std)


Network = TypeVar("Network", bound=_Pretrained)


def _built(config: str) -> Any:
    from transformers import AutoConfig, AutoModel

    values = json.loads(config)
    return AutoModel.from_config(AutoConfig.for_model(**values), trust_remote_code=False, dtype=torch.float32)


def _adapted(network: Network, rank: int) -> Network:
    """The network with its encoder frozen and adapters of some rank beside its matrices; rank 0 leaves it alone."""
    if rank:
        from peft import LoraConfig, inject_adapter_in_model

        settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", bias="none")
        inject_adapter_in_model(settings, network.pretrained)
    return network


def _pooler(encoder: nn.Module) -> nn.Module:
    pooler = getattr(encoder, "pooler", None)
    return pooler if isinstance(pooler, nn.Module) else nn.Identity()


def _mean(outputs: Any, real: Tensor | None) -> Tensor:
    places = _places(outputs)
    if real is None:
        return places.mean(1)
    share = real.unsqueeze(2).to(places.dtype)
    return (places * share).sum(1) / share.sum(1)


def _max(outputs: Any, real: Tensor | None) -> Tensor:
    places = _places(outputs)
    return (places if real is None else places.masked_fill(~real.unsqueeze(2), -torch.inf)).amax(1)


def _first(outputs: Any, real: Tensor | None) -> Tensor:
    return _places(outputs)[:, 0]


def _own(outputs: Any, real: Tensor | None) -> Tensor:
    return cast("Tensor", outputs.pooler_output).float().flatten(1)


def _places(outputs: Any) -> Tensor:
    """(B, places, size) float32: sums in bfloat16 would lose digits."""
    hidden = cast("Tensor", outputs.last_hidden_state).float()
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


POOLINGS: dict[str, Callable[[Any, Tensor | None], Tensor]] = {
    "mean": _mean,
    "first": _first,
    "max": _max,
    "own": _own,
}
"""How an encoder's outputs become the features (B, size) of a row, by the places that are not padding."""
