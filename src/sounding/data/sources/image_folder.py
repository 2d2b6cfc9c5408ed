"""Folders of pictures: each folder is a class, and `train`, `validation` and `test` above them are the split."""

from __future__ import annotations

from pathlib import Path

from sounding.data.sources._class_folders import Sort, is_full_of, read_folder
from sounding.data.table import Table
from sounding.recipe import DataRecipe

UNDERSTANDS = "a folder of pictures, or of folders of pictures named after their class"

ENDINGS = ".png .jpg .jpeg .jpe .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .npy"
PICTURES = Sort("picture", "image", frozenset(ENDINGS.split()))


def claims(source: object) -> bool:
    """Whether it is a folder that has a picture in it or in a folder below."""
    return is_full_of(PICTURES, source)


def read(source: object, settings: DataRecipe) -> Table:
    """Columns `image` (the path, relative to the folder) and `label` (the class); see `read_folder`."""
    assert isinstance(source, Path)
    return read_folder(PICTURES, source)
