"""Trainings that are told to stop on their way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sounding.training import Trainer


@contextmanager
def terminated_after(steps: int) -> Iterator[None]:
    """This process gets a SIGTERM when a training, which is watched, has done so many steps."""
    told: list[object] = []
    original = Trainer._tell

    def tell(self: Trainer, watch: Any, record: Any, progress: Any) -> None:
        original(self, watch, record, progress)
        told.append(record)
        if len(told) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_tell", tell)
        yield
