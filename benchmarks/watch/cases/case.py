"""What a case is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.watch.programs import Outcome, Run, Watched

RULES = """
no_update zero_grad_missing eval_mode_forgotten train_mode_not_restored wrong_output_loss_pair shape_broadcast
missing_nonlinearity inputs_not_normalised targets_not_normalised bad_init vanishing_gradient
exploding_gradient dead_relu saturation lr_too_high lr_too_low underfit too_few_steps overfit labels_shuffled
corrupt_labels label_noise bad_data leak class_imbalance order_bug batch_mixing over_regularised gan_collapse
vae_collapse numerics scheduler_per_step
""".split()
"""The names of the rules."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Cases of one source and one kind of data and network: all of them are in one part."""

    name: str
    source: str
    data: str
    part: str
    """`tune`: thresholds may be chosen by these. `report`: they may not be looked at until then."""


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """A program with one fault, and its twin without."""

    family: Family
    name: str
    causes: tuple[str, ...]
    """Rules that name the true cause: the first is the fault as it was made, others lead to equivalent patches."""
    faulty: Run
    fixed: Run
    floor: float
    """What the fixed twin reaches at least, where it counts as healthy."""
    harmless: bool = False
    """Measured: this fault does no harm here. Counted neither as faulty nor as healthy."""
    twin_is_healthy: bool = True
    """Not where the twin has another flaw, such as labels that stay wrong."""

    @property
    def id(self) -> str:
        return f"{self.family.name}-{self.name}"

    def run(self, watched: Watched, seed: int, fixed: bool) -> Outcome:
        """The program with or without its fault."""
        return (self.fixed if fixed else self.faulty)(watched, seed)


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """A program in which nothing is wrong."""

    family: Family
    name: str
    program: Run
    floor: float
    """What it reaches at least: clearly more than an answer that ignores the inputs."""

    @property
    def id(self) -> str:
        return f"{self.family.name}-{self.name}"

    def run(self, watched: Watched, seed: int) -> Outcome:
        return self.program(watched, seed)


def variants(
    family: Family,
    fixed: Run,
    floor: float,
    faults: Mapping[str, tuple[str, Run] | tuple[str, Run, Run]],
    *,
    harmless: str = "",
    twin_is_healthy: bool = True,
) -> list[Faulty]:
    """Cases that share a healthy program, by name: causes (the true one first), the faulty program, its own twin."""
    return [
        Faulty(
            **{"family": family, "name": name, "faulty": faulty, "floor": floor, "causes": tuple(causes.split())},
            **{"fixed": own[0] if own else fixed, "harmless": name in harmless.split()},
            twin_is_healthy=twin_is_healthy,
        )
        for name, (causes, faulty, *own) in faults.items()
    ]
