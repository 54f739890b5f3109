"""`inpaintkit methods`: the ways to sample, from the table, the dataclasses and their docstrings."""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

import tyro

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import Settings, adapter
from inpaintkit.methods import METHODS

BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """The methods, one per line."""


@dataclass(frozen=True, kw_only=True)
class Info(Command):
    """A method's source, its options with defaults and bounds, and what to cite (BibTeX)."""

    name: tyro.conf.Positional[str]
    """A name that `methods list` shows."""


def run(argv: Sequence[str]) -> None:
    kind = Annotated[List, tyro.conf.subcommand("list")] | Annotated[Info, tyro.conf.subcommand("info")]
    args = parse(kind, argv, "inpaintkit methods")
    if isinstance(args, List):
        for name in METHODS:
            print(f"{name:<10} {summary(name)}")
        return
    if args.name not in METHODS:
        raise UsageError(f"{args.name}: no such method; there are {', '.join(METHODS)}")
    method = METHODS[args.name]
    print(f"{args.name} = {method}\n\n{inspect.getdoc(type(method))}\n\nOptions, after the name:")
    for name, default, about in options(method):
        print(f"  --{name.replace('_', '-')} = {default}{limits(about)}\n      {' '.join(about.get('description', '').split())}")
    print("\n" + "\n\n".join(paper.bibtex for paper in method.papers))


def summary(name: str) -> str:
    """The first sentence about a method, and where it differs from its class's defaults."""
    method = METHODS[name]
    sentence = " ".join((inspect.getdoc(type(method)) or "").split("\n\n")[0].split())
    while (shorter := re.sub(r" ?\([^()]*\)", "", sentence)) != sentence:  # sources and formulas stand in brackets
        sentence = shorter
    usual = {key: value for key, value, _ in options(type(method)())}
    differs = [f"{key} {value}" for key, value, _ in options(method) if value != usual[key]]
    return sentence + (f" Here: {', '.join(differs)}." if differs else "")


def options(settings: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(name, value, JSON schema) of every field, those of inner settings in line, as the command line names them."""
    kind: Any = type(settings)
    schemas = [adapter(base).json_schema()["properties"] for base in kind.__mro__ if is_dataclass(base)]
    for field in sorted(fields(settings), key=lambda f: isinstance(getattr(settings, f.name), Settings)):
        value = getattr(settings, field.name)
        if isinstance(value, Settings):
            yield from options(value)
        else:
            here = [schema[field.name] for schema in schemas if field.name in schema]
            yield field.name, value, next((about for about in here if "description" in about), here[0])  # inherited fields lose theirs


def limits(about: dict[str, Any]) -> str:
    """The bounds or choices of a field, in brackets."""
    bounds = [f"{sign} {about[key]:g}" for key, sign in BOUNDS.items() if key in about]
    choices = [" | ".join(map(str, about["enum"]))] if "enum" in about else []
    return f"  [{', '.join(bounds + choices)}]" if bounds or choices else ""
