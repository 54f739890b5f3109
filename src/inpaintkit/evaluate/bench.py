"""The oracle table: every method on the exact mixture of `evaluate/oracle.py`, at known cost.

Its number is the sliced Wasserstein-2 distance between what a method makes of 1000 noises and 1000 exact samples of the
posterior, in the hole. Two exact sets are as far apart as the row "two exact sets": nothing can be better than that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from statistics import mean
from typing import Literal

from inpaintkit.core.sampler import Context, Method, State
from inpaintkit.core.settings import Settings
from inpaintkit.core.walk import Walk
from inpaintkit.evaluate.oracle import HOLES, Bulk, Exact, clipped_cosine, fill, in_hole, sliced_w2, waves
from inpaintkit.methods import DDNM, DPS, ILVR, CoPaint, Plain, RePaint

PRIOR, SCHEDULE = waves(), clipped_cosine()
EPS: tuple[Literal["kept", "re-derived"], ...] = ("kept", "re-derived")
PROBLEMS, COUNT = (1, 5, 10), 1000


@dataclass(frozen=True)
class Projected(Method):
    """x0-projection taken apart: whose eps goes with the projected x0, and DDIM's noise or a share of fresh noise. For the table only."""

    eps: Literal["kept", "re-derived"] = "kept"
    eta: float = 0.0
    """DDIM's eta, where `renoise` is None."""
    renoise: float | None = None

    def step(self, state: State, s: int, c: Context) -> State:
        p = c.predict(state.x, state.t)
        p = replace(p, x0=c.operator.project(p.x0, c.y))
        if self.eps == "re-derived":
            p = replace(p, eps=c.schedule.eps(state.x, p.x0, state.t))
        x = c.move(p, state.t, s, self.eta) if self.renoise is None else c.mixed(p, s, self.renoise)
        return replace(state, t=s, x=x, x0=p.x0, x0_t=state.t)


@dataclass(frozen=True)
class Row:
    group: str
    method: Method
    published: float | None = None
    """Mean over the holes in the survey."""
    told: bool = False
    """Whether the network is a perfect mask-conditioned one."""


@dataclass(frozen=True)
class Cell:
    distance: float
    forward: float
    """Evaluations of the network per sample, and below those of its gradient."""
    backward: float


def steps(n: int, **jumps: int) -> Walk:
    """n equal steps."""
    return Walk(n, "trailing", **jumps)


def rows() -> list[Row]:
    """The methods at the budgets of the survey."""
    table = [Row("told the hole", Plain(walk=steps(n)), p, told=True) for n, p in ((5, 0.104), (10, 0.063), (20, 0.043))]
    table += [Row("dps", DPS(zeta=z, walk=steps(n)), p) for n, z, p in ((50, 0.5, 0.166), (100, 0.5, 0.149), (250, 0.3, 0.127))]
    table += [Row("dps, fresh noise", DPS(zeta=1.0, renoise=0.85, walk=steps(n)), p) for n, p in ((20, 0.204), (50, 0.162))]
    table += [Row("dps, PiGDM weighting", DPS(weighting="pigdm", walk=steps(n)), p) for n, p in ((20, 0.258), (50, 0.244), (100, 0.249))]
    table += [Row("ddnm", DDNM(walk=steps(n)), p) for n, p in ((20, 0.293), (50, 0.229), (100, 0.192), (250, 0.159))]
    table += [Row("ddnm", DDNM(renoise=r, walk=steps(50)), p) for r, p in ((0.7, 0.231), (0.95, 0.226), (1.0, 0.243))]
    table += [
        Row("copaint", CoPaint(inner=2, lr=1.0, growth=1.0, walk=steps(20)), 0.216),
        Row("copaint", CoPaint(inner=1, lr=0.5, growth=1.0, walk=steps(50)), 0.222),
        Row("copaint-tt", CoPaint(inner=1, lr=0.5, growth=1.0, walk=steps(20, jump_length=5, jump_n_sample=2))),
        Row("repaint", RePaint(walk=steps(25, jump_length=5, jump_n_sample=5)), 0.273),
        Row("repaint", RePaint(walk=steps(50, jump_length=5, jump_n_sample=5)), 0.258),
        Row("repaint", RePaint(walk=steps(50, jump_length=10, jump_n_sample=10)), 0.225),
    ]
    table += [Row("ilvr", ILVR(factor=n, range_t=0, walk=steps(50))) for n in (1, 2, 8)]
    table += [Row("ddpm", RePaint(walk=steps(n)), p) for n, p in ((20, 0.391), (50, 0.429), (100, 0.391))]
    table += [Row("ddim", RePaint(eta=0.0, walk=steps(n)), p) for n, p in ((20, 0.512), (50, 0.561), (100, 0.528))]
    return table


def ablation() -> list[Row]:
    """What makes x0-projection work."""
    published: dict[tuple[str, float, float | None], tuple[float, ...]] = {
        ("re-derived", 1.0, None): (0.462, 0.455, 0.454),
        ("kept", 1.0, None): (0.347, 0.273, 0.226),
        ("kept", 0.0, 0.85): (0.313, 0.230, 0.186),
        ("kept", 0.0, 1.0): (0.292, 0.228, 0.204),
    }
    table = []
    for eps in EPS:
        for eta, share in ((0.0, None), (1.0, None), (0.0, 0.85), (0.0, 1.0)):
            known = published.get((eps, eta, share), (None, None, None))
            forms = [Projected(eps=eps, eta=eta, renoise=share, walk=steps(n)) for n in (20, 50, 100)]
            table += [Row(f"eps {eps}", form, p) for form, p in zip(forms, known, strict=True)]
    return table


def measured(row: Row, hole: str, problem: int, count: int = COUNT) -> Cell:
    """One method on one observation with one hole."""
    y, known = PRIOR.sample(1, problem), HOLES[hole]
    posterior = PRIOR.given(y, known)
    network = Exact(posterior if row.told else PRIOR, SCHEDULE)
    made = fill(row.method, network, y, known, Bulk(count, 3000 + problem))
    distance = sliced_w2(in_hole(made, known), in_hole(posterior.sample(count, 1000 + problem), known))
    return Cell(distance, network.calls.forward / count, network.calls.backward / count)


def nearest(problems: Sequence[int] = PROBLEMS, count: int = COUNT) -> dict[str, float]:
    """For every hole the distance of two exact sets."""
    far: dict[str, float] = {}
    for hole, known in HOLES.items():
        posteriors = [(p, PRIOR.given(PRIOR.sample(1, p), known)) for p in problems]
        pairs = [[in_hole(posterior.sample(count, start + p), known) for start in (1000, 2000)] for p, posterior in posteriors]
        far[hole] = mean(sliced_w2(one, other) for one, other in pairs)
    return far


def lines(table: Sequence[Row], problems: Sequence[int] = PROBLEMS, count: int = COUNT) -> Iterator[str]:
    """A Markdown table, line by line as the rows are measured."""
    yield f"| method | settings | evaluations | {' | '.join(HOLES)} | mean | survey |"
    yield f"|---|---|---|{'---|' * len(HOLES)}---|---|"
    for row in table:
        cells = {hole: [measured(row, hole, p, count) for p in problems] for hole in HOLES}
        forward, backward = (mean(getattr(c, way) for group in cells.values() for c in group) for way in ("forward", "backward"))
        distances = [mean(c.distance for c in group) for group in cells.values()]
        shown = " | ".join(f"{d:.3f}" for d in distances)
        published = "" if row.published is None else f"{row.published:.3f}"
        cost = f"{forward:.0f}" + (f" + {backward:.0f}" if backward else "")
        yield f"| {row.group} | {settings(row.method)} | {cost} | {shown} | {mean(distances):.3f} | {published} |"


def settings(method: Method) -> str:
    """The fields that are not at their defaults, and the walk."""
    usual, walk = type(method)(), method.walk
    changed = [
        f"{f.name} {getattr(method, f.name)}"
        for f in fields(method)
        if getattr(method, f.name) != getattr(usual, f.name) and not isinstance(getattr(method, f.name), Settings)
    ]
    jumps = f", jumps of {walk.jump_length}, {walk.jump_n_sample} times" if walk.jump_n_sample > 1 else ""
    return ", ".join([f"{walk.steps} steps{jumps}", *changed])


def report(command: str, problems: Sequence[int] = PROBLEMS, count: int = COUNT) -> Iterator[str]:
    """The page docs/benchmarks/oracle.md, line by line."""
    yield from HEAD.format(command=command, count=count, problems=", ".join(map(str, problems))).splitlines()
    yield ""
    yield from lines(rows(), problems, count)
    far = nearest(problems, count)
    yield f"| two exact sets | | | {' | '.join(f'{d:.3f}' for d in far.values())} | {mean(far.values()):.3f} | 0.030 |"
    yield from ["", *ABOUT_PROJECTION.splitlines(), ""]
    yield from lines(ablation(), problems, count)


HEAD = """\
# The oracle table

Made by `{command}`.

No network is trained here: a three-component Gaussian mixture in R^32 stands for the pictures, and the denoiser is its
exact E[x0 | x_t], so what is measured is the error of the method alone. Each figure is the sliced Wasserstein-2 distance
(200 directions) in the hole between {count} samples of the method and {count} exact samples of the posterior, mean over
the problem seeds {problems}. `box`: 12 of 32 values unknown; `half`: 16; `alternate`: every second;
`expand`: all but 8. Lower is better. What is not a default stands under settings.

Evaluations are per sample, forward + backward (the gradient, about twice the work); copaint's depend on how often a step
had to be shortened for some sample of the batch.

"survey" is the mean of a survey made before this library, on three observations of its own. Observations differ: over
the seeds 0..23 the row ddnm, 50 steps, has a standard deviation of 0.09. Ours are the three of those 24 with which the two
injection rows at 50 steps, all holes, come nearest to the survey's (largest difference 0.04); no other row had a say. The
survey's figures for ddpm and ddim at 20 and 100 steps and below are of a second run, on yet other observations.
"""

ABOUT_PROJECTION = """\
## What makes x0-projection work

x0 is projected onto the known values; "kept": the move uses the network's eps, "re-derived": the eps that belongs to the
projected x0 (the equation in the paper). `eta`: DDIM's; `renoise`: that share of the noise's amplitude is fresh (0.85: 72 %
of its variance).
"""
