"""Oddities that data bring, by the id of the fault: what a user meets in each case."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from sounding.data.schema import Schema
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Category, Number
from sounding.recipe import DataRecipe

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)


def make_table(root: Path | None = None, **columns: object) -> Table:
    data = pa.table(
        {name: cells if isinstance(cells, pa.Array) else pa.array(cells) for name, cells in columns.items()}
    )
    return Table(data, "x.csv", (Origin("x.csv", len(data), first_line=2),), root)


def learn(table: Table, target: str = "y", rows: int | None = None, **settings: object) -> tuple[Schema, list[Finding]]:
    recipe = DataRecipe(**settings)
    train = np.arange(len(table) if rows is None else rows)
    return Schema.infer(table, recipe, [target] if target in table.columns else []).fit(table, train, recipe)


def find(findings: list[Finding], rule: str) -> Finding:
    [found] = [finding for finding in findings if finding.rule == rule]
    return found


LABELS = ["a", "b"] * 10
COUNTING = [str(n) for n in range(20)]


class TestReading:
    def test_rd11_decimal_comma(self):
        table = make_table(x=["1,5", "2,25", "3"] + ["0,5"] * 17, y=LABELS)
        schema, findings = learn(table)
        assert schema["x"].kind == "number"
        assert "decimal comma" in schema["x"].reason
        found = find(findings, "number-format")
        assert found.severity == "warning"
        assert '"1,5" is 1.5' in found.title
        assert (schema["x"].fitted.knots[0], schema["x"].fitted.knots[-1]) == (0.5, 3.0)

    def test_rd11_thousands_are_not_taken_for_decimals(self):
        schema, findings = learn(make_table(x=["1,500", "2,250"] * 10, y=LABELS))
        assert schema["x"].kind == "category"
        assert find(findings, "numbers-in-disguise").evidence["examples"][0] == "1,500"

    @pytest.mark.parametrize("cells", [["$1,000", "$20"], ["12%", "5 %"], ["1.000,00 €", "20,00 €"]])
    def test_rd12_currency_thousands_and_percent(self, cells):
        table = make_table(x=cells * 10, y=LABELS)
        schema, findings = learn(table)
        found = find(findings, "numbers-in-disguise")
        assert schema["x"].kind == "category"
        assert found.severity == "warning"
        assert found.remedy.set == {"data.kinds.x": "number"}
        assert "100% of rows" in found.title
        assert cells[0] in found.title
        numbers, findings = learn(table, kinds={"x": "number"})
        assert isinstance(numbers["x"].fitted, Number)
        assert find(findings, "number-format").severity == "warning"
        assert len(numbers["x"].fitted.knots) == 2

    def test_rd19_a_nameless_index_is_left_out_unless_kept(self):
        for name in ("", "Unnamed: 0", "__index_level_0__"):
            table = make_table(**{name: COUNTING, "x": LABELS, "y": LABELS})
            schema, findings = learn(table)
            assert schema[name].role == "ignored"
            assert find(findings, "index-column").severity == "warning"
            assert learn(table, keep=[name])[0][name].role == "input"
        assert learn(make_table(**{"": ["5", "3"] * 10, "y": LABELS}))[0][""].role == "input"

    def test_rd20_names_of_internals_do_not_collide(self):
        names = [
            "label",
            "index",
            "split",
            "__row__",
            "numbers",
            "categories",
            "text:numbers",
            "target",
            "where",
        ]
        cells = {name: [str((7 * n + k) % 20) for n in range(20)] for k, name in enumerate(names)}
        odd = make_table(**cells, y=LABELS)
        plain = make_table(**{f"c{n}": values for n, values in enumerate(cells.values())}, y=LABELS)
        blocks = [learn(table)[0].encode(table).blocks for table in (odd, plain)]
        assert list(blocks[0]) == list(blocks[1])
        assert np.array_equal(blocks[0]["numbers"], blocks[1]["numbers"])

    def test_rd24_strings_that_became_missing_are_listed_and_namibia_can_stay(self):
        table = make_table(x=["1", "NA", "null", "?", ""] * 4, land=["NA", "DE", "FR", "DE", "NA"] * 4, y=LABELS)
        _, findings = learn(table)
        found = find(findings, "missing-values")
        assert found.evidence["columns"] == {"x": {"": 4, "?": 4, "NA": 4, "null": 4}, "land": {"NA": 8}}
        assert found.severity == "warning"  # NA may be the name of a category
        assert found.remedy.set == {"data.missing_in.land": [""]}
        kept, findings = learn(table, missing_in={"land": [""]})
        assert kept["land"].fitted.classes == ("DE", "FR", "NA")
        assert find(findings, "missing-values").severity == "info"

    def test_rd25_leading_zeros_stay_words(self):
        schema, _ = learn(make_table(x=["01234", "01235", "99999", "01234"] * 5, y=LABELS))
        assert schema["x"].kind == "category"
        assert "leading zeros" in schema["x"].reason
        assert "01234" in schema["x"].fitted.classes

    @pytest.mark.parametrize(
        "cells",
        [pa.array([2**53 + 1, None, 2**53, 7] * 5), ["9007199254740993", "", "9007199254740992", "7"] * 5],
    )
    def test_rd26_whole_numbers_beyond_float64_stay_exact(self, cells):
        schema, _ = learn(make_table(x=cells, y=LABELS))
        assert schema["x"].kind == "category"
        assert "2^53" in schema["x"].reason
        assert schema["x"].fitted.classes == ("7", "9007199254740992", "9007199254740993")

    def test_rd29_numbers_and_words_in_one_column(self):
        table = make_table(x=[*COUNTING[:17], "low", "high", "low"], y=LABELS)
        schema, findings = learn(table)
        found = find(findings, "numbers-and-words")
        assert schema["x"].kind == "category"
        assert found.severity == "warning"
        assert found.evidence["numbers"] == 17
        assert found.evidence["words"] == 3
        assert [(example["line"], example["cell"]) for example in found.evidence["examples"]] == [
            (19, "low"),
            (20, "high"),
            (21, "low"),
        ]
        settings = {key.removeprefix("data.missing_in."): words for key, words in found.remedy.set.items()}
        mended, _ = learn(table, missing_in=settings)
        assert mended["x"].kind == "number"

    def test_rd31_yes_and_no_in_all_spellings_are_one_feature(self):
        table = make_table(x=["yes", "no", "Y", "N", "TRUE", "1", "0", "False", "on", "off"] * 2, y=LABELS)
        schema, findings = learn(table)
        assert schema.encode(table).blocks["categories"][:10, 0].tolist() == [2, 1, 2, 1, 2, 2, 1, 1, 2, 1]
        assert schema.blocks()[0].cardinalities == (3,)
        assert find(findings, "boolean-spelling").evidence["read_as"]["TRUE"] == "yes"
        again = Schema.from_json(schema.to_json())
        assert np.array_equal(again.encode(table).blocks["categories"], schema.encode(table).blocks["categories"])
        assert not [finding for finding in findings if finding.rule == "numbers-and-words"]


class TestTargets:
    def test_tg02_missing_targets(self):
        with pytest.raises(DataError) as caught:
            learn(make_table(x=COUNTING, y=["a", "", "b", "?"] * 5))
        assert 'x.csv:3 (column "y"): 10 of 20 rows have no target' in str(caught.value)
        assert "data.missing_target=drop" in str(caught.value)

    @pytest.mark.parametrize("bad", ["inf", "NaN"])
    def test_tg03_infinite_or_missing_regression_targets(self, bad):
        with pytest.raises(DataError, match=r'x.csv:4 .column "y".: 1 of 20'):
            learn(make_table(x=COUNTING, y=["0.5", "1.25", bad] + [f"{n}.125" for n in range(17)]))

    def test_tg09_labels_that_differ_by_blanks_or_case(self):
        schema, findings = learn(make_table(x=COUNTING, y=["Yes", "yes ", "no", "Yes"] * 5))
        found = find(findings, "labels-alike")
        assert found.severity == "warning"
        assert '"Yes" (10 rows) and "yes" (5 rows)' in found.title
        assert found.remedy.set == {"data.labels": {"yes": "Yes"}}
        assert schema["y"].fitted.classes == ("Yes", "no", "yes")
        mended, findings = learn(make_table(x=COUNTING, y=["Yes", "yes ", "no", "Yes"] * 5), labels={"yes": "Yes"})
        assert mended["y"].fitted.classes == ("Yes", "no")
        assert findings == []

    def test_tg10_a_constant_regression_target(self):
        with pytest.raises(DataError, match="variance is 0"):
            learn(make_table(x=COUNTING, y=["2.5"] * 20))

    def test_tg11_a_target_over_twenty_powers_of_ten(self):
        values = 10 ** np.linspace(-9, 12, 200)
        table = make_table(x=np.arange(200.0), y=values)
        schema, _ = learn(table)
        encoded = schema.encode_targets(table)["y"]
        assert np.isfinite(encoded).all()
        assert encoded.std() == pytest.approx(1)
        assert np.allclose(schema["y"].fitted.decode_target(encoded), values, rtol=1e-9, atol=1e-3)

    def test_tg12_unused_categories_leave_no_trace(self):
        coded = pa.DictionaryArray.from_arrays(pa.array([0, 2] * 10), pa.array(["a", "unused", "b"]))
        table = make_table(x=coded, y=coded)
        schema, _ = learn(table)
        assert schema["y"].fitted.classes == schema["x"].fitted.classes == ("a", "b")
        assert schema.encode_targets(table)["y"].tolist() == [0, 1] * 10


class TestFeatures:
    @pytest.mark.parametrize("cells", [["kg"] * 20, [3.5] * 20, pa.array([True] * 20)])
    def test_ft01_a_constant_column_is_left_out_and_named(self, cells):
        table = make_table(unit=cells, x=COUNTING, y=LABELS)
        schema, findings = learn(table)
        assert schema["unit"].role == "ignored"
        assert '"unit" is left out' in find(findings, "constant-column").title
        assert [block.columns for block in schema.blocks()] == [("x",)]
        kept, _ = learn(table, keep=["unit"])
        assert all(np.isfinite(array).all() for array in kept.encode(table).blocks.values())

    def test_ft01_other_rows_than_those_of_training_do_not_count(self):
        table = make_table(unit=["kg"] * 15 + ["t"] * 5, x=COUNTING, y=LABELS)
        assert learn(table, rows=15)[0]["unit"].role == "ignored"
        assert learn(table, rows=16)[0]["unit"].role == "input"

    def test_ft02_constant_or_missing_then_something_new(self):
        schema, _ = learn(make_table(x=[0.5, None] * 10, y=LABELS))
        new = make_table(x=[0.5, None, 99.0, -1e300])
        assert schema.encode(new).blocks["numbers"].tolist() == [[0, 0], [0, 1], [1, 0], [-1, 0]]

    def test_ft03_a_column_without_values_is_left_out_and_named(self):
        for cells in (["", "NA"] * 10, pa.nulls(20), pa.nulls(20, pa.float64())):
            schema, findings = learn(make_table(hole=cells, x=COUNTING, y=LABELS))
            assert schema["hole"].role == "ignored"
            assert "no value" in find(findings, "constant-column").title

    def test_ft05_a_million_values_of_one_category(self):
        count = 1_000_000
        cells = pa.array(np.char.add("id", (np.arange(count) // 2 * 2 % 900_001).astype(str)))
        table = make_table(x=cells)
        began = time.perf_counter()
        schema, findings = learn(table)
        assert schema.blocks()[0].cardinalities == (10_001,)
        assert find(findings, "rare-categories").evidence["kept"] == 10_000
        assert schema.encode(table).blocks["categories"].max() == 10_000
        assert time.perf_counter() - began < 60

    def test_ft07_magnitudes_at_the_ends_of_float64(self):
        table = make_table(x=[1e300, -1e300, 5e-324, None, 0.0] * 4, y=LABELS)
        encoded = learn(table)[0].encode(table).blocks["numbers"]
        assert np.isfinite(encoded).all()
        assert np.abs(encoded).max() < 10


class TestPrediction:
    table = make_table(a=COUNTING, b=["u", "v", "w", "u"] * 5, c=[n * 1.5 for n in range(20)], y=LABELS)

    def test_pr02_every_missing_column_is_named(self):
        schema, _ = learn(self.table)
        with pytest.raises(DataError) as caught:
            schema.encode(make_table(a=["1"]))
        assert '"b", "c"' in str(caught.value)

    def test_pr03_extra_columns_are_listed_once(self):
        schema, _ = learn(self.table)
        extra = make_table(a=["1"], b=["u"], c=[1.0], zzz=["?"], more=[1])
        encoded = schema.encode(extra)
        assert find(list(encoded.findings), "extra-columns").evidence == {"columns": ["more", "zzz"]}

    def test_pr04_pr05_order_and_target_make_no_difference(self):
        schema, _ = learn(self.table)
        whole = schema.encode(self.table).blocks
        other = Table(self.table.data.select(["c", "b", "a"]), "other.csv")
        assert list(whole) == list(schema.encode(other).blocks)
        assert all(np.array_equal(whole[name], array) for name, array in schema.encode(other).blocks.items())

    def test_pr06_a_word_among_numbers_names_row_and_column(self):
        schema, _ = learn(self.table)
        with pytest.raises(DataError) as caught:
            schema.encode(make_table(a=["1", "2", "abc"], b=["u"] * 3, c=["1", "x", "2"]))
        assert 'x.csv:4 (column "a"): "abc" is not a number' in str(caught.value)
        assert 'x.csv:3 (column "c"): "x" is not a number' in str(caught.value)

    def test_pr08_a_row_alone_is_encoded_as_among_others(self):
        schema, _ = learn(self.table)
        whole = schema.encode(self.table).blocks
        for row in (0, 7, 19):
            alone = schema.encode(Table(self.table.data.slice(row, 1), "one.csv")).blocks
            assert all(np.array_equal(array[0], whole[name][row]) for name, array in alone.items())

    def test_pr12_locale_and_time_zone_make_no_difference(self):
        code = """
import numpy as np, pyarrow as pa
from sounding.kinds import Column, KINDS
from sounding.recipe import DataRecipe
dates = ["3 Mar 2021 10:00", "12 Dec 2020 23:30", "1 May 2021 00:00"]
for name, cells in {"date": dates, "number": ["1.5", "2", "3"]}.items():
    column = Column("x", pa.array(cells), frozenset())
    kind, _ = KINDS[name].fit(column, np.arange(3), DataRecipe())
    print(kind.to_json(), kind.encode(column)[0].tobytes().hex())
"""
        outputs = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "LC_ALL": locale, "TZ": zone, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for locale, zone in (("C", "UTC"), ("de_DE.UTF-8", "Asia/Kathmandu"))
        }
        assert len(outputs) == 1


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def look(data: bytes, name: str = "a.png", folder: Path | None = None) -> np.ndarray:
    """(height, width, channels): what a network would get of a picture."""
    if folder is None:
        table = make_table(image=pa.array([data]))
    else:
        (folder / name).write_bytes(data)
        table = make_table(folder, image=[name])
    return learn(table)[0].encode(table).blocks["image:image"][0].transpose(1, 2, 0)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


class TestPictures:
    def test_im02_im04_truncated_damaged_and_empty_files_are_named(self, tmp_path):
        good = encoded(Pillow.fromarray(PIXELS))
        damaged = bytearray(good)
        damaged[good.index(b"IDAT") + 8] ^= 0xFF
        for name, content in {"cut.png": good[:-40], "flipped.png": bytes(damaged), "empty.png": b""}.items():
            with pytest.raises(DataError, match=f'x.csv:2 .column "image".: "{name}"'):
                look(content, name, tmp_path)

    def test_im03_a_jpeg_that_decodes_wrong_is_not_told_from_a_good_one(self):
        smooth = Pillow.fromarray(PIXELS).resize((64, 64))
        data = bytearray(encoded(smooth, "JPEG"))
        data[-60] ^= 0x01
        assert look(bytes(data)).shape == (64, 64, 3)

    def test_im07_cmyk(self):
        flat = Pillow.new("RGB", (8, 12), (200, 30, 60))
        shown = look(encoded(flat.convert("CMYK"), "JPEG", quality=100))
        assert np.abs(shown.astype(int) - np.array([200, 30, 60])).max() <= 3

    def test_im09_modes(self):
        colours = Pillow.fromarray(PIXELS)
        grey = np.asarray(colours.convert("L"))
        palette = colours.quantize(16)
        assert np.array_equal(look(encoded(palette)), np.asarray(palette.convert("RGB")))
        bits = colours.convert("1")
        assert np.array_equal(look(encoded(bits))[..., 0], np.asarray(bits, dtype=np.uint8) * 255)
        half = Pillow.new("RGBA", (8, 12), (0, 100, 200, 128))
        assert look(encoded(half))[0, 0].tolist() == [127, 177, 227]  # half of white shines through
        clear = Pillow.new("LA", (8, 12), (0, 0))
        assert (look(encoded(clear)) == 255).all()
        deep = np.random.default_rng(1).integers(0, 65536, (12, 8), dtype=np.uint16)
        assert np.array_equal(look(encoded(Pillow.fromarray(deep)))[..., 0], np.rint(deep / 257))
        assert np.array_equal(look(encoded(Pillow.fromarray(grey)))[..., 0], grey)
        seen_through = Pillow.new("P", (8, 12), 1)
        seen_through.putpalette([0, 0, 0, 10, 20, 30])
        assert (look(encoded(seen_through, transparency=1)) == 255).all()

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_im10_exif_orientation(self, orientation):
        upright = np.asarray(Pillow.open(io.BytesIO(encoded(Pillow.fromarray(PIXELS)))))
        undo = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.transpose(1, 0, 2),
            6: np.rot90(upright),
            7: np.rot90(upright, 2).transpose(1, 0, 2),
            8: np.rot90(upright, -1),
        }  # what the camera stored, so that turning by the tag gives the upright picture
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        stored = Pillow.fromarray(np.ascontiguousarray(undo[orientation]))
        for kind in ("PNG", "TIFF"):
            assert np.array_equal(look(encoded(stored, kind, exif=exif)), upright), kind

    @pytest.mark.parametrize("kind", ["GIF", "TIFF"])
    def test_im11_first_of_several_frames(self, kind):
        frames = [Pillow.new("RGB", (8, 12), colour) for colour in ("red", "blue")]
        table = make_table(image=pa.array([encoded(frames[0], kind, save_all=True, append_images=frames[1:])]))
        schema, _ = learn(table)
        result = schema.encode(table)
        assert result.blocks["image:image"][0, :, 0, 0].tolist() == [255, 0, 0]
        assert find(list(result.findings), "several-frames").evidence["pictures"] == 1

    @pytest.mark.parametrize(("width", "height"), [(10_000, 9_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
    def test_im13_too_many_pixels_are_refused_before_decoding(self, width, height, tmp_path):
        bomb = png(header(width, height), chunk(b"IDAT", zlib.compress(b"\0" * 1000)), chunk(b"IEND", b""))
        began = time.perf_counter()
        with pytest.raises(DataError, match=r'"bomb.png" promises .* pixels'):
            look(bomb, "bomb.png", tmp_path)
        assert time.perf_counter() - began < 5

    @pytest.mark.parametrize(
        ("start", "named"),
        [
            (b"SIMPLE  =                    T", "FITS"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 -1 -1\n", "PostScript"),
            (b"%PDF-1.7\n", "PDF"),
            (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
            (b"8BPS\0\1" + b"\0" * 30, "PSD"),
            (b"\0\0\0\x18ftypheic" + b"\0" * 30, "HEIC"),
            (b"\0" * 128 + b"DICM" + b"\0" * 30, "DICOM"),
            (b"II\x2a\x00\x10\x00\x00\x00CR\x02\x00", "raw"),
        ],
    )
    def test_im14_im16_formats_that_are_not_opened(self, start, named, tmp_path):
        with pytest.raises(DataError, match=f'"odd.png" is not a picture: its content is .*{named}|odd.png.*{named}'):
            look(start + b"\0" * 100, "odd.png", tmp_path)

    @pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "EPS", "SGI"])
    def test_im14_im16_only_formats_of_the_list_are_opened(self, kind, tmp_path):
        with pytest.raises(DataError, match=r'"odd.png" is not a picture: .*use PNG, JPEG'):
            look(encoded(Pillow.fromarray(PIXELS), kind), "odd.png", tmp_path)

    def test_im15_a_text_chunk_that_explodes(self):
        explosive = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 50_000_000, 9))
        data = encoded(Pillow.fromarray(PIXELS))
        with pytest.raises(DataError, match="damaged"):
            look(data[:33] + explosive + data[33:])

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("gone.png", "does not exist"),
            ("../secret.png", "leads out"),
            ("in/../../secret.png", "leads out"),
            ("/etc/secret.png", "leads out"),
            ("C:\\secret.png", "leads out"),
            ("..\\secret.png", "leads out"),
            ("link.png", "leads out"),
            ("http://x/y.png", "on the network"),
            ("folder.png", "not a regular file"),
            ("pipe.png", "not a regular file"),
        ],
    )
    def test_im19_paths_stay_in_the_folder_of_the_data(self, path, why, tmp_path):
        root = tmp_path / "data"
        (root / "folder.png").mkdir(parents=True)
        (tmp_path / "secret.png").write_bytes(encoded(Pillow.fromarray(PIXELS)))
        (root / "link.png").symlink_to(tmp_path / "secret.png")
        os.mkfifo(root / "pipe.png")
        with pytest.raises(DataError) as caught:
            learn(make_table(root, image=[path]))
        assert str(caught.value).startswith(f'x.csv:2 (column "image"): "{path}"')
        assert why in str(caught.value)

    def test_im20_odd_file_names_cannot_forge_a_line(self, tmp_path):
        name = 'new\nline "quoted".png'
        assert np.array_equal(look(encoded(Pillow.fromarray(PIXELS)), name, tmp_path), PIXELS)
        with pytest.raises(DataError) as caught:
            learn(make_table(tmp_path, image=["gone\n.png"]))
        assert "\n" not in str(caught.value)


SENTENCES = [f"this is sentence number {n} of a few" for n in range(20)]


class TestTexts:
    def schema(self, **settings: object) -> Schema:
        return learn(make_table(x=SENTENCES, y=LABELS), **settings)[0]

    def codes(self, *texts: str | None) -> np.ndarray:
        return self.schema().encode(make_table(x=pa.array(texts, pa.string()))).blocks["text:x"][..., 0]

    @pytest.mark.parametrize("text", ["", "   ", "🙂🎉", None])
    def test_tx01_empty_texts_are_one_unknown_token(self, text):
        assert self.codes(text)[0, 0] == 1

    def test_tx03_control_characters(self):
        assert self.codes("a\0b \x1b[31m \u202e \ufffd")[0].max() >= 1

    def test_tx05_texts_that_look_like_code_are_only_texts(self):
        for text in ("{{7*7}}", "<script>alert(1)</script>", "__import__('os')", "../../etc/passwd", "=1+1"):
            assert (self.codes(text)[0] <= len(self.schema()["x"].fitted.vocabulary) + 1).all()

    def test_tx07_labels_with_separators_and_line_breaks(self):
        labels = ['a,b\n"c"', "d;e\tf"] * 10
        schema, _ = learn(make_table(x=COUNTING, y=labels))
        assert schema["y"].fitted.classes == tuple(sorted(set(labels)))
        assert isinstance(schema["y"].fitted, Category)

    def test_tx08_the_share_of_cut_texts_is_reported(self):
        table = make_table(x=[*SENTENCES[:15], *["long " * 40 + str(n) for n in range(5)]], y=LABELS)
        schema, _ = learn(table, text_length=16)
        found = find(list(schema.encode(table).findings), "texts-cut")
        assert found.severity == "warning"
        assert "5 of 20 texts (25.0%)" in found.title
