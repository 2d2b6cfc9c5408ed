"""Settings as text and as nested dictionaries, checked against the dataclasses that they are to fill."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sounding.errors import RecipeError, nearest


def parse_setting(text: str) -> tuple[str, Any]:
    """One `a.b=c` of the command line; `c` is read as TOML, and as plain text where it is none.

    >>> parse_setting("training.optimizer.lr=3e-4")
    ('training.optimizer.lr', 0.0003)
    >>> parse_setting("network.name=resnet")
    ('network.name', 'resnet')
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f'"--set {text}" has no "="', "write --set key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `90`, `90s`, `5m` or `1.5h`.

    >>> parse_duration("5m")
    300.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) == 0:
        raise RecipeError(f'"{text}" is not a duration', "write 90s, 5m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def leaves(tree: Mapping[str, Any], owner: type, prefix: str) -> Iterator[tuple[str, Any]]:
    """The single values of nested dictionaries, by keys with dots."""
    hints = get_type_hints(owner)
    for key, value in tree.items():
        if isinstance(value, dict) and is_dataclass(hints.get(key)):
            yield from leaves(value, hints[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def place(values: dict[str, Any], owner: type, path: list[str], value: Any, key: str) -> None:
    """Put a value at a path, checking each name on the way.

    Raises:
        RecipeError: for a key that does not exist, naming the nearest one that does.
    """
    names = [f.name for f in fields(owner)]
    head, rest = path[0], path[1:]
    if head not in names:
        raise RecipeError(f'unknown key "{key}"', nearest(head, names))
    hint = get_type_hints(owner)[head]
    if isinstance(hint, type) and is_dataclass(hint):
        if not rest:
            inner = ", ".join(f.name for f in fields(hint))
            raise RecipeError(f'"{key}" holds several values', f"set one of them: {key}.{{{inner}}}")
        place(values[head], hint, rest, value, key)
    elif rest and get_origin(hint) is dict:
        values[head] = {**values[head], ".".join(rest): value}
    elif rest:
        raise RecipeError(f'unknown key "{key}"', f'"{".".join(key.split(".")[: -len(rest)])}" is a single value')
    else:
        values[head] = value


def build(owner: type, values: Mapping[str, Any], prefix: str) -> Any:
    """A dataclass from nested dictionaries, with the type of each value checked.

    Raises:
        RecipeError: naming the key of a value of the wrong type.
    """
    hints = get_type_hints(owner)
    return owner(
        **{
            name: build(hints[name], value, f"{prefix}{name}.")
            if is_dataclass(hints[name])
            else _checked(value, hints[name], f"{prefix}{name}")
            for name, value in values.items()
        }
    )


def _checked(value: Any, hint: Any, key: str) -> Any:
    """The value as the type that its field states, or an error that names the key."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise RecipeError(f'"{key}" cannot be {value!r}', nearest(str(value), map(str, arguments)))
    if origin is list:
        items = value if isinstance(value, list | tuple) else [value]
        return [_checked(item, arguments[0], key) for item in items]
    if origin is dict and isinstance(value, Mapping):
        return {str(name): _checked(item, arguments[1], f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, "a table")
    raise RecipeError(f'"{key}" is {value!r}', f"give {expected}")


def line_of(key: str, text: str) -> int | None:
    """The line of a TOML text that sets a key, as well as can be told without a parser that keeps lines."""
    wanted = key.split(".")
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[([^\]]+)\]", line):
            table = [part.strip().strip('"') for part in match[1].split(".")]
        elif match := re.match(r"\s*([\w.\"-]+)\s*=", line):
            here = table + [part.strip('"') for part in match[1].split(".")]
            if wanted[: len(here)] == here:
                return number
    return None
