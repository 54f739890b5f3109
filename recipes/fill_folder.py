"""Fill every picture of a folder with its mask of the same stem, for measuring.

python recipes/fill_folder.py --images DIR --masks DIR --out DIR [--model NAME] [--seed N] [--tune STEPS] [METHOD ...]
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from inpaintkit.core.sampler import Method
from inpaintkit.data.images import read_mask, read_picture, write_picture
from inpaintkit.methods import METHODS
from inpaintkit.models.catalog import DEFAULT
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options
from inpaintkit.train.tuning import tuned


@dataclass(frozen=True)
class FillFolder:
    images: Path
    masks: Path
    out: Path
    model: str = DEFAULT
    seed: int = 0
    tune: int = 0
    limit: int | None = None
    dtype: str = "auto"
    options: tyro.conf.OmitArgPrefixes[Options] = field(default_factory=Options)
    method: str | None = None
    steps: int | None = None


def main(args: FillFolder, method: Method | None) -> None:
    pipe = Inpainter.from_pretrained(args.model, dtype=args.dtype)
    args.out.mkdir(parents=True, exist_ok=True)
    began, nfe = time.perf_counter(), 0
    files = sorted(args.images.iterdir())[: args.limit]
    for file in files:
        picture = read_picture(file)
        mask = next(p for p in args.masks.iterdir() if p.stem == file.stem)
        hole = read_mask(mask, picture.size)
        mine = tuned(pipe, picture, hole, args.tune, args.seed, args.options) if args.tune else pipe
        filled, record = mine.fill(picture, hole, method, args.seed, options=args.options)
        write_picture(filled[0], args.out / f"{file.stem}.png", overwrite=True)
        nfe += record["nfe"]
        assert record["changed_outside"] == 0
    print(
        f"{args.out}: {len(files)} pictures, {(time.perf_counter() - began) / len(files):.2f} s and {nfe / len(files):.1f} evaluations each"
    )


if __name__ == "__main__":
    from dataclasses import replace

    arguments = tyro.cli(FillFolder)
    chosen = METHODS[arguments.method] if arguments.method else None
    if arguments.steps:
        chosen = chosen or METHODS["plain"]
        chosen = replace(chosen, walk=replace(chosen.walk, steps=arguments.steps))
    main(arguments, chosen)
