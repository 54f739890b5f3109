"""`inpaintkit blind`: repair a damaged picture without telling the model where it is damaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inpaintkit.apps.cli import records, results
from inpaintkit.apps.cli.holes import given, joined, none_named
from inpaintkit.apps.cli.options import Holed, Varied
from inpaintkit.apps.cli.parsing import parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.pipeline.blind import blind, check
from inpaintkit.pipeline.fill import Inpainter, grown


@dataclass(frozen=True, kw_only=True)
class Blind(Varied, Holed):
    """Repair a damaged picture: the model makes one that resembles it (ILVR), without being told where it is damaged.

    With a MASK (or --box, --mask-from) only that part is replaced, else the whole picture is. METHOD is ilvr; its options
    (--factor, --range-t, --steps, --start ...) stand after it.
    """

    how: Literal["ilvr"] = "ilvr"
    """ilvr: what is coarser than --factor pixels is taken from the damaged picture, the rest is the model's."""


def run(argv: Sequence[str]) -> None:
    prog = "inpaintkit blind"
    args: Blind = parse(Blind, records.with_boxes(argv), prog)
    check(args.method)
    picture = given(args, prog)
    whole = none_named(args)
    hole, _, notes = joined(args, picture, [np.ones(picture.size[::-1], bool)] if whole else [])
    outputs = results.named(args, picture, "repaired", args.variants)
    results.check(args, picture, outputs, (args.sheet, args.uncertainty), (args.mask,))
    results.check_uncertainty(args.uncertainty, args.variants)
    pipe = Inpainter.from_pretrained(args.model, args.device, args.dtype)
    with progress(f"repairing {picture.name}", args.quiet) as show:
        repaired, record = blind(pipe, picture, None if whole else hole, args.method, args.seed, args.variants, args.filling, show)
    region = grown(hole, args.filling.grow) if args.filling.grow else hole
    written = results.write(args, picture, region, repaired, outputs)
    extras = [*results.write_sheet(args, picture, region, repaired), *results.write_uncertainty(args.uncertainty, repaired)]
    notes = (*picture.notes, *notes, *record["notes"], *written["notes"])
    results.show(args, {**record, **written, "how": args.how, "extras": [str(path) for path in extras], "notes": list(notes)})
