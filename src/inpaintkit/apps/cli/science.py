"""`inpaintkit science fill`: fields from sparse, coarse or damaged measurements, with the uncertainty of every value."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from pydantic import Field

from inpaintkit.apps.cli.options import Modelled
from inpaintkit.apps.cli.parsing import parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.results import sha256
from inpaintkit.apps.cli.writing import check_writable, note
from inpaintkit.core.errors import UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.data.images import LIMITS, Limits
from inpaintkit.pipeline import measurements
from inpaintkit.pipeline.science import Reconstructor

Npy = Annotated[Path | None, tyro.conf.arg(metavar="FILE.npy", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Fill(Modelled):
    """Reconstruct fields from what was measured of them; writes mean, std and samples in the units of the array.

    What is NaN in ARRAY is not known; --mask or --known say so besides. METHOD is how to sample; with one that projects,
    known values are put in at every step besides being told to the network.
    """

    array: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="ARRAY", help_behavior_hint="")] = None
    """A .npy of one field (H, W) or several (N, H, W), with channels last; or an .npz or folder with `values`, or with the
    measurements `cond` that the model was trained on, and `mask` or `known`."""
    mask: Npy = None
    """True = not known; (H, W) or (N, H, W)."""
    known: Npy = None
    """True = known; (H, W) or (N, H, W)."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz", aliases=["-o"], help_behavior_hint="")] = None
    """Where the result goes: `mean`, `std` (over the samples) and `samples`, with an axis of samples in front."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 16
    """How many fields to draw for each given one; the k-th, counted from 0, uses seed + k."""
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """How strongly the network follows the measurements: 0 = not at all, 1 = as it was trained, above 1 = more than that
    (then, and between, it is called twice a step). Intervals can be trusted at 1 only."""
    limits: Limits = LIMITS
    json: bool = False
    """Print the record as one JSON object; otherwise the output path."""
    overwrite: bool = False
    """Replace an existing output (never inputs)."""
    quiet: bool = False
    """No progress and no notes."""


USAGE = """\
usage: inpaintkit science fill ARRAY --model FOLDER -o OUT.npz ...

  fill      fields from sparse, coarse or damaged measurements: mean, standard deviation and samples

inpaintkit science fill --help says what it takes"""


def run(argv: Sequence[str]) -> None:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("--help", "-h"):
        print(USAGE)
    elif name == "fill":
        _fill(parse(Fill, rest, "inpaintkit science fill"))
    else:
        raise UsageError(f"inpaintkit science: {name} is not known; there is fill")


def _fill(args: Fill) -> None:
    array, output, name = _checked(args)
    model = Reconstructor.from_pretrained(name, args.device, args.dtype)
    given = measurements.read(array, model.config, args.mask, args.known, args.limits)
    with progress(f"reconstructing {array.name}", args.quiet) as show:
        made, record = model(given, args.method, args.seed, args.samples, args.guidance, show)
    arrays = {name: given.shaped(values) for name, values in (("mean", made.mean), ("std", made.std), ("samples", made.samples))}
    np.savez_compressed(data := io.BytesIO(), **arrays)  # type: ignore[arg-type]
    write_bytes(output, data.getvalue())
    _show(args, record | {"outputs": [str(output)], "input": str(array), "input_sha256": sha256(array if array.is_file() else None)})


def _checked(args: Fill) -> tuple[Path, Path, str]:
    """(array, output, model), the output known to be writable. Raises `UsageError` and `NotWritable` before any work is done."""
    if args.model is None:
        raise UsageError(
            "inpaintkit science fill: --model is missing; name the folder that training a model of fields wrote, none is bundled"
        )
    if args.array is None:
        raise UsageError("inpaintkit science fill: ARRAY is missing; inpaintkit science fill --help says what is needed")
    if args.output is None or args.output.suffix.lower() != ".npz":
        raise UsageError(f"{args.output or 'inpaintkit science fill'}: the result is an .npz file; pass -o OUT.npz")
    check_writable(args.output, args.overwrite, (args.array, args.mask, args.known))
    return args.array, args.output, args.model


def _show(args: Fill, record: dict[str, Any]) -> None:
    for text in record["notes"]:
        note(text, args.quiet)
    print(json.dumps(record) if args.json else "\n".join(record["outputs"]))
