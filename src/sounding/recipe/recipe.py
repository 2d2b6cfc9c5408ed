"""Everything that defines a run, as dataclasses that read from and write to TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import tomli_w

from sounding.errors import RecipeError
from sounding.recipe.of_tasks import (
    AnomalyRecipe,
    DetectionRecipe,
    ForecastingRecipe,
    GenerationRecipe,
    LanguageRecipe,
    PretrainingRecipe,
    RecommendationRecipe,
    SegmentationRecipe,
    StyleRecipe,
    TranscriptionRecipe,
    TransferRecipe,
    TranslationRecipe,
)
from sounding.recipe.reading import build, leaves, line_of, place

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
    picture_longest: int = 0
    """The longer side that pictures are brought to, at most, in their shape; 0 is 512 for those of one size, else 128.
    `picture_size` goes before it."""
    picture_fit: Literal["stretch", "pad", "crop"] = "stretch"
    """How pictures of another size are brought to that of all: stretched, padded with their mean colour, or cut at
    their borders. Those with masks or boxes are stretched, as these are."""
    picture_pages: Literal["first", "channels"] = "first"
    """Of TIFF and other files with several pages, the first is taken, or every page is a channel."""
    file_names: str = ""
    """What the names of the files in a folder of recordings say, a column for each part between underscores:
    `digit_speaker_` for `7_lucas_32.wav`; a part that is left empty is left out."""
    sound_rate: int = 0
    """Samples a second that recordings are brought to; 0 takes the rate that most of them have, up to 16,000."""
    txt: Literal["table", "document", "lines"] = "table"
    """What a .txt file holds: a table, a running text, or one in each line."""
    tokens: Literal["characters", "bytes", "subwords"] = "characters"
    """What running text is made of: its characters, the bytes of its UTF-8, or pieces of words that are learned."""
    subwords: int = 1024
    """Different pieces of words, bytes included."""
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
    augment: Literal["none", "light", "default", "strong", "randaugment", "trivialaugment"] = "none"
    """How far pictures, recordings and texts are varied while training; what a word means for which is in
    docs/augmentation.md. The last two are for pictures."""
    erase: float = 0.0
    """Probability that a rectangle of a picture is blanked while training; 0 leaves it to `augment`."""
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
    forecasting: ForecastingRecipe = field(default_factory=ForecastingRecipe)
    generation: GenerationRecipe = field(default_factory=GenerationRecipe)
    segmentation: SegmentationRecipe = field(default_factory=SegmentationRecipe)
    transcription: TranscriptionRecipe = field(default_factory=TranscriptionRecipe)
    language: LanguageRecipe = field(default_factory=LanguageRecipe)
    recommendation: RecommendationRecipe = field(default_factory=RecommendationRecipe)
    translation: TranslationRecipe = field(default_factory=TranslationRecipe)
    detection: DetectionRecipe = field(default_factory=DetectionRecipe)
    style: StyleRecipe = field(default_factory=StyleRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def with_settings(self, settings: Settings) -> Recipe:
        """A copy with some values replaced.

        Raises:
            RecipeError: for an unknown key (naming the nearest known one) or a value of the wrong type.
        """
        values = asdict(self)
        for key, value in settings.items():
            place(values, type(self), key.split("."), value, key)
        recipe: Recipe = build(type(self), values, "")
        return recipe

    def settings(self) -> dict[str, Any]:
        """Every value, by its key with dots."""
        return dict(leaves(asdict(self), type(self), ""))

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


def settings_from_toml(text: str, *, file: object = None) -> dict[str, Any]:
    """What a TOML text sets, as keys with dots, each checked.

    Raises:
        RecipeError: naming file, line and key.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"this is not TOML: {error}", file=file) from None
    settings = dict(leaves(tree, Recipe, ""))
    for key, value in settings.items():
        try:
            Recipe().with_settings({key: value})
        except RecipeError as error:
            raise RecipeError(error.what, error.remedy, file=file, line=line_of(key, text)) from None
    return settings
