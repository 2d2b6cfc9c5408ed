from __future__ import annotations

import base64
import io
import wave

import numpy as np
import pytest
from PIL import Image

from sounding.report.sounds import clip, spectrogram
from sounding.report.words import is_picture, is_sound


def tone(hertz: float, seconds: float, rate: int = 8000) -> np.ndarray:
    return (9000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def body(uri: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(uri.partition(",")[2]))


def test_a_clip_holds_every_sample() -> None:
    shown = clip(tone(440, 1.5), 8000)
    with wave.open(body(shown["sound"])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        np.testing.assert_array_equal(np.frombuffer(file.readframes(20000), np.int16), tone(440, 1.5))
    assert shown["length"] == "1.50 s"
    assert is_sound(shown["sound"])
    assert is_picture(shown["picture"])
    assert Image.open(body(shown["picture"])).size == (151, 64)


def test_a_long_recording_says_what_is_left_out() -> None:
    shown = clip(tone(440, 95, 1000), 1000)
    assert shown["length"] == "the first 30 s of 95.0 s"
    assert Image.open(body(shown["picture"])).size == (600, 64)


def test_low_tones_are_bright_at_the_bottom_and_high_ones_at_the_top() -> None:
    for hertz, place in ((150, 59), (3500, 4)):
        bright = spectrogram(tone(hertz, 0.5), 8000).sum(2)[:, 25].argmax()
        assert abs(int(bright) - place) < 5


def test_no_samples_are_silence() -> None:
    assert spectrogram(np.empty(0, np.int16), 8000).shape == (64, 1, 3)


@pytest.mark.parametrize(
    "uri", ["data:audio/wav;base64,", "data:audio/mp3;base64,AA", "http://x/a.wav", 'data:audio/wav;base64,A"', None]
)
def test_only_wavs_inside_the_page_are_played(uri: object) -> None:
    assert not is_sound(uri)
