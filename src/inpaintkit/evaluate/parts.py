"""Several suites run by one command: each on the pictures that are named for it, each in a folder of its own.

DIR/parts.json            the collection, and its parts in their order
DIR/PART/                 what `run.run` writes; PART is the suite's file and the pictures' name, as speed-photos
"""

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from inpaintkit.core import toml
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.core.settings import Settings
from inpaintkit.evaluate import suites
from inpaintkit.evaluate.suites import Images, Suite

LIST = "parts.json"


@dataclass(frozen=True)
class Entry(Settings):
    """A suite of a collection."""

    suite: str
    """Its TOML file, relative to the collection's; its `images` do not count."""
    pictures: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names in the collection's `pictures`; the suite is run on each."""


@dataclass(frozen=True)
class Collection(Settings):
    """Suites that belong together."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    pictures: dict[str, Images]
    """Name -> where pictures are."""
    parts: Annotated[tuple[Entry, ...], Field(min_length=1)]
    models: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of pictures -> models that are run on them in place of those a suite names for all its methods."""
    common: dict[str, Any] = field(default_factory=dict)
    """Settings that are put over those of every suite, such as metrics and features."""
    notes: str = ""
    """For the head of the report."""


@dataclass(frozen=True)
class Part:
    """A suite on certain pictures."""

    name: str
    suite: Suite
    stem: str
    """The name of the suite's file, by which its parts go together."""


def is_collection(path: Path) -> bool:
    """Whether a TOML file has parts; one that cannot be read has none."""
    try:
        return "parts" in tomllib.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError):
        return False


def read(path: Path, sets: Sequence[str] = ()) -> tuple[Collection, list[Part]]:
    """A collection and its parts, with `key=value` settings put over it. Raises `BadInput` or `UsageError`, one line."""
    found = toml.read(Collection, path, sets, kind="suite")
    if unknown := found.models.keys() - found.pictures.keys():
        raise UsageError(f"{path}: models = {min(unknown)}: no such pictures; there are {', '.join(found.pictures)}")
    parts = []
    for i, entry in enumerate(found.parts):
        file = path.parent / entry.suite
        suite = suites.read(file, over=found.common)
        for name in entry.pictures:
            if name not in found.pictures:
                raise UsageError(f"{path}: parts.{i}.pictures = {name!r}: no such pictures; there are {', '.join(found.pictures)}")
            full, models = f"{file.stem}-{name}", found.models.get(name, ()) if suite.models else ()
            parts.append(Part(full, replace(suite, name=full, images=found.pictures[name], models=models or suite.models), file.stem))
    if twice := [name for name, count in Counter(part.name.casefold() for part in parts).items() if count > 1]:
        raise UsageError(f"{path}: parts = two of them are called {twice[0]!r}; give suites and pictures names that differ")
    return found, parts


def chosen(parts: list[Part], names: Sequence[str]) -> list[Part]:
    """The parts named, all without a name; a part goes by its suite alone too. Raises `UsageError` for an unknown name."""
    for name in names:
        if not any(name in (part.name, part.stem) for part in parts):
            raise UsageError(f"--part {name}: no such part; there are {', '.join(part.name for part in parts)}")
    return [part for part in parts if not names or part.name in names or part.stem in names]


def write(folder: Path, collection: Collection, parts: Sequence[Part]) -> None:
    """Note in a folder what its parts are."""
    about = {"name": collection.name, "notes": collection.notes, "parts": [part.name for part in parts]}
    write_bytes(folder / LIST, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())


def about(folder: Path) -> dict[str, Any] | None:
    """What `write` noted; None in the folder of a single suite. Raises `BadInput`."""
    path = folder / LIST
    try:
        found = json.loads(path.read_bytes())
        return {"name": str(found["name"]), "notes": str(found["notes"]), "parts": [str(name) for name in found["parts"]]}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; check its permissions") from None
    except (ValueError, TypeError, LookupError, RecursionError):
        raise BadInput(f"{path}: is not what `inpaintkit bench run` writes; name another folder") from None
