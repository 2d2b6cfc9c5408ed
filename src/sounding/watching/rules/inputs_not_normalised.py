"""Inputs on scales that the network has to learn first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from sounding.finding import Finding
from sounding.watching.experiments import Twin
from sounding.watching.rule import Rule
from sounding.watching.seen import LayerInput, Seen

OFFSET = 3.0
"""Times its deviation that a feature's mean may be from zero."""
DEVIATIONS = (0.05, 20.0)
"""Of features that vary."""
SPREAD = 100.0
"""Times that the deviation of one feature may be that of another."""
STRONG = 5.0
"""Times these limits: what is beyond is looked into at once, the rest only where nothing is learned for long."""
FIRST = 6
PATIENCE = 60
GAIN = 0.2
HEADWAY = 0.8
LITTLE_HEADWAY = 0.2


class InputsNotNormalised(Rule):
    """Features are far from zero, very large, very small, or on very different scales.

    Trigger: a mean of more than three deviations, deviations outside [0.05, 20], or a hundred times one another, in
    what goes into the first layer. Five times beyond these limits much of the loss has to be there still after six
    steps, within that nearly all of it after sixty: many networks learn well from such inputs.
    Confirmed: a copy that is given the same batches standardised gets further in fifty steps.
    Remedy: subtract the mean and divide by the deviation, both taken from training rows.
    """

    name = "inputs_not_normalised"
    looks_at = "inputs that are not normalised"
    asked_when_lost = True
    explains = (
        *(
            "saturation",
            "dead_relu",
            "exploding_gradient",
            "vanishing_gradient",
            "lr_too_high",
            "lr_too_low",
            "underfit",
        ),
        *("labels_shuffled", "too_few_steps", "numerics", "bad_init"),
    )
    sources: ClassVar = ("LeCun et al. 1998, Efficient BackProp, section 4.3",)

    def __init__(self) -> None:
        self._next = FIRST

    def check(self, seen: Seen) -> Finding | None:
        if not seen.steps or not seen.laboratory.is_ready or not seen.laboratory.start:
            return None
        if (seen.done < self._next and seen.lost is None) or (seen.lost is None and seen.headway() > HEADWAY):
            return None
        modules = dict(seen.model.named_modules())
        firsts = [one for one in seen.steps[0].inputs if one.is_first and one.layer in modules]
        found = [(one, why) for one in firsts if (why := _oddity(one, STRONG))]
        if not found and seen.done >= PATIENCE and seen.headway() < LITTLE_HEADWAY:
            found = [(one, why) for one in firsts if (why := _oddity(one, 1.0))]
        if not found:
            return None
        self._next = 3 * seen.done
        layers = {one.layer: one for one, _ in found}
        race = seen.laboratory.race(lambda twin: _standardise(twin, layers), fresh=True)
        if race.gain < GAIN:
            return None
        one, why = found[0]
        return self.finding(
            seen,
            f"the inputs of {one.layer} are not normalised: {why}",
            "Weights have to make up for the scale of each feature first: gradients are dominated by the largest.",
            "subtract each feature's mean and divide by its deviation, both from training rows",
            layer=one.layer,
            mean=one.mean,
            rms=one.rms,
            confirmed=str(race),
        )


def _oddity(one: LayerInput, times: float) -> str:
    """In what way a layer's inputs are beyond so many times the limits; empty where they are not."""
    varying = one.deviations > 1e-8
    if not bool(varying.any()):
        return ""
    deviations, means = one.deviations[varying], one.means[varying]
    typical = float(deviations.median())
    if max(typical, one.rms) > DEVIATIONS[1] * times:
        return f"values of about {one.rms:.3g}"
    if max(typical, one.rms) < DEVIATIONS[0] / times:
        return f"values of about {one.rms:.2g}"
    offset = float((means.abs() / deviations).median())
    if offset > OFFSET * times:
        return f"means {offset:.2g} deviations from zero"
    spread = float(deviations.max() / deviations.median())
    if spread > SPREAD * times:
        return f"one feature varies {spread:.0f} times as much as the others"
    return ""


def _standardise(twin: Twin, layers: dict[str, LayerInput]) -> None:
    modules = dict(twin.model.named_modules())
    for name, one in layers.items():
        modules[name].register_forward_pre_hook(_scaler(one.means, one.deviations))


def _scaler(means: Tensor, deviations: Tensor) -> Callable[[Any, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    deviations = deviations.where(deviations > 1e-8, deviations.new_ones(()))

    def standardised(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = args[0]
        shape = (-1, *(1,) * (values.ndim - 2)) if isinstance(module, _ConvNd) else (-1,)
        return ((values - means.view(shape)) / deviations.view(shape), *args[1:])

    return standardised
