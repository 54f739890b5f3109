"""How closely a sample of a conditional network agrees with what it was told, and how near it is to the truth, by guidance scale.

    python recipes/score_guidance.py recipes/control-64.toml runs/control-64/model --set data.root=DATA

Over crops drawn from the recipe's test pictures, and its masks, one sample each by the model's own method, nothing put back at any
step nor pasted at the end: root mean square difference from the known values, and from the truth in the hole, in 8-bit steps, with
95 % intervals over crops; beside it the difference from w = 1 picture by picture.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import Noise, derived
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, begin, sample
from inpaintkit.evaluate.metrics import interval
from inpaintkit.models.guided import guided
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.train.draws import STREAMS
from inpaintkit.train.recipes import read

AT_ONCE = 16


@dataclass(frozen=True)
class Score:
    recipe: tyro.conf.Positional[Path]
    """Whose test pictures and masks."""
    model: tyro.conf.Positional[str]
    set: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")] = field(default=())
    scales: tuple[float, ...] = (0, 0.5, 1, 1.5, 2, 3, 5)
    pictures: int = 96
    """Crops; more than pictures there are repeat some."""
    dtype: str = "auto"


def made(pipe: Inpainter, w: float, x0: Tensor, known: Tensor, first: int) -> Tensor:
    """A sample for each picture `(B, 3, H, W)`, numbered from `first`."""
    method, schedule = pipe.method(), pipe.denoiser.schedule
    noise = Noise([derived(0, first + i) for i in range(len(x0))])
    context = Context(guided(pipe.denoiser.told(known, x0), w), Known(known), x0, noise, method.walk.levels(schedule))
    *_, last = sample(method, method.walk.times(schedule), begin(context, x0.shape[1:]), context)
    return last.x.clamp(-1, 1)


def rms(error: Tensor, where: Tensor) -> list[float]:
    """Of each picture, in 8-bit steps."""
    where = where.expand_as(error)
    return (127.5 * ((error.square() * where).sum((1, 2, 3)) / where.sum((1, 2, 3))).sqrt()).tolist()


@torch.no_grad()
def main(args: Score) -> None:
    if 1 not in args.scales:
        raise UsageError("--scales: 1 has to be among them, for the others are compared with it")
    source = read(args.recipe, args.set).data.open()
    drawn = [source.draw(np.random.default_rng([0, STREAMS["test"], i, 0]), 0, "test") for i in range(args.pictures)]
    x0, known = (torch.from_numpy(np.stack([example[name] for example in drawn])) for name in ("x0", "known"))
    pipe = Inpainter.from_pretrained(args.model, dtype=args.dtype, micro_batch=AT_ONCE)
    found: dict[float, np.ndarray] = {}
    for w in args.scales:
        parts = [slice(i, i + AT_ONCE) for i in range(0, args.pictures, AT_ONCE)]
        errors = [made(pipe, w, x0[part], known[part], part.start) - x0[part] for part in parts]
        error = torch.cat(errors)
        found[w] = np.array([rms(error, known), rms(error, 1 - known)])
    print(f"{args.pictures} crops drawn from {source.count('test')} test pictures, {pipe.method().walk.steps} steps")
    print("| w | known values | less w = 1 | in the hole | less w = 1 |\n|---|---|---|---|---|")
    for w, values in found.items():
        cells = [figure(column) for pair in zip(values, values - found[1], strict=True) for column in pair]
        print(f"| {w:g} | " + " | ".join(cells) + " |")


def figure(values: np.ndarray) -> str:
    low, high = interval(values.tolist())
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main(tyro.cli(Score, description=__doc__))
