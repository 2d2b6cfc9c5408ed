from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from sounding.errors import DataError
from sounding.kinds import Image, recognise
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)


def encoded(picture: Pillow.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tensors(*pictures: np.ndarray) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.concatenate([[picture] for picture in pictures]))


def fit(column, settings=SETTINGS):
    return Image.fit(column, np.arange(len(column)), settings)


def test_files_bytes_structs_and_arrays_give_the_same_pixels(make_column, tmp_path):
    many = np.random.default_rng(1).integers(0, 256, (5, 12, 8, 3), dtype=np.uint8)
    data = [encoded(Pillow.fromarray(pixels)) for pixels in many]
    (tmp_path / "deep er").mkdir()
    paths = [f"deep er/{n}.png" for n in range(5)]
    for path, content in zip(paths, data, strict=True):
        (tmp_path / path).write_bytes(content)
    columns = {
        "paths": make_column(paths, tmp_path),
        "bytes": make_column(data),
        "structs": make_column([{"bytes": content, "path": None} for content in data]),
        "structs of paths": make_column([{"bytes": None, "path": path} for path in paths], tmp_path),
        "arrays": make_column(tensors(*many)),
    }
    for name, column in columns.items():
        assert recognise(column)[0] == "image", name
        kind, findings = fit(column)
        pixels, _ = kind.encode(column)
        assert np.array_equal(pixels, many.transpose(0, 3, 1, 2)), name
        assert pixels.dtype == np.uint8
        assert findings == []
        assert np.allclose(kind.mean, many.mean(axis=(0, 1, 2)))
        assert np.allclose(kind.std, many.std(axis=(0, 1, 2)))
        block = kind.block("photo")
        assert (block.name, block.channels, block.height, block.width) == ("image:photo", 3, 12, 8)
        assert np.array_equal(kind.show(column, 2), many[2])


def test_one_channel_only_if_all_training_pictures_are_grey(make_column):
    grey, colour = encoded(Pillow.fromarray(PIXELS).convert("L")), encoded(Pillow.fromarray(PIXELS))
    assert fit(make_column([grey, grey]))[0].channels == 1
    assert fit(make_column([grey, colour]))[0].channels == 3
    kind = fit(make_column([grey]))[0]
    assert np.array_equal(
        kind.encode(make_column([colour]))[0][0, 0], np.asarray(Pillow.fromarray(PIXELS).convert("L"))
    )
    arrays = tensors(PIXELS[..., 0])
    assert fit(make_column(arrays))[0].channels == 1


def test_arrays_of_another_layout_are_converted_at_predict_time(make_column):
    kind = fit(make_column(tensors(PIXELS)))[0]
    grey = tensors(PIXELS[..., 0])
    assert np.array_equal(kind.encode(make_column(grey))[0][0], np.repeat(PIXELS[None, :, :, 0], 3, axis=0))
    clear = np.concatenate([PIXELS, np.zeros((12, 8, 1), np.uint8)], axis=2)
    see_through = tensors(clear)
    assert (kind.encode(make_column(see_through))[0] == 255).all()


def test_size_is_kept_where_all_agree_and_else_the_median_up_to_128(make_column):
    def sized(*sizes):
        return make_column([encoded(Pillow.new("RGB", size)) for size in sizes])

    kind, findings = fit(sized((30, 20), (30, 20)))
    assert ((kind.width, kind.height), findings) == ((30, 20), [])
    kind, findings = fit(sized((30, 20), (40, 10), (50, 60)))
    assert (kind.width, kind.height) == (40, 20)
    assert findings[0].rule == "pictures-resized"
    kind, _ = fit(sized((300, 150), (302, 150), (304, 150)))
    assert (kind.width, kind.height) == (128, 64)
    kind, _ = fit(sized((1024, 512)))
    assert (kind.width, kind.height) == (128, 64)
    kind, _ = fit(sized((30, 20)), DataRecipe(picture_size=24))
    assert (kind.width, kind.height) == (24, 24)


def test_resizing_agrees_with_pillow(make_column):
    data = encoded(Pillow.fromarray(PIXELS))
    kind, _ = fit(make_column([data]), DataRecipe(picture_size=5))
    expected = np.asarray(Pillow.fromarray(PIXELS).resize((5, 5), Pillow.Resampling.BILINEAR))
    assert np.array_equal(kind.encode(make_column([data]))[0][0], expected.transpose(2, 0, 1))


def test_a_changed_file_has_another_stamp(make_column, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Pillow.fromarray(PIXELS)))
    column = make_column(["a.png"], tmp_path)
    kind, _ = fit(column)
    before = kind.stamp(column)
    assert kind.stamp(column) == before
    (tmp_path / "a.png").write_bytes(encoded(Pillow.fromarray(PIXELS[:6])))
    assert kind.stamp(column) != before


def test_all_broken_pictures_are_named_at_once(make_column, tmp_path):
    good = encoded(Pillow.fromarray(PIXELS))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError) as caught:
        fit(make_column(["empty.png", "gone.png", "cut.png"], tmp_path))
    message = str(caught.value)
    assert 'x.csv:2 (column "x"): "empty.png" is empty' in message
    assert 'x.csv:3 (column "x"): "gone.png" does not exist' in message
    assert 'x.csv:4 (column "x"): "cut.png" is damaged' in message
