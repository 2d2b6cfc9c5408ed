"""A training script of the user's, run as it is, under the watch."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from sounding.errors import UserError
from sounding.finding import Finding
from sounding.watching.discovery import Discovery


class Outcome(NamedTuple):
    """How a script ended, and what was found."""

    findings: list[Finding]
    exit_status: int


def run_script(path: str | Path, arguments: Sequence[str] = (), *, say: Callable[[str], None] | None = None) -> Outcome:
    """Run a script as `python script.py` would, and watch what it trains; nothing in it has to change.

    path:      of a Python file.
    arguments: what it finds in `sys.argv` behind its own name.
    say:       is told of each finding when it arises, and of all at the end.

    An exception of the script is printed as Python prints it, and its exit status is in the outcome.

    Raises:
        UserError: where there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("there is no such script", "give the path of a Python file", file=path)
    discovery = Discovery(say=say)
    status = 0
    with _as_if_started(path, arguments):
        try:
            with discovery:
                try:
                    runpy.run_path(str(path), run_name="__main__")
                except SystemExit as leaving:
                    status = _status(leaving)
        except Exception as error:  # noqa: BLE001  (the script's, not ours: told as Python tells it)
            error.__traceback__ = _own(error.__traceback__, path)
            sys.excepthook(type(error), error, error.__traceback__)
            status = 1
    return Outcome(discovery.findings, status)


@contextmanager
def _as_if_started(path: Path, arguments: Sequence[str]) -> Iterator[None]:
    """What a script finds in `sys` when Python starts it."""
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(path), *arguments], [str(path.resolve().parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before


def _status(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    print(leaving.code, file=sys.stderr)
    return 1


def _own(trace: TracebackType | None, path: Path) -> TracebackType | None:
    """The traceback from the script on, without what started it."""
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    return trace
