"""The scale of arrays: from units to what a network sees and back, and the sidecar JSON that states it.

    {"units": "K", "mean": [280.0], "std": [5.0], "cond": {"low": 0, "high": 100}}

One number, or one per channel. "mean" and "std" scale to unit variance, "low" and "high" to [-1, 1]; both are `(x - mean) / std`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.data.decoding import one_line, printable


@dataclass(frozen=True)
class Scale:
    """From units to what a network sees, per channel: `(x - mean) / std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scaled(self, x: NDArray) -> Tensor:
        """`(B, H, W, C)` in units to `(B, C, H, W)` float32."""
        values = (x.astype(np.float64) - self.mean) / self.std
        return torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2).contiguous()

    def units(self, x: Tensor) -> Tensor:
        """`(..., C, H, W)`, scaled, back to units."""
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (self.mean, self.std))
        return x * std + mean


def read_sidecar(path: Path, target: NDArray | None, cond: NDArray) -> tuple[Scale, Scale, dict[str, Any]]:
    """(scale of the target, scale of cond, everything the file says) for arrays (N, H, W, C) and (N, H, W, C').

    Raises `BadInput`: no such file (the line holds one that would fit), no JSON object, no scale, or one of other channels.
    """
    name = printable(str(path))
    if not path.is_file():
        fitting = json.dumps(_measured(cond if target is None else target) | {"cond": _measured(cond)})
        raise BadInput(f"{name}: no such file; write the scale into it, for these values perhaps {fitting}")
    try:
        about = json.loads(path.read_bytes()[: 1 << 20])
        if not isinstance(about, dict):
            raise ValueError("no { at its beginning")
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{name}: not a JSON object ({one_line(error)}); correct it") from None
    given = about.get("cond", about)
    if not isinstance(given, dict):
        raise BadInput(f'{name}: "cond" is no object; write {{"mean": ..., "std": ...}}')
    scale = _scale(about, None if target is None else target.shape[3], name, "target")
    return scale, _scale(given, cond.shape[3], name, "cond"), about


def _measured(array: NDArray) -> dict[str, list[float]]:
    """Mean and standard deviation per channel of the first items, rounded; a constant channel has std 1."""
    mean, std = (np.atleast_1d(f(array[:100], axis=(0, 1, 2), dtype=np.float64)) for f in (np.mean, np.std))
    return {"mean": [float(f"{v:.6g}") for v in mean], "std": [float(f"{v:.6g}") or 1.0 for v in std]}


def _scale(values: dict[str, Any], channels: int | None, name: str, what: str) -> Scale:
    """The scale in a sidecar; `channels` None: as many as it has numbers."""
    pair = next((keys for keys in (("mean", "std"), ("low", "high")) if set(keys) <= set(values)), None)
    if pair is None:
        raise BadInput(f'{name}: holds no scale for {what}; write "mean" and "std", or "low" and "high", one number per channel')
    read = [value if isinstance(value, list) else [value] * (channels or 1) for value in (values[key] for key in pair)]
    for key, numbers in zip(pair, read, strict=True):
        if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e300 for v in numbers):
            raise BadInput(f'{name}: "{key}" of {what} holds {one_line(ValueError(numbers))}; write finite numbers')
        if len(numbers) != (channels or len(read[0])) or not numbers:
            raise BadInput(
                f'{name}: "{key}" of {what} has {len(numbers)} numbers for {channels or len(read[0])} channels; write one for each'
            )
    one, other = read
    if min(other if pair[0] == "mean" else [h - l for l, h in zip(one, other, strict=True)]) <= 0:
        raise BadInput(f'{name}: "{pair[1]}" of {what} must be above {0 if pair[0] == "mean" else "low"}; correct it')
    if pair[0] == "mean":
        return Scale(tuple(one), tuple(other))
    return Scale(*(tuple((h + sign * l) / 2 for l, h in zip(one, other, strict=True)) for sign in (1, -1)))
