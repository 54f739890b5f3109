"""`inpaintkit mask`: make a mask, or look at one before it is used."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from inpaintkit.apps.cli.holes import usable
from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.apps.cli.writing import check_suffix, check_writable, write_mask
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.core.sampler import Seed
from inpaintkit.data.images import LIMITS, Limits, Picture, encode_png, read_mask_noted, read_picture
from inpaintkit.data.masks import MASKS, draw
from inpaintkit.data.picture import check_size


@dataclass(frozen=True, kw_only=True)
class Mask(Command):
    """A picture and its mask."""

    image: tyro.conf.Positional[Path]
    """The picture."""
    mask: tyro.conf.Positional[Path]
    """White = hole."""
    invert_mask: bool = False
    """The mask is white where the picture is known."""
    limits: Limits = LIMITS


@dataclass(frozen=True, kw_only=True)
class Show(Mask):
    """Write the picture with its hole tinted, as PNG."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None
    """Where to; IMAGE's name with .mask.png for a suffix unless given."""
    overwrite: bool = False
    """Replace an existing output."""


@dataclass(frozen=True, kw_only=True)
class Check(Mask):
    """Say what a mask holds and what looks unintended. Refuses (exit code 3) what `fill` would refuse."""

    json: bool = False
    """One JSON object."""


@dataclass(frozen=True, kw_only=True)
class Make(Command):
    """Draw a mask, white = hole. The same kind, size and seed give the same mask."""

    kind: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KIND")]
    size: Annotated[str, tyro.conf.arg(metavar="WxH")]
    """Width and height, pixels."""
    output: Annotated[Path, tyro.conf.arg(metavar="FILE", aliases=["-o"])]
    """A .png file, or a .npy file of True and False."""
    seed: Seed = 0
    json: bool = False
    """Print the record as one JSON object; otherwise the path."""
    overwrite: bool = False
    """Replace an existing output."""
    limits: Limits = LIMITS


@dataclass(frozen=True, kw_only=True)
class Set(Command):
    """Write masks once for all comparisons: DIR/KIND/NAME.png, white = hole, and DIR/set.json with the digest of each.

    None of those drawn at random is a mask that training with `data.coverage` draws for its own split; a half or a centre box is
    the same everywhere. The same kinds, size and seed give the same masks.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder to be made; it must not exist yet."""
    size: Annotated[str, tyro.conf.arg(metavar="WxH")]
    """Width and height, pixels."""
    kinds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ("repaint", "lama", "coverage", "other")
    """Kinds, or families of them: repaint (its six), lama (thin, medium, thick), coverage (coverage-05-10 to coverage-55-60), other
    (centre-box, text, scratches, sparse)."""
    count: Annotated[int, Field(gt=0)] = 24
    """Masks of each kind."""
    names: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of pictures to name the masks after, one each, instead of --count."""
    seed: Seed = 0


Kinds = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Set, tyro.conf.subcommand("set")]
    | Annotated[Make, tyro.conf.subcommand("make", description=f"Draw a mask, white = hole. KIND: {', '.join(MASKS)}.")]
)


def run(argv: Sequence[str]) -> None:
    args = parse(Kinds, argv, "inpaintkit mask")
    if isinstance(args, Make):
        _make(args)
        return
    if isinstance(args, Set):
        _set(args)
        return
    picture = read_picture(args.image, args.limits)
    if isinstance(args, Show):
        _show(args, picture)
    else:
        _check(args, picture)


def _size(text: str) -> tuple[int, int]:
    size = re.fullmatch(r"(\d{1,7})x(\d{1,7})", text)
    if size is None or not int(size[1]) * int(size[2]):
        raise UsageError(f"--size = {text}: write WxH, two whole numbers of pixels from 1 on with an x between them")
    return int(size[1]), int(size[2])


def _set(args: Set) -> None:
    from inpaintkit.evaluate.frozen import freeze
    from inpaintkit.evaluate.pairs import files

    size = _size(args.size)
    check_size(f"--size = {args.size}", *size, 8, LIMITS)
    names = [f"{i:05}" for i in range(args.count)] if args.names is None else list(files(args.names))
    if not names:
        raise BadInput(f"{args.names}: holds no picture to name a mask after; name another folder, or give --count")
    print(f"{args.folder}: digest {freeze(args.folder, args.kinds, size, names, args.seed)}")


def _make(args: Make) -> None:
    w, h = _size(args.size)
    check_size(f"--size = {args.size}", w, h, 8, args.limits)
    check_suffix(args.output, ".png", ".npy")
    check_writable(args.output, args.overwrite)
    hole = draw(args.kind, (w, h), args.seed)
    write_mask(args.output, hole)
    about = {"kind": args.kind, "size": [w, h], "seed": args.seed, "hole_fraction": float(hole.mean())}
    print(json.dumps({"outputs": [str(args.output)], **about}) if args.json else args.output)


def _show(args: Show, picture: Picture) -> None:
    from inpaintkit.pipeline.sheets import tinted

    output = args.output or args.image.with_name(f"{args.image.stem}.mask.png")
    check_suffix(output, ".png")
    check_writable(output, args.overwrite, (args.image, args.mask))
    hole, _ = read_mask_noted(args.mask, picture.size, args.invert_mask, args.limits)
    write_bytes(output, encode_png(tinted(picture, hole)))
    print(output)


def _check(args: Check, picture: Picture) -> None:
    from scipy import ndimage

    hole, notes = read_mask_noted(args.mask, picture.size, args.invert_mask, args.limits)
    notes += usable(args, hole, str(args.mask), picture, notes)
    count = ndimage.label(hole, [[1] * 3] * 3)[1]
    deepest = None if hole.all() else float(ndimage.distance_transform_edt(hole).max())
    found = {
        "picture": list(picture.size),
        "mask": [hole.shape[1], hole.shape[0]],
        "hole_pixels": int(hole.sum()),
        "hole_fraction": float(hole.mean()),
        "components": int(count),
        "deepest": deepest,
        "notes": list(notes),
    }
    if args.json:
        print(json.dumps(found))
        return
    print(f"size         {picture.size[0]}x{picture.size[1]}, picture and mask")
    print(f"hole         {found['hole_pixels']} pixels, {hole.mean():.2%} of the picture, in {count} part{'s' if count != 1 else ''}")
    print("deepest      " + ("nothing is known" if deepest is None else f"a hole pixel is at most {deepest:.1f} px from a known one"))
    for text in notes:
        print(f"note         {text}")
