"""Settings classes read from TOML files. An unknown key or a value out of bounds is refused, with its line."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from inpaintkit.core.errors import BadInput, InpaintError, UsageError
from inpaintkit.core.settings import checked

T = TypeVar("T")


def read(cls: type[T], path: Path, sets: Sequence[str] = (), kind: str = "recipe", over: Mapping[str, Any] | None = None) -> T:
    """The `cls` in a TOML file, with `key=value` settings put over it: keys with dots, list items by number, TOML values.

    kind: what such a file is called. over: values that are put over the file's before, table by table. Raises `BadInput` or
    `UsageError`, one line.
    """
    try:
        text = Path(path).read_text()
        values = tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a {kind} file") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; brackets in brackets in ...
        raise BadInput(f"{path}: not valid TOML: {error}") from None
    values = _merged(values, over or {})
    for given in sets:
        _set(values, given, kind)
    try:
        return checked(cls, values)
    except UsageError as error:
        raise UsageError(f"{place(path, text, sets, str(error)) or path}: {error}") from None


def located(error: InpaintError, path: Path, sets: Sequence[str] = ()) -> InpaintError:
    """The error with the place in front where the setting was given that it begins with; as it is when it begins with none.

    For what turns out to be wrong only once it is used.
    """
    begins = str(error).partition(": ")[0]
    found = None if os.path.exists(begins) else place(path, path.read_text(), sets, str(error))  # not Path.exists: it raises for long names
    return error if found is None else type(error)(f"{found}: {error}")


def _merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    tables = {k: _merged(values[k], v) for k, v in over.items() if isinstance(v, dict) and isinstance(values.get(k), dict)}
    return {**values, **over, **tables}


def _set(values: dict[str, Any], given: str, kind: str) -> None:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {given}: give key=value, for example --set lr=1e-4")
    place: Any = values
    *outer, last = key.split(".")
    try:
        for part in outer:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = _value(value)
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UsageError(f"--set {given}: the {kind} has no place {key!r}") from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text  # a word without quotes


def place(path: Path, text: str, sets: Sequence[str], error: str) -> str | None:
    """Where the key that an error names was given: in a setting, or in a line of the file; None where it names none that was."""
    named = re.match(r"\w+ has no option '([\w.-]+)'|([\w.-]+)(?=:| =| is missing)", error)
    if named is None:
        return None
    asked = (named[1] or named[2]).split(".")
    for given in reversed(sets):
        key = given.partition("=")[0].split(".")
        if key == asked[: len(key)]:
            return f"--set {given}"
    keys = list(_keys(text))
    around = [(len(key), number) for key, number in keys if key == asked[: len(key)]]
    if not around:
        return None
    first = max(around)[1]  # of the deepest table or key around it; the key itself may stand further on, inside a list
    end = min((number for _, number in keys if number > first), default=None)
    word = re.escape(next(part for part in reversed(asked) if not part.isdecimal()))
    inside = [
        n for n, line in enumerate(text.splitlines()[: end and end - 1], 1) if n >= first and re.search(rf"(?<![-.\w]){word} *[=.]", line)
    ]
    return f"{path}, line {(inside or [first])[0]}"


def _keys(text: str) -> Iterator[tuple[list[str], int]]:
    """(parts, line) of every table and key that begins a line; the numbers of items of lists of tables are parts too."""
    table: list[str] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]", line):
            table = header[2].split(".")
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
                table.append(str(counts[header[2]]))
            yield table, number
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            yield [*table, *key[1].split(".")], number
