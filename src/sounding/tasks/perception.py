"""With whose eyes pictures are compared in content and style: a network that was trained, or filters that were not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sounding.errors import RecipeError
from sounding.kinds import Image
from sounding.networks.convolutional import Standardize
from sounding.networks.style import (
    LayerFeatures,
    RandomFeatures,
    content_distance,
    gram,
    roughness,
    style_distance,
)
from sounding.recipe import NetworkRecipe, StyleRecipe, TransferRecipe, is_pretrained
from sounding.tasks.build import build_network
from sounding.tasks.carrying import EarlierRun
from sounding.tasks.pretrained import Encoder

RANDOM = "random"


class Distances(NamedTuple):
    """Of each picture (B,)."""

    content: Tensor
    style: Tensor
    roughness: Tensor


class Perception:
    """Compares pictures in content with themselves as they were, and in style with one picture.

    Pictures are (B, C, H, W), float in [0, 1]. `told` says in words whose eyes these are.
    """

    def __init__(
        self,
        features: RandomFeatures | LayerFeatures,
        *,
        channels: int,
        standardize: nn.Module,
        told: str,
        fingerprint: str = RANDOM,
    ) -> None:
        self.features, self.channels, self.standardize, self.told = features, channels, standardize, told
        self.fingerprint = fingerprint
        """Of its weights; `random` for filters that follow from the seed."""

    @classmethod
    def of(cls, backbone: str, *, seed: int = 0) -> Perception:
        """By the name of a backbone: `random`, the folder of a run, or an encoder as `hf:NAME_OR_FOLDER`.

        Raises:
            UserError: if it is not there, or reads no pictures.
        """
        if backbone in ("", RANDOM):
            eyes = Standardize([0.5] * 3, [0.25] * 3)
            told = "random filters of 3, 5 and 9 pixels, which were never trained"
            return cls(RandomFeatures(3, seed=seed), channels=3, standardize=eyes, told=told)
        if is_pretrained(backbone):
            return cls._of_encoder(backbone)
        return cls._of_run(backbone)

    @classmethod
    def _of_run(cls, folder: str) -> Perception:
        if not Path(folder).is_dir():
            raise RecipeError("the backbone of the style is not here", "bring its folder back", file=folder)
        run = EarlierRun.open(TransferRecipe(source=folder))
        blocks = run.schema.blocks()
        if [block.form for block in blocks] != ["pictures"] or "head.weight" not in run.weights:
            raise RecipeError(
                "this run has no network that reads pictures and tells classes", "give another backbone", file=folder
            )
        name, options = run.recipe.network.name, run.recipe.network.options
        network = build_network(blocks, len(run.weights["head.weight"]), NetworkRecipe(name=name, options=options))
        network.load_state_dict(dict(run.weights))
        told = f"{name} of {Path(folder).name}, trained on {blocks[0].width} x {blocks[0].height} pixels"
        return cls(
            LayerFeatures(network),
            channels=blocks[0].channels,
            standardize=nn.Identity(),
            told=told,
            fingerprint=run.fingerprint,
        )

    @classmethod
    def _of_encoder(cls, name: str) -> Perception:
        encoder = Encoder.open(name)
        if encoder.takes != "pictures":
            raise RecipeError(f'"{name}" reads {encoder.takes}', "give an encoder of pictures as the backbone")
        block = Image(3, 64, 64, (0.0,) * 3, (1.0,) * 3).block("image")
        settings = encoder.network_settings([block], NetworkRecipe(name=name))
        network = build_network([block], 1, NetworkRecipe(name=name, options=settings["network.options"]))
        encoder.load_into(network, [block])
        eyes = _Called(network.get_submodule("pretrained"))
        standardize = network.get_submodule("standardize")
        its = encoder.facts()["encoder"]
        return cls(
            LayerFeatures(eyes), channels=3, standardize=standardize, told=f"the encoder {name}", fingerprint=its
        )

    def to(self, device: torch.device) -> Perception:
        """The same on another device."""
        self.features.to(device)
        self.standardize.to(device)
        return self

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """Of each layer (B, channels, h, w), the largest first; eyes for grey look at every colour by itself.

        Of grey pictures they are those of pictures in three equal colours.

        Raises:
            RecipeError: if there is no layer with maps.
        """
        colours = pictures.shape[1]
        if self.channels == 3:
            seen = pictures.expand(-1, 3, -1, -1) if colours == 1 else pictures
            found = self.features.maps(self.standardize(seen))
        else:
            found = self.features.maps(self.standardize(pictures.flatten(0, 1)[:, None]))
            found = [one.reshape(len(pictures), -1, *one.shape[2:]).repeat(1, 3 // colours, 1, 1) for one in found]
        if not found:
            raise RecipeError("the backbone has no layers of convolutions that could be compared", "give another")
        return found

    def style_of(self, picture: Tensor) -> list[Tensor]:
        """The Gram matrix of each layer, of a picture (1, C, H, W)."""
        with torch.no_grad():
            return [gram(one) for one in self.maps(picture)]

    def distances(self, pictures: Tensor, originals: Tensor, style: Sequence[Tensor]) -> Distances:
        """How far pictures are from their originals in content, and in style from what `style_of` gives.

        Content is the deepest but one of the layers: deeper ones know what is there, but not where.
        """
        with torch.no_grad():
            wanted = self.maps(originals)
        maps = self.maps(pictures)
        count = min(len(maps), len(style))  # a small picture has fewer sizes of maps
        deep = max(len(maps) - 2, 0)
        return Distances(
            content_distance(maps[deep], wanted[deep]),
            style_distance(maps[:count], style[:count]),
            roughness(pictures),
        )


def weighed(distances: Distances, settings: StyleRecipe) -> Tensor:
    """(B,) the loss of each picture."""
    return (
        settings.content_weight * distances.content
        + settings.style_weight * distances.style
        + settings.smoothness * distances.roughness
    )


class _Called(nn.Module):
    """An encoder of the library transformers, called with pictures alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: Tensor) -> object:
        return self.encoder(pixel_values=pictures)
