"""The conditional network: a U-Net of ours that is told a measurement of its picture or field, or told nothing at all.

| part            | what it does                                                       | source                                         |
|-----------------|--------------------------------------------------------------------|------------------------------------------------|
| control encoder | reads the condition; its features enter the U-Net at every         | ControlNet (Zhang et al. 2023), section 3.1:   |
|                 | resolution through 1x1 convolutions that start at zero             | zero convolutions                              |
| cross-attention | at the lowest resolution, on the encoder's coarsest positions      | Rombach et al. 2022, section 3.3               |
| linear attention| at the others: cost grows with the pixels, not with their square   | Shen et al. 2021, Efficient Attention, eq. 3   |
| time            | scales and shifts the norms of the residual blocks                 | Dhariwal and Nichol 2021, section 3 (AdaGN)    |

Three things are told: values, where they are known (validity: 1 = known), and whether anything is told (`given`). So "no
condition", which training draws now and then for classifier-free guidance (Ho and Salimans 2022), is none that data can hold.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from inpaintkit.core.settings import Settings

Count = Annotated[int, Field(ge=1, le=1024)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Units(Settings):
    """From the values of fields to what the network sees, channel by channel: `(value - mean) / std`."""

    mean: tuple[Number, ...]
    std: tuple[Deviation, ...]
    cond_mean: tuple[Number, ...]
    """Of the condition's channels."""
    cond_std: tuple[Deviation, ...]
    name: str = ""
    """The unit of the fields, for people."""


@dataclass(frozen=True)
class ControlConfig(Settings):
    """A conditional network but for its weights. Channels and units come from the data it is trained on."""

    channels: Count = 3
    """Of the pictures or fields."""
    cond_channels: Count = 3
    """Of the condition's values."""
    condition: Literal["values", "measurements"] = "values"
    """values: single values of the picture itself, 0 where not known; measurements: arrays of another kind (`cond` of the data)."""
    units: Units | None = None
    """Present for fields; None: RGB pictures in [-1, 1]."""
    widths: Annotated[tuple[Annotated[int, Field(ge=8, le=4096, multiple_of=8)], ...], Field(min_length=1, max_length=8)] = (64, 96, 128)
    """Channels at each resolution, from the finest to the coarsest, each half as large as the one before."""
    blocks: Annotated[int, Field(ge=1, le=8)] = 2
    """Residual blocks at each resolution, on the way down and on the way up."""
    head_width: Annotated[int, Field(ge=4)] = 32
    """Channels of one attention head (a width that is no multiple of it has one head)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patch: Annotated[int, Field(ge=1, le=8)] = 1
    """Space-to-depth factor: the network sees patch x patch pixels as channels of one position."""
    prediction: Literal["x0", "eps", "v"] = "v"
    """What the network's output means."""
    clamp: bool = True
    """Whether x0 is bounded to [-1, 1] (pictures yes, physical fields no)."""
    size: Annotated[int, Field(ge=1)] = 64
    """Side of the pictures it was trained on, pixels."""
    largest: Annotated[int, Field(ge=1)] = 256
    """Longest side that it is run on in one piece, pixels."""
    default_method: dict[str, Any] = field(default_factory=lambda: {"name": "plain"})
    """Name and fields of the method used when none is asked for."""

    @property
    def multiple(self) -> int:
        """Height and width of the network's input are multiples of this."""
        return self.patch * 2 ** (len(self.widths) - 1)

    def wrong(self) -> str | None:
        """What would keep a network of this configuration from being run, as the end of a line; None when all is right."""
        if self.largest % self.multiple:
            return f"largest = {self.largest} must be a multiple of {self.multiple}, the network's step"
        if self.units is not None and self.largest < self.size:
            return f"largest = {self.largest} is below size = {self.size}, that of the fields it is trained on"
        return None


class ControlNetwork(nn.Module):
    """The U-Net, its control encoder and its config."""

    without: frozenset[str] = frozenset()
    """Parts switched off, of `parts`, to see what each is worth: `control.K` zeroes the features that enter at resolution K
    (0 = finest), `cross` the cross-attention, `known` the validity channel, `values` the condition's values."""

    def __init__(self, config: ControlConfig):
        super().__init__()
        self.config, widths, area = config, config.widths, config.patch**2
        embedded = 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(widths[0], embedded), nn.SiLU(), nn.Linear(embedded, embedded), nn.SiLU())
        self.encoder = ControlEncoder((config.cond_channels + 2) * area, config)
        self.conv_in = nn.Conv2d(config.channels * area, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Level(config, i, embedded, skips=False) for i in range(len(widths)))
        self.up = nn.ModuleList(Level(config, i, embedded, skips=True) for i in reversed(range(len(widths))))
        self.smaller = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.larger = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.norm_out = _norm(widths[0])
        self.conv_out = _zeroed(nn.Conv2d(widths[0], config.channels * area, 3, padding=1))

    @property
    def parts(self) -> tuple[str, ...]:
        """What `without` may name."""
        return (*(f"control.{i}" for i in range(len(self.config.widths))), "cross", "known", "values")

    @property
    def channels(self) -> int:
        """Of the pictures it makes."""
        return self.config.channels

    @property
    def multiple(self) -> int:
        """Height and width of its input must be multiples of this."""
        return self.config.multiple

    def forward(self, x_t: Tensor, time: Tensor, known: Tensor, cond: Tensor, given: Tensor) -> Tensor:
        """Raw output `(B, C, H, W)`.

        x_t `(B, C, H, W)`; time `(B,)` the network's own index, from 0; known `(B, 1, H, W)`, 1 = value known; cond
        `(B, C', H, W)`, finite everywhere; given `(B,)`, 0 = told nothing (then known and cond are not looked at), 1 = told.
        H and W must be multiples of `multiple`.
        """
        given = given.to(x_t.dtype)[:, None, None, None]
        values = cond * given * ("values" not in self.without)
        told = [values, known * given * ("known" not in self.without), given.expand_as(known)]
        features = self.encoder(F.pixel_unshuffle(torch.cat(told, 1), self.config.patch))
        memory = torch.zeros_like(features[-1]) if "cross" in self.without else features[-1]
        features = [f * (f"control.{i}" not in self.without) for i, f in enumerate(features)]
        embedded = self.time(sinusoids(time, self.config.widths[0]).to(x_t.dtype))
        x = self.conv_in(F.pixel_unshuffle(x_t, self.config.patch))
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            x = level(self.smaller[i - 1](x) if i else x, features[i], memory, embedded, skips)
        for i, level in zip(reversed(range(len(self.up))), self.up, strict=True):
            x = level(x, features[i], memory, embedded, skips)
            if i:
                x = self.larger[i - 1](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.config.patch)


class ControlEncoder(nn.Module):
    """Features of the condition at every resolution, `(B, widths[i], H / 2^i, W / 2^i)`; they do not depend on the time."""

    def __init__(self, inputs: int, config: ControlConfig):
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResBlock(w, w, None, config.dropout) for w in widths)
        self.mixing = nn.ModuleList(LinearAttention(w, config.head_width) for w in widths)
        self.smaller = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))

    def forward(self, told: Tensor) -> list[Tensor]:
        x, features = self.conv_in(told), []
        for i, (block, mixing) in enumerate(zip(self.blocks, self.mixing, strict=True)):
            x = mixing(block(self.smaller[i - 1](x) if i else x, None))
            features.append(x)
        return features


class Level(nn.Module):
    """One resolution of the U-Net, on the way down (each block's output is kept for the way up) or up (it is used there)."""

    def __init__(self, config: ControlConfig, index: int, embedded: int, skips: bool):
        super().__init__()
        width, lowest = config.widths[index], index == len(config.widths) - 1
        self.skips = skips
        self.control = _zeroed(nn.Conv2d(width, width, 1))
        inputs = 2 * width if skips else width
        self.blocks = nn.ModuleList(ResBlock(inputs, width, embedded, config.dropout) for _ in range(config.blocks))
        self.mixing = Attention(width, config.head_width) if lowest else LinearAttention(width, config.head_width)
        self.cross = Attention(width, config.head_width, asleep=False) if lowest else None

    def forward(self, x: Tensor, feature: Tensor, memory: Tensor, embedded: Tensor, skips: list[Tensor]) -> Tensor:
        x = x + self.control(feature)
        x = x if self.cross is None else self.cross(x, memory)
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], 1) if self.skips else x, embedded)
            if not self.skips:
                skips.append(x)
        return self.mixing(x)


class ResBlock(nn.Module):
    """Two convolutions around a norm that the time scales and shifts; the second starts at zero."""

    def __init__(self, inputs: int, outputs: int, embedded: int | None, dropout: float):
        super().__init__()
        self.norm_1, self.conv_1 = _norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_2, self.conv_2 = _norm(outputs), _zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.time = None if embedded is None else nn.Linear(embedded, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.short = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedded: Tensor | None) -> Tensor:
        y = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
        if self.time is not None:
            scale, shift = self.time(embedded)[:, :, None, None].chunk(2, 1)
            y = y * (1 + scale) + shift
        return self.short(x) + self.conv_2(self.dropout(F.silu(y)))


class LinearAttention(nn.Module):
    """Every position reads one summary of all of them (Shen et al. 2021, eq. 3): `softmax_channels(q) (softmax_positions(k)^T v)`."""

    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.heads = _heads(width, head_width)
        self.norm, self.qkv = _norm(width), nn.Conv2d(width, 3 * width, 1)
        self.out = _zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        summary = k.softmax(-1).to(v.dtype) @ v.transpose(-1, -2)
        read = summary.transpose(-1, -2) @ q.softmax(-2).to(v.dtype)
        return x + self.out(read.reshape(b, c, h, w))


class Attention(nn.Module):
    """Softmax attention of x on itself, or on the positions of a memory of the same size, with sinusoidal places on both.

    It starts at zero if `asleep`. Cross-attention does not: beside features that arrive by other ways too it would stay there.
    """

    def __init__(self, width: int, head_width: int, asleep: bool = True):
        super().__init__()
        self.heads = _heads(width, head_width)
        self.norm, self.norm_memory = _norm(width), _norm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = _zeroed(nn.Linear(width, width)) if asleep else nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        b, c, h, w = x.shape
        here = places(h, w, c, x)
        mine, theirs = self.norm(x), self.norm_memory(x if memory is None else memory)
        q, (k, v) = self.q(_rows(mine) + here), self.kv(_rows(theirs) + here).chunk(2, -1)
        split = [part.reshape(b, h * w, self.heads, c // self.heads).transpose(1, 2) for part in (q, k, v)]
        read = self.out(F.scaled_dot_product_attention(*split).transpose(1, 2).reshape(b, h * w, c))
        return x + read.transpose(1, 2).reshape(b, c, h, w)


def sinusoids(values: Tensor, width: int) -> Tensor:
    """`(N, width)` float32, half sines and half cosines, of numbers `(N,)` (Vaswani et al. 2017, section 3.5; width even)."""
    steps = torch.arange(width // 2, dtype=torch.float32, device=values.device) / (width // 2)
    angles = values.float()[:, None] * torch.exp(-math.log(10_000.0) * steps)
    return torch.cat([angles.sin(), angles.cos()], 1)


def places(h: int, w: int, width: int, like: Tensor) -> Tensor:
    """`(h w, width)`: where each position is, half of the channels for the row and half for the column (width a multiple of 4)."""
    rows, columns = (sinusoids(torch.arange(n, device=like.device), width // 2) for n in (h, w))
    grid = torch.cat([rows[:, None].expand(h, w, -1), columns[None].expand(h, w, -1)], 2)
    return grid.reshape(h * w, width).to(like.dtype)


def _rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(16, width // 4), width)


def _heads(width: int, head_width: int) -> int:
    return width // head_width if width % head_width == 0 else 1


def _zeroed(layer: nn.Module) -> Any:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
