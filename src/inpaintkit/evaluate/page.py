"""A benchmark's report as one HTML page: style, script and pictures inside it, so that it works anywhere, without a network."""

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from inpaintkit.data.images import encode_png, from_array
from inpaintkit.evaluate import report
from inpaintkit.evaluate.charts import Mark, color, lines, scatter
from inpaintkit.evaluate.metrics import Region
from inpaintkit.evaluate.results import Results
from inpaintkit.evaluate.rows import Row
from inpaintkit.pipeline.sheets import tinted

BIN = 0.1
"""Width of a bin of hole shares."""
SHOWN_FIRST: tuple[Region, ...] = ("hole", "whole", "border")
NOTE = (
    "Means over pictures (masks and seeds of a picture averaged first) with bootstrap 95 % intervals over pictures; bold: the best mean. "
    "A way with failed rows is neither marked as best nor drawn against cost: its mean is over other pictures. "
    "Evaluations are of the network, for each sample; seconds are medians. Scores against the truth reward the likeliest filling: "
    "a plausible one that is not the truth scores low."
)


class _Pictures:
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


def page(results: Results, shown: int = 8) -> str:
    """The whole page; `shown`: pictures in each contact sheet, at most."""
    suite, pictures = results.about["suite"], _Pictures(results)
    body = [f"<h1>{escape(suite['name'])}</h1>"]
    body += [f"<p>{escape(suite['notes'])}</p>"] if suite["notes"] else []
    body += [f'<p class="soft">{escape(report.facts(results))}.</p>', f'<p class="soft">{NOTE}</p>', _failures(results)]
    body += ['<div class="picks">', *(f'<button data-pick="{r}">{r}</button>' for r in SHOWN_FIRST), "</div>"]
    body += [_region(results, region) for region in SHOWN_FIRST]
    body += [
        _wins(results),
        _slider(),
        _sheets(results, pictures, shown),
        _extremes(results, pictures),
        _variants(results, pictures, shown),
    ]
    template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return template.replace("{{title}}", escape(f"{suite['name']}: benchmark")).replace("{{body}}", "\n".join(body))


def _failures(results: Results) -> str:
    failed = [row for row in results.rows if row.error is not None]
    if not failed:
        return ""
    items = "".join(f"<li>{escape(f'{row.cell}, {row.mask}, {row.picture}: {row.error}')}</li>" for row in failed[:20])
    more = f"<li>and {len(failed) - 20} more</li>" if len(failed) > 20 else ""
    return f'<details><summary>{len(failed)} rows failed</summary><ul class="soft">{items}{more}</ul></details>'


def _region(results: Results, region: Region) -> str:
    parts = [f'<section data-region="{region}"><h2>Summary, {region}</h2>', _summary(results, region)]
    parts.append('<div class="tables">')
    for metric in results.metrics:
        table = _table(results, *report.by_mask(results, region, metric))
        parts.append(f"<div><h3>{escape(report.title(results, metric))}, by mask</h3>{table}</div>")
    parts += ["</div>", "<h2>Quality against cost</h2>", '<div class="charts">']
    summaries = [results.line(cell, region) for cell in results.cells]
    for metric, about in results.metrics.items():
        up = report.title(results, metric)
        for across, cost in (("evaluations (a gradient counts as two more)", "work"), ("seconds per sample", "seconds")):
            marks = [
                Mark(i, getattr(line, cost), f.mean, f"{line.cell['label']}: {report.shown(f)}", f.low, f.high)
                for i, line in enumerate(summaries, 1)
                if not line.failed
                for f in [line.figures[metric]]
            ]
            if metric == results.first or cost == "work":
                parts.append(scatter(marks, across, up, about["higher"]))
    parts += ["</div>", "<h2>Quality against the share of the hole</h2>", '<div class="charts">']
    parts += [
        lines(_binned(results, region, m), "hole, share of the picture (bins of 10 %)", report.title(results, m)) for m in results.metrics
    ]
    return "\n".join([*parts, "</div>", "</section>"])


def _binned(results: Results, region: Region, metric: str) -> list[list[Mark]]:
    """For each cell the mean in every bin of hole shares, at the mean share."""
    groups = []
    for number, cell in enumerate(results.cells, 1):
        bins: dict[int, list[tuple[float, float]]] = {}
        for row in results.of(cell["label"]):
            if math.isfinite(value := row.value(region, metric)):
                bins.setdefault(int(row.area / BIN), []).append((row.area, value))
        marks = []
        for _, pairs in sorted(bins.items()):
            x, y = (fmean(side) for side in zip(*pairs, strict=True))
            marks.append(Mark(number, x, y, f"{cell['label']}, {x:.0%} hole: {report.number(y)} ({len(pairs)} rows)"))
        groups.append(marks)
    return groups


def _summary(results: Results, region: Region) -> str:
    head, body = report.summary(results, region)
    columns = {3 + i: about["higher"] for i, about in enumerate(results.metrics.values())}
    complete = {i: line for i, line in enumerate(results.line(cell, region) for cell in results.cells) if not line.failed}
    best = {}
    for (column, higher), metric in zip(columns.items(), results.metrics, strict=True):
        means = {i: line.figures[metric].mean for i, line in complete.items() if not math.isnan(line.figures[metric].mean)}
        if means:
            best[column] = (max if higher else min)(means, key=means.__getitem__)
    return _table(results, head, body, {(row, column) for column, row in best.items()})


def _table(results: Results, head: Sequence[str], body: Sequence[Sequence[str]], best: set[tuple[int, int]] | None = None) -> str:
    parts = ['<div class="wide"><table><thead><tr>', *(f"<th>{escape(h)}</th>" for h in head), "</tr></thead><tbody>"]
    for i, texts in enumerate(body):
        cells = [f"<td>{_dot(i + 1)}{escape(texts[0])}</td>"]
        for j, text in enumerate(texts[1:], 1):
            mean, bracket, rest = text.partition(" [")
            inner = escape(mean) + (f"<small>{escape(bracket.strip() + rest)}</small>" if bracket else "")
            cells.append(f"<td{' class=best' if (i, j) in (best or ()) else ''}>{inner}</td>")
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*parts, "</tbody></table></div>"])


def _dot(number: int) -> str:
    return f'<span class="dot" style="background: {color(number)}">{number}</span>'


def _wins(results: Results) -> str:
    """How often each cell beats each other one on the same mask and picture."""
    names = [cell["label"] for cell in results.cells]
    if len(names) < 2:
        return ""
    share = {(a, b): results.share_won(a, b) for a in names for b in names if a != b}
    text = [[a, *("" if a == b or math.isnan(share[a, b]) else f"{share[a, b]:.0%}" for b in names)] for a in names]
    about = f"Share of masks and pictures on which the way on the left has the better {report.title(results, results.first)} in the hole."
    return f"<h2>Paired wins</h2><p>{escape(about)}</p>" + _table(results, ["", *(str(i) for i in range(1, len(names) + 1))], text)


def _slider() -> str:
    return (
        '<h2 id="slider">Before and after</h2><p>Click a result in the sheets below to see it here.</p>'
        '<div class="picks"><select id="before" aria-label="compare with"><option value="hole">the hole</option>'
        '<option value="truth">the truth</option></select></div>'
        '<div class="slider"><img id="under" alt="result"><img id="over" alt="before"></div>'
        '<input id="share" type="range" min="0" max="100" value="50" aria-label="where before ends">'
        '<p class="soft" id="caption"></p>'
    )


def _sheets(results: Results, pictures: _Pictures, shown: int) -> str:
    """For every mask the pictures, and what each cell made of them with the first seed."""
    parts = ["<h2>Contact sheets</h2>"]
    if len(results.pictures) > shown:
        parts.append(f"<p>The first {shown} of {len(results.pictures)} pictures; all are in the folder.</p>")
    first: dict[tuple[str, str, str], Row] = {}
    for row in results.good:
        first.setdefault((row.cell, row.mask, row.picture), row)
    head = "".join(f"<th>{_dot(i)}<br>{escape(cell['label'])}</th>" for i, cell in enumerate(results.cells, 1))
    for mask in results.masks:
        parts.append(f'<h3>{escape(mask)}</h3><div class="wide"><table class="sheet">')
        parts.append(f"<thead><tr><th></th><th>truth</th><th>hole</th>{head}</tr></thead>")
        for picture in results.pictures[:shown]:
            parts.append(f"<tr><th>{escape(picture)}</th><td>{pictures.file(f'truth/{picture}.png', f'{picture}, truth', 'truth')}</td>")
            parts.append(f"<td>{pictures.hole(mask, picture)}</td>")
            for cell in results.cells:
                made = first.get((cell["label"], mask, picture))
                image = "failed" if made is None else pictures.file(made.file, _named(results, made), "result")
                parts.append(f"<td>{image}</td>")
            parts.append("</tr>")
        parts.append("</table></div>")
    return "".join(parts)


def _extremes(results: Results, pictures: _Pictures) -> str:
    """Each cell's best and worst result."""
    parts = ["<h2>Best and worst</h2>", f"<p>By {escape(report.title(results, results.first))} in the hole: truth, hole, result.</p>"]
    higher = results.metrics[results.first]["higher"]
    for number, cell in enumerate(results.cells, 1):
        mine = [row for row in results.of(cell["label"]) if not math.isnan(row.value("hole", results.first))]
        if not mine:
            continue
        order = sorted(mine, key=lambda row: row.value("hole", results.first), reverse=higher)
        parts.append(f'<h3>{_dot(number)}{escape(cell["label"])}</h3><div class="pairs">')
        for what, row in (("best", order[0]), ("worst", order[-1])):
            trio = pictures.file(f"truth/{row.picture}.png", f"{row.picture}, truth") + pictures.hole(row.mask, row.picture)
            trio += pictures.file(row.file, _named(results, row))
            parts.append(f'<figure><div class="trio">{trio}</div><figcaption>{what}: {escape(_named(results, row))}</figcaption></figure>')
        parts.append("</div>")
    return "".join(parts)


def _variants(results: Results, pictures: _Pictures, shown: int) -> str:
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
        parts.append(f'<h3>{_dot(number)}{escape(cell["label"])}</h3><div class="pairs">')
        for (mask, picture), group in groups.items():
            row_of = "".join(pictures.file(row.file, _named(results, row)) for row in group)
            about = f"{mask}, {picture}: seeds {', '.join(str(row.seed) for row in group)}"
            parts.append(f'<figure><div class="trio">{row_of}</div><figcaption>{escape(about)}</figcaption></figure>')
        parts.append("</div>")
    return "".join(parts)


def _named(results: Results, row: Row) -> str:
    seed = "" if row.seed is None else f", seed {row.seed}"
    score = report.number(row.value("hole", results.first))
    return f"{row.cell}, {row.mask}, {row.picture}{seed}: {results.first.upper()} {score} in the hole, {row.area:.0%} hole"
