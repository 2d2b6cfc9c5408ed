from __future__ import annotations

import io

import pyarrow as pa
import pytest
from PIL import Image as Pictures

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.kinds import recognise
from sounding.recipe import DataRecipe

datasets = pytest.importorskip("datasets")


def test_classes_come_as_names_in_the_order_of_the_rows() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    table = read_source(data.select([2, 0]), DataRecipe())
    assert table.data.to_pydict() == {"text": ["c", "a"], "label": [None, "pos"]}
    assert table.target == ("label",)


def test_splits_become_parts() -> None:
    part = datasets.Dataset.from_dict({"a": [1, 2]})
    table = read_source(
        datasets.DatasetDict({"test": part, "train": part, "validation": part, "unsupervised": part}),
        DataRecipe(),
    )
    assert dict(table.parts) == {"train": range(0, 2), "validation": range(2, 4), "test": range(4, 6)}
    assert [finding.rule for finding in table.findings] == ["parts-aside"]


def test_pictures_stay_encoded() -> None:
    file = io.BytesIO()
    Pictures.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    data = datasets.Dataset.from_dict(
        {"image": [{"bytes": file.getvalue(), "path": None}]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    assert read_source(data, DataRecipe()).data["image"].to_pylist() == [{"bytes": file.getvalue(), "path": None}]


def test_recordings_stay_encoded_and_decoded_ones_are_read() -> None:
    cell = {"bytes": b"RIFF\0\0\0\0WAVE", "path": "a.wav"}
    features = datasets.Features({"audio": datasets.Audio(decode=False)})
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = datasets.table.InMemoryTable(pa.table({"audio": pa.array([cell], struct)}))
    data = datasets.Dataset(rows, info=datasets.DatasetInfo(features=features))  # encoding would need torchcodec
    table = read_source(data, DataRecipe())
    assert table.data["audio"].to_pylist() == [cell]
    assert recognise(table.column("audio", DataRecipe()))[0] == "audio"
    decoded = {"x": [{"array": [0.0, 0.5], "sampling_rate": 8000, "path": "a.wav"}], "y": [1]}
    table = read_source(pa.table(decoded), DataRecipe())
    assert recognise(table.column("x", DataRecipe()))[0] == "audio"


def test_other_features_are_refused() -> None:
    data = datasets.Dataset.from_dict({"a": [[1, 2]], "b": [1]})
    with pytest.raises(DataError, match=r"the feature (List|Sequence) is not understood"):
        read_source(data, DataRecipe())
