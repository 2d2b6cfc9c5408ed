"""Texts in two languages, line by line: `train.en` and `train.de`, as translations are usually kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from sounding.data.sources._files import expect, read_bytes, suffix, utf8
from sounding.data.sources._parts import by_part, part_named
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder of line files in two languages, NAME.en and NAME.de (also .gz), or one such file"

LANGUAGES = frozenset(
    "aa ab af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu".split()
)
"""Endings that name a language: ISO 639-1, but for `ts`, which are time series."""
WORD = re.compile(r"[._\-]")
"""What parts the words of a name: `test_2016_flickr` is of the test part."""


def claims(source: object) -> bool:
    """Whether it is a file in a language, or a folder with files of one name in two languages."""
    if not isinstance(source, Path):
        return False
    if source.is_dir():
        return bool(_pairs(source))
    return _language(source) != ""


def read(source: object, settings: DataRecipe) -> Table:
    """A column for each language; of a folder all pairs, in the parts that their names say.

    Raises:
        DataError: where files of one name have different numbers of lines, or are in more than two languages.
    """
    assert isinstance(source, Path)
    if not source.is_dir():
        return of_files([source], settings)
    pairs = _pairs(source)
    languages = sorted({language for files in pairs.values() for language in files})
    if len(languages) > 2:
        what = f"there are files in {', '.join(languages)}"
        raise DataError(what, "leave those in two languages in the folder", file=source)
    tables = [of_files([files[language] for language in languages], settings) for files in pairs.values()]
    parts = [part_named(WORD.split(name)[0]) for name in pairs]
    table = by_part(tables, parts, name=source.name)
    named = ", ".join(f"{name} ({len(one):,} lines)" for name, one in zip(pairs, tables, strict=True))
    return replace(table, notes=(f"lines in {' and '.join(languages)}: {named}", *table.notes))


def of_files(files: Sequence[Path], settings: DataRecipe) -> Table:
    """The lines of files in several languages, side by side, each in a column that is called as its file ends.

    Raises:
        DataError: if they have different numbers of lines.
    """
    texts = {_language(file): _lines(file, settings) for file in files}
    (first, lines), *others = texts.items()
    for file, (language, own) in zip(files[1:], others, strict=True):
        if len(own) != len(lines):
            what = f"{len(own):,} lines in {language}, {len(lines):,} in {first}"
            raise DataError(what, "give as many in both: line n is the translation of line n", file=file)
    data = pa.table({language: pa.array(own, pa.large_string()) for language, own in texts.items()})
    name = files[0].name if len(files) == 1 else _stem(files[0])
    return Table(data, name, (Origin(str(files[0]), len(lines), lines=np.arange(1, len(lines) + 1)),))


def _lines(file: Path, settings: DataRecipe) -> list[str]:
    data = read_bytes(file)
    expect(data, "", file)
    text, _ = utf8(data, settings.encoding, file)
    lines = text.decode().replace("\r\n", "\n").split("\n")  # other marks of lines belong to the texts
    return lines[:-1] if not lines[-1] else lines


def _pairs(folder: Path) -> dict[str, dict[str, Path]]:
    """By name the files of one name in several languages."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and (language := _language(path)):
            found.setdefault(_stem(path), {}).setdefault(language, path)
    return {name: files for name, files in found.items() if len(files) > 1}


def _language(path: Path) -> str:
    ending = suffix(path).removeprefix(".")
    return ending if ending in LANGUAGES else ""


def _stem(path: Path) -> str:
    return path.name[: -len(".gz")].rpartition(".")[0] if path.name.endswith(".gz") else path.stem
