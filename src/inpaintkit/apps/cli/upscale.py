"""`inpaintkit upscale`: a picture twice or four times as large."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inpaintkit.apps.cli import results
from inpaintkit.apps.cli.holes import given
from inpaintkit.apps.cli.options import Picturing, Varied, any_way
from inpaintkit.apps.cli.parsing import parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.writing import together
from inpaintkit.data.picture import check_size
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.upscale import Upscale, check, enlarged, upscale

UPSCALE = Upscale()


@dataclass(frozen=True, kw_only=True)
class Upscaling(Varied, Picturing):
    """Enlarge a picture. METHOD is how to sample: a short ddnm unless given where --how is operator, ilvr where it is ilvr, else
    the model's own; its options stand after it. A --factor after ilvr is ilvr's.
    """

    upscaling: Upscale = UPSCALE


def run(argv: Sequence[str]) -> None:
    prog = "inpaintkit upscale"
    default = f"--factor={UPSCALE.factor}"  # given first: tyro finds two options of one name where neither stands before the METHOD
    args: Upscaling = parse(Upscaling, argv if set(argv) & {"-h", "--help"} else [default, *argv], prog)
    picture, u = given(args, prog), args.upscaling
    check(u, args.method)
    w, h = (n * u.factor for n in picture.size)
    check_size(f"{picture.name}, enlarged", w, h, picture.pixels.itemsize * 4, args.limits)
    outputs = results.named(args, picture, f"x{u.factor}", args.variants)
    results.check(args, picture, outputs, (args.uncertainty,), ())
    results.check_uncertainty(args.uncertainty, args.variants)
    pipe = Inpainter.from_pretrained(any_way(args), args.device, args.dtype)
    with progress(f"enlarging {picture.name}", args.quiet) as show:
        large, record = upscale(pipe, picture, u, args.method, args.seed, args.variants, args.filling, show)
    with together([*outputs, args.uncertainty]):
        written = results.write(args, enlarged(picture, u.factor), np.ones((h, w), bool), large, outputs)
        extras = results.write_uncertainty(args.uncertainty, large)
    notes = [*picture.notes, *record["notes"], *written["notes"]]
    results.show(args, {**record, **written, "extras": [str(path) for path in extras], "notes": notes})
