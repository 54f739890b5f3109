"""The options that several commands share, each typed once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from pydantic import Field

from inpaintkit.apps.cli.methods import summary
from inpaintkit.apps.cli.parsing import Command
from inpaintkit.core.sampler import Seed
from inpaintkit.data.images import LIMITS, Limits
from inpaintkit.methods import METHODS
from inpaintkit.models.catalog import DEFAULT, FILLING
from inpaintkit.pipeline.job import Options

_NAMED = tuple(Annotated[type(m), tyro.conf.subcommand(n, default=m, description=summary(n))] for n, m in METHODS.items())
_DEFAULT = Annotated[None, tyro.conf.subcommand("default", description="What the model's own configuration names, or the command needs.")]
Chosen: Any = Union[(*_NAMED, _DEFAULT)]
OPTIONS = Options()
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Picturing(Command):
    """A picture becomes another one."""

    image: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="IMAGE", help_behavior_hint="")] = None
    """PNG, JPEG, WebP, TIFF, BMP, GIF or .npy; 8 or 16 bits, gray or RGB, with or without alpha."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")] = None
    """Where the result goes. Unless given: IMAGE's name, what was done, and its suffix (.png where that format is lossy)."""
    limits: Limits = LIMITS
    json: bool = False
    """Print the record as one JSON object; otherwise the output paths, one per line."""
    overwrite: bool = False
    """Replace existing outputs (never inputs)."""
    quiet: bool = False
    """No progress and no notes."""


@dataclass(frozen=True, kw_only=True)
class Holed(Picturing):
    """With a hole."""

    mask: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[MASK]", help_behavior_hint="")] = None
    """A picture or .npy of the same size: white, 1, True = hole."""
    box: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="X,Y,W,H")] = ()
    """A box of the hole, pixels."""
    mask_from: Annotated[str | None, tyro.conf.arg(metavar="alpha|color:#rrggbb|nan", help_behavior_hint="")] = None
    """The hole is where IMAGE is transparent, has this colour, or is NaN."""
    invert_mask: bool = False
    """MASK is white where the picture is known."""
    sheet: File = None
    """PNG of before, mask and after side by side."""


@dataclass(frozen=True, kw_only=True)
class Modelled(Command):
    """By a model."""

    model: Annotated[str | None, tyro.conf.arg(metavar="NAME|PATH|HUB/ID", help_behavior_hint="")] = None
    """A bundled model, a model folder, a hub id, or a published file of guided-diffusion's family. Unless given: photo-64-few for
    fill, onion and blind; photo-64 with a METHOD, --guidance, --tune or --then, and for all other pictures. One of arrays has to be
    named."""
    seed: Seed = 0
    """The same seed gives the same picture."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the processor has instructions for it."""
    method: Chosen = None


@dataclass(frozen=True, kw_only=True)
class Sampling(Modelled):
    """A picture, by a model."""

    filling: Options = OPTIONS


@dataclass(frozen=True, kw_only=True)
class Varied(Sampling):
    """In several variants."""

    variants: Annotated[int, Field(ge=1, le=1000)] = 1
    """Make several; the k-th, counted from 0, uses seed + k. Their names end in -1, -2, ..."""
    uncertainty: File = None
    """Standard deviation of the variants at each pixel, 1 = black to white: .npy as it is, .png with its largest value white."""


def filling(args: Sampling, altered: bool = False) -> str:
    """The model that fills a hole: the one that was named, or a bundled one. altered: it is not used as it was trained."""
    altered |= args.method is not None or args.filling.guidance not in (None, 1)
    return args.model if args.model is not None else DEFAULT if altered else FILLING


def any_way(args: Modelled) -> str:
    """The model that was named, or the bundled one that can be used in every way."""
    return DEFAULT if args.model is None else args.model
