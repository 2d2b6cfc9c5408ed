"""The errors a user can meet; every one says where, what is wrong and what to do, in one line.

SoundingError                 anything Sounding raises on purpose
├── UserError                 the user can mend it: exit status 2
│   ├── DataError             something in the data
│   ├── RecipeError           something in the recipe or on the command line
│   ├── DamagedError          a checkpoint or model file is not what its manifest says
│   └── DivergedError         the loss became infinite or not a number
└── InterruptedRunError       stopped by Ctrl-C or SIGTERM, and saved: exit status 130
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SoundingError(Exception):
    """Anything Sounding raises on purpose."""

    exit_status = 1


class UserError(SoundingError):
    """A mistake the user can mend, told in one line: where, what is wrong, what to do.

    >>> print(UserError("3 cells are empty", "fill them or leave the column out",
    ...                 file="train.csv", line=17, column="age"))
    train.csv:17 (column "age"): 3 cells are empty; fill them or leave the column out
    """

    exit_status = 2

    def __init__(
        self,
        what: str,
        remedy: str = "",
        *,
        file: object = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        self.what, self.remedy = what, remedy
        self.file, self.line, self.column = (None if file is None else str(file)), line, column
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}" if place else f"line {self.line}"
        if self.column is not None:
            place += f'{" " if place else ""}(column "{self.column}")'
        sentence = f"{place}: {self.what}" if place else self.what
        return printable(f"{sentence}; {self.remedy}" if self.remedy else sentence)


class DataError(UserError):
    """Something in the data."""


class RecipeError(UserError):
    """Something in the recipe or on the command line."""


class DamagedError(UserError):
    """A checkpoint or model file is not what its manifest says."""


class DivergedError(UserError):
    """The loss became infinite or not a number."""


class InterruptedRunError(SoundingError):
    """The run was stopped by Ctrl-C or SIGTERM, after everything was saved."""

    exit_status = 130


class Problems:
    """Collects every problem of one pass, so that the user meets them all at once.

    >>> problems = Problems()
    >>> problems.add(DataError("no rows", "add some", file="a.csv"))
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    sounding.errors.DataError: a.csv: no rows; add some
    """

    def __init__(self) -> None:
        self._errors: list[UserError] = []

    def add(self, error: UserError) -> None:
        """Remember one problem."""
        self._errors.append(error)

    def raise_if_any(self) -> None:
        """Raise the only problem as it is, or all of them in one line."""
        if not self._errors:
            return
        first = self._errors[0]
        if len(self._errors) == 1:
            raise first
        shown = " | ".join(str(error) for error in self._errors[:3])
        more = len(self._errors) - 3
        raise type(first)(f"{shown} | and {more} more" if more > 0 else shown)


def printable(text: str) -> str:
    r"""Text with control characters spelled out, so that no cell can forge a line or move the cursor.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest known one, and the list.

    >>> nearest("incone", ["age", "income"])
    'did you mean "income"? There are: age, income'
    """
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    shown = ", ".join(known[:20]) + (f", and {len(known) - 20} more" if len(known) > 20 else "")
    if close:
        return f'did you mean "{close[0]}"? There are: {shown}'
    return f"there are: {shown}" if known else "there are none"
