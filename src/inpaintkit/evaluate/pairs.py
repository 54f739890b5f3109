"""Which result belongs to which truth and mask: by path within its folder, without suffix.

A result may carry the tag that `fill` and `blind` add to names (`cat.filled.png`). Results for several kinds of masks lie in a
sub-folder each, named as those of the masks, and share their truth: RESULTS/thin/cat.png, MASKS/thin/cat.png, TRUTH/cat.png.
One mask file serves all pictures.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inpaintkit.core.errors import BadInput
from inpaintkit.data.members import SUFFIXES

TAGS = (".filled", ".repaired")
MASK_NAMES = ("{}", "{}_mask", "{}_mask001")
"""How the mask of the picture {} may be called."""
LISTED = 5
"""Names in a message, at most."""


@dataclass(frozen=True)
class Pair:
    """A result with what it is measured against."""

    name: str
    """Of the truth."""
    kind: str
    """Of the mask: the sub-folder of results and masks; empty where they lie in none of their own."""
    result: Path
    truth: Path
    mask: Path


@dataclass(frozen=True)
class Pairs:
    """What was found in three folders."""

    found: list[Pair]
    unmatched: list[str]
    """Results without a truth or a mask, with what is missing."""
    unused: list[str]
    """Names of truths without a result, with the kind of mask where there are results for other kinds."""


def paired(results: Path, truth: Path, masks: Path) -> Pairs:
    """Pair three folders; `masks` may be one file. Raises `BadInput` for a folder that is none or holds a name twice, and for no pair."""
    truths = files(truth)
    holes = {} if masks.is_file() else files(masks, {*SUFFIXES, ".npy"})
    found: dict[tuple[str, str], Pair] = {}
    unmatched = []
    for key, path in files(results).items():
        stems = [key, *(key.removesuffix(tag) for tag in TAGS if key.endswith(tag))]
        name = next((n for stem in stems for n in (stem, stem.partition("/")[2]) if n in truths), None)
        named = (form.format(stem) for stem in stems for form in MASK_NAMES)
        mask = masks if masks.is_file() else next((holes[n] for n in named if n in holes), None)
        if name is None or mask is None:
            unmatched.append(f"{key} (no {'truth' if name is None else 'mask'})")
            continue
        kind = "" if name in stems else key.partition("/")[0]
        if other := found.get((kind, name)):
            raise BadInput(f"{path}: is a second result for {name}, beside {other.result.name}; leave one of them out")
        found[kind, name] = Pair(name, kind, path, truths[name], mask)
    if not found:
        cause = f"no result has both a truth and a mask: {listed(unmatched)}" if unmatched else "holds no pictures"
        raise BadInput(f"{results}: {cause}; name results and masks as the truth's files")
    used, kinds = {name for _, name in found}, dict.fromkeys(kind for kind, _ in found)
    unused = [name for name in truths if name not in used]
    unused += [f"{kind}/{name}".lstrip("/") for kind in kinds for name in truths if name in used and (kind, name) not in found]
    return Pairs(list(found.values()), unmatched, unused)


def files(folder: Path, suffixes: set[str] = SUFFIXES) -> dict[str, Path]:
    """Path within the folder, without suffix and with slashes -> file, sorted; hidden ones left out.

    Raises `BadInput` when it is no folder, and for two files that differ in their suffix only.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; name one with pictures")
    found: dict[str, Path] = {}
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(where, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() not in suffixes:
                continue
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key in found:
                raise BadInput(f"{path}: {found[key].name} has the same name but for its suffix; rename or remove one")
            found[key] = path
    return found


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
