"""A training recipe: a checked dataclass read from TOML. An unknown key or a value out of bounds is refused."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.settings import Settings, checked
from inpaintkit.data.masks import MASKS
from inpaintkit.models.unet import NetworkConfig

Share = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Source(Settings):
    """Pictures to train on."""

    path: str
    """Folder or tar; shell patterns allowed; relative to `--data`."""
    weight: Share = 1.0
    """How often one of its pictures is drawn, relative to the others."""


@dataclass(frozen=True)
class Batch(Settings):
    """One kind of batch; training draws among the kinds by `share`."""

    size: Annotated[int, Field(ge=8)]
    """Side of the crops, pixels."""
    items: Annotated[int, Field(ge=1)]
    """Pictures in a batch."""
    share: Share = 1.0
    """How often this kind is drawn."""
    smallest: Annotated[int, Field(ge=1)] = 1
    """Use only pictures whose shorter side has at least this many pixels."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Everything that decides a training run, but where the data lies."""

    name: str
    unet: dict[str, Any]
    """Arguments of diffusers' UNet2DModel."""
    network: NetworkConfig
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    masks: dict[str, Share]
    """Mask kinds and how often each is drawn. "all" is the share of pictures of which nothing is known."""
    batches: Annotated[tuple[Batch, ...], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1)]
    prefix_weights: dict[str, Share] = field(default_factory=dict)
    """Pictures whose name starts so are drawn that much more or less often."""
    mask_zoom: tuple[Annotated[int, Field(ge=1, le=8)], ...] = (1, 2, 4)
    """Masks are drawn on a canvas this many times the crop and cropped, so that strokes come at all relative widths."""
    start: str | None = None
    """Model folder whose weights to start from (`--start` goes before it); none: from nothing."""
    schedule: Literal["linear", "cosine", "scaled_linear"] = "cosine"
    T: Annotated[int, Field(ge=1)] = 1000
    lr: Annotated[float, Field(gt=0)] = 2e-4
    warmup: Annotated[int, Field(ge=0)] = 200
    decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of the steps, at the end, over which the rate falls to zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9995
    snr_clip: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.2, 5.0)
    """The x0 error is weighted by the signal-to-noise ratio clipped to this (Hang et al. 2023, min-SNR, with a floor)."""
    known_weight: Share = 0.1
    """Weight of the error on known pixels (1 in the hole)."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of the pictures, by content hash, never trained on: the validation loss is measured there."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**22)] = 0
    autocast: bool = True
    """bfloat16 in the network's arithmetic; weights and moments stay float32."""


def read(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """The recipe in a TOML file, with `overrides` put over its top-level keys. Raises `BadInput` or `UsageError`."""
    try:
        values = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; name a recipe file") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise BadInput(f"{path}: not valid TOML: {error}") from None
    try:
        recipe = checked(Recipe, values | (overrides or {}))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if unknown := set(recipe.masks) - set(MASKS):
        raise UsageError(f"{path}: masks.{min(unknown)} is not a mask kind; there are {', '.join(MASKS)}")
    if not sum(recipe.masks.values()) or not sum(batch.share for batch in recipe.batches):
        raise UsageError(f"{path}: the shares of masks, and those of batches, must not all be 0")
    return recipe
