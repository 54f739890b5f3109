"""`inpaintkit eval`: measure pictures filled anywhere against the truth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.apps.cli.writing import note
from inpaintkit.core.errors import BadInput
from inpaintkit.data.images import LIMITS, Limits

if TYPE_CHECKING:
    from inpaintkit.evaluate.eval import Judges, Score
    from inpaintkit.evaluate.figures import Figure

    Tables = dict[str, dict[str, dict[str, Figure]]]
    Sets = dict[str, dict[str, tuple[float, float, float]]]


@dataclass(frozen=True, kw_only=True)
class Eval(Command):
    """Measure pictures filled anywhere against the truth: whole picture, hole and border, by kind of mask and area, with 95 % intervals.

    Files belong together by their names; results may end in .filled or .repaired. Results of several kinds of masks lie in a
    sub-folder each: RESULTS/thin/cat.png, MASKS/thin/cat.png, TRUTH/cat.png.
    """

    results: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RESULTS")]
    """Folder of filled pictures."""
    truth: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the true pictures."""
    masks: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of masks, white = hole, or one mask for all."""
    features: Annotated[tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")] = ()
    """Weights of a classifier: measure a perceptual distance, a Frechet and a kernel distance with its features, under its name."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ("psnr", "mae", "ssim", "ms_ssim")
    """psnr, mae, ssim, ms_ssim (from 176 px); lpips_alex, lpips_vgg, lpips_squeeze, kid, and fid from 2,000 pictures: with weights in
    $INPAINTKIT_WEIGHTS or ~/.cache/inpaintkit."""
    partial: bool = False
    """Leave out results without a truth or a mask, instead of refusing."""
    json: bool = False
    """One JSON object, with every picture's values."""
    quiet: bool = False
    """No progress and no notes."""
    limits: Limits = LIMITS


def run(argv: Sequence[str]) -> None:
    args: Eval = parse(Eval, argv, "inpaintkit eval")
    from inpaintkit.apps.cli.progress import progress
    from inpaintkit.core.progress import Progress
    from inpaintkit.evaluate import eval as evaluation
    from inpaintkit.evaluate import frozen
    from inpaintkit.evaluate.figures import by_area
    from inpaintkit.evaluate.pairs import listed, paired
    from inpaintkit.evaluate.sets import LEAST

    pairs = paired(args.results, args.truth, args.masks)
    if pairs.unmatched and not args.partial:
        raise BadInput(f"{args.results}: has no partner for {listed(pairs.unmatched)}; name files alike, or leave them out with --partial")
    evaluation.enough(pairs.found, args.metrics)  # before weights are asked for
    by = evaluation.judges(args.metrics, args.features)
    notes = [f"{len(pairs.unmatched)} results left out: {listed(pairs.unmatched)}"] * bool(pairs.unmatched)
    notes += [f"{len(pairs.unused)} truths have no result: {listed(pairs.unused)}"] * bool(pairs.unused)
    scores: list[Score] = []
    with progress("measuring", args.quiet, "picture") as show:
        for score in evaluation.scored(pairs.found, by, args.limits, frozen.digests(args.masks)):
            scores.append(score)
            show(Progress(len(scores), len(pairs.found)))
    kinds = evaluation.kinds(scores)
    sets = {kind: evaluation.distances(part, by) for kind, part in kinds.items()}
    if args.features and (fewest := min(map(len, kinds.values()))) < LEAST:
        notes.append(
            f"the Frechet distance of {fewest} pictures is biased upwards: compare it at equal numbers, or take the kernel distance"
        )
    groups = {
        "all": scores,
        **{f"mask {k}": v for k, v in kinds.items() if k},
        **{f"area {k}": v for k, v in by_area(scores).items()},
    }
    tables = {name: evaluation.figures(part) for name, part in groups.items()}
    changed = max(score.changed for score in scores)
    small = [name for name, value in tables["all"]["whole"].items() if not value.n + value.exact]
    notes += [f"{', '.join(small)}: not measured, the pictures are too small for it"] * bool(small)
    for text in notes:
        note(text, args.quiet)
    if args.json:
        print(json.dumps(_record(args, by, scores, tables, sets, changed, notes)))
        return
    counts = {name: len({score.name for score in part}) for name, part in groups.items()}
    print("\n".join(_lines(tables, counts, sets, changed)))


def _record(
    args: Eval, by: Judges, scores: list[Score], tables: Tables, sets: Sets, changed: float, notes: list[str]
) -> dict[str, Any]:  # fmt: skip
    rows = [{"name": s.name, "kind": s.kind, "area": s.area, "changed_outside": s.changed, "seam": s.seam, **s.values} for s in scores]
    about = {
        "results": str(args.results),
        "truth": str(args.truth),
        "masks": str(args.masks),
        "n": len(scores),
        "features": {one.name: {"network": one.network, "sha256": one.sha256} for one in by.files},
        "changed_outside": changed,
        "metrics": {name: {region: {m: asdict(v) for m, v in part.items()} for region, part in t.items()} for name, t in tables.items()},
        "sets": {kind: {m: dict(zip(("value", "low", "high"), v, strict=True)) for m, v in part.items()} for kind, part in sets.items()},
        "pictures": rows,
        "versions": {
            name: version(name) for name in ("inpaintkit", "torch", "scikit-image", *(["torchmetrics"] * bool(find_spec("torchmetrics"))))
        },
        "notes": notes,
    }
    finite: dict[str, Any] = _finite(about)
    return finite


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity: null stands for NaN, "Infinity" for the other."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _lines(tables: Tables, counts: dict[str, int], sets: Sets, changed: float) -> Iterator[str]:
    """Markdown: every metric in every region, distances of the sets, and the hole by kind and area."""
    everything = tables["all"]
    yield "| metric | whole picture | hole | border |\n|---|---|---|---|"
    for name in everything["border"]:
        yield f"| {_titled(name)} | " + " | ".join(_shown(part[name]) if name in part else "" for part in everything.values()) + " |"
    yield f"\nlargest difference outside the holes: {changed:g} of 255"
    for kind, part in sets.items():
        for name, (value, low, high) in part.items():
            known = "of fewer than three pictures it is not known" if math.isnan(value) else f"{value:.4g}"
            yield f"{name}{f', {kind}' if kind else ''}: {known}" + ("" if math.isnan(low) else f" [{low:.4g}, {high:.4g}]")
    metrics = [name for name in everything["hole"] if name != "ms_ssim"]
    yield "\n| in the hole | pictures | " + " | ".join(map(_titled, metrics)) + " |\n|---" + "|---" * (len(metrics) + 1) + "|"
    for group, table in tables.items():
        yield f"| {group} | {counts[group]} | " + " | ".join(_shown(table["hole"][name]) for name in metrics) + " |"


def _titled(name: str) -> str:
    return name + {"psnr": ", dB", "mae": ", of 255", "seam": ", of the truth's"}.get(name, "")


def _shown(value: Figure) -> str:
    exact = f" and {value.exact} exact" if value.exact else ""
    if not value.n:
        return exact.removeprefix(" and ")
    return f"{value.mean:.4g}" + ("" if math.isnan(value.low) else f" [{value.low:.4g}, {value.high:.4g}]") + exact
