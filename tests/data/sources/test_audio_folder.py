from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sounding.data.sources import read_source
from sounding.errors import DataError, RecipeError
from sounding.recipe import DataRecipe


def record(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(100), 8000)


def test_folders_are_classes_and_parts(tmp_path: Path) -> None:
    for name in ("train/cat/1.wav", "train/dog/2.flac", "test/cat/3.wav", "train/cat/notes.txt"):
        record(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("so")
    table = read_source(tmp_path, DataRecipe())
    assert table.data.to_pylist() == [
        {"audio": "train/cat/1.wav", "label": "cat"},
        {"audio": "train/dog/2.flac", "label": "dog"},
        {"audio": "test/cat/3.wav", "label": "cat"},
    ]
    assert table.parts == {"train": range(2), "test": range(2, 3)}
    assert (table.target, table.root) == (("label",), tmp_path)
    assert [finding.rule for finding in table.findings] == ["no-recordings"]


def test_names_of_files_tell_columns(tmp_path: Path) -> None:
    for name in ("7_lucas_32.wav", "0_theo_1.wav"):
        record(tmp_path / name)
    table = read_source(tmp_path, DataRecipe(file_names="digit_speaker_"))
    assert table.data.to_pylist() == [
        {"audio": "0_theo_1.wav", "digit": "0", "speaker": "theo"},
        {"audio": "7_lucas_32.wav", "digit": "7", "speaker": "lucas"},
    ]
    assert table.aside == ("digit", "speaker")
    assert read_source(tmp_path, DataRecipe()).columns == ["audio"]


def test_names_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for name in ("7_lucas_32.wav", "theo.wav"):
        record(tmp_path / name)
    with pytest.raises(DataError, match=r"the name theo has 1 parts, and data\.file_names 3"):
        read_source(tmp_path, DataRecipe(file_names="digit_speaker_"))
    for pattern in ("__", "a_a", "audio_x"):
        with pytest.raises(RecipeError, match=r"data\.file_names"):
            read_source(tmp_path, DataRecipe(file_names=pattern))
