"""Arrow files: Feather and IPC, as files and as streams. Types stay as they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sounding.data.sources._columns import check_names, check_types, understood
from sounding.data.sources._files import content, read_bytes, suffix
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

UNDERSTANDS = "an Arrow file (.arrow .feather .ipc, also .gz)"

SUFFIXES = {".arrow", ".arrows", ".feather", ".ipc"}


def claims(source: object) -> bool:
    """Whether it is a file with an ending that Arrow files have."""
    return isinstance(source, Path) and suffix(source) in SUFFIXES and not source.is_dir()


def read(source: object, settings: DataRecipe) -> Table:
    """The table."""
    assert isinstance(source, Path)
    data = read_bytes(source)
    found = content(data)
    if found not in ("", "Arrow"):
        what = f"the content is {found}, not Arrow"
        raise DataError(what, "give the file the ending of its content", file=source)
    try:
        reader = (pa.ipc.open_file if found == "Arrow" else pa.ipc.open_stream)(pa.BufferReader(data))
        check_names(reader.schema.names, settings, source)
        check_types(reader.schema, source)
        rows = reader.read_all()
        rows.validate(full=True)  # offsets that point outside would be read as they are
    except (pa.ArrowException, OSError) as error:
        what = f"the Arrow file is damaged: {str(error).splitlines()[0]}"
        raise DataError(what, "write or download it again", file=source) from None
    if not rows.num_rows:
        raise DataError("the file has columns but 0 rows", "give a file with rows", file=source)
    rows = understood(rows, settings, source)
    return Table(rows, source.name, (Origin(str(source), len(rows)),), root=source.parent, notes=("Arrow",))
