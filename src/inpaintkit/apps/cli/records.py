"""Records: what a run needs to be repeated, and repeating it (`fill --from-record`)."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.core.settings import checked
from inpaintkit.data.images import read_bytes
from inpaintkit.methods import METHODS
from inpaintkit.models.catalog import FILLING, MODELS

if TYPE_CHECKING:
    from inpaintkit.apps.cli.fill import Fill

T = TypeVar("T")
HOLE = ("mask", "box", "hole", "outpaint", "mask_from", "invert_mask")
KEPT = ("image", *HOLE, "model", "then", "tune", "seed", "variants", "filling", "limits")
"""The fields of `Fill` that decide about pixels; device and dtype are recorded as they were resolved."""


def request(args: "Fill") -> dict[str, Any]:
    """The fields that decide about pixels, files as absolute paths."""
    values = {key: value for key, value in asdict(args).items() if key in KEPT}
    for key in ("model", "then"):
        if values[key] is not None and values[key] not in MODELS and Path(values[key]).exists():
            values[key] = Path(values[key])
    return {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in values.items()}


def read(argv: Sequence[str]) -> dict[str, Any] | None:
    """The record that `--from-record FILE` names in the arguments. Raises `BadInput` for a file that is none."""
    named = [value for key, value in pairwise(argv) if key == "--from-record"]
    named += [text.partition("=")[2] for text in argv if text.startswith("--from-record=")]
    if not named:
        return None
    data, name = read_bytes(named[-1])
    try:
        record = json.loads(data)
        if not {"request", "method", "device", "dtype", "threads", "micro_batch", "model_sha256"} <= record.keys():
            raise ValueError
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise BadInput(f"{name}: is not a record; give the file into which `fill --json` was written") from None
    return record


def defaults(kind: type[T], record: dict[str, Any]) -> T:
    """A `kind` (`Fill`) that asks for what the record did. Raises `BadInput` when it asks for what does not exist."""
    try:
        return checked(kind, {**record["request"], "device": record["device"], "dtype": record["dtype"]})
    except (UsageError, TypeError) as error:
        raise BadInput(f"the record does not fit this version: {error}") from None


def method(record: dict[str, Any]) -> Method:
    """The method of a record with its fields."""
    values = dict(record["method"])
    kinds = {type(m).__name__: type(m) for m in METHODS.values()}
    if (name := values.pop("class", None)) not in kinds:
        raise BadInput(f"the record names the method {name!r}, which is not known; there are {', '.join(kinds)}")
    try:
        return checked(kinds[name], values)
    except UsageError as error:
        raise BadInput(f"the record does not fit this version: {error}") from None


def set_threads(record: dict[str, Any]) -> None:
    """Kernels differ in the last bits between thread counts, so the record's is used."""
    if isinstance(threads := record["threads"], int) and 1 <= threads <= 1024:
        torch.set_num_threads(threads)


def model(args: "Fill", record: dict[str, Any] | None, argv: Sequence[str]) -> str | None:
    """The model that was named, here or by the record: not one that was taken for what is now to be done otherwise."""
    if record is None or args.model != FILLING or any(text == "--model" or text.startswith("--model=") for text in argv):
        return args.model
    then = defaults(type(args), record)
    decides = (args.tune, args.then, args.filling.guidance) == (then.tune, then.then, then.filling.guidance)
    return args.model if args.method is None and decides else None


def differences(record: dict[str, Any], input_sha256: str | None, mask_sha256: str, model_sha256: str) -> tuple[str, ...]:
    """What is not as it was when the record was made, so that other pixels are to be expected."""
    now = {"input_sha256": input_sha256, "mask_sha256": mask_sha256, "model_sha256": model_sha256}
    names = {"input_sha256": "the picture", "mask_sha256": "the hole", "model_sha256": "the model"}
    return tuple(f"{names[key]} is another one than the record's" for key in names if record.get(key) != now[key])


def with_boxes(argv: Sequence[str]) -> list[str]:
    """`--box A B` as `--box A --box B`: after --box, whatever looks like a box is one."""
    out: list[str] = []
    follows = False
    for text in argv:
        box = re.fullmatch(r"-?\d+(,-?\d+){3}", text) is not None
        if follows and box and out[-1] != "--box":
            out.append("--box")
        out.append(text)
        follows = text == "--box" or (follows and box)
    return out
