"""Each method's equations once more, in numpy, from the papers and apart from `core/`: what the methods must agree with.

A transcription takes the settings, the first state, the levels visited, alpha_bar, the network `denoise(x, t) -> (x0, spread or None)`,
the measurement y, where it is known, and `draw(stream)`; it yields every state. A new method needs one here, and one line in the table.
"""

from itertools import pairwise

import numpy as np

from inpaintkit.methods import Plain, RePaint


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


TRANSCRIPTIONS = {Plain: plain, RePaint: injection}
