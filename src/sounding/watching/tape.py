"""How a step came to its loss, written down so that it can be done again on a copy of the network.

Recorded are the calls of the network and what PyTorch computed from their outputs. No knowledge of the user's loss is
needed, and none of its code runs again: only the operations of PyTorch in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._pytree import tree_flatten, tree_map

LOSSES: dict[Any, str] = {
    F.cross_entropy: "cross_entropy",
    F.nll_loss: "nll_loss",
    F.binary_cross_entropy: "binary_cross_entropy",
    F.binary_cross_entropy_with_logits: "binary_cross_entropy_with_logits",
    F.mse_loss: "mse_loss",
    F.l1_loss: "l1_loss",
    F.smooth_l1_loss: "smooth_l1_loss",
    F.huber_loss: "huber_loss",
    F.kl_div: "kl_div",
    F.multi_margin_loss: "multi_margin_loss",
    F.gaussian_nll_loss: "gaussian_nll_loss",
    F.poisson_nll_loss: "poisson_nll_loss",
}


class LossCall(NamedTuple):
    """A loss function of PyTorch, and what it was given."""

    name: str
    outputs: Tensor
    target: Tensor
    value: Tensor
    options: dict[str, Any]

    @property
    def classes(self) -> int:
        """Of a classification; 0 in other losses."""
        if self.name in {"cross_entropy", "nll_loss", "multi_margin_loss"}:
            return self.outputs.shape[1] if self.outputs.ndim > 1 else self.outputs.shape[0]
        return 0

    @property
    def mean(self) -> float:
        """The mean over what is compared, also where the value is a sum."""
        count = max(self.target.numel(), 1) if self.options.get("reduction") == "sum" else 1
        return float(self.value.float().mean()) / count

    def answers(self) -> Tensor | None:
        """The classes that the outputs stand for, in the shape of the targets; none in a regression."""
        if self.classes:
            return self.outputs.argmax(1 if self.outputs.ndim > 1 else 0)
        limit = {"binary_cross_entropy": 0.5, "binary_cross_entropy_with_logits": 0.0}.get(self.name)
        return None if limit is None else (self.outputs > limit).long()


class Slot(NamedTuple):
    """In place of a tensor that is computed anew when the tape is played."""

    number: int


class Weight(NamedTuple):
    """In place of a parameter or buffer of a model."""

    player: str
    name: str


@dataclass(slots=True)
class Entry:
    """One call, with slots and weights in place of what changes."""

    run: Callable[..., Any] | str
    """An operation of PyTorch, or the name of the player whose model was called."""
    arguments: tuple[Any, dict[str, Any]]
    results: list[int | None]
    """The slots of the tensors that came out, flattened."""


@dataclass(slots=True)
class Tape:
    """The recording of a step: calls in order, and the slots of the losses that were propagated back."""

    entries: list[Entry] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    random: Tensor | None = None
    """The state of the generator before the first call."""
    loss: float = float("nan")
    """The sum of what the roots were worth."""
    target: Tensor | None = None
    """What the loss function compared with, if it is one of PyTorch's."""
    size: int = 0
    """Bytes, once it was measured."""
    pair: tuple[Tensor | None, Tensor | None] | None = None
    """Its inputs and targets, once somebody asked for them: rules do at every look."""

    @property
    def is_whole(self) -> bool:
        """Whether playing it leads to a loss."""
        return bool(self.roots) and any(isinstance(entry.run, str) for entry in self.entries)

    def measure(self) -> int:
        """Bytes of the tensors on it, most of them the batch."""
        leaves = [leaf for entry in self.entries for leaf in tree_flatten(entry.arguments)[0]]
        tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def prune(self) -> None:
        """Drop what does not lead to the loss, such as a copy of the weights that was made for later."""
        needed, kept = set(self.roots), []
        for entry in reversed(self.entries):
            if isinstance(entry.run, str) or not needed.isdisjoint(entry.results):
                kept.append(entry)
                leaves = tree_flatten(entry.arguments, is_leaf=_stands_in)[0]
                needed |= {leaf.number for leaf in leaves if isinstance(leaf, Slot)}
        self.entries = kept[::-1]

    def calls(self) -> list[Entry]:
        """Those of models."""
        return [entry for entry in self.entries if isinstance(entry.run, str)]

    @property
    def has_penalty(self) -> bool:
        """Whether parameters go into the loss past the models, as those in a penalty do."""
        leaves = (leaf for entry in self.entries for leaf in tree_flatten(entry.arguments, is_leaf=_stands_in)[0])
        return any(isinstance(leaf, Weight) for leaf in leaves)

    def without_penalty(self, models: Mapping[str, nn.Module]) -> Tape:
        """The same with zeros for the parameters that go into the loss past the models."""
        weights = {player: {**dict(m.named_parameters()), **dict(m.named_buffers())} for player, m in models.items()}

        def emptied(leaf: Any) -> Any:
            return torch.zeros_like(weights[leaf.player][leaf.name]) if isinstance(leaf, Weight) else leaf

        entries = [
            Entry(one.run, tree_map(emptied, one.arguments, is_leaf=_stands_in), one.results) for one in self.entries
        ]
        return Tape(entries, self.roots, self.random, self.loss)

    def redrawn(self, seed: int) -> Tape:
        """The same with other random draws within the models."""
        return replace(self, random=torch.Generator().manual_seed(seed).get_state())

    def play(
        self,
        models: Mapping[str, nn.Module],
        change: Callable[[Tensor], Tensor] | None = None,
        heard: Callable[[Callable[..., Any] | str, Any, Any, Any], None] | None = None,
    ) -> Tensor:
        """The loss that these models would have had, on the same batch and with the same random draws.

        change: what to do to each floating-point input of a model, such as replacing it by zeros.
        heard:  is told of each call: what was called, its arguments by place and by name, and what came out.
        """
        values: dict[int, Tensor] = {}
        weights = {player: {**dict(m.named_parameters()), **dict(m.named_buffers())} for player, m in models.items()}

        def resolved(leaf: Any) -> Any:
            if isinstance(leaf, Slot):
                return values[leaf.number]
            return weights[leaf.player][leaf.name] if isinstance(leaf, Weight) else leaf

        with torch.random.fork_rng(devices=[]):
            if self.random is not None:
                torch.set_rng_state(self.random)
            for entry in self.entries:
                args, kwargs = tree_map(resolved, entry.arguments, is_leaf=_stands_in)
                if isinstance(entry.run, str):
                    if change is not None:
                        args, kwargs = tree_map(lambda leaf: _changed(leaf, change), (args, kwargs))
                    outcome = models[entry.run](*args, **kwargs)
                else:
                    outcome = entry.run(*args, **kwargs)
                if heard is not None:
                    heard(entry.run, args, kwargs, outcome)
                results = zip(entry.results, tree_flatten(outcome)[0], strict=True)
                values.update({number: leaf for number, leaf in results if number is not None})
        return torch.stack([values[root].float().sum() for root in self.roots]).sum()


def _stands_in(tree: Any) -> bool:
    """For a tensor: named tuples would be taken apart otherwise."""
    return isinstance(tree, (Slot, Weight))


def _changed(leaf: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(leaf) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


class Recorder(TorchFunctionMode):
    """Writes a tape while it is on, and notes the loss functions that are called.

    Only what depends on a model's output or a parameter is recorded; all else is a constant of the step.
    """

    def __init__(self, weights: Mapping[int, Weight]) -> None:
        """`weights`: from the `id` of each parameter and buffer to its name."""
        self.tape = Tape()
        self.losses: list[LossCall] = []
        self.combined: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = []
        """Shapes of output, constant and result where a difference of the two was taken."""
        self.inside = 0
        """How many models are being called: what they do within is theirs."""
        self.is_late = False
        """Whether something led to the loss that was computed before it listened, such as a penalty."""
        self.is_on = False
        self._is_deaf = False
        self._weights = weights
        self._slots: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no `id` is used twice

    def begin(self) -> None:
        """Listen to what PyTorch is asked to do from now on."""
        self._is_deaf = False
        if not self.is_on:
            self.is_on = True
            _push_mode(self)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Listen no longer; whatever else listens stays as it is.

        From within an operation that it is told of, such as `loss.backward()`, it cannot be taken off: it turns deaf
        and goes when it is told again to end.
        """
        self._is_deaf = True
        if self not in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
            return
        self.is_on = False
        above = []
        while (mode := _pop_mode()) is not self:  # type: ignore[no-untyped-call]
            above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)  # type: ignore[no-untyped-call]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile it does not listen."""
        was_on = self.is_on and not self._is_deaf
        if was_on:
            self.end()
        try:
            yield
        finally:
            if was_on:
                self.begin()

    def called(self, player: str, args: Any, kwargs: Any, outputs: Any) -> None:
        """A model was called."""
        self._add(player, (args, kwargs), outputs)

    def ended_in(self, root: Tensor) -> None:
        """A backward pass begins here."""
        if id(root) in self._slots:
            self.tape.roots.append(self._slots[id(root)])

    def forget(self) -> None:
        """Let go of the tensors of the step, which keep its graph alive."""
        self._alive.clear()
        self._slots.clear()

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if self.inside or self._is_deaf:
            return result
        leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        touched = [leaf for leaf in leaves if id(leaf) in self._slots]
        if touched or any(id(leaf) in self._weights for leaf in leaves):
            results = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
            if any(
                touched or leaf.requires_grad for leaf in results
            ):  # to look at a parameter's gradient is no penalty
                self._add(function, (tuple(args), kwargs), result)
            if isinstance(result, Tensor) and touched:
                self._note(function, args, kwargs, result, leaves)
        return result

    def _note(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor, leaves: Any) -> None:
        if function in LOSSES:
            names = dict(zip(("input", "target"), args, strict=False)) | kwargs
            outputs, target = names.get("input"), names.get("target")
            if isinstance(outputs, Tensor) and isinstance(target, Tensor):
                options = {key: value for key, value in kwargs.items() if key not in {"input", "target"}}
                self.losses.append(
                    LossCall(LOSSES[function], outputs.detach(), target.detach(), result.detach(), options)
                )
        elif len(leaves) == 2 and getattr(function, "__name__", "") in {"sub", "__sub__", "__rsub__", "rsub"}:
            shapes = [tuple(leaf.shape) for leaf in sorted(leaves, key=lambda leaf: id(leaf) not in self._slots)]
            self.combined.append((shapes[0], shapes[1], tuple(result.shape)))

    def _add(self, run: Callable[..., Any] | str, arguments: Any, outcome: Any) -> None:
        packed = tree_map(self._packed, arguments)
        results = [self._slot(leaf) if isinstance(leaf, Tensor) else None for leaf in tree_flatten(outcome)[0]]
        self.tape.entries.append(Entry(run, packed, results))

    def _packed(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if (slot := self._slots.get(id(leaf))) is not None:
            return Slot(slot)
        if (weight := self._weights.get(id(leaf))) is not None:
            return weight
        self.is_late = self.is_late or leaf.requires_grad
        return leaf.detach()

    def _slot(self, tensor: Tensor) -> int:
        """A number for it; what is changed in place keeps its own."""
        if id(tensor) not in self._slots:
            self._alive.append(tensor)
            self._slots[id(tensor)] = len(self._slots)
        return self._slots[id(tensor)]
