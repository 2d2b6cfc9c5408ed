"""Gradients: clipped, checked against finite differences, and had for less memory.

The ways of clipping take parameters on one device, and answer with the norm of all their gradients together before
anything was changed: a gradient that is not finite shows there, whatever clipping made of it.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from sounding.errors import RecipeError
from sounding.training.distributed import whole

RECENT_NORMS = 256
"""Norms over which `clip_by_percentile` takes its percentile: some seconds of training, and quick to sort."""
ROUNDING = 100
"""Units in the last place by which a loss may be off: it is the sum of many rounded numbers."""
EPSILON, TINY = sys.float_info.epsilon, sys.float_info.min
KINK = 1e-3
"""Slopes to the left and right that differ by more than this fraction meet in a kink: a bend would have to turn the
slope around within a thousand steps to look like one."""
LAYERS_OF_A_BLOCK = 6
"""A sequence of so many single layers, in another sequence, is one block: normalization, map and activation, twice."""


@torch.no_grad()
def clip_by_value(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Cut each entry of the gradients to [-limit, limit], in place; answers with their norm before.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, -4.0])
    >>> clip_by_value([weight], 3.5), weight.grad
    (tensor(5.), tensor([ 3.0000, -3.5000]))
    """
    gradients = _gradients(parameters)
    norm = _norm(gradients)
    if gradients:
        torch._foreach_clamp_min_(gradients, -limit)
        torch._foreach_clamp_max_(gradients, limit)
    return norm


@torch.no_grad()
def clip_by_norm(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients, in place, so that the norm of all together is at most `limit`; answers with it before.

    The same bits as `torch.nn.utils.clip_grad_norm_`, in less time; nothing here waits for a GPU.
    Source: Pascanu et al. 2013, arXiv:1211.5063, section 3.2.
    """
    gradients = _gradients(parameters)
    norm = _norm(gradients)
    if gradients:
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp_(max=1.0))
    return norm


@torch.no_grad()
def clip_by_percentile(
    parameters: Iterable[Tensor], percentile: float, norms: list[float], window: int = RECENT_NORMS
) -> Tensor:
    """Scale the gradients, in place, down to a percentile of the norms of recent steps, this one included.

    AutoClip (Seetharaman et al. 2020, arXiv:2007.14469), over the latest norms instead of all there ever were.

    percentile:  in (0, 100); with 10, nine steps of ten are clipped.
    norms:       the norms of the latest steps before clipping. This step's is added at the end, and the oldest leaves
                 when there are more than `window`. A norm that is not finite is not added, and nothing is clipped.
                 The list is all that is remembered: save it, and a resumed run clips as one left alone.
    Returns:     the norm before; a GPU is waited for.

    >>> weight, norms = torch.zeros(2, requires_grad=True), [1.0, 3.0]
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_by_percentile([weight], 50, norms), weight.grad, norms
    (tensor(5.), tensor([1.8000, 2.4000]), [1.0, 3.0, 5.0])
    """
    gradients = _gradients(parameters)
    total = _norm(gradients)
    norm = total.item()
    if not math.isfinite(norm):
        return total
    norms.append(norm)
    del norms[:-window]
    limit = _percentile(norms, percentile)
    if norm > limit:
        torch._foreach_mul_(gradients, limit / norm)
    return total


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [gradient for parameter in parameters if (gradient := parameter.grad) is not None]


def _norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all entries together."""
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return whole(norm)  # of gradients that are spread over processes, that of all


def _percentile(values: list[float], percentile: float) -> float:
    """The percentile, between two values where it falls there."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percentile / 100
    below = int(place)
    rest = place - below
    return ordered[below] + (rest * (ordered[below + 1] - ordered[below]) if rest else 0.0)


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry of a parameter or an input whose backpropagated gradient is not the slope that was measured."""

    name: str
    index: tuple[int, ...]
    backpropagated: float
    numerical: float
    error: float
    """The difference, relative to the larger of the two."""

    def __str__(self) -> str:
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return (
            f"{self.name}{place}: backpropagation gives {self.backpropagated:.10g}, "
            f"finite differences {self.numerical:.10g}"
        )


@dataclass(slots=True)
class Comparison:
    """What was found out about the gradient of one parameter or input."""

    entries: int
    """How many there are."""
    compared: int = 0
    """How many of them had a slope to compare with."""
    kinks: list[tuple[int, ...]] = field(default_factory=list)
    """Where there is none: the slopes to the two sides differ, as those of a ReLU at 0."""
    error: float = 0.0
    """The greatest relative error."""


@dataclass(frozen=True, slots=True)
class GradientReport:
    """What `gradient_check` found; `str` of it is for people."""

    comparisons: dict[str, Comparison]
    """By name of the parameter, or `input 0`, `input 1`, ..."""
    differences: list[Difference]
    """What differs by more than the tolerance; the worst first."""
    step: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether something was compared, and nothing differs."""
        return not self.differences and any(comparison.compared for comparison in self.comparisons.values())

    def __str__(self) -> str:
        wrong = len({difference.name for difference in self.differences})
        verdict = "the gradients are right" if self.passed else f"{wrong} of {len(self.comparisons)} gradients differ"
        if not self.passed and not wrong:
            verdict = "nothing could be compared"
        lines = [f"{verdict} (float64, central differences, step {self.step:g}, tolerance {self.tolerance:g})"]
        for name, found in self.comparisons.items():
            line = f"  {name}: {found.compared} of {found.entries} entries, greatest relative error {found.error:.1e}"
            if found.kinks:
                line += f"; not differentiable here: {', '.join(map(str, found.kinks[:3]))}"
                line += f" and {len(found.kinks) - 3} more" if len(found.kinks) > 3 else ""
            lines.append(line)
        return "\n".join([*lines, *(f"  {difference}" for difference in self.differences[:10])])


def gradient_check(
    module: nn.Module | Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    *,
    loss: Callable[[Any], Tensor] | None = None,
    training: bool | None = None,
    entries: int = 10,
    step: float = 1e-6,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients of backpropagation with finite differences, (f(x + h) - f(x - h)) / 2h, in float64.

    A copy of the module is checked: every trainable parameter and every floating input. All forward passes draw the
    same random numbers (dropout, noise) and begin with the same buffers.

    module:     any module, or a function of tensors; a function has no parameters, so its inputs alone are checked.
    inputs:     what it is called with; floating ones are taken to float64.
    loss:       from the outputs to a scalar; if none, the sum of all floating outputs, each times a random number,
                in which no error can cancel another as it may in a plain sum.
    training:   whether the copy is in training mode; none leaves the mode as it is.
    entries:    of each tensor so many are drawn, or all if it has no more; up to half of them from those with a
                gradient other than zero, which are rare in an embedding.
    step:       h, relative to entries larger than 1.
    tolerance:  the greatest difference, relative to the larger of the two slopes. What rounding alone can make of the
                difference always passes.
    Returns:    a report; an entry where the slopes to the left and to the right differ is not counted as wrong but
                named as not differentiable.

    Raises:
        RecipeError: if there is nothing to check, the loss is no finite scalar or not float64, or two forward passes
            of the same differ.

    >>> print(gradient_check(nn.Linear(3, 2), torch.randn(4, 3)))
    the gradients are right (float64, central differences, step 1e-06, tolerance 1e-05)
      weight: 6 of 6 entries, greatest relative error ...
      bias: 2 of 2 entries, greatest relative error ...
      input 0: 10 of 12 entries, greatest relative error ...
    """
    with torch.random.fork_rng(), _default_dtype(torch.float64), torch.enable_grad():
        function = _Repeatable(module, inputs, loss, training, seed)
        value = function()
        tensors = function.tensors
        if not value.isfinite():
            raise RecipeError(f"the loss is {value.item()}", "give inputs at which it is finite")
        if function().item() != value.item():
            raise RecipeError(
                "two forward passes of the same inputs differ", "let all random numbers come from torch's generator"
            )
        found = torch.autograd.grad(value, list(tensors.values()), allow_unused=True) if value.requires_grad else ()
        gradients = [torch.zeros_like(x) if g is None else g for g, x in zip_longest(found, tensors.values())]

        # of the numbers that the loss is made of, which may be larger than their sum
        size = value.abs() + sum((x * g).abs().sum() for x, g in zip(tensors.values(), gradients, strict=True))
        rounding = ROUNDING * EPSILON * size.item()
        report = GradientReport({}, [], step, tolerance)
        draw = torch.Generator().manual_seed(seed)
        for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
            report.comparisons[name] = Comparison(tensor.numel())
            for place in _sample(gradient, entries, draw):
                index = tuple(int(i) for i in np.unravel_index(place, tensor.shape))
                width = step * max(1.0, abs(tensor[index].item()))
                slopes = _slopes(function, tensor.detach(), index, value.item(), width)
                _judge(report, name, index, gradient[index].item(), slopes, rounding / width)
    report.differences.sort(key=lambda difference: -difference.error)
    return report


class _Repeatable:
    """The loss as a function of tensors that can be changed in place: the same ones give the same number."""

    def __init__(
        self,
        module: nn.Module | Callable[..., Any],
        inputs: Tensor | tuple[Tensor, ...],
        loss: Callable[[Any], Tensor] | None,
        training: bool | None,
        seed: int,
    ) -> None:
        self.loss, self.seed = loss, seed
        self.tensors: dict[str, Tensor] = {}
        self.module, self.remembered = module, _Remembered(nn.Module())
        if isinstance(module, nn.Module):
            self.module = copied = copy.deepcopy(module).double()
            if training is not None:
                copied.train(training)
            self.tensors |= {name: p for name, p in copied.named_parameters() if p.requires_grad}
            self.remembered = _Remembered(copied)
        self.inputs = [
            x.detach().double().clone().requires_grad_() if x.is_floating_point() else x
            for x in (inputs if isinstance(inputs, tuple) else (inputs,))
        ]
        self.tensors |= {f"input {place}": x for place, x in enumerate(self.inputs) if x.is_floating_point()}
        if not self.tensors:
            raise RecipeError("there is nothing to check", "give trainable parameters or inputs of floating numbers")

    def __call__(self) -> Tensor:
        torch.manual_seed(self.seed)
        with self.remembered:
            outputs = self.module(*(x.clone() for x in self.inputs))  # clones, for it may change them in place
        value = self.loss(outputs) if self.loss is not None else self._projected(outputs)
        if value.numel() != 1:
            raise RecipeError(f"the loss has shape {tuple(value.shape)}", "give a function with a scalar result")
        if value.dtype != torch.float64:
            raise RecipeError(
                f"the loss is {value.dtype}, though parameters and inputs are float64",
                "let the module keep the precision of what it is given",
            )
        return value.reshape(())

    def _projected(self, outputs: Any) -> Tensor:
        draw = torch.Generator().manual_seed(self.seed)
        floating = [x for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point()]
        parts = [(x * torch.randn(x.shape, generator=draw).to(x)).sum() for x in floating]
        return torch.stack(parts).sum() if parts else torch.zeros(())


def _slopes(
    function: _Repeatable, tensor: Tensor, index: tuple[int, ...], middle: float, width: float
) -> tuple[float, float, float]:
    """How the function rises to the left of an entry, across it, and to the right."""
    before = tensor[index].item()
    values = []
    for moved in (before - width, before + width):
        tensor[index] = moved
        values.append(function().item())
    tensor[index] = before
    low, high = values
    return (middle - low) / width, (high - low) / (2 * width), (high - middle) / width


def _judge(
    report: GradientReport,
    name: str,
    index: tuple[int, ...],
    backpropagated: float,
    slopes: tuple[float, float, float],
    rounding: float,
) -> None:
    """Enter into the report what the slopes say of a gradient; rounding alone can make so much of a slope."""
    left, across, right = slopes
    comparison = report.comparisons[name]
    error = abs(backpropagated - across) / max(abs(backpropagated), abs(across), rounding / report.tolerance, TINY)
    if not error <= report.tolerance:  # not a number is wrong, too
        if abs(right - left) > max(KINK * max(abs(left), abs(right), abs(backpropagated)), rounding):
            comparison.kinks.append(index)
            return
        error = error if math.isfinite(error) else math.inf
        report.differences.append(Difference(name, index, backpropagated, across, error))
    comparison.compared += 1
    comparison.error = max(comparison.error, error)


def _sample(gradient: Tensor, entries: int, draw: torch.Generator) -> list[int]:
    """Places in the flattened tensor, up to half of them where the gradient is not zero."""
    order = torch.randperm(gradient.numel(), generator=draw)
    telling = order[gradient.flatten().cpu()[order] != 0][: entries // 2]
    others = order[~torch.isin(order, telling)]
    return sorted(torch.cat([telling, others])[:entries].tolist())


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What a module makes anew while it runs (positions, noise) is made in this precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def checkpoint_activations(network: nn.Module) -> Iterator[int]:
    """While this lasts, repeated blocks keep their inputs alone and are computed again in the backward pass.

    Blocks are the members of every `nn.Sequential` and `nn.ModuleList` that have modules of their own, or are
    recurrent; a longer sequence of single layers is cut into about as many pieces as each has layers. Names, classes,
    results and gradients stay as they are, bit for bit: random draws are repeated, and buffers (batch statistics) move
    once. Hooks on modules inside a block run a second time in the backward pass.

    Answers with the number of blocks; with 0 there is nothing to gain.
    Source: Chen et al. 2016, arXiv:1604.06174.

    >>> network = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)))
    >>> with checkpoint_activations(network) as blocks:
    ...     network(torch.ones(1, 4)).sum().backward()
    >>> blocks
    3
    """
    changed: list[nn.Module] = []
    blocks = 0
    try:
        for module, recomputed, count in _blocks(network):
            if "forward" not in vars(module):
                module.forward = MethodType(recomputed, module)
                changed.append(module)
                blocks += count
        yield blocks
    finally:
        for module in changed:
            del module.forward


def _blocks(module: nn.Module) -> Iterator[tuple[nn.Module, Callable[..., Any], int]]:
    """The modules to give another forward pass, that pass, and how many blocks it computes again."""
    children = list(module.children())
    if not _is_container(module):
        for child in children:
            yield from _blocks(child)
        return
    inner = [found for child in children for found in ([] if _is_whole(child) else _blocks(child))]
    whole = [child for child in children if _is_whole(child)]
    yield from inner
    if type(module).forward is nn.Sequential.forward and not inner and len(whole) < len(children) > 3:
        yield module, _in_pieces, len(_pieces(module))
    else:
        yield from ((child, _recomputed, 1) for child in whole)


def _is_container(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) or type(module).forward is nn.Sequential.forward


def _is_whole(module: nn.Module) -> bool:
    """Whether it is a block: it keeps more than its input, and is not itself made of blocks."""
    children = list(module.children())
    if _is_container(module):
        return 1 < len(children) <= LAYERS_OF_A_BLOCK and not any(list(child.children()) for child in children)
    return isinstance(module, nn.RNNBase) or bool(children)


def _recomputed(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """A module's forward pass that keeps its inputs alone."""
    return _checkpointed(partial(type(self).forward, self), self, *args, **kwargs)


def _in_pieces(self: nn.Sequential, values: Any) -> Any:
    """The forward pass of a sequence that keeps what goes into each piece alone."""
    for piece in _pieces(self):
        values = _checkpointed(piece, piece, values)
    return values


def _pieces(sequence: nn.Module) -> list[nn.Sequential]:
    """Consecutive layers, about as many in each piece as there are pieces: the least memory."""
    layers = list(sequence.children())
    size = math.isqrt(len(layers) - 1) + 1
    return [nn.Sequential(*layers[at : at + size]) for at in range(0, len(layers), size)]


def _checkpointed(function: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    if torch.compiler.is_compiling():  # takes no contexts, and moves no buffer twice
        return checkpoint(function, *args, use_reentrant=False, **kwargs)
    contexts = nullcontext(), _Remembered(module)
    return checkpoint(function, *args, use_reentrant=False, context_fn=lambda: contexts, **kwargs)


class _Remembered:
    """A context in which modules have the buffers of the moment when it was made, as often as it is entered.

    Whatever becomes of them there is forgotten. The tensors are exchanged, not written to: the backward pass may need
    those of now.
    """

    def __init__(self, network: nn.Module) -> None:
        self.then = [
            (module._buffers, name, value.clone())
            for module in network.modules()
            for name, value in module._buffers.items()
            if value is not None
        ]
        self.now: list[Tensor | None] = []

    def __enter__(self) -> None:
        self.now = [buffers[name] for buffers, name, _ in self.then]
        for buffers, name, value in self.then:
            buffers[name] = value.clone()

    def __exit__(self, *error: object) -> None:
        for (buffers, name, _then), now in zip(self.then, self.now, strict=True):
            buffers[name] = now
