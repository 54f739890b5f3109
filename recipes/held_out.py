"""Write pictures that a recipe holds out for testing, which training never looks at, as PNG files.

    python recipes/held_out.py recipes/face-64.toml --out held --count 100 --set data.root=DATA [--size 64]
    inpaintkit mask set held-masks --size 64x64 --kinds right-half thick --names held
    python recipes/fill_folder.py --images held --masks held-masks/right-half --out results/right-half --model face-64
    inpaintkit eval results --truth held --masks held-masks --features WEIGHTS

The middle square of each picture, reduced to `size`; smaller ones are left out.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from inpaintkit.evaluate.inputs import file_names
from inpaintkit.train.recipes import read
from inpaintkit.train.sources import PictureSource


@dataclass(frozen=True)
class HeldOut:
    recipe: tyro.conf.Positional[Path]
    out: Path
    count: int = 100
    size: int = 64
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = field(default=())


def main(args: HeldOut) -> None:
    source = read(args.recipe, args.set).data.open()
    assert isinstance(source, PictureSource), "the recipe's data are no pictures"
    pictures = source.splits["test"]
    chosen = [i for i in range(len(pictures.images)) if min(pictures.images[i].shape[:2]) >= args.size]
    chosen = sorted(chosen, key=lambda i: pictures.names[i])[: args.count]
    args.out.mkdir(parents=True)
    names = file_names([str(Path(pictures.names[i]).with_suffix("")) for i in chosen])
    for i, name in zip(chosen, names, strict=True):
        image = Image.fromarray(pictures.images[i])
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.resize((args.size,) * 2, Image.Resampling.LANCZOS, (left, top, left + side, top + side))
        square.save(args.out / f"{name}.png")
    print(f"{args.out}: {len(chosen)} of {len(pictures.images)} test pictures")


if __name__ == "__main__":
    main(tyro.cli(HeldOut))
