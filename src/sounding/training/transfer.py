"""What one network learned, taken over by another: weights by name, layers from input to head, and their slow release.

Sources: features carry over, and lower layers best: Yosinski et al. 2014, arXiv:1411.1792; gradual unfreezing and
discriminative rates: Howard and Ruder 2018, arXiv:1801.06146, section 3.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from sounding.errors import RecipeError, nearest

HEAD = ("head.*",)
"""What every network of ours learns anew."""


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """Which tensors of a network came from another, by name."""

    carried: tuple[str, ...]
    anew: tuple[str, ...]
    """Those that the network begins with as it did before."""
    left: tuple[str, ...]
    """Those of the other network that have no place in this one."""


@torch.no_grad()
def carry_over(
    network: nn.Module, weights: nn.Module | Mapping[str, Tensor], *, anew: Sequence[str] = HEAD
) -> CarriedOver:
    """Give a network the weights and statistics of another, by their names, but for what it is to learn anew.

    weights:  another network, or its state.
    anew:     patterns of names that stay as they are.

    Raises:
        RecipeError: if a tensor has another shape there, or no tensor has the same name.

    >>> from sounding.networks import FeedForward
    >>> old, new = FeedForward(4, 8, hidden_sizes=[16]), FeedForward(4, 2, hidden_sizes=[16])
    >>> carry_over(new, old).anew
    ('head.weight', 'head.bias')
    """
    theirs = dict(weights.state_dict() if isinstance(weights, nn.Module) else weights)
    own = network.state_dict()
    carried = [name for name in own if name in theirs and not _fits(name, anew)]
    wrong = [
        f"{name} is {tuple(theirs[name].shape)} there and {tuple(own[name].shape)} here"
        for name in carried
        if theirs[name].shape != own[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise RecipeError(f"the two networks differ: {wrong[0]}{more}", "build both with the same options")
    if not carried:
        raise RecipeError(
            f"the two networks have nothing in common: {next(iter(theirs), 'nothing')} there, "
            f"{next(iter(own), 'nothing')} here",
            "take two networks of one family",
        )
    for name in carried:
        own[name].copy_(theirs[name])
    taken = set(carried)
    return CarriedOver(
        tuple(carried),
        tuple(name for name in own if name not in taken),
        tuple(name for name in theirs if name not in taken),
    )


def layer_groups(network: nn.Module) -> list[list[str]]:
    """The layers of a network from input to head, each as patterns of the names of its parameters.

    Networks, sequences, lists and what has a list of modules in it are taken apart; anything else with parameters is a
    layer. What has vectors alone (a norm, a bias) goes with the layer before it. Modules come in the order in which
    they were made.

    >>> from sounding.networks import ConvolutionalNetwork
    >>> layer_groups(ConvolutionalNetwork(1, 2, picture_size=(8, 8), hidden_sizes=[4], depth=2))
    [['layers.0.*', 'layers.1.*'], ['layers.3.*', 'layers.4.*'], ['head.*']]
    """
    groups: list[list[str]] = []
    for pattern, has_matrix in _layers(network, ""):
        if has_matrix or not groups:
            groups.append([pattern])
        else:
            groups[-1].append(pattern)
    return groups


def gradually(
    groups: Sequence[Sequence[str]], *, rate: float = 0.3, release: float = 0.3
) -> tuple[dict[str, float], dict[str, float]]:
    """Rates and releases for layers below a head, for `OptimizerRecipe.rates` and `TrainingRecipe.release`.

    groups:   patterns of layers, from the input up, without the head.
    rate:     factor of the learning rate of the lowest layer; from layer to layer it falls by the same factor.
    release:  fraction of training after which the lowest layer is trained too; those above it at even times before.
              0 trains all from the start, 1 none of them ever.

    >>> gradually([["stem.*"], ["blocks.*"]], rate=0.25, release=0.5)
    ({'stem.*': 0.25, 'blocks.*': 0.5}, {'stem.*': 0.5, 'blocks.*': 0.25})
    """
    if not 0.0 <= rate <= 1.0 or not 0.0 <= release <= 1.0:
        raise RecipeError(f"rate is {rate} and release {release}", "give both from 0 to 1")
    rates, releases = {}, {}
    for below, group in zip(range(len(groups), 0, -1), groups, strict=True):
        depth = below / len(groups)  # 1 for the lowest layer
        for pattern in group:
            rates[pattern] = round(rate**depth, 6)
            releases[pattern] = 1.0 if release == 1.0 else round(release * depth, 6)
    return rates, {} if release == 0.0 else releases


class Release:
    """Parts of a network that are frozen at first, and trained from some point of the training on.

    Called with the fraction of training that is done, before each step. What is frozen has no gradient, and modules
    that keep statistics (batch norms) are in evaluation mode: the statistics do not move. What is frozen depends on the
    fraction alone, so a training that is resumed goes on as it was. What could not be trained before never is.

    when:  pattern of the names of parameters, to the fraction from which on they are trained; 1 for never. The first
           that fits counts; what none fits is left alone.

    Raises:
        RecipeError: for a fraction that is not in [0, 1], or a pattern that fits no parameter.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> release = Release(network, {"0.*": 0.5})
    >>> for done in (0.4, 0.5):
    ...     release(done)
    ...     [parameter.requires_grad for parameter in network.parameters()]
    [False, False, True, True]
    [True, True, True, True]
    """

    def __init__(self, network: nn.Module, when: Mapping[str, float]) -> None:
        names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
        for pattern, at in when.items():
            if not 0.0 <= at <= 1.0:
                raise RecipeError(f'"{pattern}" is released at {at}', "give a fraction of training, from 0 to 1")
            if not any(fnmatchcase(name, pattern) for name in names):
                raise RecipeError(f'"{pattern}" in training.release fits no parameter', nearest(pattern, names))
        self._parameters: list[tuple[float, nn.Parameter]] = []
        self._statistics: list[tuple[float, nn.Module]] = []
        for prefix, module in network.named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if parameter.requires_grad and (due := _when(name, when)) is not None:
                    self._parameters.append((due, parameter))
            for name, _ in list(module.named_buffers(prefix, recurse=False))[:1]:
                if (due := _when(name, when)) is not None:
                    self._statistics.append((due, module))
        self._times = sorted({at for at, _ in (*self._parameters, *self._statistics)})
        self._stage: int | None = None

    def __call__(self, progress: float) -> None:
        """Freeze and release what is due, where that has changed since the last call.

        progress: fraction of all steps done, in [0, 1).
        """
        stage = bisect_right(self._times, progress)
        if stage == self._stage:
            return
        self._stage = stage
        for at, parameter in self._parameters:
            parameter.requires_grad_(at <= progress)
            if at > progress:
                parameter.grad = None
        for at, module in self._statistics:
            module.train(at <= progress)

    def everything(self) -> None:
        """Release all that is ever trained: so an optimizer is given its parameters."""
        self(math.nextafter(1.0, 0.0))

    def end(self) -> None:
        """Leave every parameter as it was before, for a training of its own."""
        for _, parameter in self._parameters:
            parameter.requires_grad_()
        for _, module in self._statistics:
            module.train()
        self._stage = None


def _layers(module: nn.Module, prefix: str) -> Iterator[tuple[str, bool]]:
    """Pattern of each layer, and whether it has a matrix."""
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{prefix}{name}", parameter.ndim > 1
    for name, child in module.named_children():
        sizes = [parameter.ndim for parameter in child.parameters()]
        if not sizes:
            continue
        taken_apart = isinstance(child, nn.Sequential | nn.ModuleList) or hasattr(child, "forward_features")
        if taken_apart or any(isinstance(part, nn.ModuleList) for part in child.modules()):
            yield from _layers(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}.*", max(sizes) > 1


def _when(name: str, when: Mapping[str, float]) -> float | None:
    return next((at for pattern, at in when.items() if fnmatchcase(name, pattern)), None)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
