"""Exact denoisers: what a perfect network would say, for priors whose posteriors are known in closed form.

A picture here is `(B, 1, 1, n)`: one channel, one row, n values, in float64. The prior is a Gaussian mixture (one component:
a Gaussian), so E[x0 | x_t], the posterior of a hole given the known values, and E[x0 | x_t, known values] all have formulas.
A sampler can then be judged without a trained network: draw from it, draw from the exact posterior, compare.

    prior, schedule = waves(), clipped_cosine()
    known = HOLES["box"]                                     # (1, 1, 1, 32), 1 = known
    y = prior.sample(1, seed=0)                              # one observation
    zero_shot = Exact(prior, schedule)                       # knows the prior only
    told = Exact(prior.given(y, known), schedule)            # a perfect mask-conditioned network
    got = fill(RePaint(), zero_shot, y, known, Bulk(1000, seed=1))
    truth = prior.given(y, known).sample(1000, seed=2)
    sliced_w2(in_hole(got, known), in_hole(truth, known))
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, Denoiser, Method, State, begin, sample
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.models.denoisers import Calls


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture over pictures of n values, float64.

    Weights and means may differ from picture to picture (a posterior depends on what was observed); covariances may be
    singular (a known value has no variance).
    """

    weights: Tensor
    """`(B or 1, K)`, each row sums to 1."""
    means: Tensor
    """`(B or 1, K, n)`."""
    covs: Tensor
    """`(K, n, n)`."""

    @property
    def n(self) -> int:
        return self.covs.shape[-1]

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """Variances `(K, n)` and directions `(K, n, n)` of the components."""
        variances, directions = torch.linalg.eigh(self.covs)
        return variances.clamp(min=0), directions

    def posterior_mean(self, x: Tensor, a: float, sigma: float) -> Tensor:
        """E[x0 | a x0 + sigma eps = x] for x `(B, n)`; differentiable.

        Component k saw x with the density N(a m_k, a^2 S_k + sigma^2 I) and says m_k + a S_k (a^2 S_k + sigma^2 I)^-1 (x - a m_k).
        """
        variances, directions = self.eigen
        total = a**2 * variances + sigma**2
        z = torch.einsum("bki,kij->bkj", x[:, None] - a * self.means, directions)
        share = (self.weights.log() - 0.5 * (z**2 / total + total.log()).sum(-1)).softmax(-1)
        says = self.means + torch.einsum("bkj,kij->bki", z * (a * variances / total), directions)
        return (share[..., None] * says).sum(1)

    def given(self, y: Tensor, known: Tensor) -> "Mixture":
        """The posterior of the whole picture when the values of y `(B, 1, 1, n)` at `known` `(1, 1, 1, n)` were seen without noise."""
        seen, hole = known.flatten().nonzero().flatten(), (known.flatten() == 0).nonzero().flatten()
        S_ss, S_hs, S_hh = (self.covs[:, a[:, None], b] for a, b in ((seen, seen), (hole, seen), (hole, hole)))
        gain = torch.linalg.solve(S_ss, S_hs.mT).mT
        y = y.flatten(1)
        surprise = y[:, None, seen] - self.means[:, :, seen]
        distance = (surprise * torch.linalg.solve(S_ss, surprise[..., None])[..., 0]).sum(-1)
        means = y[:, None].repeat(1, len(self.covs), 1)
        means[:, :, hole] = self.means[:, :, hole] + torch.einsum("khs,bks->bkh", gain, surprise)
        covs = torch.zeros_like(self.covs)
        covs[:, hole[:, None], hole] = S_hh - gain @ S_hs.mT
        return Mixture((self.weights.log() - 0.5 * (distance + torch.logdet(S_ss))).softmax(-1), means, covs)

    def sample(self, count: int, seed: int) -> Tensor:
        """`(count, 1, 1, n)` independent draws."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights.expand(count, -1), 1, generator=generator)[:, 0]
        variances, directions = self.eigen
        z = variances[which].sqrt() * torch.randn(count, self.n, generator=generator, dtype=torch.float64)
        centre = self.means.expand(count, -1, -1)[torch.arange(count), which]
        return (centre + torch.einsum("bij,bj->bi", directions[which], z))[:, None, None]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean `(B or 1, n)` and covariance `(B or 1, n, n)` of the whole mixture."""
        w = self.weights[..., None]
        mean = (w * self.means).sum(1)
        apart = self.means - mean[:, None]
        return mean, (w[..., None] * (self.covs + apart[..., :, None] * apart[..., None, :])).sum(1)


@dataclass(frozen=True)
class Exact:
    """The denoiser E[x0 | x_t]. With a prior's `given(y, known)` it is a perfect mask-conditioned network."""

    prior: Mixture
    schedule: NoiseSchedule
    clamp: bool = False
    calls: Calls = field(default_factory=Calls)

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, None]:
        self.calls.forward += len(x)
        x0 = self.prior.posterior_mean(x.flatten(1), self.schedule.a(t), self.schedule.sigma(t)).reshape(x.shape)
        if x0.requires_grad:
            x0.register_hook(lambda _: setattr(self.calls, "backward", self.calls.backward + len(x)))
        return x0, None


def gaussian(mean: Tensor, cov: Tensor) -> Mixture:
    """A Gaussian prior with mean `(n,)` and covariance `(n, n)`."""
    return Mixture(torch.ones(1, 1, dtype=torch.float64), mean[None, None].double(), cov[None].double())


def smooth_cov(n: int, length: float = 4.0) -> Tensor:
    """`(n, n)`: neighbours look alike over `length` values."""
    i = torch.arange(n, dtype=torch.float64)
    return 0.25 * torch.exp(-(((i[:, None] - i) / length) ** 2) / 2) + 1e-3 * torch.eye(n, dtype=torch.float64)


def waves() -> Mixture:
    """Three smooth waves in R^32, scaled to unit mean square."""
    i = torch.arange(32, dtype=torch.float64)
    weights = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    means = torch.stack([a * torch.sin(2 * math.pi * i / 32 + phase) for a, phase in ((0.8, 0.0), (0.56, 2.1), (0.8, 4.2))])
    covs = torch.stack([c * smooth_cov(32) for c in (1.0, 0.6, 1.4)])
    mean_square = (weights[:, None] * (means**2 + covs.diagonal(dim1=-2, dim2=-1))).sum(0).mean()
    return Mixture(weights[None], means[None] / mean_square.sqrt(), covs / mean_square)


def _known_but(hole: Sequence[int]) -> Tensor:
    known = torch.ones(1, 1, 1, 32, dtype=torch.float64)
    known[..., list(hole)] = 0
    return known


HOLES = {
    "box": _known_but(range(10, 22)),
    "half": _known_but(range(16, 32)),
    "alternate": _known_but(range(1, 32, 2)),
    "expand": _known_but([*range(12), *range(20, 32)]),
}
"""`known` `(1, 1, 1, 32)`, 1 = known, for each hole."""


def clipped_cosine(T: int = 1000) -> NoiseSchedule:
    """Appendix A's schedule: a squared cosine kept in [1e-5, 1 - 1e-5]. A "trailing" walk of N levels makes N equal steps."""
    u = torch.arange(1, T + 1, dtype=torch.float64) / T
    curve = torch.cos((u + 0.008) / 1.008 * math.pi / 2).square().clamp(1e-5, 1 - 1e-5)
    return NoiseSchedule(torch.cat([torch.ones(1, dtype=torch.float64), curve]), {})


class Bulk(Noise):
    """Noise for many samples of one problem from one generator per stream: `Noise` with its one generator per picture, but fast."""

    def __init__(self, count: int, seed: int):
        super().__init__([seed], torch.float64)
        self.count = count

    def draw(self, stream: str, shape: Sequence[int]) -> Tensor:
        return super().draw(stream, (self.count, *shape))[0]


def context(method: Method, denoiser: Denoiser, y: Tensor, known: Tensor, noise: Noise) -> Context:
    """What `sample` needs to run `method` on the known values of y."""
    return Context(denoiser, Known(known), y, noise, method.walk.levels(denoiser.schedule))


def trajectory(method: Method, denoiser: Denoiser, y: Tensor, known: Tensor, noise: Noise) -> list[State]:
    """Every state of a run, the first one (pure noise) included."""
    c = context(method, denoiser, y, known, noise)
    start = begin(c, y.shape[1:])
    return [start, *sample(method, method.walk.times(denoiser.schedule), start, c)]


def fill(method: Method, denoiser: Denoiser, y: Tensor, known: Tensor, noise: Noise) -> Tensor:
    """The picture at the end of a run `(B, 1, 1, n)`, as the method left it (not composited)."""
    return trajectory(method, denoiser, y, known, noise)[-1].x


def in_hole(x: Tensor, known: Tensor) -> Tensor:
    """`(B, h)`: the values that were not known."""
    return x.flatten(1)[:, known.flatten() == 0]


def sliced_w2(one: Tensor, other: Tensor, directions: int = 200, seed: int = 0) -> float:
    """Sliced Wasserstein-2 distance of two sample sets `(N, d)` of equal size: root mean square over random directions and ranks."""
    u = torch.randn(one.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=one.dtype)
    u = u / u.norm(dim=0)
    return float(((one @ u).sort(0).values - (other @ u).sort(0).values).square().mean().sqrt())
