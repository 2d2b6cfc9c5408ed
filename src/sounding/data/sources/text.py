"""Plain text: a file is one document, or each of its lines is; a folder of files has one for each."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sounding.data.sources._files import expect, read_bytes, suffix, utf8
from sounding.data.table import Origin, Table
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder of .txt files (also .gz), or one of them with --set data.txt=document"

TEXT = "text"
"""The column."""


def claims(source: object) -> bool:
    """Whether it is a folder with .txt files in it; a single one is mostly a table, see `is_text`."""
    return isinstance(source, Path) and source.is_dir() and bool(_files(source))


def is_text(source: object, settings: DataRecipe) -> bool:
    """Whether it is a .txt file that is to be read as running text, or a folder of them."""
    if settings.txt == "table" or not isinstance(source, Path):
        return False
    return claims(source) or (suffix(source) == ".txt" and not source.is_dir())


def read(source: object, settings: DataRecipe) -> Table:
    """A column `text` with a row for each file, by name, or for each line; line ends stay as they are in a file."""
    assert isinstance(source, Path)
    texts, origins, encodings = list[str](), [], set[str]()
    for file in _files(source) if source.is_dir() else [source]:
        data = read_bytes(file)
        expect(data, "", file)
        decoded, encoding = utf8(data, settings.encoding, file)
        encodings.add(encoding)
        own = decoded.decode().splitlines() if settings.txt == "lines" else [decoded.decode()]
        texts += own
        origins.append(Origin(str(file), len(own), first_line=1))
    count = f"{len(origins)} text file{'s' * (len(origins) > 1)}"
    notes = (f"{count}, {sum(map(len, texts)):,} characters, encoding {', '.join(sorted(encodings))}",)
    return Table(pa.table({TEXT: pa.array(texts, pa.large_string())}), source.name, tuple(origins), notes=notes)


def _files(folder: Path) -> list[Path]:
    """The .txt files in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and suffix(path) == ".txt")
