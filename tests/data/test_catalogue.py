from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from sounding.data import catalogue
from sounding.data.catalogue import File, catalogue_entries, read_entry
from sounding.data.sources import read_source
from sounding.errors import DamagedError, DataError
from sounding.recipe import DataRecipe

HERE = os.environ.get("SOUNDING_DATA", "")
needs_data = pytest.mark.skipif(not HERE, reason="SOUNDING_DATA names no folder with the public data sets")

BUNDLED = {
    "digits": (1797, 1, 10),
    "breast-cancer": (569, 30, 2),
    "wine": (178, 13, 3),
    "iris": (150, 4, 3),
    "diabetes": (442, 10, None),
}

FETCHED = {  # rows of each part, as their sources state them, and classes
    "adult": ({"train": 32561, "test": 16281}, 15, 2),
    "airline-passengers": ({"": 144}, 2, None),
    "banking77": ({"train": 10003, "test": 3080}, 2, 77),
    "bccd": ({"train": 205, "validation": 87, "test": 72}, 2, None),
    "camvid-mini": ({"train": 37, "test": 13}, 2, None),
    "california-housing": ({"": 20640}, 10, None),
    "fashion-mnist": ({"train": 60000, "test": 10000}, 2, 10),
    "cifar10-jpeg": ({"train": 50_000, "test": 10_000}, 2, 10),
    "fsdd": ({"train": 2700, "test": 300}, 3, 10),
    "german-credit": ({"": 1000}, 21, 2),
    "isbi2012-membrane": ({"train": 24, "test": 6}, 2, None),
    "multi30k-en-de": ({"train": 29000, "validation": 1014, "test": 1000}, 2, None),
    "sst2": ({"train": 6920, "validation": 872, "test": 1821}, 2, 2),
    "trec": ({"train": 5452, "test": 500}, 2, 6),
}


def test_every_set_is_tested_here() -> None:
    assert {entry.name for entry in catalogue_entries()} == {*BUNDLED, *FETCHED}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets(name: str) -> None:
    rows, inputs, classes = BUNDLED[name]
    table = read_source(f"@{name}", DataRecipe())
    (target,) = table.target
    assert (len(table), len(table.columns)) == (rows, inputs + 1)
    assert table.name == f"@{name}"
    if classes is not None:
        assert len(set(table.data[target].to_pylist())) == classes


def test_digits_keep_all_levels_apart() -> None:
    cells = read_entry("@digits", DataRecipe()).column("image", DataRecipe()).cells.to_numpy_ndarray()
    assert cells.dtype == np.uint8
    assert (cells / 15 == load_digits().images).all()


def test_iris_has_its_names_and_numbers() -> None:
    table = read_entry("iris", DataRecipe())
    assert table.columns == [
        "sepal_length_cm",
        "sepal_width_cm",
        "petal_length_cm",
        "petal_width_cm",
        "species",
    ]
    assert set(table.data["species"].to_pylist()) == {"setosa", "versicolor", "virginica"}
    assert (np.asarray(table.data["petal_width_cm"]) == load_iris().data[:, 3]).all()


@needs_data
@pytest.mark.shared_data
@pytest.mark.parametrize("name", FETCHED)
def test_fetched_sets(name: str) -> None:
    parts, columns, classes = FETCHED[name]
    table = read_source(f"@{name}", DataRecipe())
    assert len(table) == sum(parts.values())
    assert {part: len(rows) for part, rows in table.parts.items()} == {part: n for part, n in parts.items() if part}
    assert len(table.columns) == columns
    if classes is not None:
        assert len(set(table.data[table.target[0]].to_pylist())) == classes


@needs_data
@pytest.mark.shared_data
def test_settings_for_the_files_of_the_user_do_not_touch_the_catalogue() -> None:
    plain = read_entry("@german-credit", DataRecipe())
    odd = read_entry("@german-credit", DataRecipe(separator="|", header="yes", encoding="cp1252"))
    assert plain.fingerprint() == odd.fingerprint()


@needs_data
@pytest.mark.shared_data
def test_blood_cells_hold_two_boxes_without_an_area() -> None:
    table = read_entry("@bccd", DataRecipe())
    cells = table.data["boxes"].to_pylist()
    labels = [box["label"] for boxes in cells for box in boxes]
    assert {label: labels.count(label) for label in set(labels)} == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    bad = {row for row, boxes in enumerate(cells) if any(box["right"] <= box["left"] for box in boxes)}
    assert {Path(str(table.where(row)[0])).name for row in bad} == {"BloodImage_00338.xml", "BloodImage_00343.xml"}


def test_every_address_and_checksum_is_well_formed() -> None:
    for entry in catalogue_entries():
        assert entry.what
        assert entry.licence
        for file in entry.files:
            assert not file.url or file.url.startswith(("https://raw.githubusercontent.com/", "http://fashion-mnist."))
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.path.startswith(f"{entry.name}/")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(DataError, match='the catalogue has no set "digit"; did you mean "digits"'):
        read_source("@digit", DataRecipe())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> File:
    """The catalogue with one small set, and a cache of its own."""
    data = b"Month,Passengers\n1949-01,112\n"
    entry = next(entry for entry in catalogue_entries() if entry.name == "airline-passengers")
    file = File("tiny/tiny.csv", "http://127.0.0.1:9/tiny.csv", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(catalogue, "_ENTRIES", (replace(entry, name="tiny", files=(file,)),))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SOUNDING_DATA", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    return file


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_that_is_filled_already(tiny: File, tmp_path: Path, packed: bool) -> None:
    data = b"Month,Passengers\n1949-01,112\n"
    (tmp_path / f"tiny/tiny.csv{'.gz' if packed else ''}").write_bytes(gzip.compress(data) if packed else data)
    assert read_entry("@tiny", DataRecipe()).data.to_pydict() == {"Month": ["1949-01"], "Passengers": ["112"]}


def test_a_file_that_is_not_the_one_is_refused(tiny: File, tmp_path: Path) -> None:
    (tmp_path / "tiny/tiny.csv").write_bytes(b"Month,Passengers\n1949-01,113\n")
    with pytest.raises(DamagedError, match="not the file of the catalogue"):
        read_entry("@tiny", DataRecipe())


def test_offline_and_absent_is_one_clear_line(tiny: File) -> None:
    with pytest.raises(DataError) as caught:
        read_entry("@tiny", DataRecipe())
    assert "@tiny is not here and cannot be fetched from http://127.0.0.1:9/tiny.csv" in str(caught.value)
    assert "SOUNDING_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_fetched_is_kept_and_checked(tiny: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    (tmp_path / "served").mkdir()
    (tmp_path / "served/tiny.csv").write_bytes(b"Month,Passengers\n1949-01,112\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/tiny.csv"
        entry = replace(catalogue._ENTRIES[0], files=(replace(tiny, url=address),))
        monkeypatch.setattr(catalogue, "_ENTRIES", (entry,))
        fetched = read_entry("@tiny", DataRecipe())
        wrong = replace(entry, files=(replace(tiny, url=address, path="tiny/other.csv", sha256="0" * 64),))
        monkeypatch.setattr(catalogue, "_ENTRIES", (wrong,))
        with pytest.raises(DamagedError, match="is not the file of the catalogue"):
            read_entry("@tiny", DataRecipe())
        server.shutdown()
    monkeypatch.setattr(catalogue, "_ENTRIES", (entry,))
    assert read_entry("@tiny", DataRecipe()).fingerprint() == fetched.fingerprint()
