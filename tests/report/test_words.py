import math

import pytest

from sounding.recipe import Recipe, parse_setting
from sounding.report import words


@pytest.mark.parametrize("value", [0.3, 1e-5, 0.1 + 0.2, 7, True, "tabm", "a b", ["x", "y"], "true", "0.5"])
def test_settings_are_read_back_as_the_very_same_values(value: object) -> None:
    import shlex

    (written,) = words.settings({"network.options.something": value})
    flag, setting = shlex.split(written)
    assert flag == "--set"
    assert parse_setting(setting) == ("network.options.something", True if value == "true" else value)


def test_a_table_among_the_settings_becomes_one_setting_for_each_key() -> None:
    import shlex

    written = words.settings({"data.kinds": {"zip": "category", "age": "number"}})
    settings = dict(parse_setting(shlex.split(line)[1]) for line in written)
    assert Recipe().with_settings(settings).data.kinds == {"zip": "category", "age": "number"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "text", True])
def test_what_is_no_number_is_shown_as_missing(value: object) -> None:
    written = (words.number(value), words.percent(value), words.score("f1", value), words.duration(value))
    assert set(written) == {words.MISSING}


@pytest.mark.parametrize("value", [1e-300, 123.456, 99999.9, 0.99951, 1e300, -1234.5, 5e-5, 10**20])
def test_numbers_keep_three_digits(value: float) -> None:
    written = words.number(value).replace("−", "-").replace(",", "")
    assert math.isclose(float(written), value, rel_tol=5.01e-3)


@pytest.mark.parametrize("hidden", ["\x1b[31m", "\x00", "\u202e", "\ud800", "\x85", "\r"])
def test_hidden_characters_are_spelled_out(hidden: str) -> None:
    shown = words.visible(f"a{hidden}b")
    assert hidden[0] not in shown
    assert "\\" in shown
    shown.encode("utf-8")


def test_letters_of_all_scripts_and_line_breaks_are_left_alone() -> None:
    text = "naïve 数据 नमस्ते 👩‍🔬 שלום\nsecond line\tend\u00a0"
    assert words.visible(text) == text
