"""How well a detector of damage finds it on held-out pictures: IoU and F1 by kind, kinds never shown in training too.

    python recipes/score_damage.py runs/damage/model --data DATA [--recipe recipes/damage.toml] [--count 200]

Pictures are the test split of the recipe's data, which training never looks at. Every kind is drawn `count` times, alone,
then worn as in training; pictures of which nothing was visibly damaged are left out. IoU is the mean over pictures,
with its 95 % interval; F1 is that of all pixels together. `clean` are undamaged pictures: the share of pixels found there.
Beside it stands what finding everything would score.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

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
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    seed: Annotated[int, Field(ge=0)] = 0
    json: Path | None = None
    """Write the table here too."""


@dataclass(frozen=True)
class Score:
    """Of one kind."""

    ious: np.ndarray
    everything: float
    f1: float

    @property
    def interval(self) -> float:
        return float(1.96 * self.ious.std() / max(len(self.ious), 1) ** 0.5)


def drawn(source: PictureSource, kind: str | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(damaged and worn picture, where); kind None: not damaged."""
    example, other = (source.draw(rng, 0, "test") for _ in range(2))
    picture, hole = example["x0"], np.zeros(example["x0"].shape[1:], bool)
    if kind is not None:
        picture, hole = damage(picture, example["known"][0] == 0, other["x0"], kind, rng)
    return worn(picture, rng), hole


@torch.no_grad()
def score(detector: Detector, source: PictureSource, kind: str | None, args: Args) -> Score:
    """The pictures depend on the seed, the kind and their number."""
    pairs = [drawn(source, kind, np.random.default_rng([args.seed, i, *(kind or "clean").encode()])) for i in range(args.count)]
    pairs = [(picture, hole) for picture, hole in pairs if kind is None or hole.any()]
    ious, both, either, whole = [], 0, 0, []
    for i in range(0, len(pairs), 16):
        pictures = torch.from_numpy(np.stack([picture for picture, _ in pairs[i : i + 16]]))
        hole = torch.from_numpy(np.stack([hole for _, hole in pairs[i : i + 16]]))[:, None]
        found = detector.network(pictures).sigmoid() > args.threshold
        ious += (iou(found, hole) if kind else 1 - found.float().mean((1, 2, 3))).tolist()
        whole += hole.float().mean((1, 2, 3)).tolist()
        both, either = both + int((found & hole).sum()), either + int(found.sum()) + int(hole.sum())
    return Score(np.array(ious), float(np.mean(whole)), 2 * both / max(either, 1))


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
    shown = {kind for kind, share in task.kinds.items() if share}
    rows, means = [], {"seen": [], "unseen": []}
    print(f"{source.count('test')} test pictures, {args.count} draws of each kind, threshold {args.threshold}, seed {args.seed}")
    print(f"{'kind':<12}{'':<8}{'IoU':>7}{'+-':>7}{'F1':>7}{'find all':>10}")
    for kind in sorted(KINDS, key=lambda kind: kind not in shown):
        result, group = score(detector, source, kind, args), "seen" if kind in shown else "unseen"
        means[group].append(float(result.ious.mean()))
        rows.append({"kind": kind, "group": group, "iou": means[group][-1], "interval": result.interval, "f1": result.f1})
        print(f"{kind:<12}{group:<8}{means[group][-1]:7.3f}{result.interval:7.3f}{result.f1:7.3f}{result.everything:10.3f}", flush=True)
    clean = float(1 - score(detector, source, None, args).ious.mean())
    for group, values in means.items():
        print(f"{'mean':<12}{group:<8}{np.mean(values):7.3f}" if values else f"no kind is {group}")
    print(f"clean: {clean:.2%} of the pixels of undamaged pictures were found damaged")
    if args.json:
        args.json.write_text(json.dumps({"detector": detector.sha256, "rows": rows, "clean": clean}, indent=1) + "\n")


if __name__ == "__main__":
    main()
