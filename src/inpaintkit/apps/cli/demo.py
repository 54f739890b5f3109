"""`inpaintkit demo`: a damaged sample photo is filled, and every part of it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.apps.cli.progress import progress
from inpaintkit.apps.cli.writing import check_writable
from inpaintkit.core.errors import NotWritable
from inpaintkit.core.files import write_bytes
from inpaintkit.core.sampler import Seed
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import Hole, Picture, encode_png, from_array, write_picture
from inpaintkit.methods.plain import Plain
from inpaintkit.models.catalog import FILLING
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Step

NAMES = {
    "photo.png": "the photo: Chelsea the cat, by Stefan van der Walt (scikit-image, CC0)",
    "mask.png": "the mask: white is to be filled",
    "filled.png": "the filled photo",
    "sheet.png": "before, mask and after, side by side",
    "denoising.gif": "how it was made out of noise",
}
STEPS = Plain(eta=1.0, walk=Walk(6, "trailing"))
"""More than the bundled model needs, so that the animation has something to show."""
TOP_LEFT, SIZE = (90, 10), (256, 208)  # her face: small enough to be filled in one window


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Fill scratches, lettering and a brush stroke in a sample photo, and write photo, mask, result, sheet and animation."""

    output: Annotated[Path, tyro.conf.arg(metavar="DIR", aliases=["-o"])] = Path("inpaintkit-demo")
    """Folder for the pictures; made if need be."""
    model: str = FILLING
    """A bundled model, a model folder, or a hub id."""
    seed: Seed = 0
    overwrite: bool = False
    """Replace what an earlier demo wrote."""
    quiet: bool = False
    """No progress."""


def run(argv: Sequence[str]) -> None:
    from inpaintkit.pipeline import sheets

    args: Demo = parse(Demo, argv, "inpaintkit demo")
    photo, filled, mask, sheet, gif = (args.output / name for name in ("photo.png", "filled.png", "mask.png", "sheet.png", "denoising.gif"))
    for name in NAMES if args.output.exists() else ():
        check_writable(args.output / name, args.overwrite)
    pipe = Inpainter.from_pretrained(args.model)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(f"{args.output}: {error.strerror}; choose a folder that can be written") from None
    picture, hole = sample()
    film = sheets.Film(picture, hole)
    with progress("filling the sample photo", args.quiet) as show:

        def on_step(step: Step) -> None:
            show(step)
            film(step)

        (result, *_), record = pipe.fill(picture, hole, STEPS, args.seed, on_step=on_step)
    write_picture(picture, photo, args.overwrite)
    write_bytes(mask, encode_png(hole.astype(np.uint8) * 255))
    write_picture(result, filled, args.overwrite)
    write_bytes(sheet, sheets.sheet(picture, hole, [result], ["after"]))
    write_bytes(gif, film.gif(result))
    for name, about in NAMES.items():
        print(f"{args.output / name!s:<40} {about}")
    print(f"{record['nfe']} evaluations of {args.model} took {record['seconds']:.1f} s")
    print(f"now try: inpaintkit fill {photo} {mask} -o again.png --seed 1")


def sample() -> tuple[Picture, Hole]:
    """The photo and its hole, always the same."""
    from skimage import data

    from inpaintkit.data.masks import scratches

    (x, y), (w, h) = TOP_LEFT, SIZE
    picture = from_array(data.chelsea()[y : y + h, x : x + w], "photo.png")
    canvas = Image.new("1", SIZE)
    draw = ImageDraw.Draw(canvas)
    draw.text((18, h - 30), "inpaintkit", 1, ImageFont.load_default(26))
    draw.line([(150, 12), (178, 30), (204, 34), (226, 56)], 1, 14, joint="curve")
    return picture, np.array(canvas) | scratches(SIZE, np.random.default_rng(5))
