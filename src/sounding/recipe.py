"""Everything that defines a run, as dataclasses that read from and write to TOML. Every default lives here, once.

A recipe is complete: what the user did not set is filled in from `for_table`, `for_pictures` or `for_text`,
whichever fits the data, and is written out with the run.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tomli_w

from sounding.errors import RecipeError, nearest

Settings = Mapping[str, Any]
"""Recipe keys with dots, and their values: `{"training.optimizer.lr": 3e-4}`."""


@dataclass(kw_only=True, slots=True)
class DataRecipe:
    """How the source is read, what its columns are, and how its rows are split."""

    kinds: dict[str, str] = field(default_factory=dict)
    """Column name to kind, where recognition should be overruled: `{"zip": "category"}`."""
    ignore: list[str] = field(default_factory=list)
    """Columns to leave out."""
    keep: list[str] = field(default_factory=list)
    """Columns to use as inputs although a check would leave them out (identifiers, constants)."""
    weight: str = ""
    """Column with a weight for each row, if any."""
    group: str = ""
    """Column whose equal values are never spread over train, validation and test, if any."""
    time: str = ""
    """Column by whose order to split: the latest rows are the test rows, if any."""
    validation: float = 0.1
    """Fraction of the rows that choose when to stop."""
    test: float = 0.1
    """Fraction of the rows that measure the result, unless the source or `test` brings its own."""
    missing: list[str] = field(
        default_factory=lambda: [
            *("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "NONE", "?", "-", "#N/A", "."),
        ]
    )
    """Strings that mean "no value" in columns of numbers, categories and dates."""
    missing_in: dict[str, list[str]] = field(default_factory=dict)
    """The same for single columns, instead of `missing`: `{"country": [""]}` keeps Namibia's "NA"."""
    missing_target: Literal["error", "drop"] = "error"
    """What to do with rows whose target has no value."""
    rows_in_memory: int = 0
    """Of a source with more rows so many are drawn and held in memory; training reads all others from disk. 0 takes
    what the memory has room for: mostly everything."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels to read as others, in the target column: `{">50K.": ">50K"}`."""
    separator: str = ""
    """Of CSV files; recognised when empty."""
    encoding: str = ""
    """Of CSV files; recognised when empty."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of a CSV file holds the column names."""
    short_rows: Literal["error", "fill"] = "error"
    """What to do with rows of a CSV file that have fewer cells than the header."""
    max_cell_megabytes: float = 16.0
    """A longer cell is taken for a damaged file."""
    max_columns: int = 20_000
    """A table with more columns is refused."""
    rare: int = 2
    """Categories seen fewer times than this in the training rows share one code with unseen ones."""
    max_categories: int = 10_000
    """The most frequent categories of a column get a code of their own, the others share one."""
    vocabulary: int = 50_000
    """The most frequent tokens of a text column get a code of their own."""
    text_length: int = 128
    """Tokens of a text that are read; longer texts are cut, and the report says how many were."""
    picture_size: int = 0
    """Side in pixels that pictures are resized to; 0 keeps those of one size (up to 512), else the median up to 128."""
    window: int = 0
    """Rows that follow each other are cut into windows of so many, each an example; 0 takes every row by itself."""
    stride: int = 0
    """Rows between the beginnings of windows; 0 is as dense as pays: 1, and more beyond 10,000 rows."""


@dataclass(kw_only=True, slots=True)
class NetworkRecipe:
    """Which network, and its sizes."""

    name: str = "auto"
    """A name from the registry of networks; `auto` is the one that measured best for the kind of input. `hf:NAME` is an
    encoder that was trained elsewhere, from the hub of the library transformers, `hf:FOLDER` one in a folder."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the network's constructor, such as `{"dropout": 0.2}`."""
    code_size: int = 32
    """Numbers that stand for a row where it goes through a code: in an autoencoder."""


@dataclass(kw_only=True, slots=True)
class OptimizerRecipe:
    """How a gradient becomes an update."""

    name: str = "adamw"
    lr: float = 1e-3
    """The peak learning rate."""
    weight_decay: float = 1e-2
    """Decoupled from the gradient; norms, biases and embeddings are left out."""
    rates: dict[str, float] = field(default_factory=dict)
    """Pattern of parameter names to a factor of the learning rate: `{"head.*": 10.0}`; the first that fits counts."""
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"
    """How PyTorch carries the update out; `auto` is fused where there is that."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the optimizer, such as `{"betas": [0.9, 0.98]}`."""


@dataclass(kw_only=True, slots=True)
class TrainingRecipe:
    """How the network is trained."""

    epochs: int = 100
    """The most passes over the training rows."""
    time: float = 0.0
    """Seconds that training may take; 0 means no limit. Epochs are cut so that the schedule still ends."""
    batch_size: int = 256
    """Rows of a step; 0 takes all of them: full-batch gradient descent."""
    accumulate: int = 1
    """Parts in which a batch passes through the network, for less memory; the step is that of the whole batch."""
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: str = "constant"
    """A name from the registry of schedules."""
    release: dict[str, float] = field(default_factory=dict)
    """Pattern of parameter names to the fraction of training from which on they are trained: `{"stem.*": 0.3}`, 1 for
    never. Until then they are frozen, and the statistics of their batch norms, too."""
    warmup: float = 0.0
    """Fraction of all steps in which the learning rate rises to its peak."""
    clip_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it; 0 leaves them as they are."""
    clip_value: float = 0.0
    """Each entry of a gradient is cut to at most this size; 0 leaves them as they are."""
    clip_percentile: float = 0.0
    """Gradients are scaled down to this percentile, in (0, 100), of the norms of recent steps; 0 is off."""
    patience: int = 16
    """Epochs without a better validation score before training stops; 0 always trains to the end."""
    l1: float = 0.0
    """Weight of the sum of absolute weights in the loss; norms, biases and embeddings are left out."""
    l2: float = 0.0
    """The same for half the sum of squared weights: a penalty in the loss, unlike the optimizer's decoupled decay."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise added to inputs that are numbers while training."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Which weights are validated and kept: the last, their exponential moving average, or the mean over the end."""
    average_decay: float = 0.999
    """Of the exponential moving average, each step."""
    average_start: float = 0.75
    """Fraction of training after which `swa` takes the mean over epochs."""
    label_smoothing: float = 0.0
    class_weights: bool = False
    """Weight classes by the inverse of their frequency."""
    augment: Literal["none", "shift", "photo"] = "none"
    """Pictures are varied while training: `shift` moves them, `photo` also mirrors, turns and recolours them."""
    erase: float = 0.0
    """Probability that a rectangle of a picture is blanked while training."""
    mixup: float = 0.0
    """Alpha of the beta distribution by which pairs of examples are blended; 0 is off."""
    cutmix: float = 0.0
    """Alpha of the beta distribution by which a patch of one picture is pasted into another; 0 is off."""
    watch: bool = True
    """Whether some steps are looked at closely for what goes wrong. It changes no bit of the result."""
    heal: bool = False
    """Whether remedies of what the watch finds are tried in further trainings, and kept where they help."""
    heal_attempts: int = 3
    """The most remedies that are tried; each is a whole training."""
    plan: Literal["measure", "given", "reference"] = "given"
    """`measure` tries what the machine offers on real steps, takes the fastest and writes it down here, `given` takes
    what is written here, and `reference` is plain float32 without any of it."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of forward and backward pass; weights stay float32. With float16 the loss is scaled to keep small gradients."""
    float32_matmul: Literal["highest", "high", "medium"] = "highest"
    """PyTorch's float32 matmul precision: below `highest` it may use faster kernels, some of which round more."""
    attention: Literal["fused", "plain"] = "fused"
    """How `scaled_dot_product_attention` is computed: in PyTorch's fused kernel, where it has one, or in matrix
    products. These need memory for all pairs of places, and are faster on a CPU in bfloat16 for short sequences."""
    channels_last: bool = False
    """Memory layout of pictures: often faster on convolutions."""
    compile: bool = False
    """Whether `torch.compile` makes one program of the step; worth it where training takes minutes."""
    cuda_graphs: bool = False
    """Whether a compiled step is recorded and replayed as one launch; on CUDA only."""
    activation_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept: less memory, more time."""
    workers: int = 0
    """Threads that prepare batches ahead of the step; the batches are the same with any number."""
    threads: int = 0
    """CPU threads; 0 takes what PyTorch takes."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto` for the fastest there is."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints; one is always written at the end and on Ctrl-C."""
    keep_checkpoints: int = 2
    """The newest so many are kept."""
    keep_best: bool = False
    """Whether the checkpoint after the best epoch is kept, too."""
    keep_every: int = 0
    """The checkpoint after each so many epochs is kept for good; 0 keeps none."""
    sharding: Literal["none", "full"] = "none"
    """Under torchrun: a copy of the network in each process (DDP), or its parameters spread over them (FSDP2)."""


@dataclass(kw_only=True, slots=True)
class PretrainingRecipe:
    """By what an encoder learns without labels, in the task `pretraining`."""

    method: Literal["auto", "masked", "denoising", "contrastive"] = "auto"
    """`masked` hides cells of tables or squares of pictures, `denoising` adds noise, `contrastive` (pictures) compares
    two views of each; `auto` is the one that measured best for the kind of input."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the lesson's constructor, such as `{"masked": 0.5}`."""


@dataclass(kw_only=True, slots=True)
class TransferRecipe:
    """What is carried over from a run that was trained before, and how it is trained on."""

    source: str = ""
    """The folder of that run: its encoder is the beginning, the head is new."""
    fingerprint: str = ""
    """SHA-256 of its schema and weights; filled in, and compared when the run is repeated."""
    rate: float = 0.3
    """Factor of the learning rate of the lowest layer that was carried over; those above it lie evenly between it and
    the head, which has the rate itself. Becomes `training.optimizer.rates`."""
    release: float = 0.3
    """Fraction of training after which the lowest such layer is trained too, those above it at even times before; 0
    trains all from the start, 1 none of them ever. Becomes `training.release`."""


@dataclass(kw_only=True, slots=True)
class AnomalyRecipe:
    """What counts as strange."""

    false_alarms: float = 0.05
    """The share of normal rows that may be called anomalies; the validation rows set the threshold."""
    known: Literal["leave_out", "train"] = "leave_out"
    """Rows that the target column marks as anomalies: left out of training and calibration, or trained on as all."""
    normal: list[str] = field(default_factory=list)
    """Labels of normal rows; when empty a word that means it, such as 0 or normal, else the most frequent label."""
    trimmed: float = 0.1
    """The share of each batch that teaches nothing, its strangest rows: anomalies among the training rows, known or
    not, shall not become usual. 0 where known ones are left out."""


@dataclass(kw_only=True, slots=True)
class GenerationRecipe:
    """The game of generator and discriminator, in the task `generation` alone."""

    loss: Literal["relativistic", "non_saturating", "hinge", "wasserstein"] = "relativistic"
    """Of both players; see `tasks/adversarial_losses.py`."""
    penalty: float = 1.0
    """Weight of what the slope of the discriminator costs: R1 + R2, or the gradient penalty of `wasserstein`, for which
    10 is usual; 0 leaves it out."""
    penalised: float = 1.0
    """Fraction of the rows of a batch on which that slope is measured: each row costs as much time as all else."""
    discriminator_rate: float = 1.0
    """Factor of the learning rate for the discriminator: two time scales, where it is not 1."""


@dataclass(kw_only=True, slots=True)
class EvaluationRecipe:
    """How the result is measured."""

    bootstrap: int = 1000
    """Resamples behind each 95 % interval."""


@dataclass(kw_only=True, slots=True)
class Recipe:
    """Everything that defines a run.

    >>> recipe = Recipe(source="@digits").with_settings({"training.optimizer.lr": 3e-4})
    >>> recipe.training.optimizer.lr
    0.0003
    >>> Recipe.from_toml(recipe.to_toml()) == recipe
    True
    >>> Recipe().with_settings({"training.epoch": 3})
    Traceback (most recent call last):
    sounding.errors.RecipeError: unknown key "training.epoch"; did you mean "epochs"? There are: epochs, time, ...
    """

    source: str = ""
    """A file, a folder or a catalogue name such as `@digits`."""
    target: list[str] = field(default_factory=list)
    """The column to predict; several columns ask for several answers at once."""
    test: str = ""
    """A second source with the test rows."""
    task: str = "auto"
    """A name from the registry of tasks; `auto` decides by the kind of the target."""
    seed: int = 0
    data: DataRecipe = field(default_factory=DataRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    pretraining: PretrainingRecipe = field(default_factory=PretrainingRecipe)
    transfer: TransferRecipe = field(default_factory=TransferRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    anomaly: AnomalyRecipe = field(default_factory=AnomalyRecipe)
    generation: GenerationRecipe = field(default_factory=GenerationRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def with_settings(self, settings: Settings) -> Recipe:
        """A copy with some values replaced.

        Raises:
            RecipeError: for an unknown key (naming the nearest known one) or a value of the wrong type.
        """
        values = asdict(self)
        for key, value in settings.items():
            _place(values, type(self), key.split("."), value, key)
        recipe: Recipe = _build(type(self), values, "")
        return recipe

    def settings(self) -> dict[str, Any]:
        """Every value, by its key with dots."""
        return dict(_leaves(asdict(self), type(self), ""))

    def to_toml(self) -> str:
        """The whole recipe, defaults included."""
        return tomli_w.dumps(asdict(self))

    @classmethod
    def from_toml(cls, text: str, *, file: object = None) -> Recipe:
        """Read a recipe; keys that are left out have their defaults.

        Raises:
            RecipeError: naming file, line and key.
        """
        return cls().with_settings(settings_from_toml(text, file=file))


def complete(settings: Settings, *, forms: set[str], rows: int, task: str = "auto") -> Recipe:
    """The recipe with all that the user did not set chosen for the data; each choice is a measured one.

    forms: what the inputs are: `numbers`, `categories`, `tokens`, `pictures`, `series`.
    rows:  training rows.
    task:  its name, which may have settings of its own: see `FOR_TASK`.
    """
    usual = for_pretrained if is_pretrained(settings.get("network.name", "")) else for_inputs
    chosen = FOR_TASK.get(task, usual)(forms, rows)
    if usual is for_pretrained and settings.get("transfer.source"):  # its upper layers get nearly the whole rate
        chosen["training.optimizer.lr"] = 2e-4
    if settings.get("network.name") != "resnet":
        chosen.pop("network.options", None)
    if settings.get("training.optimizer.name") == "gradient_descent":
        chosen["training.batch_size"] = 0
    planned = ("precision", "float32_matmul", "attention", "channels_last", "threads", "compile", "workers")
    by_hand = any(f"training.{key}" in settings for key in planned)
    chosen["training.plan"] = "given" if by_hand else "measure"
    return Recipe().with_settings({**chosen, **settings})


def for_inputs(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings by what the inputs are."""
    return for_pictures(rows) if "pictures" in forms else for_text(rows) if "tokens" in forms else for_table(rows)


def for_table(rows: int) -> dict[str, Any]:
    """Settings for tables of numbers and categories: more rows ask for larger batches and fewer passes."""
    batch_size = 2 ** round(math.log2(min(max(rows / 128, 32), 256)))
    return {
        "training.epochs": min(max(round(350_000 / rows), 12), 40),
        "training.batch_size": batch_size,
        "training.patience": 16,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": round(4e-3 * min(1.0, math.sqrt(batch_size / 128)), 6),
        "training.optimizer.weight_decay": 3e-4,
        "training.schedule": "cosine",
        "training.clip_norm": 1.0,
    }


def for_pictures(rows: int) -> dict[str, Any]:
    """Settings for pictures: fewer of them ask for a smaller network and more passes."""
    few = rows < 5000
    return {
        "network.options": {"stem_size": 16, "hidden_sizes": [32, 64, 128]} if few else {},
        "training.epochs": min(max(round(600_000 / rows), 10), max(min(round(12_800 / rows), 100), 30)),
        "training.batch_size": 64 if few else 128,
        "training.patience": 0,
        "training.optimizer.name": "nesterov",
        "training.optimizer.lr": 0.1,
        "training.optimizer.weight_decay": 5e-4,
        "training.schedule": "cosine",
        "training.warmup": 0.2,
        "training.clip_norm": 0.0,
        "training.label_smoothing": 0.1,
        "training.augment": "shift",
    }


def for_text(rows: int) -> dict[str, Any]:
    """Settings for texts."""
    return {
        "training.epochs": 10,
        "training.batch_size": 64,
        "training.patience": 3,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.label_smoothing": 0.1,
        "training.clip_norm": 1.0,
    }


def for_pretrained(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for an encoder that was trained elsewhere: it moves slowly, what is new around it quickly."""
    return {
        "training.epochs": min(max(round(20_000 / rows), 3), 15),
        "training.batch_size": 32,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.rates": {"*pretrained.*": 0.05},
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "linear",
        "training.warmup": 0.1,
        "training.label_smoothing": 0.1,
        "training.clip_norm": 1.0,
        "training.augment": "shift" if "pictures" in forms else "none",
    }


def for_pretraining(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for learning without labels: there is no end to it, so all passes are made."""
    if "pictures" not in forms:
        return {**for_table(rows), "training.patience": 0}
    return {
        **for_pictures(rows),
        "training.batch_size": 256,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.warmup": 0.1,
        "training.clip_norm": 1.0,
        "training.label_smoothing": 0.0,
        "training.augment": "none",
    }


def is_pretrained(name: str) -> bool:
    """Whether the name of a network is that of an encoder that was trained elsewhere.

    >>> is_pretrained("hf:google-bert/bert-base-uncased"), is_pretrained("resnet")
    (True, False)
    """
    return name.startswith(("hf:", "timm:"))


def for_compression(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for autoencoders: fewer rows ask for more passes, and pictures among them for shifted ones.

    All passes are made, and the weights of the best are kept: on a few hundred rows the last ones have learned these by
    heart.
    """
    few = rows < 20_000
    epochs = min(max(round(600_000 / rows), 10), 200)
    return {
        "training.epochs": epochs,
        "training.batch_size": 2 ** round(math.log2(min(max(rows / 128, 32), 128))),
        "training.patience": epochs,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.1,
        "training.clip_norm": 1.0,
        "training.augment": "shift" if few and "pictures" in forms else "none",
    }


def for_anomaly(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for finding what is strange: no stopping early, so that the validation rows choose nothing."""
    batch_size = 2 ** round(math.log2(min(max(rows / 8, 16), 128)))
    steps = 1000 if forms <= {"numbers", "categories"} else 2000
    return {
        "training.epochs": min(max(round(steps * batch_size / rows), 6), 400),
        "training.batch_size": batch_size,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 1e-4,
        "training.schedule": "cosine",
        "training.clip_norm": 1.0,
    }


def for_generation(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for a generator and a discriminator: a number of steps rather than of passes.

    Adam without momentum, and the average of the generator's weights: Huang et al. 2024, arXiv:2501.05441, appendix.
    """
    pictures = "pictures" in forms
    batch_size, steps = (64, 24_000) if pictures else (256, 3_000)
    return {
        "training.epochs": min(max(round(steps * batch_size / rows), 1), 10_000),
        "training.batch_size": batch_size,
        "training.patience": 0,
        "training.optimizer.name": "adam",
        "training.optimizer.lr": 1e-3,
        "training.optimizer.weight_decay": 0.0,
        "training.optimizer.options": {"betas": [0.0, 0.99]},
        "training.schedule": "cosine",
        "training.clip_norm": 0.0,
        "training.averaging": "ema",
        "training.average_decay": 0.999,
        **({"generation.penalised": 0.25} if pictures else {"generation.penalty": 0.02}),
    }


FOR_TASK: dict[str, Callable[[set[str], int], dict[str, Any]]] = {
    "compression": for_compression,
    "anomaly": for_anomaly,
    "pretraining": for_pretraining,
    "generation": for_generation,
}
"""By the name of a task its own settings, from the forms of the inputs and the training rows; others: `for_inputs`."""


def settings_from_toml(text: str, *, file: object = None) -> dict[str, Any]:
    """What a TOML text sets, as keys with dots, each checked.

    Raises:
        RecipeError: naming file, line and key.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"this is not TOML: {error}", file=file) from None
    settings = dict(_leaves(tree, Recipe, ""))
    for key, value in settings.items():
        try:
            Recipe().with_settings({key: value})
        except RecipeError as error:
            raise RecipeError(error.what, error.remedy, file=file, line=_line_of(key, text)) from None
    return settings


def parse_setting(text: str) -> tuple[str, Any]:
    """One `a.b=c` of the command line; `c` is read as TOML, and as plain text where it is none.

    >>> parse_setting("training.optimizer.lr=3e-4")
    ('training.optimizer.lr', 0.0003)
    >>> parse_setting("network.name=resnet")
    ('network.name', 'resnet')
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f'"--set {text}" has no "="', "write --set key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `90`, `90s`, `5m` or `1.5h`.

    >>> parse_duration("5m")
    300.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) == 0:
        raise RecipeError(f'"{text}" is not a duration', "write 90s, 5m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _leaves(tree: Mapping[str, Any], owner: type, prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(owner)
    for key, value in tree.items():
        if isinstance(value, dict) and is_dataclass(hints.get(key)):
            yield from _leaves(value, hints[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _place(values: dict[str, Any], owner: type, path: list[str], value: Any, key: str) -> None:
    """Put a value at a path, checking each name on the way."""
    names = [f.name for f in fields(owner)]
    head, rest = path[0], path[1:]
    if head not in names:
        raise RecipeError(f'unknown key "{key}"', nearest(head, names))
    hint = get_type_hints(owner)[head]
    if isinstance(hint, type) and is_dataclass(hint):
        if not rest:
            inner = ", ".join(f.name for f in fields(hint))
            raise RecipeError(f'"{key}" holds several values', f"set one of them: {key}.{{{inner}}}")
        _place(values[head], hint, rest, value, key)
    elif rest and get_origin(hint) is dict:
        values[head] = {**values[head], ".".join(rest): value}
    elif rest:
        raise RecipeError(f'unknown key "{key}"', f'"{".".join(key.split(".")[: -len(rest)])}" is a single value')
    else:
        values[head] = value


def _build(owner: type, values: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(owner)
    return owner(
        **{
            name: _build(hints[name], value, f"{prefix}{name}.")
            if is_dataclass(hints[name])
            else _checked(value, hints[name], f"{prefix}{name}")
            for name, value in values.items()
        }
    )


def _checked(value: Any, hint: Any, key: str) -> Any:
    """The value as the type that its field states, or an error that names the key."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise RecipeError(f'"{key}" cannot be {value!r}', nearest(str(value), map(str, arguments)))
    if origin is list:
        items = value if isinstance(value, list | tuple) else [value]
        return [_checked(item, arguments[0], key) for item in items]
    if origin is dict and isinstance(value, Mapping):
        return {str(name): _checked(item, arguments[1], f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, "a table")
    raise RecipeError(f'"{key}" is {value!r}', f"give {expected}")


def _line_of(key: str, text: str) -> int | None:
    """The line of a TOML text that sets a key, as well as can be told without a parser that keeps lines."""
    wanted = key.split(".")
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[([^\]]+)\]", line):
            table = [part.strip().strip('"') for part in match[1].split(".")]
        elif match := re.match(r"\s*([\w.\"-]+)\s*=", line):
            here = table + [part.strip('"') for part in match[1].split(".")]
            if wanted[: len(here)] == here:
                return number
    return None
