"""Folders of recordings: each folder is a class, or the names of the files say what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from sounding.data.sources._class_folders import Sort, is_full_of, read_folder
from sounding.data.table import Table
from sounding.errors import DataError, Problems, RecipeError
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder of recordings, or of folders of recordings named after their class"

ENDINGS = ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .au"
RECORDINGS = Sort("recording", "audio", frozenset(ENDINGS.split()))
PARTED = "_"
"""Between the parts of a file name."""


def claims(source: object) -> bool:
    """Whether it is a folder that has a recording in it or in a folder below."""
    return is_full_of(RECORDINGS, source)


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `audio` (the path, relative to the folder) and `label` (the class); see `read_folder`.

    With `data.file_names` a column for each part of the names, too.
    """
    assert isinstance(source, Path)
    table = read_folder(RECORDINGS, source)
    return told_by_names(table, settings.file_names) if settings.file_names else table


def told_by_names(table: Table, pattern: str) -> Table:
    """The table with a column for each part of the file names; a part that the pattern leaves empty is left out.

    They are there to be predicted or to group by, and no inputs unless `data.keep` names them.

    pattern: `digit_speaker_` for names such as `7_lucas_32.wav`.

    Raises:
        RecipeError: for a pattern that names nothing, or a column twice.
        DataError:   naming the first few files whose names have another number of parts.
    """
    names = pattern.split(PARTED)
    taken = [name for name in names if name]
    if not taken or len(set(taken)) < len(taken) or set(taken) & set(table.columns):
        what = f'data.file_names is "{pattern}"'
        raise RecipeError(what, "give a name of its own for each part of the file names, such as word_speaker_")
    stems = [PurePosixPath(path).stem.split(PARTED) for path in table.data["audio"].to_pylist()]
    problems = Problems()
    for row, stem in enumerate(stems):
        if len(stem) != len(names):
            what = f"the name {PARTED.join(stem)} has {len(stem)} parts, and data.file_names {len(names)}"
            problems.add(DataError(what, "rename the file, or correct data.file_names", file=table.where(row)[0]))
    problems.raise_if_any()
    return replace(table, data=_with_columns(table.data, names, stems), aside=tuple(taken))


def _with_columns(data: pa.Table, names: Sequence[str], stems: Sequence[Sequence[str]]) -> pa.Table:
    for at, name in enumerate(names):
        if name:
            data = data.append_column(name, pa.array([stem[at] for stem in stems], pa.string()))
    return data
