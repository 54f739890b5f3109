"""`inpaintkit fill`: a picture and a hole become a filled picture and its record."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import numpy as np
import tyro
from pydantic import Field

from inpaintkit.apps.cli import records
from inpaintkit.apps.cli.methods import summary
from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.writing import check_distinct, check_writable, note
from inpaintkit.core.errors import UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.core.sampler import Method, Seed
from inpaintkit.core.settings import checked
from inpaintkit.data.images import LIMITS, Hole, Limits, Picture, check_hole, check_output, default_output, read_picture, write_picture
from inpaintkit.data.writing import SUFFIXES
from inpaintkit.methods import METHODS
from inpaintkit.models.catalog import DEFAULT
from inpaintkit.pipeline.fill import Inpainter, Options, changed_outside, grown

_NAMED = tuple(Annotated[type(m), tyro.conf.subcommand(n, default=m, description=summary(n))] for n, m in METHODS.items())
_DEFAULT = Annotated[None, tyro.conf.subcommand("default", description="What the model's own configuration names.")]
Chosen: Any = Union[(*_NAMED, _DEFAULT)]
OPTIONS = Options()
ANY = Limits(max_pixels=1 << 62, max_bytes=1 << 62)  # for reading back what we wrote
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Fill(Command):
    """Fill the hole of a picture. Pixels outside the hole keep their values, whatever the size, depth or format.

    The hole is the union of what MASK, --box, --hole, --mask-from and --outpaint name. METHOD is how to sample; options
    may stand before or after it, its own options after it.
    """

    image: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="IMAGE", help_behavior_hint="")] = None
    """PNG, JPEG, WebP, TIFF, BMP, GIF or .npy; 8 or 16 bits, gray or RGB, with or without alpha."""
    mask: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[MASK]", help_behavior_hint="")] = None
    """A picture or .npy of the same size: white, 1, True = hole."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None
    """Where the result goes. Unless given: IMAGE's name with .filled before its suffix (.png where that format is lossy)."""
    box: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="X,Y,W,H")] = ()
    """A box of the hole, pixels."""
    hole: Annotated[Literal["all"] | None, tyro.conf.arg(metavar="all", help_behavior_hint="")] = None
    """The whole picture is unknown."""
    outpaint: Annotated[str | None, tyro.conf.arg(metavar="L,T,R,B", help_behavior_hint="")] = None
    """Enlarge the picture by this many pixels at the left, top, right and bottom, and fill them."""
    mask_from: Annotated[str | None, tyro.conf.arg(metavar="alpha|color:#rrggbb|nan", help_behavior_hint="")] = None
    """The hole is where IMAGE is transparent, has this colour, or is NaN."""
    invert_mask: bool = False
    """MASK is white where the picture is known."""
    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH|HUB/ID")] = DEFAULT
    """A bundled model, a model folder, or a hub id."""
    seed: Seed = 0
    """The same seed gives the same picture."""
    variants: Annotated[int, Field(ge=1, le=1000)] = 1
    """Make several; the k-th, counted from 0, uses seed + k. Their names end in -1, -2, ..."""
    uncertainty: File = None
    """Standard deviation of the variants at each pixel, 1 = black to white: .npy as it is, .png with its largest value white."""
    filling: Options = OPTIONS
    limits: Limits = LIMITS
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor has instructions for it."""
    plan: bool = False
    """Only say which windows would be computed, and how often the network would be called."""
    sheet: File = None
    """PNG of before, mask and after side by side."""
    gif: File = None
    """Animation of the denoising."""
    json: bool = False
    """Print the record as one JSON object; otherwise the output paths, one per line."""
    from_record: File = None
    """Repeat a run from the record that --json printed; what else is given replaces what it says."""
    overwrite: bool = False
    """Replace existing outputs (never inputs)."""
    quiet: bool = False
    """No progress and no notes."""
    method: Chosen = None


def run(argv: Sequence[str]) -> None:
    from inpaintkit.apps.cli import plans

    prog = "inpaintkit fill"
    argv = records.with_boxes(argv)
    record = records.read(argv)
    args: Fill = parse(Fill, argv, prog, None if record is None else records.defaults(Fill, record))
    if record is not None and args.method is None:
        args = replace(args, method=records.method(record))
    if args.method is not None:
        checked(type(args.method), args.method)
    if args.image is None:
        raise UsageError(f"{prog}: IMAGE is missing; {prog} --help says what is needed")
    picture, hole, notes = _inputs(args)
    outputs = _outputs(args, picture)
    if record is not None:
        records.set_threads(record)
    pipe = Inpainter.from_pretrained(args.model, args.device, args.dtype, micro_batch=None if record is None else record.get("micro_batch"))
    method = pipe.method(args.method)
    if record is not None:
        notes += records.differences(record, _sha256(args.image), _mask_sha256(hole), pipe.model.sha256)
    for text in notes:
        note(text, args.quiet)
    if args.plan:
        plans.show(pipe, hole, method, args.filling, args.variants, args.json)
        return
    result = _fill(args, pipe, picture, hole, method, outputs)
    result["notes"] = [*notes, *result["notes"]]
    print(json.dumps(result) if args.json else "\n".join(map(str, [*result["outputs"], *result["extras"]])))


def _inputs(args: Fill) -> tuple[Picture, Hole, tuple[str, ...]]:
    """The picture (enlarged when outpainting), its hole, and what is to be noted about them."""
    from inpaintkit.apps.cli.holes import enlarged, joined

    assert args.image is not None
    picture = read_picture(args.image, args.limits)
    before = picture.notes
    hole, name, notes = joined(args, picture)
    if args.outpaint is not None:
        picture, hole = enlarged(picture, hole, args.outpaint, args.limits)
    return picture, hole, (*before, *notes, *check_hole(hole, name, picture))


def _outputs(args: Fill, picture: Picture) -> list[Path]:
    """The names of the results, all of them known to be writable."""
    assert args.image is not None
    first = args.output or default_output(args.image, picture)
    outputs = [first] if args.variants == 1 else [first.with_name(f"{first.stem}-{k}{first.suffix}") for k in range(1, args.variants + 1)]
    if args.plan:
        return outputs
    extras = [path for path in (args.sheet, args.gif, args.uncertainty) if path is not None]
    for path in [*outputs, *extras]:
        check_writable(path, args.overwrite, (args.image, args.mask, args.from_record))
    check_distinct([*outputs, *extras])
    for path in outputs:
        check_output(picture, path, args.overwrite)
    if args.uncertainty is not None and args.variants < 2:
        raise UsageError(f"{args.uncertainty}: an uncertainty needs several variants; pass --variants 8")
    if args.uncertainty is not None and args.uncertainty.suffix not in (".npy", ".png"):
        raise UsageError(f"{args.uncertainty}: an uncertainty is written as .npy or .png")
    return outputs


def _fill(args: Fill, pipe: Inpainter, picture: Picture, hole: Hole, method: Method, outputs: list[Path]) -> dict[str, Any]:
    """Compute, write, read back; the record."""
    from inpaintkit.pipeline import sheets

    film = sheets.Film(picture, hole, args.variants) if args.gif is not None else None
    with progress(f"filling {picture.name}", args.quiet) as show:

        def on_step(step: Any) -> None:
            show(step)
            if film is not None:
                film(step)

        results, record = pipe.fill(picture, hole, method, args.seed, args.variants, args.filling, on_step)
    region = grown(hole, args.filling.grow) if args.filling.grow else hole
    changed = 0.0
    said: list[str] = []
    for path, result in zip(outputs, results, strict=True):
        said += write_picture(result, path, args.overwrite)
        changed = max(changed, changed_outside(picture, read_picture(path, ANY), region))
    lossy = SUFFIXES[outputs[0].suffix.lower()] == "JPEG"  # the one lossy format we write
    if changed and not lossy:
        for path in outputs:
            path.unlink()  # a file that breaks the first promise is not left behind
        raise RuntimeError(f"{outputs[0]}: known pixels differ by {changed:g} in the file read back")
    for text in dict.fromkeys(said):
        note(text, args.quiet)
    extras = _extras(args, picture, region, results, film)
    return {
        "outputs": [str(path) for path in outputs],
        "extras": [str(path) for path in extras],
        **record,
        "input": str(args.image),
        "input_sha256": _sha256(args.image),
        "mask_sha256": _mask_sha256(hole),
        "lossy": lossy,
        "changed_outside": changed,
        "notes": [*record["notes"], *dict.fromkeys(said)],
        "request": records.request(args),
    }


def _extras(args: Fill, picture: Picture, hole: Hole, results: list[Picture], film: Any) -> list[Path]:
    """Write the sheet, the animation and the uncertainty that were asked for."""
    from inpaintkit.data.images import encode_png
    from inpaintkit.pipeline import sheets

    written = []
    if args.sheet is not None:
        labels = [f"after, seed {args.seed + k}" for k in range(args.variants)]
        write_bytes(args.sheet, sheets.sheet(picture, hole, results, labels))
        written.append(args.sheet)
    if args.gif is not None and film is not None:
        write_bytes(args.gif, film.gif(results[0]))
        written.append(args.gif)
    if args.uncertainty is not None:
        spread = sheets.spread(results)
        if args.uncertainty.suffix == ".npy":
            import io

            np.save(out := io.BytesIO(), spread)
            data = out.getvalue()
        else:
            data = encode_png((spread / max(float(spread.max()), 1e-9) * 255).round().astype(np.uint8))
        write_bytes(args.uncertainty, data)
        written.append(args.uncertainty)
    return written


def _sha256(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _mask_sha256(hole: Hole) -> str:
    return hashlib.sha256(np.packbits(hole).tobytes()).hexdigest()
