"""The pictures of a benchmark's report: contact sheets, the slider, the best and worst, variants, the way from noise."""

import base64
import math
from html import escape
from typing import Any

from inpaintkit.data.images import encode_png, from_array
from inpaintkit.evaluate import report
from inpaintkit.evaluate.charts import dot
from inpaintkit.evaluate.results import Results
from inpaintkit.evaluate.rows import Row
from inpaintkit.pipeline.sheets import tinted


class Pictures:
    """Pictures as data URIs, each inside the page once; further uses are filled in by the page's script."""

    def __init__(self, results: Results):
        self.results = results
        self.ids: dict[str, str] = {}

    def file(self, name: str, alt: str, role: str = "") -> str:
        return self._image(name, lambda: (self.results.folder / name).read_bytes(), alt, role)

    def hole(self, mask: str, picture: str) -> str:
        """The picture with its hole coloured."""

        def made() -> bytes:
            hole = self.results.array(f"masks/{mask}/{picture}.png")[:, :, 0] > 0
            return encode_png(tinted(from_array(self.results.array(f"truth/{picture}.png")), hole, strength=1.0))

        return self._image(f"hole {mask} {picture}", made, f"{picture} with the hole {mask}", "hole")

    def _image(self, key: str, data: Any, alt: str, role: str) -> str:
        more = f' data-role="{role}"' if role else ""
        if key in self.ids:
            return f'<img data-like="{self.ids[key]}" alt="{escape(alt)}"{more}>'
        self.ids[key] = f"p{len(self.ids)}"
        uri = base64.b64encode(data()).decode()
        return f'<img id="{self.ids[key]}" src="data:image/png;base64,{uri}" alt="{escape(alt)}"{more}>'


def slider() -> str:
    return (
        '<h2 id="slider">Before and after</h2><p>Click a result in the sheets below to see it here.</p>'
        '<div class="picks"><select id="before" aria-label="compare with"><option value="hole">the hole</option>'
        '<option value="truth">the truth</option></select></div>'
        '<div class="slider"><img id="under" alt="result"><img id="over" alt="before"></div>'
        '<input id="share" type="range" min="0" max="100" value="50" aria-label="where before ends">'
        '<p class="soft" id="caption"></p>'
    )


def sheets(results: Results, pictures: Pictures, shown: int) -> str:
    """For every mask the pictures, and what each cell made of them with the first seed."""
    parts = ["<h2>Contact sheets</h2>"]
    if len(results.pictures) > shown:
        parts.append(f"<p>The first {shown} of {len(results.pictures)} pictures; all are in the folder.</p>")
    failed = {row.key[:3] for row in results.rows if row.error is not None}
    first = {cell["label"]: results.firsts(cell["label"]) for cell in results.cells}
    head = "".join(f"<th>{dot(i)}<br>{escape(cell['label'])}</th>" for i, cell in enumerate(results.cells, 1))
    for mask in results.masks:
        parts.append(f'<h3>{escape(mask)}</h3><div class="wide"><table class="sheet">')
        parts.append(f"<thead><tr><th></th><th>truth</th><th>hole</th>{head}</tr></thead>")
        for picture in results.pictures[:shown]:
            parts.append(f"<tr><th>{escape(picture)}</th><td>{pictures.file(f'truth/{picture}.png', f'{picture}, truth', 'truth')}</td>")
            parts.append(f"<td>{pictures.hole(mask, picture)}</td>")
            for cell in results.cells:
                row = first[cell["label"]].get((mask, picture))
                gone = "failed" if (cell["label"], mask, picture) in failed else "not made yet"
                image = gone if row is None else pictures.file(row.file, _named(results, row), "result")
                parts.append(f"<td>{image}</td>")
            parts.append("</tr>")
        parts.append("</table></div>")
    return "".join(parts)


def extremes(results: Results, pictures: Pictures) -> str:
    """Each cell's best and worst result."""
    parts = ["<h2>Best and worst</h2>", f"<p>By {escape(report.title(results, results.first))} in the hole: truth, hole, result.</p>"]
    higher = results.metrics[results.first]["higher"]
    for number, cell in enumerate(results.cells, 1):
        mine = [row for row in results.of(cell["label"]) if not math.isnan(row.value("hole", results.first))]
        if not mine:
            continue
        order = sorted(mine, key=lambda row: row.value("hole", results.first), reverse=higher)
        parts.append(f'<h3>{dot(number)}{escape(cell["label"])}</h3><div class="pairs">')
        for what, row in (("best", order[0]), ("worst", order[-1])):
            trio = pictures.file(f"truth/{row.picture}.png", f"{row.picture}, truth") + pictures.hole(row.mask, row.picture)
            trio += pictures.file(row.file, _named(results, row))
            parts.append(f'<figure><div class="trio">{trio}</div><figcaption>{what}: {escape(_named(results, row))}</figcaption></figure>')
        parts.append("</div>")
    return "".join(parts)


def variants(results: Results, pictures: Pictures, shown: int) -> str:
    """The seeds side by side."""
    seeds = results.about["suite"]["seeds"]
    if len(seeds) < 2:
        return ""
    parts = ["<h2>Variants by seed</h2>"]
    for number, cell in enumerate(results.cells, 1):
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in results.of(cell["label"]):
            if row.picture in results.pictures[: min(shown, 4)]:
                groups.setdefault((row.mask, row.picture), []).append(row)
        if not any(len(group) > 1 for group in groups.values()):
            continue
        parts.append(f'<h3>{dot(number)}{escape(cell["label"])}</h3><div class="pairs">')
        for (mask, picture), group in groups.items():
            row_of = "".join(pictures.file(row.file, _named(results, row)) for row in group)
            about = f"{mask}, {picture}: seeds {', '.join(str(row.seed) for row in group)}"
            parts.append(f'<figure><div class="trio">{row_of}</div><figcaption>{escape(about)}</figcaption></figure>')
        parts.append("</div>")
    return "".join(parts)


def strips(results: Results, pictures: Pictures) -> str:
    """How pictures came out of the noise, cell by cell."""
    kept = [row for row in results.good if row.strip]
    if not kept:
        return ""
    parts = [
        "<h2>From noise to picture</h2>",
        "<p>Above the noisy picture, below what the network takes for the clean one.</p>",
    ]
    for number, cell in enumerate(results.cells, 1):
        mine = [row for row in kept if row.cell == cell["label"]]
        if not mine:
            continue
        parts.append(f'<h3>{dot(number)}{escape(cell["label"])}</h3><div class="pairs">')
        for row in mine:
            levels = ", ".join(map(str, row.levels))
            about = f"{row.mask}, {row.picture}: noise levels {levels}"
            image = pictures.file(row.strip, f"{row.cell}, {about}")
            style = f"--moments: {len(row.levels)}"
            figure = f'<figure><div class="wide strip" style="{style}">{image}</div><figcaption>{escape(about)}</figcaption></figure>'
            parts.append(figure)
        parts.append("</div>")
    return "".join(parts)


def _named(results: Results, row: Row) -> str:
    seed = "" if row.seed is None else f", seed {row.seed}"
    score = report.number(row.value("hole", results.first))
    return f"{row.cell}, {row.mask}, {row.picture}{seed}: {results.first.upper()} {score} in the hole, {row.area:.0%} hole"
