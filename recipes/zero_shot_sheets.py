"""Sheets of every method filling pictures under RePaint's six masks, by a network that is told nothing of the hole.

python recipes/zero_shot_sheets.py --images DIR --out DIR [--limit N] [--methods NAME ...] [--kinds KIND ...] [--seed N]

Every picture is reduced to 64x64, whole. One sheet for each method, and one of all of them; the
table has the evaluations and seconds of one fill, and the PSNR in the hole.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont

from inpaintkit import DPS, METHODS, CoPaint, Inpainter, Options, RePaint, Walk
from inpaintkit.core.sampler import Method
from inpaintkit.data.images import from_pil, known_from_hole
from inpaintkit.data.masks import REPAINT, draw
from inpaintkit.models.catalog import DEFAULT
from inpaintkit.models.denoisers import Calls
from inpaintkit.pipeline.job import Job
from inpaintkit.pipeline.regions import Region

SIDE = 64
TINT = (255, 0, 160)
TOLD = "plain, told"
# Papers' settings where they need at most 250 evaluations; else fewer steps. copaint's growths are per level, so fewer levels grow faster.
SETTINGS: dict[str, Method] = {
    TOLD: METHODS["plain"],
    "ddnm": METHODS["ddnm"],
    "ddpm": RePaint(walk=Walk(100)),
    "ddim": RePaint(eta=0.0, walk=Walk(50)),
    "repaint 230": RePaint(walk=Walk(50, jump_length=5, jump_n_sample=5)),
    "ilvr": METHODS["ilvr"],
    "dps": DPS(walk=Walk(30)),
    "dps fresh": DPS(zeta=1.0, renoise=0.85, walk=Walk(30)),
    "dps pigdm": DPS(weighting="pigdm", walk=Walk(30)),
    "copaint": CoPaint(growth=1.012**12, reg_growth=1.01**12, walk=Walk(20)),
    "copaint-tt": CoPaint(inner=1, growth=1.012**12, reg_growth=1.01**12, walk=Walk(20, jump_length=5, jump_n_sample=2)),
    "repaint": METHODS["repaint"],
}


@dataclass(frozen=True)
class Sheets:
    images: Path
    out: Path
    limit: int = 4
    methods: tuple[str, ...] = tuple(name for name in SETTINGS if name != "repaint")
    """`repaint` has the paper's 2,410 evaluations and runs only when it is named."""
    kinds: tuple[str, ...] = REPAINT
    model: str = DEFAULT
    seed: int = 0
    dtype: str = "auto"


def main(args: Sheets) -> None:
    pictures = [reduced(Image.open(file)) for file in sorted(args.images.iterdir())[: args.limit]]
    cases = [(picture, draw(kind, (SIDE, SIDE), args.seed + k)) for kind in args.kinds for k, picture in enumerate(pictures)]
    truth, holes = [list(part) for part in zip(*cases, strict=True)]
    args.out.mkdir(parents=True, exist_ok=True)
    pipe = Inpainter.from_pretrained(args.model, dtype=args.dtype, micro_batch=min(len(cases), 4))
    print("| method | evaluations | seconds |", *(f"{kind} |" for kind in args.kinds), "mean |\n|" + "---|" * (len(args.kinds) + 4))
    rows: dict[str, list[np.ndarray]] = {}
    for name in args.methods:
        rows[name], calls, seconds = fill(pipe, SETTINGS[name], truth, holes, args.seed, told=name == TOLD)
        quality = np.array([psnr(*case) for case in zip(rows[name], truth, holes, strict=True)]).reshape(len(args.kinds), -1).mean(1)
        nfe = " + ".join(f"{count / len(cases):g}" for count in (calls.forward, calls.backward) if count)
        figures = (*quality, quality.mean())
        print(f"| {name} | {nfe} | {seconds / len(cases):.1f} |", *(f"{value:.2f} |" for value in figures), flush=True)
        save(args.out / f"{name.replace(', ', '-').replace(' ', '-')}.png", args.kinds, truth, holes, {name: rows[name]})
        save(args.out / "all.png", args.kinds, truth, holes, rows)


def reduced(image: Image.Image) -> np.ndarray:
    """(64, 64, 3) uint8: the whole picture, antialiased."""
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@torch.no_grad()
def fill(
    pipe: Inpainter, method: Method, pictures: Sequence[np.ndarray], holes: Sequence[np.ndarray], seed: int, told: bool = False
) -> tuple[list[np.ndarray], Calls, float]:
    """(filled pictures, evaluations, seconds), as `pipe(picture, hole, method, seed)` makes them, but all in one batch."""
    denoiser = replace(pipe.denoiser, calls=Calls())
    job = Job(denoiser, method, Options(), told, pipe.device, None)
    began = time.perf_counter()
    known = torch.cat([known_from_hole(hole) for hole in holes])
    y = torch.cat([from_pil(Image.fromarray(picture), "picture").tensor() for picture in pictures]) * known
    whole = Region((0, 0, SIDE, SIDE), (1,), (0, 0, SIDE, SIDE))
    values = job.coarse_to_fine(y, known, [whole] * len(y), [seed])
    samples = ((values + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    merged = [np.where(hole[..., None], new, old) for new, old, hole in zip(samples, pictures, holes, strict=True)]
    return merged, denoiser.calls, time.perf_counter() - began


def psnr(a: np.ndarray, b: np.ndarray, hole: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(float) - b)[hole] ** 2).mean(), 1e-9)))


def save(
    path: Path, kinds: Sequence[str], pictures: Sequence[np.ndarray], holes: Sequence[np.ndarray], rows: dict[str, list[np.ndarray]]
) -> None:
    """A PNG: the pictures, their holes, and the fills of every row; as many columns of each kind."""
    tinted = [np.where(hole[..., None], TINT, picture).astype(np.uint8) for picture, hole in zip(pictures, holes, strict=True)]
    wide, high, step = 80, 16, SIDE + 2
    canvas = Image.new("RGB", (wide + len(pictures) * step, high + (len(rows) + 2) * step), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(10)
    for n, kind in enumerate(kinds):
        pen.text((wide + n * len(pictures) // len(kinds) * step, 0), kind, "black", font)
    for n, (name, panels) in enumerate({"picture": pictures, "hole": tinted, **rows}.items()):
        pen.text((2, high + n * step + SIDE // 2 - 8), name, "black", font)
        for k, panel in enumerate(panels):
            canvas.paste(Image.fromarray(panel), (wide + k * step, high + n * step))
    canvas.save(path)


if __name__ == "__main__":
    main(tyro.cli(Sheets))
