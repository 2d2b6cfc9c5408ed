"""The optimizers by name: PyTorch's own, fused where it has that, with no decay where decay does harm."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sounding.errors import RecipeError, nearest
from sounding.recipe import OptimizerRecipe
from sounding.training.distributed import is_spread
from sounding.training.fused import FusedAdamW
from sounding.training.schedule_free import ScheduleFreeAdamW

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
        foreach: bool | None = None,
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
                how: Any = {"fused": fused, "foreach": foreach}
                self._parts.append((muon, torch.optim.AdamW(mine, lr=lr, weight_decay=weight_decay, **how)))
        for _, part in self._parts:  # their groups are copies that carry every default: take those over
            for group in part.param_groups:
                self._own_group_of(group).update(group)

    def _own_group_of(self, group: dict[str, Any]) -> dict[str, Any]:
        return next(own for own in self.param_groups if own["params"][0] is group["params"][0])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter once."""
        for muon, part in self._parts:
            part.state = self.state  # replaced when a state is loaded, as are the groups: always hand on ours
            part.param_groups = [group for group in self.param_groups if group["muon"] is muon]
            part.step()


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An optimizer class and the options that its name stands for."""

    build: Callable[..., Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    implementations: tuple[str, ...] = ("fused", "foreach", "loop")
    """How its whole step can be carried out, where the device has that."""


OPTIMIZERS: dict[str, Algorithm] = {
    "gradient_descent": Algorithm(torch.optim.SGD),
    "sgd": Algorithm(torch.optim.SGD),
    "momentum": Algorithm(torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": Algorithm(torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adagrad": Algorithm(torch.optim.Adagrad),
    "rmsprop": Algorithm(torch.optim.RMSprop, implementations=("foreach", "loop")),
    "adam": Algorithm(torch.optim.Adam),
    "adamw": Algorithm(FusedAdamW),
    "muon": Algorithm(MuonAndAdamW, implementations=("loop",)),
    "schedule_free": Algorithm(ScheduleFreeAdamW, implementations=("loop",)),
}


FUSED_WHERE_SPREAD = (torch.optim.Adam, FusedAdamW)
"""Those whose fused step PyTorch has for parameters that are spread over processes, too."""


def build_optimizer(
    network: nn.Module, recipe: OptimizerRecipe, release: Mapping[str, float] | None = None
) -> Optimizer:
    """The optimizer a recipe names, over the trainable parameters of a network.

    release: see `parameter_groups`.

    `gradient_descent` is the update of `sgd` under its textbook name; what makes it that is a batch of all rows
    (`training.batch_size = 0`). `schedule_free` trains at one place and is used at another: see `ScheduleFreeAdamW`.

    Weight decay is decoupled from the gradient in adamw, muon and schedule_free, and added to it in the others
    (which is the same thing for sgd without momentum).

    Raises:
        RecipeError: for an unknown name (naming the nearest), an unknown option (naming the valid ones), a value
            the optimizer refuses, an implementation that is not there, a pattern of `rates` that fits no parameter,
            or a network without trainable parameters.
    """
    if recipe.name not in OPTIMIZERS:
        raise RecipeError(f'there is no optimizer "{recipe.name}"', nearest(recipe.name, OPTIMIZERS))
    algorithm = OPTIMIZERS[recipe.name]
    known = [name for name in inspect.signature(algorithm.build).parameters if name not in OURS]
    for option in recipe.options:
        if option not in known:
            raise RecipeError(f'{recipe.name} has no option "{option}"', nearest(option, known))
    groups = parameter_groups(network, recipe, release)
    options = {**algorithm.options, **recipe.options, **_implementation(network, groups, recipe)}
    try:
        return algorithm.build(groups, lr=recipe.lr, weight_decay=recipe.weight_decay, **options)
    except (ValueError, TypeError, IndexError) as error:
        raise RecipeError(f"{recipe.name} refuses its options: {error}", "see torch.optim for their ranges") from None


def parameter_groups(network: nn.Module, recipe: OptimizerRecipe, release: Mapping[str, float] | None = None) -> Groups:
    """The trainable parameters, one group for each factor of the learning rate and for weights and the rest.

    release: pattern of parameter names to when they are trained first; what is released together is a group of its
             own, for PyTorch's fused steps want all of a group to have a momentum, or none.

    Weights decay; norms, biases and embeddings do not: pulling a scale, a bias or a rarely seen embedding to zero
    regularises nothing and costs accuracy (He et al. 2019, arXiv:1812.01187, section 3.1). Each group has the keys
    `params`, `lr`, `weight_decay` and `decays`; those at the recipe's own rate come first, then in the order of
    `recipe.rates`, weights before the rest.

    Raises:
        RecipeError: if nothing can be trained, a pattern fits no parameter, or a factor is negative or not finite.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> for group in parameter_groups(network, OptimizerRecipe(lr=0.1, rates={"1.*": 10.0}, weight_decay=0.5)):
    ...     group["lr"], group["weight_decay"], [tuple(parameter.shape) for parameter in group["params"]]
    (0.1, 0.5, [(2, 2)])
    (0.1, 0.0, [(2,)])
    (1.0, 0.5, [(2, 2)])
    (1.0, 0.0, [(2,)])
    """
    names: dict[nn.Parameter, list[str]] = {}  # tied weights are one parameter with several names
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    _check_rates(recipe.rates, [name for several in names.values() for name in several])

    release = release or {}
    found: dict[tuple[float, float, bool], list[nn.Parameter]] = {
        (factor, released, decays): []
        for factor in (1.0, *recipe.rates.values())
        for released in sorted({0.0, *release.values()})
        for decays in (True, False)
    }
    decaying = _decaying(network)
    for parameter, several in names.items():
        if parameter.requires_grad:
            factor, released = _first(several, recipe.rates, 1.0), _first(several, release, 0.0)
            found[factor, released, parameter in decaying].append(parameter)
    groups = [
        {
            "params": chosen,
            "lr": recipe.lr * factor,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "decays": decays,
        }
        for (factor, _, decays), chosen in found.items()
        if chosen
    ]
    if not groups:
        raise RecipeError("the network has no parameters that can be trained", "set requires_grad on some")
    return groups


def _decaying(network: nn.Module) -> set[nn.Parameter]:
    """Weights proper; of a parameter that several modules share, the first one decides."""
    decays: dict[nn.Parameter, bool] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            decays.setdefault(
                parameter, parameter.ndim > 1 and "bias" not in name and not isinstance(module, UNDECAYED)
            )
    return {parameter for parameter, does in decays.items() if does}


def _first(names: list[str], values: Mapping[str, float], otherwise: float) -> float:
    fitting = (value for pattern, value in values.items() if any(fnmatchcase(name, pattern) for name in names))
    return float(next(fitting, otherwise))


def _check_rates(rates: Mapping[str, float], names: list[str]) -> None:
    for pattern, factor in rates.items():
        if not 0.0 <= factor < math.inf:
            raise RecipeError(f'the factor of "{pattern}" in optimizer.rates is {factor}', "give at least 0")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f'"{pattern}" in optimizer.rates fits no parameter', nearest(pattern, names))


def _implementation(network: nn.Module, groups: Groups, recipe: OptimizerRecipe) -> dict[str, bool]:
    """The keywords by which PyTorch is told how to carry the update out.

    `auto` is fused where PyTorch has that, and else what PyTorch takes by itself: foreach on a GPU, the loop on a CPU.
    """
    asked, algorithm = recipe.implementation, OPTIMIZERS[recipe.name]
    there = algorithm.implementations
    if asked not in ("auto", *there):
        raise RecipeError(f"{recipe.name} has no {asked} implementation", f"take one of: auto, {', '.join(there)}")
    choices = [name for name in ("fused", "foreach") if name in inspect.signature(algorithm.build).parameters]
    fusing = "fused" in choices and asked in ("auto", "fused") and _can_fuse(network, groups, algorithm.build)
    if asked == "fused" and not fusing:
        kinds = ", ".join(sorted({f"{p.dtype} on {p.device.type}" for p in _parameters(groups)})).replace("torch.", "")
        raise RecipeError(
            f"PyTorch has no fused {recipe.name} for these parameters ({kinds})", "take one of: auto, foreach, loop"
        )
    if asked == "auto":
        return {"fused": True} if fusing else {}
    return {name: name == asked for name in choices}


def other_implementations(recipe: OptimizerRecipe) -> list[str]:
    """How the step could be carried out but for the way that `auto` takes; none where the recipe has chosen.

    >>> other_implementations(OptimizerRecipe(name="adamw")), other_implementations(OptimizerRecipe(name="muon"))
    (['foreach', 'loop'], [])
    """
    there = OPTIMIZERS[recipe.name].implementations
    return [name for name in ("foreach", "loop") if len(there) > 1 and recipe.implementation == "auto"]


def _can_fuse(network: nn.Module, groups: Groups, build: Callable[..., Optimizer]) -> bool:
    if any(getattr(module, "sparse", False) for module in network.modules()):  # its gradients will be sparse
        return False
    if build not in FUSED_WHERE_SPREAD and any(is_spread(parameter) for parameter in _parameters(groups)):
        return False
    kinds = {(parameter.device, parameter.dtype) for parameter in _parameters(groups)}
    return all(_has_fused(build, device, dtype) for device, dtype in kinds)


@cache
def _has_fused(build: Callable[..., Optimizer], device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a fused step of one number goes through: PyTorch keeps no list of which device has which."""
    one = torch.zeros(1, device=device, dtype=dtype)
    one.grad = torch.zeros_like(one)
    try:
        build([{"params": [one], "decays": False}], lr=0.0, fused=True).step()
    except (NotImplementedError, RuntimeError):  # no such kernel; no such device or dtype
        return False
    return True


def _parameters(groups: Groups) -> Iterator[nn.Parameter]:
    return (parameter for group in groups for parameter in group["params"])
