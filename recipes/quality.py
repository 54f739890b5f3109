"""Fills of one set of pictures beside Telea's: what docs/benchmarks/quality.md shows.

    for s in 0 1 2; do for k in thin medium thick; do
        python recipes/fill_folder.py --images DIR --masks MASKS/$k --out OUT/photo-64/$s/$k --seed $s --model photo-64; done; done
    python recipes/quality.py --images DIR --masks MASKS --results OUT --features WEIGHTS

Every folder of OUT is a row: a folder for each seed, in it one for each kind of mask. Rows for Telea, Navier-Stokes, biharmonic filling
and for a perfect fill of 64 px enlarged are made first, into OUT. The ratio is that of means over pictures (each the mean of its seeds), to
Telea's with the radius (3 or 5) that is nearer to the truth, its 95 % interval by drawing pictures anew.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image

from inpaintkit.core.errors import BadInput
from inpaintkit.data.images import from_array, read_mask, read_picture, write_picture
from inpaintkit.evaluate.eval import Judges, Score, judges, scored
from inpaintkit.evaluate.metrics import expanded, interval, seam
from inpaintkit.evaluate.pairs import Pair, paired
from inpaintkit.pipeline.fillers import biharmonic

SMALL, DRAWS, INSIDE = 64, 2000, 2
CLASSICAL = {"telea-3": (cv2.INPAINT_TELEA, 3), "telea-5": (cv2.INPAINT_TELEA, 5), "ns": (cv2.INPAINT_NS, 5)}
"""OpenCV's, with their radius."""
TELEA = ("telea-3", "telea-5")


@dataclass(frozen=True)
class Quality:
    images: Path
    masks: Path
    results: Path
    features: tuple[Path, ...] = ()


def kinds(args: Quality) -> list[str]:
    """Of masks, each a folder; a set's list beside them is none."""
    return sorted(path.name for path in args.masks.iterdir() if path.is_dir())


def made(name: str, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """A row that needs no model: `(H, W, 3)` uint8."""
    if name == "biharmonic":
        return np.rint(255 * biharmonic(picture.astype(np.float32) / 255, hole)).clip(0, 255).astype(np.uint8)
    if name in CLASSICAL:
        flag, radius = CLASSICAL[name]
        return cv2.inpaint(picture, hole.astype(np.uint8), radius, flag)
    small = Image.fromarray(picture).resize((SMALL, SMALL), Image.Resampling.BOX)
    return np.where(hole[:, :, None], np.asarray(small.resize(picture.shape[1::-1], Image.Resampling.BICUBIC)), picture)


def reference(args: Quality, name: str) -> None:
    for kind in kinds(args):
        target = args.results / name / "0" / kind
        for pair in paired(args.images, args.images, args.masks / kind).found:
            picture = read_picture(pair.truth)
            if name == f"perfect-{SMALL}" and max(picture.size) <= SMALL:
                continue
            filled = made(name, picture.pixels, read_mask(pair.mask, picture.size))
            target.mkdir(parents=True, exist_ok=True)
            write_picture(from_array(filled), target / f"{pair.name}.png", overwrite=True)


def seams(pair: Pair) -> tuple[float, float]:
    """At the hole's border, and 2 px inside: fill over truth."""
    result, truth = read_picture(pair.result), read_picture(pair.truth)
    hole = read_mask(pair.mask, truth.size)
    border, inside = (seam(result.tensor()[0], truth.tensor()[0], hole, depth) for depth in (0, INSIDE))
    return border, inside


def table(row: Path, kind: str, args: Quality, by: Judges) -> tuple[list[str], dict[str, np.ndarray], int]:
    """(names of pictures; metric -> its value of each, a mean over seeds; the number of seeds). Raises `BadInput` for seeds of other
    pictures."""
    every, names = [], list[str]()
    for seed in sorted(path for path in row.iterdir() if (path / kind).is_dir()):
        pairs = sorted(paired(seed / kind, args.images, args.masks / kind).found, key=lambda pair: pair.name)
        if every and names != [pair.name for pair in pairs]:
            raise BadInput(f"{seed / kind}: holds other pictures than another seed; fill the same with each")
        names = [pair.name for pair in pairs]
        scores: list[Score] = list(scored(pairs, by))
        assert all(score.changed == 0 for score in scores), f"{seed}: changed outside the hole"
        values = {name: [score.values["hole"][name] for score in scores] for name in scores[0].values["hole"]}
        border, inside = zip(*map(seams, pairs), strict=True)
        every.append(values | {"seam": border, "inside": inside})
    return names, {name: np.mean([one[name] for one in every], 0) for name in every[0]}, len(every)


def ratio(mine: np.ndarray, theirs: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(mine), size=(DRAWS, len(mine)))
    low, high = np.quantile(mine[drawn].mean(1) / theirs[drawn].mean(1), expanded(len(mine)))
    return f"{mine.mean() / theirs.mean():.3f} [{low:.3f}, {high:.3f}]"


def main(args: Quality) -> None:
    for name in (*CLASSICAL, "biharmonic", f"perfect-{SMALL}"):
        reference(args, name)
    by = judges(["psnr"], args.features)
    for kind in kinds(args):
        rows = sorted(path for path in args.results.iterdir() if any(path.glob(f"*/{kind}/*")))
        tables = {row.name: table(row, kind, args, by) for row in rows}
        both = [tables[name][:2] for name in TELEA]
        distances = [name for name in both[0][1] if name.startswith("perceptual")]
        titles = ["row", "n", "seeds", "PSNR, dB", *(part for name in distances for part in (name, "of Telea's")), "seam", "2 px inside"]
        print("", "| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), sep="\n")
        for row, (names, values, seeds) in tables.items():
            same = [both[0][0].index(name) for name in names]
            low, high = interval(values["psnr"])
            cells = [f"{kind}, {row}", str(len(values["psnr"])), str(seeds), f"{values['psnr'].mean():.2f} [{low:.2f}, {high:.2f}]"]
            for name in distances:
                mine = values[name]
                cells += [f"{mine.mean():.3f}", ratio(mine, min((one[name][same] for _, one in both), key=np.mean))]
            cells += [f"{np.nanmean(values[name]):.2f}" for name in ("seam", "inside")]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Quality))
