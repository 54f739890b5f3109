"""Figures about the five documents (docs/benchmarks/claims.md) that need no network: python recipes/document_figures.py

The closed form of the forward process against its chain, what is left of the picture at the last level, the evaluations of RePaint's walk,
the shares of its holes, the share and repeats of procedural masks.
"""

from itertools import islice, pairwise

from inpaintkit.core.schedule import SCHEDULES, linear
from inpaintkit.core.walk import Walk, moves_down
from inpaintkit.data.mask_sets import content, unique
from inpaintkit.data.masks import REPAINT, draw
from inpaintkit.data.splits import SPLITS

KINDS = {"thin": 1.0, "medium": 1.0, "thick": 1.0, "box": 1.0, "blobs": 1.0}
SIZE, EACH = (64, 64), 1000


def chain(name: str) -> float:
    """Largest difference of the mean and variance of x_t after t single steps from the closed form, over 1000 levels."""
    bars = [float(bar) for bar in SCHEDULES[name](1000).alpha_bar]
    mean, variance, worst = 1.0, 0.0, 0.0
    for before, after in pairwise(bars):
        kept = after / before  # 1 - beta
        mean, variance = mean * kept**0.5, kept * variance + 1 - kept
        worst = max(worst, abs(mean - after**0.5), abs(variance - (1 - after)))
    return worst


def main() -> None:
    for name in SCHEDULES:
        last = float(SCHEDULES[name](1000).alpha_bar[1000])
        print(f"{name}: chain against closed form {chain(name):.1e}; alpha_bar at level 1000 {last:.1e}")
    times = Walk(250, jump_length=10, jump_n_sample=10).times(linear(1000))
    print(f"RePaint, 250 levels, jumps of 10, 10 times: {moves_down(times)} moves down, {sum(s > t for t, s in pairwise(times))} up")
    print("holes:", ", ".join(f"{kind} {draw(kind, SIZE, 0).mean():.4f}" for kind in REPAINT if kind not in ("wide", "narrow")))
    masks = [hole for split in SPLITS for hole in islice(unique(KINDS, SIZE, split, 0), EACH)]
    shares = [hole.mean() for hole in masks]
    repeats = len(masks) - len({content(hole) for hole in masks})
    print(f"masks: {len(masks)} in {len(SPLITS)} splits, {repeats} repeated, holes of {min(shares):.1%} to {max(shares):.1%}")


if __name__ == "__main__":
    main()
