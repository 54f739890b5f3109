"""Sets of masks written down once, so that everything is compared on the same holes: SET/KIND/NAME.png and SET/set.json.

The list holds a digest of every mask's pixels (not of the file, which another Pillow may pack otherwise), and one of all.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from itertools import repeat
from pathlib import Path

import numpy as np

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.files import writing_folder
from inpaintkit.data.coverage import COVERAGE, FIXED, strata
from inpaintkit.data.images import encode_png, read_mask
from inpaintkit.data.mask_sets import content, unique
from inpaintkit.data.masks import MASKS, REPAINT, Mask

LIST, FORMAT = "set.json", 1
COVERED = {"thin": 1.0, "medium": 1.0, "thick": 1.0, "box": 1.0, "blobs": 1.0}
"""Kinds that come equally often in the buckets of coverage."""
BUCKETS = {f"coverage-{100 * low:02.0f}-{100 * high:02.0f}": (low, high) for low, high in strata(*COVERAGE)}
"""Name -> share of hole pixels: 11 buckets of 5 %."""
CENTRE = "centre-box"
FAMILIES: dict[str, tuple[str, ...]] = {
    "repaint": REPAINT,
    "lama": ("thin", "medium", "thick"),
    "coverage": tuple(BUCKETS),
    "other": (CENTRE, "text", "scratches", "sparse"),
}
"""Family -> its kinds. RePaint's wide and narrow are LaMa's thick and thin: with one seed they are the same masks."""


@dataclass(frozen=True)
class Frozen:
    """A set that was read and agrees with its list."""

    size: tuple[int, int]
    """(W, H) of all masks."""
    holes: dict[str, dict[str, Mask]]
    """Kind -> name -> bool (H, W), True = hole."""
    digest: str
    """Of all kinds, names and masks, 16 hex digits."""


def centre_box(size: tuple[int, int]) -> Mask:
    """The middle half of each side, a quarter of the picture."""
    w, h = size
    hole = np.zeros((h, w), bool)
    hole[h // 4 : h - h // 4, w // 4 : w - w // 4] = True
    return hole


def kinds(names: Sequence[str]) -> list[str]:
    """The kinds of families and kinds named, each once. Raises `UsageError` for a name that is neither."""
    found: list[str] = []
    for name in names:
        if name not in FAMILIES and name not in BUCKETS and name != CENTRE and name not in MASKS:
            close = get_close_matches(name, known := [*FAMILIES, CENTRE, *BUCKETS, *MASKS], 1)
            raise UsageError(f"{name}: no such kind or family of masks; " + (f"did you mean {close[0]!r}?" if close else ", ".join(known)))
        found += FAMILIES.get(name, (name,))
    return list(dict.fromkeys(found))


def drawn(kind: str, size: tuple[int, int], seed: int) -> Iterator[Mask]:
    """Masks 0, 1, 2 ... of a kind for evaluation, endless: those of the test split without repeats, so that none was trained on; a
    kind of one mask repeats it. Raises as `mask_sets.unique`."""
    if kind in BUCKETS:
        return unique(COVERED, size, "test", seed, BUCKETS[kind])
    if kind == CENTRE:
        return repeat(centre_box(size))
    if kind in FIXED:
        return repeat(MASKS[kind](size, np.random.default_rng(0)))
    return unique({kind: 1.0}, size, "test", seed, None)


def freeze(folder: Path, chosen: Sequence[str], size: tuple[int, int], names: Sequence[str], seed: int = 0) -> str:
    """Write a set: for every kind one mask of `size` (W, H) for each name. Returns its digest.

    Raises `NotWritable` when the folder exists, `UsageError` for an unknown kind, and `BadInput` for more masks than a kind has.
    """
    digests: dict[str, dict[str, str]] = {}
    with writing_folder(folder) as writing:
        for kind in kinds(chosen):
            for name, hole in zip(names, drawn(kind, size, seed), strict=False):
                path = writing / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(hole.astype(np.uint8) * 255))
                digests.setdefault(kind, {})[name] = digest(hole)
        made = {name: version(name) for name in ("inpaintkit", "numpy", "pillow")}
        about = {"format": FORMAT, "size": list(size), "seed": seed, "digest": _total(digests), "masks": digests, "versions": made}
        (writing / LIST).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return _total(digests)


def read(folder: Path) -> Frozen:
    """A set, every mask compared with its digest. Raises `BadInput` for one that is missing, or was changed, and for another format."""
    about = listed(folder)
    size = (int(about["size"][0]), int(about["size"][1]))
    holes: dict[str, dict[str, Mask]] = {}
    for kind, names in about["masks"].items():
        for name, expected in names.items():
            path = folder / kind / f"{name}.png"
            hole = read_mask(path, size)
            check(path, hole, expected)
            holes.setdefault(kind, {})[name] = hole
    return Frozen(size, holes, about["digest"])


def listed(folder: Path) -> dict:
    """The list of a set. Raises `BadInput`."""
    path = folder / LIST
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] == FORMAT and about["digest"] == _total(about["masks"]):
            return dict(about)
        cause = f"is of format {about['format']}, not {FORMAT}" if about["format"] != FORMAT else "was changed"
    except OSError as error:
        cause = f"cannot be read ({error.strerror})"
    except (ValueError, TypeError, AttributeError, LookupError):
        cause = "is no list of masks"
    raise BadInput(f"{path}: {cause}; write the set again with `inpaintkit mask set`")


def digests(folder: Path) -> dict[Path, str]:
    """File -> digest, of the masks of a set, or of the set that the folder of one kind belongs to; empty where there is no list.
    Raises `BadInput`."""
    whole = next((place for place in (folder, folder.parent) if (place / LIST).is_file()), None)
    if whole is None:
        return {}
    masks = listed(whole)["masks"]
    if whole != folder:
        masks = {kind: names for kind, names in masks.items() if kind == folder.name}
    return {whole / kind / f"{name}.png": value for kind, names in masks.items() for name, value in names.items()}


def check(path: Path, hole: Mask, expected: str) -> None:
    """Raise `BadInput` unless a mask is the one of the list."""
    if (found := digest(hole)) != expected:
        raise BadInput(f"{path}: is not the mask of the set's list (digest {found}, not {expected}); write the set again")


def digest(hole: Mask) -> str:
    """32 hex digits of a mask's size and pixels."""
    return hashlib.blake2b(content(hole), digest_size=16).hexdigest()


def _total(digests: dict[str, dict[str, str]]) -> str:
    return hashlib.blake2b(json.dumps(digests, sort_keys=True).encode(), digest_size=8).hexdigest()
