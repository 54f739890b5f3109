"""Measuring pictures that were filled anywhere: their folder against the truth and the masks."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.images import LIMITS, Limits, Picture, read_mask, read_picture
from inpaintkit.evaluate import extractors, features, sets
from inpaintkit.evaluate.extractors import Features
from inpaintkit.evaluate.figures import Figure, figure
from inpaintkit.evaluate.frozen import check
from inpaintkit.evaluate.inception import clean
from inpaintkit.evaluate.metrics import METRICS, REGIONS, Maps, changed, measured, seam
from inpaintkit.evaluate.pairs import Pair

NAMES = (*METRICS, *features.PERCEPTUAL, *sets.NAMES)
"""What can be asked for by name."""


@dataclass(frozen=True)
class Judges:
    """What pictures are measured with."""

    names: Sequence[str]
    """Of `METRICS`."""
    networks: Mapping[str, Maps] = field(default_factory=dict)
    """LPIPS by name."""
    files: Sequence[Features] = ()
    """Those of `--features`."""
    inception: Callable[[Tensor], Tensor] | None = None
    sets: Sequence[str] = ()
    """"fid", "kid"."""


@dataclass(frozen=True)
class Score:
    """What was measured of one result."""

    name: str
    kind: str
    area: float
    """Share of the picture that is hole."""
    values: dict[str, dict[str, float]]
    """Region -> metric -> value; NaN where it is not defined."""
    seam: float
    """`metrics.seam`."""
    changed: float
    """Largest difference outside the hole, of 255."""
    pooled: dict[str, tuple[Tensor, Tensor]]
    """Extractor -> features of the truth and of the result."""


def judges(names: Sequence[str], files: Sequence[Path] = (), where: Path | None = None) -> Judges:
    """Load what the metrics named need. Raises `UsageError` for an unknown name and `BadInput` for weights that are missing."""
    for name in names:
        if name not in NAMES:
            raise UsageError(f"--metrics {name}: no such metric; there are {', '.join(NAMES)}")
    loaded = [extractors.load(path) for path in files]
    if len({one.name for one in loaded}) < len(loaded):
        raise UsageError("--features: two files have the same name, which tables show; rename one")
    networks = {name: features.lpips(backbone, where) for name, backbone in features.PERCEPTUAL.items() if name in names}
    distances = [name for name in sets.NAMES if name in names]
    return Judges([n for n in METRICS if n in names], networks, loaded, features.inception(where) if distances else None, distances)


def enough(found: Sequence[Pair], names: Sequence[str]) -> None:
    """Raise `UsageError` for too few pictures of a kind of mask for FID, if it is among the metrics named."""
    smallest = min((sum(pair.kind == kind for pair in found) for kind in {pair.kind for pair in found}), default=0)
    if "fid" in names and (few := sets.too_few(smallest)):
        raise UsageError(f"--metrics fid: {few}")


def scored(found: Sequence[Pair], by: Judges, limits: Limits = LIMITS, digests: Mapping[Path, str] | None = None) -> Iterator[Score]:
    """Measure one result after the other; masks of a frozen set have `digests`.

    Raises `BadInput` for files that cannot be read or differ in size and for a mask that is not the set's, and `UsageError` for too
    few pictures for FID.
    """
    enough(found, by.sets)
    for pair in found:
        yield _score(pair, by, limits, (digests or {}).get(pair.mask))


@torch.no_grad()
def _score(pair: Pair, by: Judges, limits: Limits, expected: str | None) -> Score:
    result, truth = _read(pair.result, limits), _read(pair.truth, limits)
    if result.size != truth.size:
        sizes = f"is {result.size[0]}x{result.size[1]} and the truth {pair.truth} is {truth.size[0]}x{truth.size[1]}"
        raise BadInput(f"{pair.result}: {sizes} (width x height); compare pictures of one size")
    hole = read_mask(pair.mask, truth.size, limits=limits)
    if expected is not None:
        check(pair.mask, hole, expected)
    if not hole.any():
        raise BadInput(f"{pair.mask}: has no hole; white is what was filled")
    one, other = result.tensor()[0], truth.tensor()[0]
    maps, pooled = dict(by.networks), {}
    for extractor in by.files:
        ours, theirs = extractor.extract(one[None]), extractor.extract(other[None])
        pooled[extractor.name] = theirs[1][0], ours[1][0]
        maps[f"perceptual[{extractor.name}]"] = _given(features.differences(ours[0], theirs[0]))
    if by.inception:
        pooled["inception"] = by.inception(clean(other)[None])[0], by.inception(clean(one)[None])[0]
    values = measured(one, other, hole, by.names, maps)
    outside = changed(_of_255(result), _of_255(truth), hole)
    return Score(pair.name, pair.kind, float(hole.mean()), values, seam(one, other, hole), outside, pooled)


def figures(scores: Sequence[Score]) -> dict[str, dict[str, Figure]]:
    """Region -> metric -> its figure; the seam stands under "border"."""
    table: dict[str, dict[str, Figure]] = {
        region: {name: figure((score.name, score.values[region][name]) for score in scores) for name in scores[0].values[region]}
        for region in REGIONS
    }
    table["border"]["seam"] = figure((score.name, score.seam) for score in scores)
    return table


def kinds(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Kind of mask -> its scores."""
    return {kind: [score for score in scores if score.kind == kind] for kind in dict.fromkeys(score.kind for score in scores)}


def distances(scores: Sequence[Score], by: Judges) -> dict[str, tuple[float, float, float]]:
    """Distance of the set of results from that of the truths -> (value, low, high); no interval is known for the Frechet distance.

    FID and KID of Inception's features; of others they are called frechet[NAME] and kernel[NAME]. Every truth should be there
    once, so this is asked for each kind of mask.
    """
    found: dict[str, tuple[float, float, float]] = {}
    for name in scores[0].pooled:
        real, fake = (torch.stack([score.pooled[name][i] for score in scores]).double().numpy() for i in (0, 1))
        if name == "inception":
            if "fid" in by.sets:
                found["fid"] = sets.fid(real, fake), math.nan, math.nan
            if "kid" in by.sets:
                found["kid"] = sets.kernel(real, fake)
        else:
            found[f"frechet[{name}]"] = sets.frechet(real, fake), math.nan, math.nan
            found[f"kernel[{name}]"] = sets.kernel(real, fake)
    return found


def _read(path: Path, limits: Limits) -> Picture:
    picture = read_picture(path, limits)
    if picture.missing.any():
        raise BadInput(f"{path}: holds NaN; compare pictures that have a value everywhere")
    return picture


def _given(maps: Sequence[Tensor]) -> Maps:
    """The maps of a pair that were made already."""
    return lambda result, truth: maps


def _of_255(picture: Picture) -> np.ndarray:
    low, high = picture.span
    return (picture.pixels.astype(float) - low) * 255 / (high - low)
