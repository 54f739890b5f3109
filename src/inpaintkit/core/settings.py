"""The strict base of every settings class, and `checked`, called at every door (command line, Python, recipe, web).

Without the configuration here pydantic would drop unknown keys of a dataclass silently, and a command-line parser
would ignore bounds; with it, an unknown key or a value out of bounds is one clear line.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inpaintkit.core.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Base of all settings: frozen, no unknown fields, field docstrings become descriptions."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, revalidate_instances="always", arbitrary_types_allowed=True
    )


T = TypeVar("T")


adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""The pydantic adapter of a settings class: validation, JSON schema and dumping."""


def checked(cls: type[T], values: Any) -> T:
    """Return `values` (an instance of `cls`, or a mapping of its fields) as a validated `cls`.

    Raises `UsageError`, one line, naming the field, what was given and what is allowed.
    """
    try:
        return adapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            raise UsageError(f"{cls.__name__} has no option {field!r}{_suggestion(cls, field)}") from None
        raise UsageError(f"{field or cls.__name__} = {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def dumped(settings: Any) -> dict[str, Any]:
    """A settings instance as plain JSON values, for records and model cards."""
    return adapter(type(settings)).dump_python(settings, mode="json")


def _suggestion(cls: type, field: str) -> str:
    *outer, name = field.split(".")
    for part in outer:
        cls = next((f.type for f in fields(cls) if f.name == part and isinstance(f.type, type)), object) if is_dataclass(cls) else object
    names = [".".join([*outer, f.name]) for f in fields(cls)] if is_dataclass(cls) else []
    close = get_close_matches(name, [n.rsplit(".", 1)[-1] for n in names], 1)
    return f"; did you mean {'.'.join([*outer, close[0]])!r}?" if close else f"; it has {', '.join(names)}"
