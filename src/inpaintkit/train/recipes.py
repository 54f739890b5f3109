"""A training recipe: a checked dataclass read from TOML. An unknown key or a value out of bounds is refused, with its line."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.settings import Settings, checked, dumped
from inpaintkit.train.sources import ArrayData, PictureData
from inpaintkit.train.tasks import AnyTask


@dataclass(frozen=True)
class Recipe(Settings):
    """Everything that decides a training run."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """Of the model; letters, digits, _ . and -."""
    task: Annotated[AnyTask, Field(discriminator="kind")]
    """What is trained."""
    data: Annotated[PictureData | ArrayData, Field(discriminator="kind")]
    """On what."""
    steps: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0)] = 2e-4
    warmup: Annotated[int, Field(ge=0)] = 200
    """Steps over which the rate rises from zero."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of the steps, at the end, over which the rate falls to zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Adam's."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9995
    """Decay of the moving average of the weights."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of a gradient."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Pieces in which each process works through its part of a batch: more need less memory and give the same step."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the networks' arithmetic (weights and moments stay float32); auto: bfloat16 where the device has it."""
    seed: Annotated[int, Field(ge=0, lt=2**22)] = 0
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare batches; any number gives the same run."""
    save_minutes: Annotated[float, Field(gt=0)] = 5.0
    """Minutes between saved states."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Saved states kept, beside the best one."""
    log_steps: Annotated[int, Field(ge=1)] = 20
    """Steps between rows of the log."""
    validation_items: Annotated[int, Field(ge=1)] = 96
    """Held-out items of each kind of batch that validation figures are means of."""
    terms: str = ""
    """Under which terms the data, and so the weights, may be used; for the model card."""
    notes: str = ""
    """More for the model card: what it is for, known failures."""


PASSING = ("steps", "decay", "workers", "save_minutes", "keep", "log_steps", "validation_items", "terms", "notes")
"""Settings that may change when a run is resumed; `data.root` too."""


def lasting(recipe: Recipe) -> dict[str, Any]:
    """The settings that stay the same through a run."""
    values = {k: v for k, v in dumped(recipe).items() if k not in PASSING}
    return values | {"data": {k: v for k, v in values["data"].items() if k != "root"}}


def as_of_today(recipe: dict[str, Any]) -> dict[str, Any]:
    """A saved recipe with settings that were added since then at their defaults; one that cannot be read as it is."""
    try:
        return lasting(checked(Recipe, recipe | {"steps": 1}))
    except UsageError:
        return recipe


def read(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, with `key=value` settings put over it: keys with dots, list items by number, TOML values.

    Raises `BadInput` or `UsageError`, one line.
    """
    try:
        text = Path(path).read_text()
        values = tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a recipe file") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise BadInput(f"{path}: not valid TOML: {error}") from None
    for given in sets:
        _set(values, given)
    try:
        return checked(Recipe, values)
    except UsageError as error:
        raise UsageError(f"{_place(path, text, sets, str(error))}: {error}") from None


def _set(values: dict[str, Any], given: str) -> None:
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
        raise UsageError(f"--set {given}: the recipe has no place {key!r}") from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word without quotes


def _place(path: Path, text: str, sets: Sequence[str], error: str) -> str:
    """Where the key that an error names was given: in a setting, or in a line of the file, where that has it."""
    named = re.match(r"\w+ has no option '([\w.-]+)'|([\w.-]+) (=|is missing)", error)
    if named is None:
        return str(path)
    asked = (named[1] or named[2]).split(".")
    for given in reversed(sets):
        key = given.partition("=")[0].split(".")
        if key == asked[: len(key)]:
            return f"--set {given}"
    keys = list(_keys(text))
    around = [(len(key), number) for key, number in keys if key == asked[: len(key)]]
    if not around:
        return str(path)
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
