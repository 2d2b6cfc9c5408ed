"""What a person sees while a network trains: a live bar on a terminal, plain lines elsewhere, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sounding.training.loop import EpochRecord, StepRecord

REFRESH = 0.1
"""Seconds between two looks of the bar: drawing costs more than a small step."""
LINE_EVERY = 1.0
"""Seconds between two plain lines: a hundred quick epochs should not fill a log."""


class ProgressBar:
    """An onlooker that shows loss, validation, learning rate and time left; a context manager.

    epochs:  how many there will be.
    stream:  where to; a live bar if it is a terminal, else a line for each epoch, at most one a second.
    """

    def __init__(self, epochs: int, *, stream: TextIO | None = None) -> None:
        self._epochs = epochs
        self._stream = stream if stream is not None else sys.stderr
        self._console = Console(file=self._stream, highlight=False)
        self._bar: Progress | None = None
        self._shown = 0.0
        self._loss = float("nan")
        self._waiting: str | None = None
        self._broken = False
        self._validation = ""

    def __enter__(self) -> ProgressBar:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                auto_refresh=False,
                transient=True,
            )
            self._task = self._bar.add_task("training", total=1.0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._waiting is not None:
            self._print(self._waiting)
            self._waiting = None

    def __call__(self, record: StepRecord | EpochRecord) -> None:
        """Show a record, if it is time to."""
        now = time.monotonic()
        if isinstance(record, StepRecord):
            if self._bar is not None and now - self._shown >= REFRESH:
                self._shown = now
                self._draw(record.epoch, record.loss, record.learning_rate, record.progress)
            return
        self._validation = "".join(f"  {name} {value:.4g}" for name, value in record.validation.items())
        if self._bar is not None:
            self._draw(record.epoch, record.train_loss, record.learning_rate, record.progress)
            return
        line = f"epoch {record.epoch + 1}/{self._epochs}  train loss {record.train_loss:.4g}"
        line += f"{'  validation' if self._validation else ''}{self._validation}  lr {record.learning_rate:.3g}"
        line += f"  {record.seconds:.1f} s"
        if now - self._shown >= LINE_EVERY:
            self._shown, self._waiting = now, None
            self._print(line)
        else:
            self._waiting = line

    def _draw(self, epoch: int, loss: float, rate: float, progress: float) -> None:
        assert self._bar is not None
        text = f"epoch {epoch + 1}/{self._epochs}  loss {loss:.4g}{self._validation}  lr {rate:.3g}"
        self._bar.update(self._task, completed=progress, description=text)
        self._bar.refresh()

    def _print(self, line: str) -> None:
        """Training goes on even where nobody can be told (a closed terminal, a full disk)."""
        if self._broken:
            return
        try:
            print(line, file=self._stream, flush=True)
        except (OSError, ValueError):
            self._broken = True
