"""What a case is."""

from __future__ import annotations

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
    family: Family, fixed: Run, floor: float, faults: dict[str, tuple[str, Run]], *, harmless: str = ""
) -> list[Faulty]:
    """Cases that share a healthy program: by name the causes, the first the true one, and the faulty program."""
    return [
        Faulty(
            **{"family": family, "name": name, "faulty": faulty, "fixed": fixed, "floor": floor},
            causes=tuple(causes.split()),
            harmless=name in harmless.split(),
        )
        for name, (causes, faulty) in faults.items()
    ]
