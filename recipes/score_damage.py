"""How well a detector of damage finds it on held-out pictures: IoU by kind, kinds never shown in training too.

    python recipes/score_damage.py runs/damage/model --data DATA [--recipe recipes/damage.toml] [--count 200] [--split test]

Pictures are of the test split of the recipe's data, which training never looks at; to choose a threshold,
take the validation split. Every kind is drawn `count` times, alone,
then worn as in training; pictures of which nothing was visibly damaged are left out. Two figures for one thing: `mean` is the
IoU of each picture, averaged, with its 95 % interval, in which a scratch that was missed weighs as much as half a picture;
`pooled` is the IoU of all pixels of the kind together, as segmentation is usually scored. Below stand the averages over
kinds, and `all pixels`, pooled over the kinds of the group too. `clean` are undamaged pictures: the share of pixels found
there. Beside it stands what finding everything would score (`mean`).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from pydantic import Field

from inpaintkit.core.errors import BadInput
from inpaintkit.core.settings import Settings, checked
from inpaintkit.data.damage import KINDS, damage, worn
from inpaintkit.models.damage import Detector, load
from inpaintkit.train.recipes import Recipe, read
from inpaintkit.train.sources import PictureData, PictureSource
from inpaintkit.train.tasks.damage import Damage, iou

RECIPE = Path(__file__).with_name("damage.toml")


@dataclass(frozen=True)
class Args(Settings):
    """Score a detector of damage."""

    detector: tyro.conf.Positional[str]
    data: str
    """Folder of the recipe's pictures."""
    recipe: Path = RECIPE
    """The one it was trained with: which pictures it has not seen, and which kinds."""
    count: Annotated[int, Field(ge=1)] = 200
    """Pictures of each kind."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """None: the detector's own."""
    split: Literal["test", "validation"] = "test"
    seed: Annotated[int, Field(ge=0)] = 0
    json: Path | None = None
    """Write the table here too."""


@dataclass(frozen=True)
class Score:
    """Of one kind."""

    ious: np.ndarray
    """Of each picture."""
    both: int
    """Pixels damaged and found."""
    either: int
    """Pixels damaged or found."""
    pixels: int
    everything: float

    @property
    def interval(self) -> float:
        return float(1.96 * self.ious.std() / max(len(self.ious), 1) ** 0.5)

    @property
    def pooled(self) -> float:
        return self.both / max(self.either, 1)


def drawn(source: PictureSource, split: str, kind: str | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(damaged and worn picture, where); kind None: not damaged."""
    example, other = (source.draw(rng, 0, split) for _ in range(2))
    picture, hole = example["x0"], np.zeros(example["x0"].shape[1:], bool)
    if kind is not None:
        picture, hole = damage(picture, example["known"][0] == 0, other["x0"], kind, rng)
    return worn(picture, rng), hole


@torch.no_grad()
def score(detector: Detector, source: PictureSource, kind: str | None, args: Args) -> Score:
    """The pictures depend on the seed, the kind and their number."""
    rngs = [np.random.default_rng([args.seed, i, *(kind or "clean").encode()]) for i in range(args.count)]
    pairs = [(picture, hole) for picture, hole in (drawn(source, args.split, kind, rng) for rng in rngs) if kind is None or hole.any()]
    threshold = args.threshold or detector.network.config.threshold
    ious, whole, counts = [], [], np.zeros(3, int)
    for i in range(0, len(pairs), 16):
        pictures = torch.from_numpy(np.stack([picture for picture, _ in pairs[i : i + 16]]))
        hole = torch.from_numpy(np.stack([hole for _, hole in pairs[i : i + 16]]))[:, None]
        found = detector.network(pictures).sigmoid() > threshold
        ious += iou(found, hole).tolist()
        whole += hole.float().mean((1, 2, 3)).tolist()
        counts += np.array([int((found & hole).sum()), int((found | hole).sum()), hole.numel()])
    return Score(np.array(ious), *counts.tolist(), float(np.mean(whole)))


def opened(recipe: Recipe, root: str) -> tuple[Damage, PictureSource]:
    if not isinstance(recipe.task, Damage) or not isinstance(recipe.data, PictureData):
        raise BadInput(f"{recipe.name}: is no recipe of a detector of damage")
    source = replace(recipe.data, root=root).open()
    if not source.count("test"):
        raise BadInput(f"{root}: no picture is held out for testing; raise data.split")
    return recipe.task, source


def main() -> None:
    args = checked(Args, tyro.cli(Args, description=__doc__))
    task, source = opened(read(args.recipe), args.data)
    detector = load(args.detector)
    shown = {kind for kind, share in task.shares.items() if share}
    groups: dict[str, dict[str, Score]] = {"seen": {}, "unseen": {}}
    print(f"{source.count(args.split)} {args.split} pictures, {args.count} draws of each kind, seed {args.seed}", end=", ")
    print(f"threshold {args.threshold or detector.network.config.threshold}")
    print(f"{'kind':<12}{'':<8}{'mean':>7}{'+-':>7}{'pooled':>8}{'find all':>10}")
    for kind in sorted(KINDS, key=lambda kind: kind not in shown):
        result, group = score(detector, source, kind, args), "seen" if kind in shown else "unseen"
        groups[group][kind] = result
        figures = f"{result.ious.mean():7.3f}{result.interval:7.3f}{result.pooled:8.3f}{result.everything:10.3f}"
        print(f"{kind:<12}{group:<8}{figures}", flush=True)
    clean = score(detector, source, None, args)
    for group, results in groups.items():
        print(averages(group, list(results.values())) if results else f"no kind is {group}")
    print(f"clean: {clean.either / clean.pixels:.2%} of the pixels of undamaged pictures were found damaged")
    if args.json:
        rows = [
            {"kind": kind, "group": group, "mean": float(result.ious.mean()), "interval": result.interval, "pooled": result.pooled}
            for group, results in groups.items()
            for kind, result in results.items()
        ]
        table = {"detector": detector.sha256, "split": args.split, "rows": rows, "clean": clean.either / clean.pixels}
        args.json.write_text(json.dumps(table, indent=1) + "\n")


def averages(group: str, results: list[Score]) -> str:
    mean, pooled = (np.mean([value(result) for result in results]) for value in (lambda r: r.ious.mean(), lambda r: r.pooled))
    together = sum(result.both for result in results) / max(sum(result.either for result in results), 1)
    return f"{'all kinds':<12}{group:<8}{mean:7.3f}{'':>7}{pooled:8.3f}   all pixels {together:.3f}"


if __name__ == "__main__":
    main()
