"""The pictures and holes of a suite."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inpaintkit.core.errors import BadInput
from inpaintkit.core.noise import derived
from inpaintkit.data.datasets import Pictures, Source, load
from inpaintkit.data.holes import read_mask
from inpaintkit.data.masks import MASKS, draw
from inpaintkit.data.members import SUFFIXES
from inpaintkit.evaluate.frozen import check, digests, drawn, kinds
from inpaintkit.evaluate.suites import SKIMAGE, Images, Masks, slug

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
"""Colour photos inside the scikit-image package."""
LISTED = 5
"""Names in a message, at most."""


def read_pictures(images: Images, noted: Callable[[str], None] = lambda line: None) -> dict[str, np.ndarray]:
    """Name -> picture (size, size, 3) uint8, in the order of their names in the source; crops are numbered.

    None is enlarged: pictures that are too small are left out, which `noted` is told in one line, as of files that cannot be read
    where `images.bad` is "skip". Raises `BadInput`.
    """
    if images.source == SKIMAGE:
        from skimage import data

        chosen = PHOTOS[: images.limit]
        found = [(name, np.asarray(getattr(data, name)())) for name in chosen]
    else:
        side = images.size * _grid(images.crops)[1]
        limit = images.limit if images.split is None else None
        loaded = load([Source(Path(images.source), limit=limit)], {}, side, images.bad, side)
        if loaded.small:
            noted(f"{images.source}: {loaded.small} pictures, whose shorter sides are below {side} px")
        if loaded.skipped:
            noted(f"{images.source}: {len(loaded.skipped)} files that cannot be read, such as {loaded.skipped[0].file}")
        if images.split is not None:
            loaded = _spread(loaded.split()[images.split], images)
        found = list(zip(loaded.names, loaded.images, strict=True))
    names = file_names([str(Path(name).with_suffix("")) for name, _ in found])
    cut = {name: squares(image, images.size, images.crops) for name, (_, image) in zip(names, found, strict=True)}
    return {f"{name}-{k}" if images.crops > 1 else name: part for name, parts in cut.items() for k, part in enumerate(parts, 1)}


def _spread(pictures: Pictures, images: Images) -> Pictures:
    """At most `limit` of the pictures: those whose content hashes lowest. Raises `BadInput` when there are none."""
    if not pictures.images:
        raise BadInput(f"{images.source}: none of its pictures is in the split {images.split}; leave images.split out")
    assert pictures.digests is not None
    chosen = np.argsort(pictures.digests, kind="stable")[: images.limit]
    return pictures.keep(sorted(chosen.tolist()))


def read_holes(masks: Masks, pictures: list[str], size: int) -> dict[tuple[str, str], np.ndarray]:
    """(mask, picture) -> hole. Raises `BadInput` for a folder in which masks are missing or have another size."""
    holes = {}
    for kind in kinds(masks.kinds):
        for name in pictures:
            seed = derived(masks.seed, kind, name)
            holes[kind, name] = draw(kind, (size, size), seed) if kind in MASKS else next(drawn(kind, (size, size), seed))
    for folder in map(Path, masks.folders):
        if not folder.is_dir():
            raise BadInput(f"{folder}: no such folder; name one with a mask for every picture")
        files: dict[str, Path] = {}
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
            name = slug(str(path.relative_to(folder).with_suffix("")))
            if name in files:
                raise BadInput(f"{path}: and {files[name]} are masks of one picture; leave one of them")
            files[name] = path
        if missing := [name for name in pictures if name not in files]:
            more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
            raise BadInput(f"{folder}: has no mask for {', '.join(missing[:LISTED])}{more}; name each after its picture")
        expected = digests(folder)
        for name in pictures:
            holes[folder.name, name] = read_mask(files[name], (size, size))
            if files[name] in expected:
                check(files[name], holes[folder.name, name], expected[files[name]])
            if not holes[folder.name, name].any():
                raise BadInput(f"{files[name]}: has no hole; white is what is to be filled")
    return holes


def fingerprint(arrays: dict[Any, np.ndarray]) -> str:
    """16 hex digits that change with any name, size or value."""
    total = hashlib.blake2b(digest_size=8)
    for name, array in arrays.items():
        total.update(repr((name, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def file_names(stems: list[str]) -> list[str]:
    """Names for files, each once."""
    seen: dict[str, int] = {}
    found = []
    for stem in map(slug, stems):
        seen[stem.casefold()] = count = seen.get(stem.casefold(), 0) + 1
        found.append(stem if count == 1 else f"{stem}--{count}")
    return found


def squares(image: np.ndarray, size: int, count: int = 1) -> list[np.ndarray]:
    """`count` squares side by side, row by row, each in the middle of its cell and reduced to `size` px."""
    long, short = _grid(count)[::-1]
    rows, columns = (short, long) if image.shape[1] >= image.shape[0] else (long, short)
    h, w = image.shape[0] // rows, image.shape[1] // columns
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    corners = [(i * h + top, j * w + left) for i in range(rows) for j in range(columns)]
    cut = [Image.fromarray(image[y : y + side, x : x + side]) for y, x in corners]
    return [np.asarray(part if side == size else part.resize((size, size), Image.Resampling.LANCZOS)) for part in cut]


def _grid(count: int) -> tuple[int, int]:
    """(short, long) sides of the squarest grid of `count` cells."""
    short = next(n for n in range(int(count**0.5), 0, -1) if count % n == 0)
    return short, count // short
