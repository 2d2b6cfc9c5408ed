"""Pictures that are no photographs: arrays, pages, slices of twelve bits, and several shapes in one folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from sounding import fit, load
from sounding.errors import DamagedError, DataError
from sounding.kinds import Image, recognise
from sounding.recipe import DataRecipe
from sounding.tasks.prepare import prepare

DRAW = np.random.default_rng(0)
BANDS = DRAW.integers(0, 256, (6, 12, 10, 5), dtype=np.uint8)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def tiff(*pages: np.ndarray, kind: str = "TIFF") -> bytes:
    first, *rest = (Pillow.fromarray(page) for page in pages)
    file = io.BytesIO()
    first.save(file, kind, save_all=True, append_images=rest)
    return file.getvalue()


def learned(column: Any, **settings: Any) -> tuple[Image, list[Any]]:
    return Image.fit(column, np.arange(len(column)), DataRecipe(**settings))


def test_files_and_bytes_of_numpy_keep_every_channel(make_column: Any, tmp_path: Path) -> None:
    for number, picture in enumerate(BANDS):
        (tmp_path / f"{number}.npy").write_bytes(saved(picture))
    paths = make_column([f"{number}.npy" for number in range(6)], tmp_path)
    assert recognise(paths)[0] == "image"
    columns = {
        "paths": paths,
        "bytes": make_column([saved(picture) for picture in BANDS]),
        "channels first": make_column([saved(picture.transpose(2, 0, 1)) for picture in BANDS]),
        "Fortran": make_column([saved(np.asfortranarray(picture)) for picture in BANDS]),
        "arrays": make_column(pa.FixedShapeTensorArray.from_numpy_ndarray(BANDS)),
        "pages": make_column([tiff(*picture.transpose(2, 0, 1)) for picture in BANDS]),
    }
    for name, column in columns.items():
        kind, _ = learned(column, picture_pages="channels")
        assert (kind.channels, kind.height, kind.width) == (5, 12, 10), name
        pixels, findings = kind.encode(column)
        assert np.array_equal(pixels, BANDS.transpose(0, 3, 1, 2)), name
        assert findings == []
        assert np.allclose(kind.mean, BANDS.mean((0, 1, 2)))
        assert kind.describe() == "pictures of 5 channels, 10 x 12 pixels"
        assert Image.from_json(kind.to_json()) == kind


def test_pages_are_frames_unless_they_are_said_to_be_channels(make_column: Any) -> None:
    column = make_column([tiff(*picture.transpose(2, 0, 1)) for picture in BANDS])
    kind, _ = learned(column)
    pixels, (found,) = kind.encode(column)
    assert np.array_equal(pixels[:, 0], BANDS[..., 0])
    assert found.rule == "several-frames"
    assert found.remedy.set == {"data.picture_pages": "channels"}


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("save", [saved, tiff, lambda array: tiff(array, kind="PNG")], ids=["npy", "tiff", "png"])
def test_slices_are_scaled_by_the_bits_that_they_use(bits: int, save: Any, make_column: Any) -> None:
    deep = DRAW.integers(0, 2**bits, (4, 12, 10), dtype=np.uint16)
    deep[0, 0, 0] = 2**bits - 1
    column = make_column([save(picture) for picture in deep])
    kind, (found,) = learned(column)
    pixels, _ = kind.encode(column)
    assert np.array_equal(pixels[:, 0], np.rint(deep / (2**bits - 1) * 255))
    assert (found.rule, found.evidence["bits"], found.evidence["highest"]) == ("pictures-scaled", bits, 2**bits - 1)
    later = make_column([save(np.minimum(deep[0].astype(int) * 4, 65535).astype(np.uint16))])
    _, findings = kind.encode(later)
    assert [one.rule for one in findings] == ([] if bits == 16 else ["values-cut"])


def test_eight_bits_in_sixteen_lose_nothing(make_column: Any) -> None:
    shallow = DRAW.integers(0, 256, (3, 12, 10), dtype=np.uint8)
    column = make_column([saved(picture.astype(np.uint16)) for picture in shallow])
    kind, findings = learned(column)
    assert findings == []
    assert np.array_equal(kind.encode(column)[0][:, 0], shallow)


def test_floats_from_0_to_1(make_column: Any) -> None:
    column = make_column([saved(picture / 255) for picture in BANDS])
    assert np.array_equal(learned(column)[0].encode(column)[0], BANDS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            saved(np.arange(-60, 60, dtype=np.int16).reshape(12, 10)),
            "has values from -60 to 59; bring them to 0 to 65535",
        ),
        (saved(np.full((12, 10), np.nan)), "has values from nan to nan"),
        (saved(np.full((12, 10), 3.5)), "from 3.5 to 3.5; bring them to 0 to 1"),
        (saved(np.zeros((12, 10), "U3")), "holds values of type <U3"),
        (saved(np.zeros((2, 3, 4, 5))), r"has the shape \(2, 3, 4, 5\)"),
        (saved(np.zeros((9, 9, 103))), r"has the shape \(9, 9, 103\); .*fewer than pixels on a side"),
        (saved(BANDS[0])[:-40], "is damaged"),
        (saved(BANDS[0])[:30], "is damaged"),
        (saved(BANDS[0, :, :, :4]), "has 4 channels, and others have 5"),
        (tiff(BANDS[0, :, :, 0]), "has 1 channels, and others have 5"),
    ],
)
def test_what_is_no_such_picture_is_refused_with_its_line(content: bytes, why: str, make_column: Any) -> None:
    column = make_column([*(saved(picture) for picture in BANDS), content])
    with pytest.raises(DataError, match=rf'x.csv:8 .column "x".: the picture .*{why}'):
        learned(column)


def test_a_file_that_would_run_code_is_refused(make_column: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(DataError, match=r'"evil.npy" holds values of type object'):
        learned(make_column(["evil.npy"], tmp_path))


def test_a_header_that_promises_too_much_is_refused_before_anything_is_read(make_column: Any) -> None:
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (60_000, 60_000)}
    np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match="promises 60000 x 60000"):
        learned(make_column([file.getvalue()]))


def test_a_model_that_was_saved_before_there_were_channels_reads_as_it_did(make_column: Any) -> None:
    kind, _ = learned(make_column([saved(picture[..., :3]) for picture in BANDS]))
    older = {key: value for key, value in kind.to_json().items() if key not in ("deepest", "shape", "pages")}
    assert Image.from_json(older) == kind
    del older["mean"]
    with pytest.raises(DamagedError, match="the image holds channels, deepest, height, pages, shape, std, width"):
        Image.from_json(older)


# Several shapes in one folder


def picture_of(width: int, height: int) -> bytes:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2] = 200
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("shape", ["stretch", "pad", "crop"])
def test_pictures_of_another_shape(shape: str, make_column: Any) -> None:
    column = make_column([picture_of(20, 20), picture_of(20, 20), picture_of(40, 20)])
    kind, (found,) = learned(column, picture_fit=shape)
    assert (kind.width, kind.height) == (20, 20)
    wide = kind.encode(column)[0][2, 0]
    if shape == "stretch":
        assert (wide[:, :8] == 200).all()
        assert (wide[:, 12:] == 0).all()
    elif shape == "pad":
        assert (wide[:4] == 100).all()  # the mean colour
        assert (wide[-4:] == 100).all()
        assert (wide[6:14, :8] == 200).all()
    else:
        assert (wide[:, :10] == 200).all()
        assert (wide[:, 10:] == 0).all()
    done = {"stretch": "stretched", "pad": "padded with their mean colour", "crop": "cut at their borders"}[shape]
    assert found.title.endswith(f"; 1 of another shape are {done}")
    assert found.evidence["of_another_shape"] == 1
    assert (found.remedy is not None) == (shape == "stretch")


def test_every_channel_is_brought_to_the_size(make_column: Any) -> None:
    column = make_column([saved(picture) for picture in BANDS])
    pixels = learned(column, picture_size=6)[0].encode(column)[0]
    one = Pillow.fromarray(BANDS[2, :, :, 3]).resize((6, 6), Pillow.Resampling.BILINEAR)
    assert np.array_equal(pixels[2, 3], np.asarray(one))


@pytest.mark.parametrize("shape", ["pad", "crop"])
def test_masks_refuse_other_shapes(shape: str) -> None:
    masks = DRAW.integers(0, 2, (20, 12, 10), dtype=np.uint8)
    source = {"x": BANDS[np.arange(20) % 6, :, :, :3], "y": masks}
    settings = {"task": "segmentation", "target": ["y"], "data.kinds": {"y": "mask"}, "data.picture_fit": shape}
    with pytest.raises(DataError, match="masks and boxes are stretched with their pictures"):
        prepare(source, settings)


def test_a_folder_of_slices_from_the_file_to_the_report(tmp_path: Path) -> None:
    for number in range(40):
        name = ("dark", "bright")[number % 2]
        (tmp_path / "slices" / name).mkdir(parents=True, exist_ok=True)
        bands = DRAW.integers(0, 2000 + 2000 * (number % 2), (6, 12, 11), dtype=np.uint16)
        np.save(tmp_path / "slices" / name / f"{number}.npy", bands)
    settings = {"training.epochs": 3, "evaluation.bootstrap": 20, "training.augment": "strong"}
    run = fit(tmp_path / "slices", settings=settings, out=tmp_path / "run", say=None, progress=False)
    assert run.schema["image"].fitted.describe() == "pictures of 6 channels, 11 x 12 pixels"
    assert len(load(tmp_path / "run").predict(tmp_path / "slices")) == 40
    assert "data:image/png" in (tmp_path / "run" / "report.html").read_text()
