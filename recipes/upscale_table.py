"""Every way of upscaling against bicubic: how near pictures made smaller in two ways and enlarged again are to what they were.

python recipes/upscale_table.py --images DIR [--limit N] [--factor 2|4] [--side 128] [--ways NAME ...] [--features FILE ...] [--out DIR]

Every picture is cut square, reduced to --side by an antialiased resize, and that is the truth. "averaged": means of cells;
"decimated": every second (fourth) pixel. The mask ways are told of both that they are decimated.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from PIL import Image, ImageOps

from inpaintkit import DDNM, ILVR, Inpainter, Walk
from inpaintkit.core.sampler import Method
from inpaintkit.data.images import Picture, from_array
from inpaintkit.evaluate import extractors
from inpaintkit.evaluate.figures import figure
from inpaintkit.evaluate.metrics import Maps, measured
from inpaintkit.evaluate.report import shown
from inpaintkit.pipeline.upscale import Upscale, enlarged, upscale


@dataclass(frozen=True)
class Table:
    images: Path
    limit: int | None = None
    factor: Literal[2, 4] = 2
    side: int = 128
    ways: tuple[str, ...] = ("bicubic", "operator", "operator, ddnm, 20 steps", "ilvr", "bicubic-mask", "insert-mask")
    seed: int = 0
    dtype: str = "auto"
    features: tuple[Path, ...] = ()
    """Weights of classifiers, as `inpaintkit eval --features` takes them."""
    out: Path | None = None


def main(args: Table) -> None:
    truth = [square(Image.open(file), args.side) for file in sorted(args.images.iterdir())[: args.limit]]
    pipe = Inpainter.from_pretrained(dtype=args.dtype, micro_batch=4)
    f = args.factor
    made = {
        "averaged": [t.reshape(len(t) // f, f, -1, f, 3).mean((1, 3)).round().astype(np.uint8) for t in truth],
        "decimated": [np.ascontiguousarray(t[::f, ::f]) for t in truth],
    }
    rows: dict[str, list[np.ndarray]] = {"truth": truth}
    networks: dict[str, Maps] = {one.name: one.differences for one in map(extractors.load, args.features)}
    head = "input", "way", "evaluations", "seconds", "psnr", "ssim", *networks
    print(f"{len(truth)} pictures, 95 % intervals\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for given, smaller in made.items():
        for way in args.ways:
            began, large = time.perf_counter(), list[np.ndarray]()
            for values in smaller:
                result, nfe = enlarge(pipe, from_array(values), way, f, given == "decimated", args.seed)
                large.append(result.pixels)
            seconds = (time.perf_counter() - began) / len(truth)
            values_of = [compared(x, t, networks) for x, t in zip(large, truth, strict=True)]
            texts = [shown(figure((str(i), of[name]) for i, of in enumerate(values_of))) for name in values_of[0]]
            print(f"| {given} | {way} | {nfe} | {seconds:.1f} | {' | '.join(texts)} |", flush=True)
            rows[f"{given}, {way}"] = large
            if args.out is not None:
                args.out.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows.values()])).save(args.out / f"upscale-{f}.png")


def compared(result: np.ndarray, truth: np.ndarray, networks: dict[str, Maps]) -> dict[str, float]:
    """Metric -> value over the whole picture; both are (H, W, 3) uint8."""
    one, other = (from_array(array).tensor()[0] for array in (result, truth))
    return measured(one, other, np.ones(truth.shape[:2], bool), ["psnr", "ssim"], networks)["whole"]


def enlarge(pipe: Inpainter, picture: Picture, way: str, factor: Literal[2, 4], decimated: bool, seed: int) -> tuple[Picture, int]:
    """(enlarged picture, evaluations). The mask ways refuse what is not said to be decimated, so it is said here."""
    if way == "bicubic":
        return enlarged(picture, factor, corners=decimated), 0
    how, _, method = way.partition(", ")
    methods: dict[str, Method] = {
        "ddnm, 20 steps": DDNM(walk=Walk(20, "trailing")),
        "ilvr": ILVR(factor=factor, range_t=5, walk=Walk(25)),
    }
    u = Upscale(factor=factor, how=how, decimated=decimated or how.endswith("mask"))  # type: ignore[arg-type]
    (large,), record = upscale(pipe, picture, u, methods.get(method or way), seed)
    return large, record["nfe"]


def square(image: Image.Image, side: int) -> np.ndarray:
    """(side, side, 3) uint8: the middle of the picture."""
    return np.asarray(ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main(tyro.cli(Table))
