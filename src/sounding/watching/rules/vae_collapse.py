"""A variational autoencoder that leaves its latent variables unused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_flatten, tree_map

from sounding.finding import Finding
from sounding.watching.experiments import Twin, apart
from sounding.watching.rule import Rule
from sounding.watching.seen import Seen
from sounding.watching.tape import Slot, Tape

FIRST = 100
"""Steps before which latent variables may well sleep."""
APART = 20
IN_A_ROW = 3
ACTIVE = 0.01
"""Variance over examples of the mean of a latent variable, above which it is in use."""
FEW = 0.1
"""Of the latent variables."""
DIVERGENCE = 0.05
"""Nats for each of them."""
DEAF = 0.15
"""Of the deviation of the inputs: what another draw of the latent variables, or another example, may change of the
reconstruction."""
FURTHER = 200


class _Look(NamedTuple):
    active: float
    divergence: float
    change: float
    """Of the reconstruction, by another draw of the latent variables ..."""
    difference: float
    """... and by another example with the same draw."""


class VaeCollapse(Rule):
    """The posterior of the latent variables has collapsed to the prior, and the decoder does without them.

    A model is taken for a variational autoencoder where it puts out two tensors of one shape (B, d) beside one of the
    size of its input; or where it, or a module in it, has a method `posterior` that gives these two.

    Trigger: after a hundred steps, in three measurements in a row, less than a tenth of the latent variables are
    active (the variance of their mean over examples is above 0.01) and the divergence from the prior is all but zero.
    Harm: the decoder is deaf: another draw of the latent variables, or another example with the same draw, changes its
    output by less than 0.15 of the deviation of the inputs.
    Confirmation: a copy that is trained for 200 more steps does not wake up.
    Remedy: raise the weight of the divergence from zero slowly, allow free bits, or weigh the reconstruction as a sum.
    """

    name = "vae_collapse"
    looks_at = "latent variables that are not used"
    explains = ("underfit", "too_few_steps", "lr_too_low", "vanishing_gradient")
    sources: ClassVar = (
        "Burda et al. 2016, Importance Weighted Autoencoders (ICLR), appendix C",
        "Bowman et al. 2016, Generating Sentences from a Continuous Space (CoNLL)",
        "Kingma et al. 2016, Inverse Autoregressive Flow (NeurIPS): free bits",
    )

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if seen.done < self._next or not seen.laboratory.is_ready:
            return None
        self._next = seen.done + APART
        look = _look(seen, seen.model)
        if look is None:
            self._next = 2 * seen.done
            return None
        self._looks.append(look)
        late = self._looks[-IN_A_ROW:]
        if len(late) < IN_A_ROW or not all(map(_is_asleep, late)):
            return None
        after = _look_further(seen)
        if after is None or after.active >= FEW or after.divergence >= DIVERGENCE:
            self._next = 2 * seen.done
            return None
        return self.finding(
            seen,
            f"the latent variables are not used: {look.active:.0%} of them are active",
            "Each example gets the same code, the prior, and the decoder makes one answer for all.",
            "raise the weight of the divergence from zero over the first epochs, allow free bits, or sum the "
            "reconstruction loss over pixels instead of taking its mean",
            confirmed=f"another draw of them changes the reconstruction by {look.change:.1%} of the deviation of the "
            f"inputs, another example by {look.difference:.1%}, and a copy trained for {FURTHER} more steps had "
            f"{after.active:.0%} of them active",
            active=look.active,
            divergence_per_variable=look.divergence,
            effect_of_another_draw=look.change,
            effect_of_another_example=look.difference,
        )


def _is_asleep(look: _Look) -> bool:
    return look.active < FEW and look.divergence < DIVERGENCE and min(look.change, look.difference) < DEAF


def _look(seen: Seen, model: nn.Module) -> _Look | None:
    """At the latent variables of the last batch recorded; none where this is no variational autoencoder."""
    call = next(_calls(seen), None)
    if call is None:
        return None
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, (_BatchNorm, _DropoutNd)):
            module.eval()
    knows: Any = next((module for module in model.modules() if callable(getattr(module, "posterior", None))), None)
    heard: list[tuple[Any, Any, Any]] = []
    (knows or model).register_forward_hook(lambda _, *came: heard.append(came), with_kwargs=True)  # (inputs, outputs)
    args, kwargs = call
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with apart(), torch.no_grad():
        with torch.random.fork_rng(gpus):  # so that others are drawn for as the same ones are next
            others_args, others_kwargs = tree_map(_moved_on, (args, kwargs))
            model(*others_args, **others_kwargs)
        for _ in range(2):
            model(*args, **kwargs)
        args, kwargs, _ = heard[1]
        said = None if knows is None else knows.posterior(*args, **kwargs)
    others, first, second = (tree_flatten(outputs)[0] for *_, outputs in heard[:3])
    inputs = next((one for one in tree_flatten((args, kwargs))[0] if _is_batch(one)), None)
    if inputs is None:
        return None
    came = [three for three in zip(first, second, others, strict=True) if _is_batch(three[0])]
    came = [three for three in came if len(three[0]) == len(inputs)]
    rebuilt = next((three for three in came if three[0].numel() == inputs.numel()), None)
    latent = said or _latent([a for a, *_ in came if a.ndim == 2 and a.numel() != inputs.numel()])
    if rebuilt is None or latent is None:
        return None
    active = max(float((one.var(0) > ACTIVE).float().mean()) for one in latent)
    squared = seen.call is not None and seen.call.name == "mse_loss"
    if not squared and float(inputs.min()) >= 0 and float(inputs.max()) <= 1 and float(rebuilt[0].abs().max()) > 1:
        rebuilt = tuple(one.sigmoid() for one in rebuilt)  # logits
    return _Look(active, _divergence(*latent), _change(inputs, *rebuilt[:2]), _change(inputs, *rebuilt[::2]))


def _moved_on(leaf: Any) -> Any:
    """Another example in the place of each."""
    return leaf.roll(1, 0) if isinstance(leaf, Tensor) and leaf.ndim else leaf


def _calls(seen: Seen) -> Iterator[tuple[Any, Any]]:
    """Arguments of the model, where they do not depend on something that was computed before."""
    for tape in reversed(seen.laboratory.tapes):
        yield from _own_calls(tape, seen.name)


def _own_calls(tape: Tape, player: str) -> Iterator[tuple[Any, Any]]:
    for entry in tape.calls():
        leaves = tree_flatten(entry.arguments, is_leaf=lambda tree: isinstance(tree, Slot))[0]
        if entry.run == player and not any(isinstance(leaf, Slot) for leaf in leaves):
            yield entry.arguments


def _is_batch(one: Any) -> bool:
    return isinstance(one, Tensor) and one.is_floating_point() and one.ndim > 1 and len(one) > 7


def _latent(candidates: list[Tensor]) -> tuple[Tensor, Tensor] | None:
    """The two of one shape that vary least over examples: a sample beside them varies by itself."""
    shapes = [tuple(one.shape) for one in candidates]
    twice = next((shape for shape in shapes if shapes.count(shape) >= 2), None)
    if twice is None:
        return None
    alike = [one for one in candidates if tuple(one.shape) == twice]
    one, other = sorted(alike, key=lambda one: float(one.var(0).mean()))[:2]
    return one, other


def _divergence(one: Tensor, other: Tensor) -> float:
    """From the standard normal, per variable; one is the mean, the other the deviation or the logarithm of it."""
    readings = [
        float(0.5 * (mean.square() + logarithm.exp() - logarithm - 1).mean())
        for mean, scale in ((one, other), (other, one))
        for logarithm in (scale, 2 * scale, 2 * scale.clamp_min(1e-6).log())
    ]
    return min(readings)


def _change(inputs: Tensor, first: Tensor, second: Tensor) -> float:
    """How two outputs differ, relative to the deviation of the inputs."""
    return float((first - second).square().mean().sqrt() / inputs.std(0).square().mean().sqrt().clamp_min(1e-12))


def _look_further(seen: Seen) -> _Look | None:
    """The same of a copy that is trained for longer, with other draws than the recorded ones: these it would read."""
    copies: list[Twin] = []
    seen.laboratory.descend(copies.append, steps=FURTHER, redrawn=True)
    return _look(seen, copies[0].model)
