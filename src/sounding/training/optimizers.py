"""The optimizers by name: PyTorch's own, fused where it has that, with no decay where decay does harm."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sounding.errors import RecipeError, nearest
from sounding.recipe import OptimizerRecipe

Groups = list[dict[str, Any]]

UNDECAYED = (
    *(nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
    nn.modules.batchnorm._NormBase,
)
"""Modules whose own parameters are not decayed, whatever their shape."""

OURS = {"params", "lr", "weight_decay", "fused", "foreach", "capturable", "differentiable", "maximize"}
"""Arguments that are no options: set from elsewhere, or of no use here."""


class MuonAndAdamW(Optimizer):
    """Muon for the matrices inside a network, AdamW for everything else (embeddings, biases, norms, convolutions).

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the update is scaled to match AdamW's
    (Liu et al. 2025, arXiv:2502.16982), so that one learning rate serves both.
    """

    def __init__(
        self,
        params: Groups,
        lr: float,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        fused: bool | None = None,
    ) -> None:
        groups = [
            {**group, "params": chosen, "muon": muon}
            for group in params
            for muon in (True, False)
            if (chosen := [p for p in group["params"] if (group["decays"] and p.ndim == 2) is muon])
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        options = {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        self._parts: list[tuple[bool, Optimizer]] = []
        for muon in (True, False):
            mine = [group for group in self.param_groups if group["muon"] is muon]
            if mine and muon:
                matched: Any = {"adjust_lr_fn": "match_rms_adamw", **options}
                self._parts.append((muon, torch.optim.Muon(mine, lr=lr, weight_decay=weight_decay, **matched)))
            elif mine:
                self._parts.append((muon, torch.optim.AdamW(mine, lr=lr, weight_decay=weight_decay, fused=fused)))
        for _, part in self._parts:  # their groups are copies that carry every default: take those over
            for group in part.param_groups:
                self._own_group_of(group).update(group)

    def _own_group_of(self, group: dict[str, Any]) -> dict[str, Any]:
        return next(own for own in self.param_groups if own["params"][0] is group["params"][0])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter once."""
        for (
            muon,
            part,
        ) in self._parts:  # state and groups are replaced when a state is loaded: always hand on ours
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["muon"] is muon]
            part.step()


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An optimizer class and the options that its name stands for."""

    build: type[Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    fused: bool = False
    """Whether PyTorch has a fused step for it, on CPU as well as CUDA."""


OPTIMIZERS: dict[str, Algorithm] = {
    "sgd": Algorithm(torch.optim.SGD, fused=True),
    "momentum": Algorithm(torch.optim.SGD, {"momentum": 0.9}, fused=True),
    "nesterov": Algorithm(torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, fused=True),
    "adagrad": Algorithm(torch.optim.Adagrad),
    "rmsprop": Algorithm(torch.optim.RMSprop),
    "adam": Algorithm(torch.optim.Adam, fused=True),
    "adamw": Algorithm(torch.optim.AdamW, fused=True),
    "muon": Algorithm(MuonAndAdamW, fused=True),
}


def build_optimizer(network: nn.Module, recipe: OptimizerRecipe) -> Optimizer:
    """The optimizer a recipe names, over the trainable parameters of a network.

    Weight decay is decoupled from the gradient in adamw and muon, and added to it in the others (which is the
    same thing for sgd without momentum).

    Raises:
        RecipeError: for an unknown name (naming the nearest), an unknown option (naming the valid ones), a value
            the optimizer refuses, or a network without trainable parameters.
    """
    if recipe.name not in OPTIMIZERS:
        raise RecipeError(f'there is no optimizer "{recipe.name}"', nearest(recipe.name, OPTIMIZERS))
    algorithm = OPTIMIZERS[recipe.name]
    known = [name for name in inspect.signature(algorithm.build).parameters if name not in OURS]
    for option in recipe.options:
        if option not in known:
            raise RecipeError(f'{recipe.name} has no option "{option}"', nearest(option, known))
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in recipe.options.items()}
    groups = parameter_groups(network, recipe.weight_decay)
    if algorithm.fused and _can_fuse(network, groups):
        options["fused"] = True
    build: Any = algorithm.build
    try:
        optimizer: Optimizer = build(
            groups, lr=recipe.lr, weight_decay=recipe.weight_decay, **{**algorithm.options, **options}
        )
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{recipe.name} refuses its options: {error}", "see torch.optim for their ranges") from None
    return optimizer


def parameter_groups(network: nn.Module, weight_decay: float) -> Groups:
    """The trainable parameters in two groups: weights, which decay, and norms, biases and embeddings, which do not.

    Pulling a scale, a bias or a rarely seen embedding to zero regularises nothing and costs accuracy
    (He et al. 2019, arXiv:1812.01187, section 3.1).

    Raises:
        RecipeError: if nothing in the network can be trained.
    """
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    seen: set[int] = set()  # tied weights are one parameter with several names
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                plain = parameter.ndim > 1 and "bias" not in name and not isinstance(module, UNDECAYED)
                (decayed if plain else others).append(parameter)
    if not decayed and not others:
        raise RecipeError("the network has no parameters that can be trained", "set requires_grad on some")
    groups: Groups = [
        {"params": decayed, "decays": True, "weight_decay": weight_decay},
        {"params": others, "decays": False, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _can_fuse(network: nn.Module, groups: Groups) -> bool:
    parameters: Iterable[Tensor] = (p for group in groups for p in group["params"])
    sparse = any(getattr(module, "sparse", False) for module in network.modules())
    return not sparse and all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
