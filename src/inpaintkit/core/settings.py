"""The strict base of every settings class, and `checked`, called at every door (command line, Python, recipe).

Without the configuration here pydantic would drop unknown keys of a dataclass silently, and a command-line parser
would ignore bounds; with it, an unknown key or a value out of bounds is one clear line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from inpaintkit.core.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Base of all settings: frozen, no unknown fields, field docstrings become descriptions."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, revalidate_instances="always", arbitrary_types_allowed=True, allow_inf_nan=False
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
        raise UsageError(_line(cls, values, error)) from None


def dumped(settings: Any) -> dict[str, Any]:
    """A settings instance as plain JSON values, for records and model cards."""
    return adapter(type(settings)).dump_python(settings, mode="json")


def _line(cls: type, values: Any, error: ValidationError) -> str:
    """The first unknown key, for a slip makes others missing; else the first error."""
    found = error.errors()
    first = next((e for e in found if e["type"] in ("unexpected_keyword_argument", "extra_forbidden")), found[0])
    place, field, given = first["loc"], _named(first["loc"], values), repr(first["input"])
    match first["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{cls.__name__} has no option {field!r}{_suggestion(cls, place, field)}"
        case "missing" | "missing_argument":
            return f"{field} is missing: {cls.__name__} needs it"
        case "union_tag_not_found":
            return f"{field}.{first['ctx']['discriminator'].strip(chr(39))} is missing: it says which kind of {field} this is"
        case "union_tag_invalid":
            context = first["ctx"]
            return (
                f"{field}.{context['discriminator'].strip(chr(39))} = {context['tag']!r}: input should be one of {context['expected_tags']}"
            )
    return f"{field or cls.__name__} = {given}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _named(place: tuple[int | str, ...], values: Any) -> str:
    """A place in `values` as one writes it: pydantic names the chosen kind of a union too, which has no place there."""
    parts = []
    for part in place:
        if isinstance(values, Mapping) and part not in values and part in values.values():
            continue
        parts.append(str(part))
        try:
            values = values[part]
        except (TypeError, LookupError):
            values = None
    return ".".join(parts)


def _suggestion(cls: type, place: tuple[int | str, ...], field: str) -> str:
    outer, _, name = field.rpartition(".")
    hint: Any = cls
    for part in place[:-1]:
        hint = _inner(hint, part)
    names = [f.name for owner in _classes(hint)[:1] for f in fields(owner)]
    close = get_close_matches(name, names, 1)
    full = [f"{outer}.{n}" if outer else n for n in close or names]
    return f"; did you mean {full[0]!r}?" if close else f"; it has {', '.join(full)}"


def _inner(hint: Any, part: int | str) -> Any:
    """The type of a part: an item of a tuple, a kind of a union, or a field of a settings class."""
    if isinstance(part, int):
        return next(iter(get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint)), None)
    classes = _classes(hint)
    chosen = [cls for cls in classes if len(classes) > 1 and part in get_args(get_type_hints(cls).get("kind"))]
    return chosen[0] if chosen else next((get_type_hints(cls, include_extras=True).get(part) for cls in classes), None)


def _classes(hint: Any) -> list[Any]:
    """The settings classes a value of this type may belong to."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return [hint] if is_dataclass(hint) else [member for member in get_args(hint) if is_dataclass(member)]
