"""The discriminator of a denoising-diffusion GAN: is x_s a step down from x_t that a real picture could have made?

It is only needed for training; the generator is an ordinary `Network` with a latent.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Discriminator(nn.Module):
    """D(x_s, t, x_t), told what is known where the generator is (Xiao et al. 2022, eq. 4 and section 4).

    A residual network without norms (R1 and norms over the picture do not go together), told the level in every block. It
    judges cells of the picture, not the whole of it (PatchGAN, Isola et al. 2017, section 3.2): with a hole there, some
    cells are real in any case, and the caller counts only the others.
    """

    def __init__(self, T: int, colors: int = 3, conditioned: bool = True, patch: int = 1, widths: Sequence[int] = (64, 128, 256, 256)):
        super().__init__()
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        self.T, self.conditioned, self.patch = T, conditioned, patch
        first, *others = widths
        self.time = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embedding = TimestepEmbedding(first, 4 * first)
        self.stem = nn.Conv2d((2 * colors + (colors + 1 if conditioned else 0)) * patch**2, first, 3, padding=1)
        shrinks = [True] * (len(others) - 1) + [False]  # the last block works at the resolution of the answer
        pairs = zip([first, *others], others, shrinks, strict=False)
        self.blocks = nn.ModuleList([Block(before, after, 4 * first, shrink) for before, after, shrink in pairs])
        self.head = nn.Sequential(nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1), Leaky(), nn.Conv2d(widths[-1], 1, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # without norms the scale of what passes through rests on the weights alone
                nn.init.kaiming_normal_(layer.weight, a=Leaky.slope)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @property
    def cell(self) -> int:
        """Side of the cells it judges, pixels; height and width of a picture must be multiples of it."""
        return self.patch * 2 ** sum(block.shrink for block in self.blocks)  # type: ignore[misc]

    def forward(self, x_s: Tensor, x_t: Tensor, t: Tensor, known: Tensor, picture: Tensor, group: int = 1) -> tuple[Tensor, list[Tensor]]:
        """(scores `(B, 1, H / c, W / c)` of cells of c x c pixels, higher = more real; what each block found).

        x_s, x_t and picture are `(B, C, H, W)`, t `(B,)` the level of x_t in 1..T, known `(B, 1, H, W)` with 1 = known; known
        and picture are read by a conditioned one only, picture only where known. `group` pictures, which must divide B, see how
        much they differ (minibatch standard deviation, Karras et al. 2018, section 3).
        """
        parts = [x_s, x_t, *((known, torch.where(known > 0, picture, 0)) if self.conditioned else ())]
        emb = self.embedding(self.time(t * (1000 / self.T)).to(x_s.dtype))
        x, found = self.stem(F.pixel_unshuffle(torch.cat(parts, 1), self.patch)), []
        for block in self.blocks:
            x = block(x, emb)
            found.append(x)
        return self.head(torch.cat([x, _spread(x, group)], 1)), found


class Block(nn.Module):
    """Two convolutions beside a 1x1 one; the level shifts every channel between them."""

    def __init__(self, before: int, after: int, told: int, shrink: bool):
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.beside = nn.Conv2d(before, after, 1, bias=False)
        self.level = nn.Linear(told, after)
        self.act, self.shrink = Leaky(), shrink

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        inner = self.first(self.act(x)) + self.level(self.act(emb))[:, :, None, None]
        inner = self.second(self.act(inner))
        if self.shrink:
            x, inner = F.avg_pool2d(x, 2), F.avg_pool2d(inner, 2)
        out: Tensor = (self.beside(x) + inner) / math.sqrt(2)
        return out


class Leaky(nn.LeakyReLU):
    slope = 0.2

    def __init__(self) -> None:
        super().__init__(self.slope)


def judged(known: Tensor, cell: int) -> Tensor:
    """Weight `(B, 1, H / cell, W / cell)` of the scores of cells, of sum 1 for each picture: cells without a hole count
    nothing, for what is shown there is real. known `(B, 1, H, W)`, 1 = known; all known gives all 0."""
    holes = F.max_pool2d(1 - known, cell)
    return holes / holes.sum((1, 2, 3), keepdim=True).clamp(min=1)


def _spread(x: Tensor, group: int) -> Tensor:
    """One more channel: how much the pictures of a group differ, 0 for groups of one."""
    members = x.float().reshape(-1, group, *x.shape[1:])
    deviation = (members.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # the square root has no slope at 0
    return deviation.repeat_interleave(group)[:, None, None, None].expand(-1, 1, *x.shape[2:]).to(x.dtype)
