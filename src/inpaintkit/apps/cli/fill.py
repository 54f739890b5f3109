"""`inpaintkit fill`: a picture and a hole become a filled picture and its record."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from pydantic import Field

from inpaintkit.apps.cli import records, results
from inpaintkit.apps.cli.holes import enlarged, given, joined, usable
from inpaintkit.apps.cli.options import File, Holed, Varied, filling
from inpaintkit.apps.cli.parsing import parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.writing import check_suffix, note, together
from inpaintkit.core.files import write_bytes
from inpaintkit.core.sampler import Method
from inpaintkit.data.images import Hole, Picture
from inpaintkit.pipeline import two_stage
from inpaintkit.pipeline.fill import Inpainter, grown


@dataclass(frozen=True, kw_only=True)
class Fill(Varied, Holed):
    """Fill the hole of a picture. Pixels outside the hole keep their values, whatever the size, depth or format.

    The hole is the union of what MASK, --box, --hole, --mask-from and --outpaint name. METHOD is how to sample; options
    may stand before or after it, its own options after it.
    """

    hole: Annotated[Literal["all"] | None, tyro.conf.arg(metavar="all", help_behavior_hint="")] = None
    """The whole picture is unknown; to the method ilvr it is a reference to resemble."""
    outpaint: Annotated[str | None, tyro.conf.arg(metavar="L,T,R,B", help_behavior_hint="")] = None
    """Enlarge the picture by this many pixels at the left, top, right and bottom, and fill them."""
    plan: bool = False
    """Only say which windows would be computed, how often the network would be called and how long that takes."""
    gif: File = None
    """Animation of the denoising."""
    then: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH|HUB/ID", help_behavior_hint="")] = None
    """A generator (trained as a GAN in two or more steps) that goes over the filled hole once, for its texture."""
    tune: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Fine-tune the model on the known pixels around the hole first, in so many steps: 200 take minutes on a CPU."""
    from_record: File = None
    """Repeat a run from the record that --json printed; what else is given replaces what it says."""


def run(argv: Sequence[str]) -> None:
    prog = "inpaintkit fill"
    argv = records.with_boxes(argv)
    record = records.read(argv)
    args: Fill = parse(Fill, argv, prog, None if record is None else records.defaults(Fill, record))
    model = filling(replace(args, model=records.model(args, record, argv)), args.then is not None or args.tune > 0)
    args = replace(args, model=model)
    if record is not None and args.method is None:
        args = replace(args, method=records.method(record))
    picture, hole, notes = _inputs(args, prog)
    outputs = _outputs(args, picture)
    if record is not None:
        records.set_threads(record)
    pipe = Inpainter.from_pretrained(model, args.device, args.dtype, micro_batch=None if record is None else record.get("micro_batch"))
    method = pipe.method(args.method)
    over = None if args.then is None else Inpainter.from_pretrained(args.then, args.device, args.dtype, pipe.denoiser.micro_batch)
    if over is not None:
        two_stage.check(over)
    if record is not None:
        notes += records.differences(record, results.sha256(args.image), results.mask_sha256(hole), pipe.model.sha256)
    for text in notes:
        note(text, args.quiet)
    if args.plan:
        from inpaintkit.apps.cli import plans

        plans.show(pipe, picture, hole, method, args.filling, args.variants, args.tune, args.json)
        return
    if args.tune:
        pipe = _tuned(args, pipe, picture, hole)
    results.show(args, _fill(args, pipe, over, picture, hole, method, outputs), notes)


def _tuned(args: Fill, pipe: Inpainter, picture: Picture, hole: Hole) -> Inpainter:
    """The model, fine-tuned on the picture."""
    from inpaintkit.train.tuning import tuned

    with progress(f"tuning on {picture.name}", args.quiet, "step") as show:
        return tuned(pipe, picture, _filled(args, hole), args.tune, args.seed, args.filling, show)


def _filled(args: Fill, hole: Hole) -> Hole:
    """The hole as it is filled."""
    return grown(hole, args.filling.grow) if args.filling.grow else hole


def _inputs(args: Fill, prog: str) -> tuple[Picture, Hole, tuple[str, ...]]:
    """The picture (enlarged when outpainting), its hole, and what is to be noted about them."""
    picture = given(args, prog)
    before = picture.notes
    more = [np.full(picture.size[::-1], args.hole == "all")] if args.hole == "all" or args.outpaint is not None else []
    hole, name, notes = joined(args, picture, more, ", --hole all, --outpaint L,T,R,B")
    if args.outpaint is not None:
        picture, hole = enlarged(picture, hole, args.outpaint, args.limits)
    return picture, hole, (*before, *notes, *usable(args, hole, name, picture, notes))


def _outputs(args: Fill, picture: Picture) -> list[Path]:
    """The names of the results, all of them known to be writable."""
    outputs = results.named(args, picture, "filled", args.variants)
    if not args.plan:
        results.check(args, picture, outputs, (args.gif, args.uncertainty), (args.mask, args.from_record))
        results.check_uncertainty(args.uncertainty, args.variants)
        check_suffix(args.gif, ".gif")
    return outputs


def _fill(
    args: Fill, pipe: Inpainter, over: Inpainter | None, picture: Picture, hole: Hole, method: Method, outputs: list[Path]
) -> dict[str, Any]:
    """Compute, write, read back; the record."""
    from inpaintkit.pipeline import sheets

    film = sheets.Film(picture, hole, args.variants) if args.gif is not None else None
    with progress(f"filling {picture.name}", args.quiet) as show:

        def on_step(step: Any) -> None:
            show(step)
            if film is not None:
                film(step)

        asked = picture, hole, method, args.seed, args.variants, args.filling, on_step
        filled, record = pipe.fill(*asked) if over is None else two_stage.two_stage(pipe, over, *asked)
    region = _filled(args, hole)
    with together([*outputs, args.sheet, args.gif, args.uncertainty]):
        written = results.write(args, picture, region, filled, outputs)
        extras = results.write_sheet(args, picture, region, filled)
        if args.gif is not None and film is not None:
            write_bytes(args.gif, film.gif(filled[0]))
            extras.append(args.gif)
        extras += results.write_uncertainty(args.uncertainty, filled)
    return {
        **record,
        **written,
        "extras": [str(path) for path in extras],
        "tuned": args.tune,
        "mask_sha256": results.mask_sha256(hole),
        "notes": [*record["notes"], *written["notes"]],
        "request": records.request(args),
    }
