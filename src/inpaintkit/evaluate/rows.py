"""The folder of a benchmark: what its run writes and its report reads.

DIR/suite.json                              the suite, what it was run with, and its cells
DIR/rows.jsonl                              one row for each cell, mask, picture and seed
DIR/pictures/CELL/MASK/PICTURE-SEED.png     results; DIR/truth/PICTURE.png, DIR/masks/MASK/PICTURE.png: what they were made from
DIR/strips/CELL/MASK/PICTURE.png            moments of a result's way: the noisy picture above, the estimate of the clean one below
DIR/.lock                                   held while a process runs the suite there
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from inpaintkit.core.errors import BadInput, NotWritable
from inpaintkit.core.files import write_bytes

NEEDED = ("suite", "versions", "missing", "device", "dtype", "threads", "cells", "metrics", "machines")
CELL = {"label", "folder", "model", "filler", "steps", "rows"}
"""What is read of suite.json, and of each of its cells."""
ROWS, SUITE = "rows.jsonl", "suite.json"
Key = tuple[str, str, str, int | None]


@dataclass(frozen=True)
class Row:
    """One result, or why there is none."""

    cell: str
    mask: str
    picture: str
    seed: int | None
    """None: the filler has none."""
    area: float
    """Share of the picture that is hole."""
    file: str = ""
    """Of the result, relative to the folder; empty where it failed."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Region -> metric -> value, NaN where the metric is not defined."""
    seam: float = math.nan
    """`metrics.seam`."""
    changed: float = math.nan
    """Largest difference outside the hole, of 255."""
    nfe: int = 0
    nfe_backward: int = 0
    """Evaluations of the network, and of its gradient."""
    seconds: float = math.nan
    """Of sampling; of the whole call for a filler."""
    memory: float | None = None
    """Peak of the process, or on the device, in MiB; None where the system does not tell."""
    versions: dict[str, str] = field(default_factory=dict)
    strip: str = ""
    """The strip's file, relative to the folder; empty where none was kept."""
    levels: tuple[int, ...] = ()
    """Noise levels reached at the strip's moments."""
    error: str | None = None

    @property
    def key(self) -> Key:
        return self.cell, self.mask, self.picture, self.seed

    @property
    def files(self) -> list[str]:
        """Pictures of its own."""
        return [file for file in (self.file, self.strip) if file]

    def value(self, region: str, metric: str) -> float:
        return self.metrics.get(region, {}).get(metric, math.nan)


def line(row: Row) -> str:
    """A row as one line of JSON; NaN is null, and infinity "inf", for JSON has neither."""
    return json.dumps(_plain(asdict(row)), ensure_ascii=False, allow_nan=False) + "\n"


def read(folder: Path) -> list[Row]:
    """The rows of a folder; an incomplete last line (its writer died) is dropped. Raises `BadInput`."""
    path = folder / ROWS
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; check its permissions") from None
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    found = []
    for number, text in enumerate(lines, 1):
        try:
            found.append(_row(json.loads(text)))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise BadInput(f"{path}, line {number}: is no row of a benchmark; remove the line to have it done again") from None
    return found


def about(folder: Path) -> dict[str, Any]:
    """What a folder's suite.json says. Raises `BadInput`."""
    path = folder / SUITE
    try:
        found = json.loads(path.read_bytes())
        if lacking := [name for name in NEEDED if name not in found]:
            raise BadInput(f"{path}: was written by another version of inpaintkit (it has no {lacking[0]}); run the suite again")
        if not all(cell.keys() >= CELL for cell in found["cells"]):
            raise ValueError
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a folder that `inpaintkit bench run` wrote") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"{path}: is not what `inpaintkit bench run` writes; name another folder") from None
    return dict(found)


def dumps(about: dict[str, Any]) -> bytes:
    """suite.json."""
    return (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Replace all rows of a folder."""
    write_bytes(folder / ROWS, "".join(map(line, rows)).encode())


def append(folder: Path, row: Row) -> None:
    """Add a row; it is on the disk when this returns. Raises `NotWritable`."""
    path = folder / ROWS
    try:
        with open(path, "ab") as file:
            file.write(line(row).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NotWritable(f"{path}: {error.strerror}; choose a folder that can be written") from None


def difference(one: Any, other: Any, place: str = "") -> str | None:
    """The first place where two JSON values differ, with both values; None when they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(k for k in other if k not in one)]:
            if found := difference(one.get(key), other.get(key), f"{place}.{key}" if place else str(key)):
                return found
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
        return next((found for i, (a, b) in enumerate(pairs) if (found := difference(a, b, f"{place}.{i}"))), None)
    return None if one == other else f"{place}: {_short(one)} there, {_short(other)} now"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _row(values: dict[str, Any]) -> Row:
    kept = {f.name: values[f.name] for f in fields(Row) if f.name in values}
    for name in ("area", "seam", "changed", "seconds"):
        kept[name] = _number(kept.get(name))
    kept["metrics"] = {region: {k: _number(v) for k, v in of.items()} for region, of in kept.get("metrics", {}).items()}
    kept["levels"] = tuple(kept.get("levels", ()))
    return Row(**kept)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
