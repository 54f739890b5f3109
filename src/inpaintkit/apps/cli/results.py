"""From results to files: names that are known to be writable, complete files, read back and compared."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inpaintkit.apps.cli.options import Holed, Picturing, Sampling
from inpaintkit.apps.cli.writing import check_distinct, check_suffix, check_writable, note
from inpaintkit.core.errors import UsageError
from inpaintkit.core.files import write_bytes
from inpaintkit.data.images import Hole, Limits, Picture, check_output, default_output, encode_png, read_picture, write_picture
from inpaintkit.data.writing import SUFFIXES
from inpaintkit.pipeline.fill import changed_outside

ANY = Limits(max_pixels=1 << 62, max_bytes=1 << 62)  # for reading back what we wrote


def named(args: Picturing, picture: Picture, tag: str, variants: int = 1) -> list[Path]:
    """The names of the results, one for each variant."""
    assert args.image is not None
    first = args.output or default_output(args.image, picture, tag)
    return [first] if variants == 1 else [first.with_name(f"{first.stem}-{k}{first.suffix}") for k in range(1, variants + 1)]


def check(args: Picturing, picture: Picture, outputs: Sequence[Path], extras: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Raise `NotWritable` or `BadInput` unless all can be written, none is an input and no two are one; `UsageError` for a sheet that
    is not named as a picture. The sheet need not be among the extras."""
    sheet = args.sheet if isinstance(args, Holed) else None
    check_suffix(sheet, ".png")
    paths = [*outputs, *(path for path in (sheet, *extras) if path is not None)]
    for path in paths:
        check_writable(path, args.overwrite, (args.image, *inputs))
    check_distinct(paths)
    for path in outputs:
        check_output(picture, path, args.overwrite)


def check_uncertainty(path: Path | None, variants: int) -> None:
    """Raise `UsageError` when it cannot be computed or written."""
    if path is not None and variants < 2:
        raise UsageError(f"{path}: an uncertainty needs several variants; pass --variants 8")
    check_suffix(path, ".npy", ".png")


def write(args: Picturing, picture: Picture, hole: Hole, results: Sequence[Picture], outputs: Sequence[Path]) -> dict[str, Any]:
    """Write the results and read them back; what the record says of the files. `picture` is what they are outside the hole."""
    changed, said = 0.0, list[str]()
    for path, result in zip(outputs, results, strict=True):
        said += write_picture(result, path, args.overwrite)
        changed = max(changed, changed_outside(picture, read_picture(path, ANY), hole))
    lossy = SUFFIXES[outputs[0].suffix.lower()] == "JPEG"  # the one lossy format we write
    if changed and not lossy:
        for path in outputs:
            path.unlink()  # a file that breaks the first promise is not left behind
        raise RuntimeError(f"{outputs[0]}: known pixels differ by {changed:g} in the file read back")
    return {
        "outputs": [str(path) for path in outputs],
        "input": str(args.image),
        "input_sha256": sha256(args.image),
        "lossy": lossy,
        "changed_outside": changed,
        "notes": list(dict.fromkeys(said)),
    }


def write_sheet(args: Holed, picture: Picture, hole: Hole, results: Sequence[Picture]) -> list[Path]:
    """Before, mask and every result side by side, if asked for."""
    from inpaintkit.pipeline import sheets

    if args.sheet is None:
        return []
    seed = args.seed if isinstance(args, Sampling) else None
    labels = ["after" if seed is None else f"after, seed {seed + k}" for k in range(len(results))]
    write_bytes(args.sheet, sheets.sheet(picture, hole, results, labels))
    return [args.sheet]


def write_uncertainty(path: Path | None, results: Sequence[Picture]) -> list[Path]:
    """The spread of the variants, if asked for."""
    from inpaintkit.pipeline import sheets

    if path is None:
        return []
    spread = sheets.spread(results)
    if path.suffix.lower() == ".npy":
        np.save(out := io.BytesIO(), spread)
        data = out.getvalue()
    else:
        data = encode_png((spread / max(float(spread.max()), 1e-9) * 255).round().astype(np.uint8))
    write_bytes(path, data)
    return [path]


def sha256(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def mask_sha256(hole: Hole) -> str:
    return hashlib.sha256(np.packbits(hole).tobytes()).hexdigest()


def show(args: Picturing, record: dict[str, Any], noted: Sequence[str] = ()) -> None:
    """Print the record or the paths; remarks not yet `noted` go to stderr."""
    notes = list(dict.fromkeys([*noted, *record["notes"]]))
    for text in notes:
        if text not in noted:
            note(text, args.quiet)
    print(json.dumps(record | {"notes": notes}) if args.json else "\n".join([*record["outputs"], *record.get("extras", ())]))
