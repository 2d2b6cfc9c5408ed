"""What the sources of files share: which path is meant, what its bytes are, and that they stay the same."""

from __future__ import annotations

import codecs
import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sounding.errors import DataError, nearest

GZIP = b"\x1f\x8b"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_CONTENTS = (
    (b"PK\x03\x04", "a zip archive, as Excel workbooks are"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
    (b"ARROW1\x00\x00", "Arrow"),
    (b"%PDF-", "a PDF document"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (GZIP, "a gzip archive in a gzip archive"),
)


def suffix(path: Path) -> str:
    """The ending that says what a file holds, in lower case and without `.gz`.

    >>> suffix(Path("adult.CSV.gz"))
    '.csv'
    """
    name = path.name.lower().removesuffix(".gz")
    return os.path.splitext(name)[1]


def existing(path: Path) -> Path:
    """The path, if it is a file or a folder.

    Raises:
        DataError: if there is none, naming the nearest in that folder; if it is a pipe, a device or a circle of links.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _absent(path) from None
    except ValueError:  # a NUL in the name
        raise DataError("this is not a file name", "give the path of a file", file=path) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError("not a regular file: its links lead in a circle", "give a file", file=path) from None
        raise DataError(f"cannot be read: {error.strerror}", "give a file you may read", file=path) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError("not a regular file", "give a file or a folder, not a pipe or a device", file=path)
    return path


def _absent(path: Path) -> DataError:
    if path.is_symlink():
        return DataError("this link leads to a file that does not exist", "mend the link", file=path)
    if not path.parent.is_dir():
        return DataError(f"there is no folder {path.parent}", "check the path", file=path)
    with os.scandir(path.parent) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return DataError("there is no such file", nearest(path.name, names), file=path)


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Everything inside sees one state of the file.

    Raises:
        DataError: if its size or its time changed in between; before any other error, being its likely cause.
    """
    before = _state(path)
    try:
        yield
    finally:
        if _state(path) != before:
            raise DataError("the file changed while it was being read", "read it when nothing writes to it", file=path)


def _state(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return status.st_size, status.st_mtime_ns, status.st_ino


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, unpacked if it is a gzip archive whatever its name.

    Raises:
        DataError: if the file is empty, may not be read, changed meanwhile, or is a damaged archive.
    """
    with unchanged(path):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", "give a file you may read", file=path) from None
        if data.startswith(GZIP):
            data = unzipped(data, path)
        if not data:
            raise DataError("the file is empty", "give a file with rows", file=path)
        return data


def unzipped(data: bytes, file: object) -> bytes:
    """What a gzip archive holds."""
    try:
        return gzip.decompress(data)
    except EOFError:
        raise DataError("the archive ends early", "copy or download the file again", file=file) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the archive is damaged: {error}", "copy or download the file again", file=file) from None


def content(data: bytes) -> str:
    """What bytes are, where their beginning (and for some formats their end) leaves no doubt; else nothing.

    >>> content(b"PAR1...PAR1"), content(b"<!DOCTYPE html>"), content(b"PAR1,PAR2")
    ('Parquet', 'an HTML page', '')
    """
    for magic, name in _CONTENTS:
        if data.startswith(magic):
            return name
    if data.startswith(b"PAR1") and data.endswith(b"PAR1"):  # a text may begin like this, and not end so
        return "Parquet"
    if data[257:262] == b"ustar":
        return "a tar archive"
    start = data[:512].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if start.startswith(b"<?xml"):
        return "an XML document"
    if start.startswith((b'{"', b'[{"')):
        return "JSON"
    return ""


def expect(data: bytes, wanted: str, file: object) -> None:
    """Refuse bytes that are certainly something else than what the name of the file promises."""
    found = content(data)
    if found and found != wanted:
        raise DataError(f"the content is {found}, not {wanted}", "give the file the ending of its content", file=file)


def utf8(data: bytes, encoding: str, file: object) -> tuple[bytes, str]:
    r"""A text as UTF-8 without byte order mark, and the name of the encoding it had.

    A byte order mark is certain and goes before `encoding`; without either, all but UTF-8 is refused, never guessed.

    Raises:
        DataError: naming line and byte offset of the first byte that does not fit.

    >>> utf8("ä".encode("utf-16"), "", "a.csv")
    (b'\xc3\xa4', 'UTF-16-LE')
    """
    for mark, marked in _BOMS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], marked
            skipped = len(mark)
            break
    else:
        skipped = 0
    try:
        name = codecs.lookup(encoding or "utf-8").name
    except LookupError:
        known = [
            "utf-8",
            "utf-16",
            "cp1252",
            "latin-1",
            "cp1250",
            "cp1251",
            "shift_jis",
            "gb18030",
            "big5",
            "euc-kr",
        ]
        raise DataError(f'there is no encoding "{encoding}"', nearest(encoding, known), file=file) from None
    if name == "utf-8":
        wrong = _not_utf8(data)
        if wrong is not None:
            raise _undecodable(data, wrong, skipped, "UTF-8", file)
        return data, "UTF-8"
    try:
        return data.decode(name).encode(), name.upper()
    except UnicodeDecodeError as error:
        raise _undecodable(data, error.start, skipped, name.upper(), file) from None
    except UnicodeEncodeError:
        raise DataError(f"the text is not {name.upper()}", "give another --encoding", file=file) from None


def _not_utf8(data: bytes, step: int = 1 << 24) -> int | None:
    """Offset of the first byte that is not UTF-8; in steps, so that no second copy of a large file is held."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    for start in range(0, len(data), step):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(view[start : start + step], final=start + step >= len(data))
        except UnicodeDecodeError as error:
            return start - pending + error.start
    return None


def _undecodable(data: bytes, offset: int, skipped: int, name: str, file: object) -> DataError:
    remedy = "if it was written on Windows, say --encoding cp1252" if name == "UTF-8" else "give another --encoding"
    what = f"byte 0x{data[offset]:02X} at byte offset {offset + skipped} is not {name}"
    return DataError(what, remedy, file=file, line=line_of(data, offset))


def line_of(data: bytes, offset: int) -> int:
    """The line, counted from 1, in which a byte lies; lines end in LF, CR LF or CR."""
    return line_ends(data[:offset]) + 1


def line_ends(data: bytes) -> int:
    """How many lines end in these bytes."""
    returns = data.count(b"\r")
    if not returns:
        return data.count(b"\n")
    return data.count(b"\n") + returns - data.count(b"\r\n")
