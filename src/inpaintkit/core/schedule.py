"""Noise schedules and the formulas of the diffusion process. Each formula exists here and nowhere else.

| symbol      | meaning                                                        | source                                   |
|-------------|----------------------------------------------------------------|------------------------------------------|
| `t`, `s`    | noise levels, 0 = clean ... T = almost pure noise; a move is t -> s |                                     |
| `alpha_bar` | share of signal variance left at each level, `alpha_bar[0] = 1` | DDPM (Ho et al. 2020), section 2         |
| `x_t`       | the noisy picture, `sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps` | DDPM, eq. 4                            |
| `x0`, `eps` | the clean picture and the unit noise in `x_t`                   | DDPM, eq. 4 and 9                        |
| `v`         | `sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0`                  | Salimans and Ho 2022, appendix D         |
| `eta`       | 0 = deterministic DDIM ... 1 = DDPM posterior                   | DDIM (Song et al. 2021), eq. 12 and 16   |
| `spread`    | a network's learned place between two variances, in [-1, 1]     | Nichol and Dhariwal 2021, eq. 15         |
| `y`, `known`| what was measured, and where (1 = known)                        | RePaint (Lugmayr et al. 2022), eq. 8     |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput

Level = int | Tensor
"""A noise level, or `(B,)` of them: one for each picture of a batch, as in training."""
Number = Any
"""A float for a level; for a batch of levels `(B, 1, 1, 1)` float32 on their device."""


@dataclass(frozen=True)
class NoiseSchedule:
    """A variance-preserving schedule of T levels.

    `alpha_bar` is `(T + 1,)` float64 with `alpha_bar[0] = 1`, decreasing; the numbers of one level leave it as Python floats,
    so the precision of a picture is the picture's own. `config` remakes the schedule (the field's scheduler configuration).
    """

    alpha_bar: Tensor
    config: Mapping[str, Any]

    @property
    def T(self) -> int:
        return len(self.alpha_bar) - 1

    def a(self, t: Level) -> Number:
        """Scale of the signal at level t."""
        return _number(_root(self._bar(t)), t)

    def sigma(self, t: Level) -> Number:
        """Scale of the noise at level t."""
        return _number(_root(1 - self._bar(t)), t)

    def snr(self, t: Level) -> Number:
        """Signal-to-noise ratio at level t > 0, of variances."""
        return _number(self._bar(t) / (1 - self._bar(t)), t)

    def noised(self, x0: Tensor, t: Level, noise: Tensor) -> Tensor:
        """x_t from x0 (DDPM, eq. 4)."""
        return self.a(t) * x0 + self.sigma(t) * noise

    def eps(self, x_t: Tensor, x0: Tensor, t: Level) -> Tensor:
        """The noise in x_t given x0 (DDPM, eq. 4 solved for eps); t > 0."""
        return (x_t - self.a(t) * x0) / self.sigma(t)

    def x0_from_eps(self, x_t: Tensor, eps: Tensor, t: Level) -> Tensor:
        """x0 given the noise (DDPM, eq. 4 solved for x0)."""
        return (x_t - self.sigma(t) * eps) / self.a(t)

    def x0_from_v(self, x_t: Tensor, v: Tensor, t: Level) -> Tensor:
        """x0 given v (Salimans and Ho 2022, appendix D)."""
        return self.a(t) * x_t - self.sigma(t) * v

    def v(self, x0: Tensor, eps: Tensor, t: Level) -> Tensor:
        """The target of v-prediction (Salimans and Ho 2022, appendix D)."""
        return self.a(t) * eps - self.sigma(t) * x0

    def x0_from(self, kind: str, x_t: Tensor, value: Tensor, t: Level) -> Tensor:
        """x0 from what a network predicts: "x0", "eps" or "v"."""
        return value if kind == "x0" else self.x0_from_eps(x_t, value, t) if kind == "eps" else self.x0_from_v(x_t, value, t)

    def target(self, kind: str, x0: Tensor, eps: Tensor, t: Level) -> Tensor:
        """What a network that predicts "x0", "eps" or "v" should say."""
        return x0 if kind == "x0" else eps if kind == "eps" else self.v(x0, eps, t)

    def beta(self, t: Level, s: Level) -> Number:
        """Variance added on the way up from s to t, the beta of a respaced chain (Nichol and Dhariwal 2021, section 4)."""
        return _number(1 - self._bar(t) / self._bar(s), t)

    def posterior_sigma(self, t: Level, s: Level, eta: float) -> Number:
        """Standard deviation of fresh noise in a move t -> s (DDIM, eq. 16); eta = 1 is the DDPM posterior."""
        return eta * _number(_root(self._variance(t, s)), t)

    def mean(self, x0: Tensor, eps: Tensor, t: Level, s: Level, eta: float) -> Tensor:
        """Mean of x_s in a move t -> s (DDIM, eq. 12; at eta = 1 the DDPM posterior mean, for any gap)."""
        return self.a(s) * x0 + _number(_root(1 - self._bar(s) - eta**2 * self._variance(t, s)), t) * eps

    def posterior(self, t: int, s: int) -> tuple[float, float, float]:
        """q(x_s | x_t, x0) as weights of x0 and x_t in its mean, and its standard deviation (DDPM, eq. 6 and 7, for any gap)."""
        one, none = torch.eye(2, dtype=torch.float64)  # the mean is linear: what it is for x0 = 1, x_t = 0, and the other way round
        of_x0, of_x_t = self.mean(one, self.eps(none, one, t), t, s, eta=1).tolist()
        return of_x0, of_x_t, self.posterior_sigma(t, s, 1)

    def mixed(self, x0: Tensor, eps: Tensor, noise: Tensor, s: int, share: float) -> Tensor:
        """x_s with `share`^2 of its noise fresh and the rest eps (DiffPIR, Zhu et al. 2023, algorithm 1, zeta = share^2)."""
        return self.noised(x0, s, share * noise + math.sqrt(1 - share**2) * eps)

    def learned_sigma(self, spread: Tensor, t: int, s: int) -> Tensor | float:
        """Learned standard deviation of the move t -> s, between the posterior's and beta's (Nichol and Dhariwal 2021, eq. 15)."""
        if s == 0:
            return 0.0  # the last move adds no noise
        return _between(self.posterior_sigma(t, s, 1), _root(self.beta(t, s)), spread)

    def bound(self, x0: Tensor, x_t: Tensor, predicted: Tensor, spread: Tensor, t: Tensor) -> Tensor:
        """Terms of the variational bound at the levels t `(B,)`, in bits, for each value `(B, C, H, W)` (DDPM, eq. 5, with the
        learned variance of Nichol and Dhariwal 2021, eq. 15): the divergence of the move t -> t - 1 from the true posterior;
        at t = 1 the negative log-likelihood of x0. predicted: the x0 that was predicted. T must be 2 or more.
        """
        s, wide = t - 1, t.clamp(min=2)  # the posterior at t = 1 has no width: that of t = 2 takes its place
        low, high = self.posterior_sigma(wide, wide - 1, 1), _root(self.beta(t, s))
        mean, sigma = self.mean(predicted, self.eps(x_t, predicted, t), t, s, 1), _between(low, high, spread)
        gap = self.mean(x0, self.eps(x_t, x0, t), t, s, 1) - mean
        ratio = low / sigma
        divergence = 0.5 * (ratio.square() - 1) - ratio.log() + 0.5 * (gap / sigma).square()
        first = (t == 1)[:, None, None, None]
        return torch.where(first, -log_likelihood(x0, mean, sigma), divergence) / math.log(2)

    def renoised(self, x_t: Tensor, t: int, s: int, noise: Tensor) -> Tensor:
        """Back up from t to the noisier s (RePaint, eq. 3 in closed form over any gap)."""
        r = float(self.alpha_bar[s] / self.alpha_bar[t])
        return math.sqrt(r) * x_t + math.sqrt(1 - r) * noise

    def _bar(self, t: Level) -> Number:
        """alpha_bar at level t in float64; of a batch on the CPU."""
        return self.alpha_bar[t.cpu()][:, None, None, None] if isinstance(t, Tensor) else float(self.alpha_bar[t])

    def _variance(self, t: Level, s: Level) -> Number:
        """Of the DDPM posterior of a move t -> s in float64 (DDPM, eq. 7, for any gap)."""
        return (1 - self._bar(s)) / (1 - self._bar(t)) * (1 - self._bar(t) / self._bar(s))

    def nearest(self, alpha_bar: float) -> int:
        """The level in 1..T whose noise is nearest to `alpha_bar`, compared as log signal-to-noise ratio."""
        bounded = self.alpha_bar[1:].clamp(1e-12, 1 - 1e-12)
        wanted = math.log(max(alpha_bar, 1e-12) / max(1 - alpha_bar, 1e-12))
        return 1 + int((bounded.log() - (1 - bounded).log() - wanted).abs().argmin())


def log_likelihood(x0: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Log-probability, in nats, of 8-bit values x0 in [-1, 1] under a Gaussian cut into their 256 bins (DDPM, eq. 13)."""
    half = 1 / 255
    above = torch.where(x0 > 1 - half, 1.0, torch.special.ndtr((x0 + half - mean) / sigma))
    below = torch.where(x0 < half - 1, 0.0, torch.special.ndtr((x0 - half - mean) / sigma))
    return (above - below).clamp(min=1e-12).log()


def _between(low: Number, high: Number, spread: Tensor) -> Tensor:
    """low at spread -1, high at 1, on a logarithmic scale between."""
    return low * (high / low) ** ((spread + 1) / 2)


def _root(value: Number) -> Number:
    """The square root; of a negative rounding error 0."""
    return value.clamp(min=0).sqrt() if isinstance(value, Tensor) else math.sqrt(max(value, 0))


def _number(value: Number, t: Level) -> Number:
    return value.float().to(t.device) if isinstance(t, Tensor) else value


def _from_betas(betas: Tensor, config: Mapping[str, Any]) -> NoiseSchedule:
    one = torch.ones(1, dtype=torch.float64)
    return NoiseSchedule(torch.cat([one, torch.cumprod(1 - betas, 0)]), dict(config, num_train_timesteps=len(betas)))


def linear(T: int = 1000, beta_start: float | None = None, beta_end: float | None = None) -> NoiseSchedule:
    """Linear betas, 1e-4 to 2e-2 times 1000/T unless given (DDPM section 4; the scale is improved-diffusion's)."""
    start, end = (beta_start or 1e-4 * 1000 / T), (beta_end or min(2e-2 * 1000 / T, 0.999))
    betas = torch.linspace(start, end, T, dtype=torch.float64)
    return _from_betas(betas, {"beta_schedule": "linear", "beta_start": start, "beta_end": end})


def scaled_linear(T: int = 1000, beta_start: float | None = None, beta_end: float | None = None) -> NoiseSchedule:
    """Quadratic betas: a straight line between the square roots, squared (called `scaled_linear` by diffusers)."""
    start, end = (beta_start or 1e-4 * 1000 / T), (beta_end or min(2e-2 * 1000 / T, 0.999))
    betas = torch.linspace(math.sqrt(start), math.sqrt(end), T, dtype=torch.float64).square()
    return _from_betas(betas, {"beta_schedule": "scaled_linear", "beta_start": start, "beta_end": end})


def cosine(T: int = 1000) -> NoiseSchedule:
    """alpha_bar a squared cosine, betas at most 0.999 (Nichol and Dhariwal 2021, eq. 17)."""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    curve = torch.cos((u + 0.008) / 1.008 * math.pi / 2).square()
    return _from_betas((1 - curve[1:] / curve[:-1]).clamp(max=0.999), {"beta_schedule": "squaredcos_cap_v2"})


def vp(T: int = 1000) -> NoiseSchedule:
    """The variance-preserving diffusion with beta(u) = 0.1 + 19.9 u seen at u = t / T, so that a few levels span all of it (Xiao et al.
    2022, Denoising Diffusion GANs, details of their experiments; Song et al. 2021, score SDE, eq. 33)."""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    bars = torch.exp(-0.1 * u - 0.5 * (20 - 0.1) * u.square())
    betas = 1 - bars[1:] / bars[:-1]
    return _from_betas(betas, {"trained_betas": betas.tolist()})


SCHEDULES = {"linear": linear, "cosine": cosine, "scaled_linear": scaled_linear, "vp": vp}


@cache
def named(name: str, T: int) -> NoiseSchedule:
    """The schedule of `SCHEDULES` with T levels, made once."""
    return SCHEDULES[name](T)


def from_config(config: Mapping[str, Any], name: str = "scheduler_config.json") -> NoiseSchedule:
    """The schedule of a diffusers scheduler configuration. Raises `BadInput` for one that is not variance-preserving."""
    if "_class_name" in config and "beta_schedule" not in config and config.get("trained_betas") is None:
        raise BadInput(f"{name}: {config['_class_name']} has no betas, so it is not variance-preserving; use a DDPM or DDIM checkpoint")
    if config.get("rescale_betas_zero_snr"):
        raise BadInput(f"{name}: rescale_betas_zero_snr is not supported; use a checkpoint trained without it")
    try:
        T = int(config.get("num_train_timesteps", 1000))
        start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 2e-2))  # diffusers' defaults, not scaled by T
        trained = None if config.get("trained_betas") is None else torch.tensor(config["trained_betas"], dtype=torch.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}: {error}; num_train_timesteps, beta_start, beta_end and trained_betas must be numbers") from None
    if trained is not None:
        if trained.ndim != 1 or len(trained) == 0 or not ((trained > 0) & (trained < 1)).all():
            raise BadInput(f"{name}: trained_betas must be a list of numbers between 0 and 1")
        return _from_betas(trained, {"trained_betas": trained.tolist()})
    if not 1 <= T <= 100_000:
        raise BadInput(f"{name}: num_train_timesteps = {T}; between 1 and 100000 are possible")
    kind = config.get("beta_schedule", "linear")
    if kind == "squaredcos_cap_v2":
        return cosine(T)
    if kind not in ("linear", "scaled_linear"):
        raise BadInput(f"{name}: beta_schedule {kind!r} is not known; use linear, scaled_linear, squaredcos_cap_v2 or trained_betas")
    if not 0 < start <= end < 1:
        raise BadInput(f"{name}: beta_start {start} and beta_end {end} must satisfy 0 < start <= end < 1")
    return (linear if kind == "linear" else scaled_linear)(T, start, end)
