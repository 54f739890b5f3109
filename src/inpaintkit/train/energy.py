"""How good the fills of a generator are as samples: one number that finds out blur as well as sameness."""

from torch import Tensor

from inpaintkit.core.noise import Noise, derived
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, begin, sample
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.methods.plain import Plain
from inpaintkit.models.denoisers import NetworkDenoiser
from inpaintkit.models.unet import Network
from inpaintkit.train.task import Item


def fills(generator: Network, schedule: NoiseSchedule, method: Plain, batch: Item, variant: int = 0) -> Tensor:
    """The pictures `(B, C, H, W)` of a batch with their holes filled by the method, clean; of an unconditional generator, its own."""
    x0, known = batch["x0"], batch["known"]
    noise = Noise([derived(seed, variant) for seed in batch["seed"].tolist()])
    denoiser = NetworkDenoiser(generator, schedule, len(x0), noise=noise).told(known, x0)
    context = Context(denoiser, Known(known), x0, noise, method.walk.levels(schedule))
    *_, last = sample(method, method.walk.times(schedule), begin(context, x0.shape[1:]), context)
    return known * x0 + (1 - known) * last.x.clamp(-1, 1) if generator.config.condition else last.x.clamp(-1, 1)


def energy(one: Tensor, other: Tensor, batch: Item) -> dict[str, Tensor]:
    """The energy score of two fills of each hole: their error less half their difference. It is lowest for the true distribution, so a
    blurred mean and a generator that always makes the same are both found out (Gneiting and Raftery 2007, eq. 22)."""
    error, spread = (_distance(one, batch) + _distance(other, batch)) / 2, _distance(one - other + batch["x0"], batch)
    return {"energy": (error - spread / 2).mean(), "error": error.mean()}


def _distance(picture: Tensor, batch: Item) -> Tensor:
    """Root mean square difference from the truth in the hole, of each picture `(B,)`."""
    hole = (1 - batch["known"]).expand_as(picture)
    return (hole * (picture - batch["x0"]).square()).sum((1, 2, 3)).div(hole.sum((1, 2, 3)).clamp(min=1)).sqrt()
