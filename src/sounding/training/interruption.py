"""Ctrl-C and SIGTERM: finish the step, save, and say how to go on."""

from __future__ import annotations

import signal
import threading
from typing import Any


class StopRequested(Exception):  # noqa: N818  (nothing went wrong)
    """Ctrl-C or SIGTERM arrived, and a state that can be saved is reached."""


class Signals:
    """Remembers Ctrl-C and SIGTERM until the step is finished; the second one exits at once.

    Off the main thread, where handlers cannot be set, nothing is watched; nor is a signal that this process was told
    to ignore, as shells tell those in the background: their Ctrl-C is meant for the program in front.
    """

    def __init__(self) -> None:
        self._arrived = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._arrive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _arrive(self, number: int, frame: object) -> None:
        if self._arrived:
            raise KeyboardInterrupt
        self._arrived = True

    @property
    def arrived(self) -> bool:
        """Whether it is time to stop."""
        return self._arrived
