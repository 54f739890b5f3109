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
from typing import Any

import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput


@dataclass(frozen=True)
class NoiseSchedule:
    """A variance-preserving schedule of T levels.

    `alpha_bar` is `(T + 1,)` float64 with `alpha_bar[0] = 1`, decreasing; numbers leave it as Python floats, so the
    precision of a picture is the picture's own. `config` remakes the schedule (the field's scheduler configuration).
    """

    alpha_bar: Tensor
    config: Mapping[str, Any]

    @property
    def T(self) -> int:
        return len(self.alpha_bar) - 1

    def a(self, t: int) -> float:
        """Scale of the signal at level t."""
        return math.sqrt(float(self.alpha_bar[t]))

    def sigma(self, t: int) -> float:
        """Scale of the noise at level t."""
        return math.sqrt(1 - float(self.alpha_bar[t]))

    def noised(self, x0: Tensor, t: int, noise: Tensor) -> Tensor:
        """x_t from x0 (DDPM, eq. 4)."""
        return self.a(t) * x0 + self.sigma(t) * noise

    def eps(self, x_t: Tensor, x0: Tensor, t: int) -> Tensor:
        """The noise in x_t given x0 (DDPM, eq. 4 solved for eps); t > 0."""
        return (x_t - self.a(t) * x0) / self.sigma(t)

    def x0_from_eps(self, x_t: Tensor, eps: Tensor, t: int) -> Tensor:
        """x0 given the noise (DDPM, eq. 4 solved for x0)."""
        return (x_t - self.sigma(t) * eps) / self.a(t)

    def x0_from_v(self, x_t: Tensor, v: Tensor, t: int) -> Tensor:
        """x0 given v (Salimans and Ho 2022, appendix D)."""
        return self.a(t) * x_t - self.sigma(t) * v

    def v(self, x0: Tensor, eps: Tensor, t: int) -> Tensor:
        """The target of v-prediction (Salimans and Ho 2022, appendix D)."""
        return self.a(t) * eps - self.sigma(t) * x0

    def beta(self, t: int, s: int) -> float:
        """Variance added on the way up from s to t, the beta of a respaced chain (Nichol and Dhariwal 2021, section 4)."""
        return 1 - float(self.alpha_bar[t] / self.alpha_bar[s])

    def posterior_sigma(self, t: int, s: int, eta: float) -> float:
        """Standard deviation of fresh noise in a move t -> s (DDIM, eq. 16); eta = 1 is the DDPM posterior."""
        return eta * math.sqrt((1 - float(self.alpha_bar[s])) / (1 - float(self.alpha_bar[t])) * self.beta(t, s))

    def mean(self, x0: Tensor, eps: Tensor, t: int, s: int, eta: float) -> Tensor:
        """Mean of x_s in a move t -> s (DDIM, eq. 12; at eta = 1 the DDPM posterior mean, for any gap)."""
        return self.a(s) * x0 + math.sqrt(max(1 - float(self.alpha_bar[s]) - self.posterior_sigma(t, s, eta) ** 2, 0)) * eps

    def mixed(self, x0: Tensor, eps: Tensor, noise: Tensor, s: int, share: float) -> Tensor:
        """x_s with `share`^2 of its noise fresh and the rest eps (DiffPIR, Zhu et al. 2023, algorithm 1, zeta = share^2)."""
        return self.noised(x0, s, share * noise + math.sqrt(1 - share**2) * eps)

    def learned_sigma(self, spread: Tensor, t: int, s: int) -> Tensor | float:
        """Learned standard deviation of the move t -> s, between the posterior's and beta's (Nichol and Dhariwal 2021, eq. 15)."""
        if s == 0:
            return 0.0  # the last move adds no noise
        low, high = math.log(self.posterior_sigma(t, s, 1)), math.log(self.beta(t, s)) / 2
        return torch.exp(low + (spread + 1) / 2 * (high - low))

    def renoised(self, x_t: Tensor, t: int, s: int, noise: Tensor) -> Tensor:
        """Back up from t to the noisier s (RePaint, eq. 3 in closed form over any gap)."""
        r = float(self.alpha_bar[s] / self.alpha_bar[t])
        return math.sqrt(r) * x_t + math.sqrt(1 - r) * noise

    def nearest(self, alpha_bar: float) -> int:
        """The level in 1..T whose noise is nearest to `alpha_bar`, compared as log signal-to-noise ratio."""
        bounded = self.alpha_bar[1:].clamp(1e-12, 1 - 1e-12)
        wanted = math.log(max(alpha_bar, 1e-12) / max(1 - alpha_bar, 1e-12))
        return 1 + int((bounded.log() - (1 - bounded).log() - wanted).abs().argmin())


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


SCHEDULES = {"linear": linear, "cosine": cosine, "scaled_linear": scaled_linear}


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
