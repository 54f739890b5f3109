"""`inpaintkit onion`: fill from the rim inwards, ring by ring, with any filler."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Annotated, Any

import torch
import tyro
from pydantic import Field

from inpaintkit.apps.cli import records, results
from inpaintkit.apps.cli.holes import given, joined, usable
from inpaintkit.apps.cli.options import OPTIONS, Holed, Modelled, Sampling, filling
from inpaintkit.apps.cli.parsing import parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.writing import together
from inpaintkit.core.errors import UsageError
from inpaintkit.pipeline.fill import Inpainter, grown
from inpaintkit.pipeline.fillers import Fill, Sampled, named
from inpaintkit.pipeline.job import Options
from inpaintkit.pipeline.onion import onion


@dataclass(frozen=True, kw_only=True)
class Onion(Sampling, Holed):
    """Fill a hole ring by ring from its rim inwards: what was made of one ring is known when the next one is filled.

    --with names what fills: the model (with METHOD, --seed and the other options of sampling), a classical method, or an
    ONNX file that takes a picture (1, 3, H, W) in [0, 1] and a mask (1, 1, H, W), 1 = hole, as LaMa's do.
    """

    ring: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Width of a ring, pixels."""
    filler: Annotated[str, tyro.conf.arg(name="with", metavar="model|telea|ns|biharmonic|FILE.onnx")] = "model"
    """What fills."""


def run(argv: Sequence[str]) -> None:
    prog = "inpaintkit onion"
    args: Onion = parse(Onion, records.with_boxes(argv), prog)
    picture = given(args, prog)
    hole, name, notes = joined(args, picture)
    notes += usable(args, hole, name, picture, notes)
    hole = grown(hole, args.filling.grow) if args.filling.grow else hole
    outputs = results.named(args, picture, "filled")
    results.check(args, picture, outputs, (), (args.mask,))
    fill, about = _filler(args)
    with progress(f"filling {picture.name}", args.quiet, "ring") as show:
        result, record = onion(picture, hole, fill, args.ring, show)
    with together([*outputs, args.sheet]):
        written = results.write(args, picture, hole, [result], outputs)
        extras = results.write_sheet(args, picture, hole, [result])
    more = {"with": args.filler, "mask_sha256": results.mask_sha256(hole), "extras": [str(path) for path in extras]}
    record = {**about(), **record, **written, **more, "notes": [*picture.notes, *notes, *record["notes"], *written["notes"]]}
    results.show(args, record)


def _refuse_sampling(args: Onion) -> None:
    """Raise `UsageError` for what only a model takes."""
    usual = Onion()
    if args.method is not None:
        raise UsageError(f"--with {args.filler}: does not sample, so it takes no METHOD; leave {type(args.method).__name__} out")
    pairs: list[tuple[Any, Any, str]] = [(args, usual, field.name) for field in fields(Modelled) if field.name != "debug"]
    pairs += [(args.filling, OPTIONS, field.name) for field in fields(Options) if field.name != "grow"]
    if given := next((name for mine, default, name in pairs if getattr(mine, name) != getattr(default, name)), None):
        raise UsageError(f"--with {args.filler}: does not sample; leave --{given.replace('_', '-')} out")


def _filler(args: Onion) -> tuple[Fill, Any]:
    """What fills, and a function that gives what the record says of it afterwards."""
    if args.filler != "model":
        fill = named(args.filler, ("model",))
        _refuse_sampling(args)
        return fill, _machine
    pipe = Inpainter.from_pretrained(filling(args), args.device, args.dtype)
    sampled = Sampled(pipe, args.method, args.seed, replace(args.filling, grow=0))  # it has been grown already
    return sampled, lambda: sampled.record


def _machine() -> dict[str, Any]:
    """What the record of a filler without a network says of where it ran."""
    versions = {name: version(name) for name in ("inpaintkit", "numpy", "scipy", "pillow")}
    return {"nfe": 0, "device": "cpu", "threads": torch.get_num_threads(), "versions": versions}
