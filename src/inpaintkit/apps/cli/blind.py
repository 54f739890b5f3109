"""`inpaintkit blind`: repair a damaged picture without being told where it is damaged."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from pydantic import Field

from inpaintkit.apps.cli import records, results
from inpaintkit.apps.cli.holes import given, joined, none_named
from inpaintkit.apps.cli.options import OPTIONS, File, Holed, Varied, any_way, filling
from inpaintkit.apps.cli.parsing import parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.writing import check_suffix, note, together, write_mask
from inpaintkit.core.errors import UsageError
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.models import damage
from inpaintkit.models.catalog import DETECTOR
from inpaintkit.pipeline.blind import blind, check, doubts, find
from inpaintkit.pipeline.fill import Inpainter, grown
from inpaintkit.pipeline.job import Options

PROG = "inpaintkit blind"
GROWN = Options(grow=2)


@dataclass(frozen=True, kw_only=True)
class Blind(Varied, Holed):
    """Repair a damaged picture without being told where it is damaged.

    predict: a network finds the damage (scratches, stains, folds, text, paint, noise), which is grown by 2 pixels and
    filled as by `fill`; METHOD is how. When nothing is found, that is said, nothing is written, and the exit code is 0.
    ilvr: the model makes a picture that resembles the damaged one. With a MASK (or --box, --mask-from) only that part is
    replaced, else the whole picture is. METHOD is ilvr; its options (--factor, --range-t, --steps ...) stand after it.
    """

    how: Literal["predict", "ilvr"] | None = None
    """Unless given: ilvr with a MASK or the METHOD ilvr, else predict."""
    detector: Annotated[str, tyro.conf.arg(metavar="NAME|PATH|HUB/ID")] = DETECTOR
    """predict: what finds the damage; a bundled one, or a folder that training wrote (`inpaintkit train recipes/damage.toml`)."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """predict: replace what is damaged with more than this probability; the detector's own value unless given."""
    mask_out: File = None
    """predict: write what is replaced as a mask, white = hole; .png or .npy."""
    filling: Options = GROWN


def run(argv: Sequence[str]) -> None:
    argv = records.with_boxes(argv)
    args: Blind = parse(Blind, argv, PROG)
    if _how(args) == "predict":
        _predict(args)
    else:  # what it is given is not grown unless that is asked for
        _ilvr(parse(Blind, argv, PROG, Blind(filling=OPTIONS)))


def _how(args: Blind) -> str:
    return args.how or ("predict" if none_named(args) and not isinstance(args.method, ILVR) else "ilvr")


def _predict(args: Blind) -> None:
    if not none_named(args):
        raise UsageError(f"{PROG}: --how predict finds the hole itself; leave MASK out, or fill what you name with `inpaintkit fill`")
    picture = given(args, PROG)
    outputs = results.named(args, picture, "repaired", args.variants)
    results.check(args, picture, outputs, (args.uncertainty, args.mask_out), ())
    results.check_uncertainty(args.uncertainty, args.variants)
    check_suffix(args.mask_out, ".png", ".npy")
    detector = damage.load(args.detector)
    pipe = Inpainter.from_pretrained(filling(args), args.device, args.dtype)
    pipe.method(args.method)
    hole = find(detector.to(pipe.device, pipe.dtype), picture, args.threshold)
    limit = detector.network.config.threshold if args.threshold is None else args.threshold
    about = {"detector": detector.name, "detector_sha256": detector.sha256, "threshold": limit, "found": float(hole.mean())}
    if not hole.any():
        _nothing(args, picture.name, about, picture.notes)
        return
    with progress(f"repairing {picture.name}", args.quiet) as show:
        repaired, record = pipe.fill(picture, hole, args.method, args.seed, args.variants, args.filling, show)
    region = grown(hole, args.filling.grow)
    with together([*outputs, args.sheet, args.uncertainty, args.mask_out]):
        written = results.write(args, picture, region, repaired, outputs)
        extras = [*results.write_sheet(args, picture, region, repaired), *results.write_uncertainty(args.uncertainty, repaired)]
        if args.mask_out is not None:
            write_mask(args.mask_out, region)
            extras.append(args.mask_out)
    _show(args, {**record, **about, **written, "pasted": "hole"}, extras, (*picture.notes, *doubts(hole), *record["notes"]))


def _nothing(args: Blind, name: str, about: dict[str, Any], notes: Sequence[str]) -> None:
    """Say that there is nothing to repair."""
    said = [*notes, f"{name}: no damage found; nothing is written"]
    for text in said:
        note(text, args.quiet)
    if args.json:
        print(json.dumps({**about, "how": "predict", "outputs": [], "extras": [], "notes": said}))


def _ilvr(args: Blind) -> None:
    if args.mask_out is not None or args.threshold is not None or args.detector != DETECTOR:
        raise UsageError(f"{PROG}: --detector, --threshold and --mask-out belong to --how predict; leave them out, or MASK and ilvr")
    check(args.method)
    picture = given(args, PROG)
    whole = none_named(args)
    hole, _, notes = joined(args, picture, [np.ones(picture.size[::-1], bool)] if whole else [])
    outputs = results.named(args, picture, "repaired", args.variants)
    results.check(args, picture, outputs, (args.uncertainty,), (args.mask,))
    results.check_uncertainty(args.uncertainty, args.variants)
    pipe = Inpainter.from_pretrained(any_way(args), args.device, args.dtype)
    with progress(f"repairing {picture.name}", args.quiet) as show:
        repaired, record = blind(pipe, picture, None if whole else hole, args.method, args.seed, args.variants, args.filling, show)
    region = grown(hole, args.filling.grow) if args.filling.grow else hole
    with together([*outputs, args.sheet, args.uncertainty]):
        written = results.write(args, picture, region, repaired, outputs)
        extras = [*results.write_sheet(args, picture, region, repaired), *results.write_uncertainty(args.uncertainty, repaired)]
    _show(args, {**record, **written}, extras, (*picture.notes, *notes, *record["notes"]))


def _show(args: Blind, record: dict[str, Any], extras: Sequence[Any], notes: Sequence[str]) -> None:
    said = [*notes, *record["notes"]]
    results.show(args, {**record, "how": _how(args), "extras": [str(path) for path in extras], "notes": said})
