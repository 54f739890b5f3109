"""Each method's equations once more, in numpy, from the papers and apart from `core/`: what the methods must agree with.

A transcription takes the settings, the first state, the levels visited, alpha_bar, the network `denoise(x, t) -> (x0, spread or None)`
with `denoise.pulled_back(x, t, v)` = (d x0 / d x)^T v, the measurement y, where it is known, and `draw(stream)`; it yields every
state. A new method needs one here, and one line in the table.
"""

from itertools import pairwise

import numpy as np

from inpaintkit.methods import DDNM, DPS, ILVR, CoPaint, Plain, RePaint


def ddim(x, x0, t, s, ab, eta, draw):
    """Song, Meng and Ermon 2021, eq. 12 with the sigma of eq. 16."""
    eps = (x - np.sqrt(ab[t]) * x0) / np.sqrt(1 - ab[t])
    sigma = eta * np.sqrt((1 - ab[s]) / (1 - ab[t])) * np.sqrt(1 - ab[t] / ab[s])
    mean = np.sqrt(ab[s]) * x0 + np.sqrt(1 - ab[s] - sigma**2) * eps
    return mean + sigma * draw("move") if sigma > 0 else mean


def ddpm(x, x0, t, s, ab, spread, draw):
    """Ho et al. 2020, eq. 6 and 7, with the respaced betas and learned variance of Nichol and Dhariwal 2021 (section 4, eq. 15)."""
    beta = 1 - ab[t] / ab[s]
    mean = np.sqrt(ab[s]) * beta / (1 - ab[t]) * x0 + np.sqrt(1 - beta) * (1 - ab[s]) / (1 - ab[t]) * x
    if s == 0:
        return mean
    variance = beta * (1 - ab[s]) / (1 - ab[t])
    if spread is not None:
        v = (spread + 1) / 2
        variance = np.exp(v * np.log(beta) + (1 - v) * np.log(variance))
    return mean + np.sqrt(variance) * draw("move")


def move(x, x0, spread, t, s, ab, eta, draw):
    return ddpm(x, x0, t, s, ab, spread, draw) if eta == 1 else ddim(x, x0, t, s, ab, eta, draw)


def up(x, t, s, ab, draw):
    """Lugmayr et al. 2022, eq. 3's forward step, with the beta of a respaced chain."""
    beta = 1 - ab[s] / ab[t]
    return np.sqrt(1 - beta) * x + np.sqrt(beta) * draw("jump")


def plain(method, x, times, ab, denoise, y, known, draw):
    for t, s in pairwise(times):
        x = up(x, t, s, ab, draw) if s > t else move(x, *denoise(x, t), t, s, ab, method.eta, draw)
        yield x


def injection(method, x, times, ab, denoise, y, known, draw):
    """Lugmayr et al. 2022, eq. 8 (Algorithm 1's line 5 corrected), known part after the move or ahead of the network."""
    quiet = sorted(set(times))[: method.range_t + 1] if method.range_t else []  # levels the known part does not enter at

    def with_known(x, s):
        if s in quiet:
            return x
        return np.where(known == 1, np.sqrt(ab[s]) * y + np.sqrt(1 - ab[s]) * draw("known") if s > 0 else y, x)

    for i, (t, s) in enumerate(pairwise(times)):
        if s > t:
            x = up(x, t, s, ab, draw)
        else:
            x = with_known(x, t) if method.merge == "before" and i > 0 else x  # not ahead of the first evaluation
            x = move(x, *denoise(x, t), t, s, ab, method.eta, draw)
            x = with_known(x, s) if method.merge == "after" else x
        yield x


def keys(d):
    """Keys 1981, eq. 4 (a = -1/2)."""
    d = abs(d)
    return 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def resampled(n, m):
    """Row by row the weights that make m pixels of n."""
    scale = max(n / m, 1)
    rows = np.array([[keys(((i + 0.5) * n / m - 0.5 - j) / scale) for j in range(n)] for i in range(m)])
    return rows / rows.sum(1, keepdims=True)


def ilvr(method, x, times, ab, denoise, y, known, draw):
    """Choi et al. 2021, algorithm 1, in one row of n pixels; where the reference is unknown the estimate stands in for it."""
    n, N = x.shape[-1], method.factor
    phi = resampled(n // N, n) @ resampled(n, n // N) if method.lowpass == "resize" else np.kron(np.eye(n // N), np.ones((N, N)) / N)
    quiet = sorted(set(times))[: method.range_t + 1] if method.range_t else []
    for t, s in pairwise(times):
        if s > t:
            x = up(x, t, s, ab, draw)
        else:
            x0, spread = denoise(x, t)
            x = move(x, x0, spread, t, s, ab, method.eta, draw)
            if s not in quiet:
                reference = np.where(known == 1, y, x0)
                y_s = np.sqrt(ab[s]) * reference + (np.sqrt(1 - ab[s]) * draw("known") if s > 0 else 0)
                x = y_s @ phi.T + x - x @ phi.T
        yield x


def fresh(x0, eps, s, ab, share, draw):
    """Zhu et al. 2023, algorithm 1, line 6 (zeta = share^2)."""
    noise = draw("move") if share > 0 and s > 0 else 0
    return np.sqrt(ab[s]) * x0 + np.sqrt(1 - ab[s]) * (np.sqrt(1 - share**2) * eps + share * noise)


def ddnm(method, x, times, ab, denoise, y, known, draw):
    """Wang et al. 2023, eq. 13 with A = diag(known); noisy y: the minimum of Zhu et al. 2023, algorithm 1, line 4."""
    for t, s in pairwise(times):
        if s > t:
            x = up(x, t, s, ab, draw)
        else:
            x0, _ = denoise(x, t)
            eps = (x - np.sqrt(ab[t]) * x0) / np.sqrt(1 - ab[t])
            rho = method.trust * method.sigma_y**2 * ab[t] / (1 - ab[t])
            x0 = np.where(known == 1, (y + rho * x0) / (1 + rho), x0)
            x = fresh(x0, eps, s, ab, method.renoise, draw)
        yield x


def dps(method, x, times, ab, denoise, y, known, draw):
    """Chung et al. 2023, algorithm 1 with the step of its code; Song et al. 2023 for the weighting "pigdm"."""
    for t, s in pairwise(times):
        if s > t:
            x = up(x, t, s, ab, draw)
        else:
            x0, spread = denoise(x, t)
            eps = (x - np.sqrt(ab[t]) * x0) / np.sqrt(1 - ab[t])
            error, step = np.where(known == 1, y - x0, 0), 0
            if method.weighting == "dps":
                norms = np.array([np.sqrt((e**2).sum()) for e in error]).reshape(-1, 1, 1, 1)
                step = method.zeta * denoise.pulled_back(x, t, -error) / norms
            else:
                r2 = 1 - ab[t]
                score = denoise.pulled_back(x, t, error / (r2 + method.sigma_y**2))  # of y given x_t
                x0 = x0 + (1 - ab[t]) / np.sqrt(ab[t]) * score
                x0 = np.clip(x0, -1, 1) if denoise.clamp else x0
                eps = (x - np.sqrt(ab[t]) * x0) / np.sqrt(1 - ab[t])
            if method.renoise is None:
                moved = move(x, x0, spread, t, s, ab, method.eta, draw)
            else:
                moved = fresh(x0, eps, s, ab, method.renoise, draw)
            x = moved - step
        yield x


def copaint(method, x, times, ab, denoise, y, known, draw):
    """Zhang et al. 2023, algorithm 1, picture by picture; a step's length as in their code: times sqrt(alpha_bar), and times 0.8
    until the loss does not rise."""
    levels = sorted(set(times))[::-1]
    for t, s in pairwise(times):
        if s > t:
            x = up(x, t, s, ab, draw)
            yield x
            continue
        k, first = levels.index(t), x
        reg = method.reg * method.reg_growth**k

        def losses(x, t=t, first=first, reg=reg):
            error = np.where(known == 1, y - denoise(x, t)[0], 0)
            return np.array([(e**2).sum() + reg * ((a - b) ** 2).sum() for e, a, b in zip(error, x, first, strict=True)]), error

        rates = np.full(len(x), method.lr * method.growth**k * np.sqrt(ab[t]))
        for _ in range(method.inner):
            before, error = losses(x)
            down = -2 * denoise.pulled_back(x, t, error) + 2 * reg * (x - first)
            after = x.copy()
            for i in range(len(x)):
                for tries in range(21):
                    rates[i] = 0 if tries == 20 else rates[i]
                    tried = x.copy()
                    tried[i] = x[i] - rates[i] * down[i]
                    if losses(tried)[0][i] <= before[i]:
                        break
                    rates[i] *= 0.8
                after[i] = tried[i]
            x = after
        x = move(x, *denoise(x, t), t, s, ab, method.eta, draw)
        yield x


TRANSCRIPTIONS = {Plain: plain, RePaint: injection, ILVR: ilvr, DDNM: ddnm, DPS: dps, CoPaint: copaint}
