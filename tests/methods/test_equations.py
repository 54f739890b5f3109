"""Every method does what its paper's equations say: it agrees to 1e-10 in float64 with a numpy transcription fed the same noise,
state by state, and a copy of it with one broken line does not."""

import math
from dataclasses import dataclass, fields, replace
from unittest import mock

import numpy as np
import pytest
import torch

from inpaintkit.core.noise import Noise
from inpaintkit.core.resize import LowPass
from inpaintkit.core.sampler import Context, State
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.evaluate.oracle import trajectory
from inpaintkit.methods import DDNM, DPS, ILVR, METHODS, CoPaint, Plain, RePaint
from inpaintkit.methods.gradient import pulled_back
from methods.cases import CLAMPED, DENOISER, KNOWN, PRIOR, SCHEDULE, SEEDS, SHORT, SPREAD, Y, trailing
from methods.transcriptions import TRANSCRIPTIONS

TOLERANCE = 1e-10  # float64 rounds at 1e-16; a few hundred moves, each amplified by at most 1 / sigma(1) = 100, stay well below


class Denoise:
    """The network for a transcription: numpy in, numpy out, its slope from the mixture's closed form (not from torch)."""

    def __init__(self, denoiser):
        self.denoiser, self.clamp = denoiser, denoiser.clamp

    def __call__(self, x, t):
        x0, spread = self.denoiser(torch.from_numpy(x), t)
        x0 = np.clip(x0.numpy(), -1, 1) if self.clamp else x0.numpy()
        return x0, None if spread is None else spread.numpy()

    def pulled_back(self, x, t, v):
        """d E[x0 | x] / d x = a / sigma^2 Cov[x0 | x], Cov from the components' means and covariances."""
        a, sigma = SCHEDULE.a(t), SCHEDULE.sigma(t)
        weights, means, covs = (part.numpy() for part in (PRIOR.weights[0], PRIOR.means[0], PRIOR.covs))
        out = np.empty_like(v)
        for i, (row, w) in enumerate(zip(x.reshape(len(x), -1), v.reshape(len(v), -1), strict=True)):
            total = a**2 * covs + sigma**2 * np.eye(PRIOR.n)
            gains, apart = a * covs @ np.linalg.inv(total), row - a * means
            logs = np.log(weights) - 0.5 * (np.einsum("ki,kij,kj->k", apart, np.linalg.inv(total), apart) + np.linalg.slogdet(total)[1])
            share = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
            says = means + np.einsum("kij,kj->ki", gains, apart)
            x0 = share @ says
            # a / sigma^2 times a component's own covariance is its gain: written so, nothing nearly equal is subtracted
            between = np.einsum("k,ki,kj->ij", share, says - x0, says - x0)
            slope = np.einsum("k,kij->ij", share, gains) + a / sigma**2 * between
            inside = (np.abs(x0) <= 1) if self.clamp else np.ones_like(x0)  # where x0 is cut off it has no slope
            out[i] = (slope @ (w * inside)).reshape(out[i].shape)
        return out


def transcribed(method, transcription, denoiser=DENOISER):
    denoise = Denoise(denoiser)

    def draw(stream):
        return noise.draw(stream, Y.shape[1:]).numpy()

    noise, times = Noise(SEEDS, torch.float64), method.walk.times(SCHEDULE)
    first = draw("init")
    return [first, *transcription(method, first, times, SCHEDULE.alpha_bar.numpy(), denoise, Y.numpy(), KNOWN.numpy(), draw)]


def check_agreement(method, transcription, denoiser=DENOISER):
    got = trajectory(method, denoiser, Y, KNOWN, Noise(SEEDS, torch.float64))
    wanted = transcribed(method, transcription, denoiser)
    assert len(got) == len(wanted)
    error = max(float(np.abs(state.x.numpy() - x).max()) for state, x in zip(got, wanted, strict=True))
    assert error < TOLERANCE


JUMPS = trailing(12, jump_length=3, jump_n_sample=3)
CASES = {
    **SHORT,
    "plain eta 0.5": Plain(eta=0.5, walk=trailing(20)),
    "plain eta 1": Plain(eta=1.0, walk=trailing(20)),
    "plain with jumps": Plain(eta=1.0, walk=JUMPS),
    "injection eta 0": RePaint(eta=0.0, walk=trailing(20)),
    "injection eta 0.5": RePaint(eta=0.5, walk=trailing(20)),
    "injection eta 1": RePaint(walk=trailing(20)),
    "injection before, eta 0": RePaint(eta=0.0, merge="before", walk=trailing(20)),
    "injection before, eta 1": RePaint(merge="before", walk=trailing(20)),
    "injection above level 5": RePaint(range_t=5, walk=trailing(20)),
    "injection before, above level 5": RePaint(merge="before", range_t=5, walk=trailing(20)),
    "repaint": RePaint(walk=JUMPS),
    "repaint before": RePaint(merge="before", walk=JUMPS),
    "ilvr everywhere": ILVR(factor=4, range_t=0, walk=trailing(12)),
    "ilvr by cells, eta 0": ILVR(factor=2, range_t=3, lowpass="pool", eta=0.0, walk=trailing(12)),
    "ilvr with jumps": ILVR(factor=16, range_t=0, walk=JUMPS),
    "ddnm, all noise fresh": DDNM(renoise=1.0, walk=trailing(20)),
    "ddnm, no noise fresh": DDNM(renoise=0.0, walk=trailing(20)),
    "ddnm, noisy y": DDNM(sigma_y=0.1, trust=3.0, walk=trailing(20)),
    "ddnm with jumps": DDNM(walk=JUMPS),
    "dps with jumps": DPS(zeta=1.0, walk=JUMPS),
    "dps, fresh noise": DPS(renoise=0.85, walk=trailing(20)),
    "pigdm": DPS(weighting="pigdm", walk=trailing(20)),
    "pigdm, noisy y, eta 0.5": DPS(weighting="pigdm", sigma_y=0.2, eta=0.5, walk=trailing(20)),
    "copaint, long steps": CoPaint(lr=1.0, growth=1.05, reg=0.01, walk=trailing(8)),
    "copaint, far too long steps": CoPaint(inner=1, lr=300.0, walk=trailing(5)),
    "copaint with jumps, eta 1": CoPaint(inner=1, lr=0.5, eta=1.0, walk=trailing(8, jump_length=3, jump_n_sample=2)),
    "repaint eta 0, every level": RePaint(eta=0.0, walk=trailing(10, jump_length=1, jump_n_sample=4)),
}


def test_every_method_in_the_table_has_a_transcription():
    missing = {name for name, method in METHODS.items() if type(method) not in TRANSCRIPTIONS}
    assert not missing, "add their equations to tests/methods/transcriptions.py"


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_its_equations(case):
    check_agreement(CASES[case], TRANSCRIPTIONS[type(CASES[case])])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("denoiser", [SPREAD, CLAMPED], ids=["learned variance", "clamped x0"])
def test_agrees_with_its_equations_on_other_networks(case, denoiser):
    check_agreement(CASES[case], TRANSCRIPTIONS[type(CASES[case])], denoiser)


# The twins: one line of each is wrong, and the check must say so.


@dataclass(frozen=True)
class KnownAtTheWrongLevel(RePaint):
    def step(self, state, s, c):
        p = c.predict(state.x, state.t)
        x = self.merged(c.move(p, state.t, s, self.eta), state.t, c)  # right: s
        return State(s, x, p.x0, state.t)


@dataclass(frozen=True)
class KnownWithoutNoise(RePaint):
    def merged(self, x, t, c):
        return torch.where(KNOWN > 0, c.schedule.a(t) * c.y, x)  # right: + sigma(t) noise


@dataclass(frozen=True)
class KnownWithoutTheSquareRoot(RePaint):
    def merged(self, x, t, c):  # Algorithm 1's line 5 as printed
        noise = 0 if t == 0 else (1 - c.schedule.a(t) ** 2) * c.noise_like("known", x)  # right: sqrt(1 - alpha_bar)
        return torch.where(KNOWN > 0, c.schedule.a(t) * c.y + noise, x)


@dataclass(frozen=True)
class KnownAheadOfTheFirstEvaluation(RePaint):
    def step(self, state, s, c):
        x = self.merged(state.x, state.t, c)  # right: not at the first step
        p = c.predict(x, state.t)
        return State(s, c.move(p, state.t, s, self.eta), p.x0, state.t)


@dataclass(frozen=True)
class HoleAndKnownSwapped(RePaint):
    def merged(self, x, t, c):
        return torch.where(KNOWN > 0, x, c.noised(c.y, t))  # right: the other way round


@dataclass(frozen=True)
class RangeOffByOne(RePaint):
    def merged(self, x, t, c):
        return x if c.level(t) < self.range_t else RePaint.merged(replace(self, range_t=0), x, t, c)  # right: <=


@dataclass(frozen=True)
class EpsOfTheUnclampedEstimate(Plain):
    def step(self, state, s, c):
        x0, _ = c.denoiser(state.x, state.t)
        p = replace(c.predict(state.x, state.t), eps=c.schedule.eps(state.x, x0, state.t))  # right: eps of the clamped x0
        return State(s, c.move(p, state.t, s, self.eta), p.x0, state.t)


WRONG_METHODS = {
    KnownAtTheWrongLevel: {},
    KnownWithoutNoise: {},
    KnownWithoutTheSquareRoot: {},
    KnownAheadOfTheFirstEvaluation: {"merge": "before"},
    HoleAndKnownSwapped: {},
    RangeOffByOne: {"range_t": 5},
}


@pytest.mark.parametrize("twin", WRONG_METHODS, ids=lambda t: t.__name__)
def test_a_broken_injection_is_noticed(twin):
    settings = WRONG_METHODS[twin]
    check_agreement(RePaint(walk=JUMPS, **settings), TRANSCRIPTIONS[RePaint])
    with pytest.raises(AssertionError):
        check_agreement(twin(walk=JUMPS, **settings), TRANSCRIPTIONS[RePaint])


def test_an_eps_that_does_not_belong_to_the_clamped_estimate_is_noticed():
    with pytest.raises(AssertionError):
        check_agreement(EpsOfTheUnclampedEstimate(eta=1.0, walk=trailing(20)), TRANSCRIPTIONS[Plain], CLAMPED)


@dataclass(frozen=True)
class ReferenceAtTheLevelAbove(ILVR):
    def step(self, state, s, c):
        p, phi = c.predict(state.x, state.t), LowPass(self.factor, self.lowpass)
        x = c.move(p, state.t, s, self.eta)
        reference = c.noised(c.operator.project(p.x0, c.y), state.t)  # right: to level s; so does the authors' code
        return State(s, x + phi.A(reference - x), p.x0, state.t)


@dataclass(frozen=True)
class OneLowPassOnly(ILVR):
    def step(self, state, s, c):
        p, phi = c.predict(state.x, state.t), LowPass(self.factor, self.lowpass)
        x = c.move(p, state.t, s, self.eta)
        return State(s, x + phi.A(c.noised(c.operator.project(p.x0, c.y), s)), p.x0, state.t)  # right: - phi(x)


@dataclass(frozen=True)
class AliasedLowPass(ILVR):
    def step(self, state, s, c):
        p = c.predict(state.x, state.t)
        x = c.move(p, state.t, s, self.eta)
        apart = c.noised(c.operator.project(p.x0, c.y), s) - x
        return State(s, x + apart[..., :: self.factor].repeat_interleave(self.factor, -1), p.x0, state.t)  # right: antialiased


@dataclass(frozen=True)
class EpsOfTheProjectedEstimate(DDNM):
    def step(self, state, s, c):
        p = c.predict(state.x, state.t)
        x0 = c.operator.project(p.x0, c.y)
        return State(s, c.mixed(replace(p, x0=x0, eps=c.schedule.eps(state.x, x0, state.t)), s, self.renoise), x0, state.t)  # right: p.eps


@dataclass(frozen=True)
class SharesThatDoNotAddUp(DDNM):
    def step(self, state, s, c):
        p = c.predict(state.x, state.t)
        p = replace(p, x0=c.operator.project(p.x0, c.y))
        noise = c.noise_like("move", p.x0) if s else 0
        mixture = self.renoise * noise + (1 - self.renoise) * p.eps  # right: sqrt(1 - renoise^2)
        return State(s, c.schedule.noised(p.x0, s, mixture), p.x0, state.t)


@dataclass(frozen=True)
class NoiseOfYForgotten(DDNM):
    def step(self, state, s, c):
        return DDNM.step(replace(self, sigma_y=0.0), state, s, c)


@dataclass(frozen=True)
class OneNormForTheBatch(DPS):
    def step(self, state, s, c):
        with mock.patch("inpaintkit.methods.dps.squares", lambda error: error.detach().square().sum().expand(len(error))):
            return DPS.step(self, state, s, c)  # right: one for each picture


@dataclass(frozen=True)
class GradientOfTheSquare(DPS):
    def step(self, state, s, c):
        return DPS.step(replace(self, zeta=2 * self.zeta), state, s, c)  # right: of the norm


@dataclass(frozen=True)
class TheOtherWay(DPS):
    def step(self, state, s, c):
        with mock.patch("inpaintkit.methods.dps.pulled_back", lambda *args: -pulled_back(*args)):
            return DPS.step(self, state, s, c)


@dataclass(frozen=True)
class NoSlopeOfTheNetwork(DPS):
    def step(self, state, s, c):
        with mock.patch("inpaintkit.methods.dps.pulled_back", lambda value, x, weight, method: weight):
            return DPS.step(self, state, s, c)  # right: through the network


@dataclass(frozen=True)
class StepsOfOneLength(CoPaint):
    def step(self, state, s, c):
        return CoPaint.step(replace(self, growth=1.0), state, s, c)


@dataclass(frozen=True)
class NeverShortened(CoPaint):
    def step(self, state, s, c):
        with mock.patch("inpaintkit.methods.copaint.SHRINK", 1.0):
            return CoPaint.step(self, state, s, c)


@dataclass(frozen=True)
class ShortenedForAll(CoPaint):
    def step(self, state, s, c):
        with mock.patch("inpaintkit.methods.copaint.squares", lambda x: x.detach().square().sum().expand(len(x))):
            return CoPaint.step(self, state, s, c)  # right: picture by picture


@dataclass(frozen=True)
class NotHeld(CoPaint):
    def step(self, state, s, c):
        return CoPaint.step(replace(self, reg=0.0), state, s, c)


WRONG = {
    ReferenceAtTheLevelAbove: ILVR(range_t=0, walk=trailing(12)),
    OneLowPassOnly: ILVR(range_t=0, walk=trailing(12)),
    AliasedLowPass: ILVR(range_t=0, walk=trailing(12)),
    EpsOfTheProjectedEstimate: DDNM(walk=trailing(12)),
    SharesThatDoNotAddUp: DDNM(walk=trailing(12)),
    NoiseOfYForgotten: DDNM(sigma_y=0.1, walk=trailing(12)),
    OneNormForTheBatch: DPS(walk=trailing(12)),
    GradientOfTheSquare: DPS(walk=trailing(12)),
    TheOtherWay: DPS(weighting="pigdm", walk=trailing(12)),
    NoSlopeOfTheNetwork: DPS(walk=trailing(12)),
    StepsOfOneLength: CoPaint(lr=0.5, growth=1.05, walk=trailing(6)),
    NeverShortened: CoPaint(lr=50.0, walk=trailing(6)),
    ShortenedForAll: CoPaint(lr=50.0, walk=trailing(6)),
    NotHeld: CoPaint(lr=0.5, reg=0.01, walk=trailing(6)),
}


@pytest.mark.parametrize("twin", WRONG, ids=lambda t: t.__name__)
def test_a_broken_method_is_noticed(twin):
    method = WRONG[twin]
    check_agreement(method, TRANSCRIPTIONS[type(method)])
    with pytest.raises(AssertionError):
        check_agreement(twin(**{f.name: getattr(method, f.name) for f in fields(method)}), TRANSCRIPTIONS[type(method)])


def test_a_share_of_fresh_noise_that_shrinks_the_noise_is_noticed():
    def mixed(self, x0, eps, noise, s, share):  # what DDNM's own code does at sigma_y = 0, nearly
        return self.a(s) * x0 + self.sigma(s) ** 2 * (share * noise + math.sqrt(1 - share**2) * eps)  # right: sigma(s)

    with mock.patch.object(NoiseSchedule, "mixed", mixed), pytest.raises(AssertionError):
        check_agreement(DDNM(walk=trailing(12)), TRANSCRIPTIONS[DDNM])


def _eps_weight_forgets_sigma(self, x0, eps, t, s, eta):
    return self.a(s) * x0 + self.sigma(s) * eps  # right: sqrt(sigma(s)^2 - posterior_sigma^2)


def _sigma_of_the_upper_level(self, t, s, eta):
    return eta * math.sqrt(self.beta(t, s))  # right: times sqrt((1 - alpha_bar[s]) / (1 - alpha_bar[t]))


def _spread_in_the_wrong_order(self, spread, t, s):
    low, high = math.log(self.posterior_sigma(t, s, 1)), math.log(self.beta(t, s)) / 2
    return torch.exp(high + (spread + 1) / 2 * (low - high)) if s else 0.0  # right: from low to high


def _jump_without_the_square_root(self, x_t, t, s, noise):
    r = float(self.alpha_bar[s] / self.alpha_bar[t])
    return r * x_t + math.sqrt(1 - r) * noise  # right: sqrt(r)


WRONG_FORMULAS = {
    "mean": (_eps_weight_forgets_sigma, Plain(eta=1.0, walk=trailing(20)), DENOISER),
    "posterior_sigma": (_sigma_of_the_upper_level, Plain(eta=1.0, walk=trailing(20)), DENOISER),
    "learned_sigma": (_spread_in_the_wrong_order, Plain(eta=1.0, walk=trailing(20)), SPREAD),
    "renoised": (_jump_without_the_square_root, RePaint(walk=JUMPS), DENOISER),
}


@pytest.mark.parametrize("formula", WRONG_FORMULAS)
def test_a_broken_formula_is_noticed(formula):
    wrong, method, denoiser = WRONG_FORMULAS[formula]
    with mock.patch.object(NoiseSchedule, formula, wrong), pytest.raises(AssertionError):
        check_agreement(method, TRANSCRIPTIONS[type(method)], denoiser)


def test_a_move_without_its_fresh_noise_is_noticed():
    def move(self, p, t, s, eta=0.0):
        return self.schedule.mean(p.x0, p.eps, t, s, eta)  # right: + sigma noise

    with mock.patch.object(Context, "move", move), pytest.raises(AssertionError):
        check_agreement(Plain(eta=1.0, walk=trailing(20)), TRANSCRIPTIONS[Plain])
