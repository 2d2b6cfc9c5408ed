"""What is chosen for the data where the user sets nothing; each choice is a measured one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sounding.recipe.recipe import Recipe, Settings

PRETRAINED_RATES: dict[str, Any] = {
    "training.optimizer.lr": 2e-3,
    "training.optimizer.rates": {"*pretrained.*": 0.05},
}
"""What is new learns as ever, what was trained elsewhere moves slowly."""


def complete(settings: Settings, *, forms: set[str], rows: int, task: str = "auto") -> Recipe:
    """The recipe with all that the user did not set chosen for the data; each choice is a measured one.

    forms: what the inputs are: `numbers`, `categories`, `tokens`, `pictures`, `series`, `sound`; and `colours` besides
           `pictures` that are more than grey.
    rows:  training rows.
    task:  its name, which may have settings of its own: see `FOR_TASK`.
    """
    usual = for_pretrained if is_pretrained(settings.get("network.name", "")) else for_inputs
    chosen = FOR_TASK.get(task, usual)(forms, rows)
    if usual is for_pretrained and task in FOR_TASK:  # what is new is learned as ever, what was trained before slowly
        chosen |= PRETRAINED_RATES
    if usual is for_pretrained and settings.get("transfer.source"):  # its upper layers get nearly the whole rate
        chosen["training.optimizer.lr"] = 2e-4
    if task == "recommendation" and settings.get("recommendation.feedback") == "implicit":
        chosen |= for_choices(rows)
        if settings.get("network.name", "").startswith("history_"):
            chosen |= for_histories(rows)
    if settings.get("network.name") not in ("resnet", "matrix_factorization"):
        chosen.pop("network.options", None)
    if settings.get("training.optimizer.name") == "gradient_descent":
        chosen["training.batch_size"] = 0
    planned = ("precision", "float32_matmul", "attention", "channels_last", "threads", "compile", "workers")
    by_hand = any(f"training.{key}" in settings for key in planned)
    chosen["training.plan"] = "given" if by_hand else "measure"
    return Recipe().with_settings({**before_reading(task), **chosen, **settings})


def before_reading(task: str) -> dict[str, Any]:
    """What a task chooses where the user sets nothing, before anything is known of the data.

    >>> before_reading("language-modeling")["data.txt"]
    'document'
    """
    return dict(BEFORE_READING.get(task, {}))


def for_inputs(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings by what the inputs are."""
    if "pictures" in forms:
        return for_pictures(forms, rows)
    if "sound" in forms:
        return for_sound(rows)
    if "tokens" in forms:
        return for_text(rows)
    return for_series(rows) if "series" in forms else for_table(rows)


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


def for_pictures(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for pictures: fewer of them ask for a smaller network and more passes, and so do photographs."""
    few, (shown, most) = rows < 5000, (2_250_000, 50) if "colours" in forms else (600_000, 30)
    return {
        "network.options": {"stem_size": 16, "hidden_sizes": [32, 64, 128]} if few else {},
        "training.epochs": min(max(round(shown / rows), 10), max(min(round(12_800 / rows), 100), most)),
        "training.batch_size": 64 if few else 128,
        "training.patience": 0,
        "training.optimizer.name": "nesterov",
        "training.optimizer.lr": 0.1,
        "training.optimizer.weight_decay": 5e-4,
        "training.schedule": "cosine",
        "training.warmup": 0.2,
        "training.clip_norm": 0.0,
        "training.label_smoothing": 0.1,
        "training.augment": "default",
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


def for_series(rows: int) -> dict[str, Any]:
    """Settings for series: a number of steps rather than of passes, as there are often few rows."""
    batch_size = 2 ** round(math.log2(min(max(rows / 32, 16), 64)))
    return {
        "training.epochs": min(max(round(300 * batch_size / rows), 20), 200),
        "training.batch_size": batch_size,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 1e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.1,
        "training.label_smoothing": 0.1,
        "training.clip_norm": 1.0,
    }


def for_sound(rows: int) -> dict[str, Any]:
    """Settings for recordings: fewer of them ask for more passes."""
    batch_size = 2 ** round(math.log2(min(max(rows / 32, 16), 64)))
    return {
        "training.epochs": min(max(round(1000 * batch_size / rows), 15), 100),
        "training.batch_size": batch_size,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 3e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.1,
        "training.label_smoothing": 0.1,
        "training.clip_norm": 1.0,
        "training.augment": "default",
    }


def for_pretrained(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for an encoder that was trained elsewhere: it moves slowly, what is new around it quickly."""
    return {
        "training.epochs": min(max(round(20_000 / rows), 3), 15),
        "training.batch_size": 32,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        **PRETRAINED_RATES,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "linear",
        "training.warmup": 0.1,
        "training.label_smoothing": 0.1,
        "training.clip_norm": 1.0,
        "training.augment": "default" if "pictures" in forms else "none",
    }


def for_pretraining(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for learning without labels: there is no end to it, so all passes are made."""
    if "pictures" not in forms:
        return {**for_table(rows), "training.patience": 0}
    return {
        **for_pictures(forms - {"colours"}, rows),  # how many passes photographs need was measured with labels
        "training.batch_size": 256,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.warmup": 0.1,
        "training.clip_norm": 1.0,
        "training.label_smoothing": 0.0,
        "training.augment": "none",
    }


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
        "training.augment": "default" if few and "pictures" in forms else "none",
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


def for_segmentation(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for a class for each pixel: a number of steps rather than of passes, as pictures are often few."""
    return {
        "training.epochs": min(max(round(16_000 / rows), 20), 250),
        "training.batch_size": 4,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.clip_norm": 1.0,
        "training.augment": "default",
        "training.class_weights": True,
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


def for_forecasting(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for forecasts: windows overlap, so that one pass over many of them tells little new each."""
    batch_size = 2 ** round(math.log2(min(max(rows / 32, 16), 64)))
    return {
        "training.epochs": min(max(round(2000 * batch_size / rows), 10), 200),
        "training.batch_size": batch_size,
        "training.patience": 5 if rows > 1000 else 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 1e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.clip_norm": 1.0,
    }


def for_transcription(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for reading recordings: it takes some hundred steps until the first characters are found."""
    batch_size = 2 ** round(math.log2(min(max(rows / 64, 8), 32)))
    return {
        **for_sound(rows),
        "training.epochs": min(max(round(2500 * batch_size / rows), 15), 200),
        "training.batch_size": batch_size,
        "training.optimizer.lr": 2e-3,
        "training.label_smoothing": 0.0,
        "training.clip_norm": 5.0,
    }


def for_recommendation(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for factors of users and items: few passes, quick steps, and a strong decay."""
    return {
        "training.epochs": min(max(round(640_000 / rows), 6), 60),
        "training.batch_size": 2 ** round(math.log2(min(max(rows / 256, 32), 256))),
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 5e-3,
        "training.optimizer.weight_decay": 0.3,
        "training.schedule": "cosine",
        "training.clip_norm": 0.0,
    }


def for_choices(rows: int) -> dict[str, Any]:
    """What else is chosen for implicit feedback: more factors, where all items are held against each other."""
    return {"network.options": {"members": 1, "size": 64}}


def for_histories(rows: int) -> dict[str, Any]:
    """What else is chosen for networks that read histories: a batch is some users with all that they met."""
    return {
        "training.epochs": min(max(round(1_200_000 / rows), 12), 80),
        "training.batch_size": 2 ** round(math.log2(min(max(rows / 64, 64), 1024))),
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 0.1,
        "training.warmup": 0.05,
        "training.clip_norm": 1.0,
    }


def for_language_modeling(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for running text, whose rows are stretches of a kilobyte: a number of tokens rather than of passes."""
    return {
        "training.epochs": min(max(round(10_000 / rows), 20), 100),
        "training.batch_size": 16,
        "training.patience": 0,
        "training.optimizer.name": "muon",
        "training.optimizer.lr": 1.5e-2,
        "training.optimizer.weight_decay": 0.1,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.clip_norm": 1.0,
    }


def for_translation(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for writing texts: fewer pairs ask for more passes, and all of these are made."""
    return {
        "training.epochs": min(max(round(400_000 / rows), 12), 100),
        "training.batch_size": 2 ** round(math.log2(min(max(rows / 64, 32), 128))),
        "training.patience": 0,
        "training.optimizer.name": "muon",
        "training.optimizer.lr": 4e-3,
        "training.optimizer.weight_decay": 1e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.1,
        "training.label_smoothing": 0.1,
        "training.clip_norm": 1.0,
    }


def for_detection(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for boxes in pictures: a number of steps rather than of passes, and the average of the weights."""
    batch_size = 16 if rows >= 64 else 8
    return {
        "training.epochs": min(max(round(2000 * batch_size / rows), 12), 300),
        "training.batch_size": batch_size,
        "training.patience": 0,
        "training.optimizer.name": "adamw",
        "training.optimizer.lr": 2e-3,
        "training.optimizer.weight_decay": 2e-2,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.clip_norm": 10.0,
        "training.averaging": "ema",
        "training.average_decay": 0.99,
        "training.augment": "default",
    }


def for_style(forms: set[str], rows: int) -> dict[str, Any]:
    """Settings for painting in a style: a number of steps rather than of passes."""
    return {
        "training.epochs": min(max(round(6000 / rows), 2), 200),
        "training.batch_size": 4,
        "training.patience": 0,
        "training.optimizer.name": "adam",
        "training.optimizer.lr": 5e-3,
        "training.optimizer.weight_decay": 0.0,
        "training.schedule": "cosine",
        "training.warmup": 0.05,
        "training.clip_norm": 1.0,
        "training.augment": "light",
    }


BEFORE_READING: dict[str, dict[str, Any]] = {
    "language-modeling": {"data.txt": "document", "data.validation": 0.05, "data.test": 0.05},
    "detection": {"data.picture_longest": 320},
    "segmentation": {"data.picture_longest": 1024},
}
"""By the name of a task."""

FOR_TASK: dict[str, Callable[[set[str], int], dict[str, Any]]] = {
    "compression": for_compression,
    "anomaly": for_anomaly,
    "pretraining": for_pretraining,
    "generation": for_generation,
    "segmentation": for_segmentation,
    "translation": for_translation,
    "forecasting": for_forecasting,
    "transcription": for_transcription,
    "language-modeling": for_language_modeling,
    "recommendation": for_recommendation,
    "detection": for_detection,
    "style": for_style,
}
"""By the name of a task its own settings, from the forms of the inputs and the training rows; others: `for_inputs`."""


def is_pretrained(name: str) -> bool:
    """Whether the name of a network is that of an encoder that was trained elsewhere.

    >>> is_pretrained("hf:google-bert/bert-base-uncased"), is_pretrained("resnet")
    (True, False)
    """
    return name.startswith(("hf:", "timm:"))
