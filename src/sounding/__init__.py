"""Sounding: deep learning that says what it measured.

`import sounding` is quick: everything below is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sounding.errors import SoundingError as SoundingError
    from sounding.errors import UserError as UserError
    from sounding.finding import Finding as Finding
    from sounding.fitting import check as check
    from sounding.fitting import fit as fit
    from sounding.fitting import resume as resume
    from sounding.recipe import Recipe as Recipe
    from sounding.run import Run as Run
    from sounding.run import load as load
    from sounding.training import Trainer as Trainer
    from sounding.watching import watch as watch

__version__ = "0.1.0"

_HOMES = {
    "SoundingError": "errors",
    "UserError": "errors",
    "Finding": "finding",
    "Recipe": "recipe",
    "Run": "run",
    "load": "run",
    "fit": "fitting",
    "check": "fitting",
    "resume": "fitting",
    "Trainer": "training",
    "watch": "watching",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sounding' has no attribute {name!r}")
    return getattr(import_module(f"sounding.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
