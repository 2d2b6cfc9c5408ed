from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from sounding.errors import DataError, UserError
from sounding.kinds import SILENCE, Audio, recognise
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()


def tone(hertz: float, seconds: float, rate: int, loud: float = 0.5) -> np.ndarray:
    return loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def encoded(wave: np.ndarray, rate: int = 8000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, subtype, format=kind)
    return file.getvalue()


def encode(column):
    return fit(column)[0].encode(column)


def fit(column, settings=SETTINGS):
    return Audio.fit(column, np.arange(len(column)), settings)


def test_files_bytes_structs_and_samples_give_the_same(make_column, tmp_path):
    waves = [np.round(tone(200 + 50 * n, 0.1 + 0.01 * n, 8000) * 32768) / 32768 for n in range(4)]
    data = [encoded(wave) for wave in waves]
    for n, content in enumerate(data):
        (tmp_path / f"{n}.WAV").write_bytes(content)
    columns = {
        "paths": make_column([f"{n}.WAV" for n in range(4)], tmp_path),
        "bytes": make_column(data),
        "structs": make_column([{"bytes": content, "path": "a.wav"} for content in data]),
        "structs without paths": make_column([{"bytes": content, "path": None} for content in data]),
        "samples": make_column([{"array": wave.tolist(), "sampling_rate": 8000, "path": None} for wave in waves]),
    }
    for name, column in columns.items():
        assert recognise(column)[0] == "audio", name
        kind, findings = fit(column)
        samples, more = kind.encode(column)
        assert (kind.rate, kind.shortest, kind.length) == (8000, 800, 1040), name
        assert samples.dtype == np.int16
        assert [*findings, *more] == []
        for row, wave in zip(samples, waves, strict=True):
            np.testing.assert_array_equal(row[: len(wave)], np.round(wave * 32768), err_msg=name)
            assert (row[len(wave) :] == SILENCE).all()
            np.testing.assert_array_equal(kind.samples(column, 0), samples[0, :800])


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "AIFF"])
def test_other_formats_sound_the_same(make_column, kind):
    wave = tone(440, 0.5, 16000)
    column = make_column([encoded(wave, 16000, kind)])
    assert recognise(column)[0] == "audio"
    fitted, _ = fit(column)
    heard = fitted.samples(column, 0) / 32768
    least = min(len(heard), len(wave))
    assert abs(len(heard) - len(wave)) < 3000  # MP3 has padding of its own
    spectrum = np.abs(np.fft.rfft(heard[:least]))
    assert abs(spectrum.argmax() * 16000 / least - 440) < 4


def test_every_rate_becomes_that_of_most_training_rows_and_is_told(make_column):
    waves = [(440, 8000), (440, 8000), (440, 44100), (440, 4000)]
    column = make_column([encoded(tone(hertz, 0.5, rate), rate) for hertz, rate in waves])
    kind, (finding,) = fit(column)
    assert kind.rate == 8000
    assert (finding.rule, finding.severity) == ("recordings-resampled", "warning")
    assert finding.evidence["recordings_by_rate"] == {"4000": 1, "8000": 2, "44100": 1}
    samples, _ = kind.encode(column)
    expected = tone(440, 0.5, 8000) * 32768
    for row in samples:  # in the middle, where no filter sees an end
        assert np.abs(row[500:3500] - expected[500:3500]).max() < 330


def test_high_rates_are_lowered_unless_more_is_asked_for(make_column):
    column = make_column([encoded(tone(440, 0.1, 44100), 44100)])
    kind, (finding,) = fit(column)
    assert (kind.rate, finding.severity) == (16000, "info")
    assert fit(column, DataRecipe(sound_rate=22050))[0].rate == 22050
    assert fit(column, DataRecipe(sound_rate=44100))[1] == []


def test_channels_are_averaged_and_told(make_column):
    left = np.round(tone(300, 0.1, 8000) * 1000) / 32768
    column = make_column([encoded(np.stack([left, -left / 2], 1))])
    kind, (finding,) = fit(column)
    assert finding.rule == "channels-averaged"
    np.testing.assert_allclose(kind.samples(column, 0), left / 4 * 32768, atol=1)


def test_odd_recordings_are_told_and_kept_whole(make_column):
    usual = [encoded(tone(300, 0.1, 8000)) for _ in range(5)]
    clipped, silent, empty = tone(300, 0.1, 8000, loud=3).clip(-1, 1), np.zeros(800), np.zeros(0)
    column = make_column([*usual, *map(encoded, (clipped, silent, empty)), encoded(tone(300, 4, 8000))])
    kind, (long,) = fit(column)
    assert long.rule == "very-long-recordings"
    samples, findings = kind.encode(column)
    rows = {finding.rule: (finding.evidence["recordings"], finding.evidence["first_row"]) for finding in findings}
    assert rows == {"clipped-recordings": (1, 5), "silent-recordings": (1, 6), "empty-recordings": (1, 7)}
    assert samples.shape == (9, 32000)
    assert (samples[7] == SILENCE).all()
    longer = make_column([encoded(tone(300, 5, 8000))])
    assert len(kind.samples(longer, 0)) == 40000  # than any training row: nothing is cut


def test_damaged_files_give_a_line_each_with_their_name(make_column, tmp_path):
    whole = encoded(tone(300, 0.2, 8000))
    files = {
        "good.wav": whole,
        "short.wav": whole[:1000],
        "short.flac": encoded(tone(300, 2, 8000), kind="FLAC")[:-4000],
        "nothing.wav": b"",
        "words.flac": b"these are words and no music",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in [*files, "gone.wav"][1:]:
        with pytest.raises(DataError, match=rf'^x\.csv:3 \(column "x"\): "{re.escape(name)}" '):
            encode(make_column(["good.wav", name], tmp_path))
    with pytest.raises(DataError, match=r"short\.wav.* \| .*short\.flac.* \| .*nothing\.wav.* and 2 more"):
        fit(make_column([*files, "gone.wav"], tmp_path))


def test_streamed_wavs_have_no_size_and_are_read(make_column):
    whole = encoded(tone(300, 0.2, 8000))
    streamed = whole[:4] + b"\xff\xff\xff\xff" + whole[8:]
    column = make_column([streamed])
    assert len(fit(column)[0].samples(column, 0)) == 1600


def test_pictures_in_structs_are_still_pictures(make_column):
    assert recognise(make_column([{"bytes": b"\x89PNG....", "path": None}]))[0] == "image"
    assert recognise(make_column([{"bytes": b"RIFF....WEBPVP8", "path": None}]))[0] == "image"
    assert recognise(make_column(["a.png", "b.png"]))[0] == "image"


def test_together_they_may_not_outgrow_memory(make_column, monkeypatch):
    monkeypatch.setattr("sounding.kinds.audio.MOST_TOGETHER", 3000)
    column = make_column([encoded(tone(300, seconds, 8000)) for seconds in (0.1, 0.2, 0.1)])
    with pytest.raises(DataError, match=r'x.csv:3 \(column "x"\): recordings as long as this one, 0 s'):
        fit(column)[0].encode(column)


def test_a_missing_library_names_the_extra(make_column, monkeypatch):
    column = make_column([encoded(tone(300, 0.1, 8000))])
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(
        UserError, match=r"recordings need soundfile, not installed here; pip install 'sounding\[audio\]'"
    ):
        fit(column)


def test_json_keeps_what_was_fitted(make_column):
    kind, _ = fit(make_column([encoded(tone(300, 0.1, 8000))]))
    assert Audio.from_json(json.loads(json.dumps(kind.to_json()))) == kind


def test_missing_rate_of_arrays_is_told(make_column):
    cells = pa.array([{"array": [0.1, 0.2], "sampling_rate": 8000}, None])
    with pytest.raises(DataError, match=r"x\.csv:3 "):
        fit(make_column(cells))
