from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from sounding.errors import DataError
from sounding.kinds import Column, Mask
from sounding.kinds.mask import UNLABELLED
from sounding.recipe import DataRecipe


def saved(pixels: np.ndarray | Pillow.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    picture.save(file, form, **options)
    return file.getvalue()


def column(cells: list[bytes], **labels: str) -> Column:
    names = [{"bytes": cell, "path": f"{row}.png"} for row, cell in enumerate(cells)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return Column("mask", pa.array(names, kind), frozenset(), None, lambda row: ("t.csv", row + 2), labels)


def fitted(masks: Column, **labels: str) -> Mask:
    return Mask.fit_target(masks, np.arange(len(masks)), DataRecipe(labels=labels))[0]


STRIPES = np.repeat(np.array([[0, 3, 9]], np.uint8), 4, 0)


def test_values_become_codes_in_their_order() -> None:
    masks = column([saved(STRIPES), saved(STRIPES[:, ::-1])])
    kind = fitted(masks)
    assert (kind.classes, kind.height, kind.width) == (("0", "3", "9"), 4, 3)
    assert kind.encode_target(masks)[:, 0].tolist() == [[0, 1, 2], [2, 1, 0]]
    assert kind.shares == pytest.approx((1 / 3,) * 3)


def test_palettes_are_read_by_their_indices() -> None:
    picture = Pillow.fromarray(STRIPES)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    assert picture.mode == "P"
    masks = column([saved(picture), saved(STRIPES)])
    kind = fitted(masks)
    first, second = kind.encode_target(masks)
    assert kind.classes == ("0", "3", "9")
    assert np.array_equal(first, second)


def test_colours_are_classes_and_come_back_as_colours() -> None:
    colours = np.array([[0, 0, 0], [128, 64, 0], [0, 0, 255]], np.uint8)
    painted = colours[np.array([[0, 1], [2, 1]])]
    masks = column([saved(painted), saved(Pillow.fromarray(painted).convert("RGBA"))])
    kind = fitted(masks, **{"#804000": "earth"})
    assert kind.classes == ("#000000", "#0000ff", "earth")
    codes = kind.encode_target(masks)
    assert codes.tolist() == [[[0, 2], [1, 2]]] * 2
    assert np.array_equal(np.asarray(kind.picture(codes[0])), painted)
    assert np.array_equal(kind.show(masks, 1), painted)


@pytest.mark.parametrize("values", [[0, 3, 9], [0, 255], [7, 40000]])
def test_predictions_are_written_with_the_values_of_the_files(values: list[int]) -> None:
    kept = np.array([values] * 2, dtype=np.uint8 if max(values) < 256 else np.uint16)
    masks = column([saved(kept)])
    kind = fitted(masks)
    again = Pillow.open(io.BytesIO(saved(kind.picture(kind.encode_target(masks)[0]))))
    assert np.array_equal(np.asarray(again), kept)


def test_labels_name_classes_join_them_and_take_them_away() -> None:
    masks = column([saved(STRIPES)])
    kind = fitted(masks, **{"0": "road", "3": "road", "9": "car"})
    assert kind.classes == ("road", "car")
    assert kind.encode_target(masks)[0, 0].tolist() == [0, 0, 1]
    kind = fitted(masks, **{"3": "", "7": ""})
    assert kind.classes == ("0", "9")
    assert kind.encode_target(masks)[0, 0].tolist() == [0, UNLABELLED, 1]


def test_labels_of_the_source_are_overruled_by_those_of_the_user() -> None:
    masks = column([saved(STRIPES)], **{"0": "sky", "3": "tree", "9": ""})
    assert fitted(masks).classes == ("sky", "tree")
    assert fitted(masks, **{"0": "above"}).classes == ("above", "tree")


def test_255_means_no_class_beside_several_others() -> None:
    several, two = np.array([[0, 1, 255]], np.uint8), np.array([[0, 255, 255]], np.uint8)
    kind, findings = Mask.fit_target(column([saved(several)]), np.arange(1), DataRecipe())
    assert kind.classes == ("0", "1")
    assert [finding.rule for finding in findings][:2] == ["void-pixels", "unlabelled-pixels"]
    assert findings[1].evidence["share"] == pytest.approx(1 / 3)
    assert fitted(column([saved(two)])).classes == ("0", "255")
    assert fitted(column([saved(several)]), **{"255": "edge"}).classes == ("0", "1", "edge")


def test_a_value_that_training_never_met_is_an_error_with_a_way_out() -> None:
    masks = column([saved(STRIPES), saved(np.full((4, 3), 5, np.uint8))])
    kind, _ = Mask.fit_target(masks, np.arange(1), DataRecipe())
    with pytest.raises(DataError, match=r't\.csv:3 \(column "mask"\): "1\.png" has the value 5 in 12 pixels, which no'):
        kind.encode_target(masks)
    kind, _ = Mask.fit_target(masks, np.arange(1), DataRecipe(labels={"5": ""}))
    assert (kind.encode_target(masks)[1] == UNLABELLED).all()


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        (saved(STRIPES, "JPEG"), "is a JPEG, in which values of neighbours blend; save masks without loss"),
        (saved(np.random.default_rng(0).integers(0, 9, (30, 30), np.uint8))[:-100], "is damaged"),
        (b"", "is empty"),
        (b"nothing", "is not a picture"),
        (saved(Pillow.new("RGBA", (3, 3), (0, 0, 0, 9))), "can be seen through"),
        (saved(Pillow.new("CMYK", (3, 3)), "TIFF"), "of mode CMYK"),
        (saved(np.arange(256 * 2, dtype=np.uint16).reshape(2, 256)), "512 different values: no mask"),
    ],
)
def test_masks_that_are_none_are_named(cell: bytes, what: str) -> None:
    with pytest.raises(DataError, match=rf't\.csv:3 \(column "mask"\): "1\.png".*{what}'):
        fitted(column([saved(STRIPES), cell]))


def test_masks_of_one_class_are_refused() -> None:
    with pytest.raises(DataError, match="hold 1 classes: 0; give masks of 2"):
        fitted(column([saved(np.zeros((2, 2), np.uint8))]))


def test_classes_in_few_pictures_are_a_finding() -> None:
    masks = column([saved(STRIPES)] + [saved(np.minimum(STRIPES, 3))] * 4)
    _, findings = Mask.fit_target(masks, np.arange(5), DataRecipe())
    assert [(finding.rule, finding.evidence["classes"]) for finding in findings] == [("near-empty-classes", {"9": 1})]


def test_masks_are_resized_by_their_nearest_pixels() -> None:
    large = np.kron(STRIPES, np.ones((10, 10), np.uint8))
    kind = fitted(column([saved(large)]))
    assert np.array_equal(kind.encode_as(column([saved(large)]), 4, 3)[0], [[0, 1, 2]] * 4)


def test_arrays_are_masks_too() -> None:
    cells = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([STRIPES, STRIPES[:, ::-1]]))
    masks = Column("mask", cells, frozenset())
    assert fitted(masks).encode_target(masks)[1, 0].tolist() == [2, 1, 0]


def test_colours_that_are_shown_differ() -> None:
    kind = Mask(tuple(map(str, range(40))), tuple(range(40)), tuple(range(40)), (1 / 40,) * 40, 2, 2)
    assert len(np.unique(kind.colours, axis=0)) > 36
    assert kind.colours.shape == (41, 3)
