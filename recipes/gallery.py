"""docs/gallery.md from the results of suites/gallery.toml: python recipes/gallery.py runs/gallery

The first 12 pictures by name with every mask, and the 6 worst results by the suite's first metric in the hole: damaged, filled, truth.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from inpaintkit.data.images import from_array
from inpaintkit.evaluate.results import Results, load
from inpaintkit.evaluate.rows import Row
from inpaintkit.pipeline.sheets import tinted

DOCS = Path(__file__).parents[1] / "docs"
FIRST, WORST, SIDE, GAP = 12, 6, 192, 6


def trio(results: Results, row: Row) -> Image.Image:
    """The picture with its hole coloured, the fill and the truth, side by side."""
    truth = results.array(f"truth/{row.picture}.png")
    hole = results.array(f"masks/{row.mask}/{row.picture}.png")[:, :, 0] > 0
    damaged = np.asarray(tinted(from_array(truth), hole, strength=1.0))[:, :, :3]
    wide = np.concatenate([damaged, results.array(row.file), truth], 1)
    return Image.fromarray(wide.astype(np.uint8)).resize((3 * SIDE, SIDE), Image.Resampling.LANCZOS)


def sheet(results: Results, chosen: Sequence[Row], file: Path) -> None:
    """Two trios a line."""
    page = Image.new("RGB", (6 * SIDE + GAP, math.ceil(len(chosen) / 2) * (SIDE + GAP) - GAP), "white")
    for i, row in enumerate(chosen):
        page.paste(trio(results, row), (i % 2 * (3 * SIDE + GAP), i // 2 * (SIDE + GAP)))
    file.parent.mkdir(exist_ok=True)
    page.save(file, quality=88)


def main(folder: Path) -> None:
    results = load(folder)
    metric, places = results.first, [f"{row.picture}, {row.mask}" for row in results.good]
    assert len(set(places)) == len(places), "one model, one method and one seed are wanted"
    names = sorted(results.pictures)[:FIRST]
    parts = [
        "# Gallery",
        "",
        f"What `{results.cells[0]['label']}` makes of photos that come with scikit-image, as `inpaintkit fill` runs it, one sample",
        "each, seed 0: damaged, filled, truth. Nothing was chosen for its result: two squares of each photo, 256 px, stroke masks",
        "after LaMa's recipes, drawn from the names; the first 12 by name, and the 6 worst by mean error in the hole.",
        "",
        "    inpaintkit bench run suites/gallery.toml -o runs/gallery && python recipes/gallery.py runs/gallery",
    ]
    higher = results.metrics[metric]["higher"]
    worst = sorted(results.good, key=lambda row: row.value("hole", metric), reverse=not higher)[:WORST]
    groups = {mask: [row for name in names for row in results.good if (row.picture, row.mask) == (name, mask)] for mask in results.masks}
    for title, chosen in (groups | {"worst": worst}).items():
        sheet(results, chosen, DOCS / "gallery" / f"{title}.jpg")
        share = f"holes of {min(r.area for r in chosen):.0%} to {max(r.area for r in chosen):.0%}"
        said = [f"{r.picture}{f', {r.mask}' if title == 'worst' else ''} ({r.value('hole', metric):.1f})" for r in chosen]
        parts += ["", f"## {title.capitalize()}", "", f"{share}; {metric.upper()} in the hole, of 255: {'; '.join(said)}."]
        parts += ["", f"![{title}: damaged, filled, truth](gallery/{title}.jpg)"]
    (DOCS / "gallery.md").write_text("\n".join(parts) + "\n")
    print(DOCS / "gallery.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
