"""A benchmark's report as one HTML page: style, script and pictures inside it, so that it works anywhere, without a network."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import fmean

from inpaintkit.evaluate import report
from inpaintkit.evaluate.charts import Mark, dot, lines, scatter
from inpaintkit.evaluate.figures import Figure, by_area
from inpaintkit.evaluate.gallery import Pictures, extremes, sheets, slider, strips, variants
from inpaintkit.evaluate.metrics import Region
from inpaintkit.evaluate.results import Results, of

NOTE = (
    "Means over pictures (masks and seeds of a picture averaged first) with bootstrap 95 % intervals, of six pictures or more; "
    "bold: the best mean. "
    "A way with rows that failed or are not made yet is neither marked as best nor drawn against cost: its mean is over other pictures. "
    "Evaluations are of the network, for each sample; seconds are medians. Scores against the truth reward the likeliest filling: "
    "a plausible one that is not the truth scores low."
)


def page(results: Results, sets: report.Sets, shown: int = 8) -> str:
    """The whole page; `shown`: pictures in each contact sheet, at most."""
    suite, pictures = results.about["suite"], Pictures(results)
    body = [f"<h1>{escape(suite['name'])}</h1>"]
    body += [f"<p>{escape(suite['notes'])}</p>"] if suite["notes"] else []
    body += [f'<p class="soft">{escape(report.facts(results))}.</p>', f'<p class="soft">{NOTE}</p>', missing(results), _failures(results)]
    body += ['<div class="picks">', *(f'<button data-pick="{r}">{r}</button>' for r in report.SHOWN_FIRST), "</div>"]
    body += [_region(results, region) for region in report.SHOWN_FIRST]
    body += [
        _wins(results),
        *(f"<h2>{escape(report.SETS.format(name=name))}</h2>" + table(results, *t) for name, t in sets.tables.items()),
        *(f'<p class="soft">Left out: {escape(line)}</p>' for line in sets.left),
        slider(),
        sheets(results, pictures, shown),
        extremes(results, pictures),
        variants(results, pictures, shown),
        strips(results, pictures),
    ]
    return whole(f"{suite['name']}: benchmark", body)


def whole(title: str, body: Sequence[str]) -> str:
    """An HTML page with the report's style and script."""
    template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return template.replace("{{title}}", escape(title)).replace("{{body}}", "\n".join(body))


def missing(results: Results) -> str:
    """Models that were not there."""
    lines = results.about.get("missing", {}).values()
    return "".join(f'<p class="soft">Left out: {escape(line)}</p>' for line in lines)


def _failures(results: Results) -> str:
    failed = [row for row in results.rows if row.error is not None]
    if not failed:
        return ""
    items = "".join(f"<li>{escape(f'{row.cell}, {row.mask}, {row.picture}: {row.error}')}</li>" for row in failed[:20])
    more = f"<li>and {len(failed) - 20} more</li>" if len(failed) > 20 else ""
    return f'<details><summary>{len(failed)} rows failed</summary><ul class="soft">{items}{more}</ul></details>'


def _region(results: Results, region: Region) -> str:
    parts = [f'<section data-region="{region}"><h2>Summary, {region}</h2>', summary(results, region)]
    parts.append('<div class="tables">')
    for metric in results.metrics:
        inner = table(results, *report.by_mask(results, region, metric))
        parts.append(f"<div><h3>{escape(report.title(results, metric))}, by mask</h3>{inner}</div>")
    parts += ["</div>", "<h2>Quality against cost</h2>", '<div class="charts">']
    summaries = [results.line(cell, region) for cell in results.cells]
    for metric, about in results.metrics.items():
        up = report.title(results, metric)
        for across, cost in (("evaluations (a gradient counts as two more)", "work"), ("seconds per sample", "seconds")):
            marks = [
                Mark(i, getattr(line, cost), f.mean, f"{line.cell['label']}: {report.shown(f)}", f.low, f.high)
                for i, line in enumerate(summaries, 1)
                if line.complete
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
        finite = [row for row in results.of(cell["label"]) if math.isfinite(row.value(region, metric))]
        marks = []
        for rows in by_area(finite).values():
            x, y = fmean(row.area for row in rows), of(rows, region, metric).mean
            marks.append(Mark(number, x, y, f"{cell['label']}, {x:.0%} hole: {report.number(y)} ({len(rows)} rows)"))
        groups.append(marks)
    return groups


def summary(results: Results, region: Region) -> str:
    head, body = report.summary(results, region)
    columns = {3 + i: about["higher"] for i, about in enumerate(results.metrics.values())}
    complete = {i: line for i, line in enumerate(results.line(cell, region) for cell in results.cells) if line.complete}
    best = {}
    for (column, higher), metric in zip(columns.items(), results.metrics, strict=True):
        figures = {i: line.figures[metric] for i, line in complete.items()}
        means = {i: figure.mean for i, figure in figures.items() if not math.isnan(figure.mean)}
        if means and not any(figure.exact for figure in figures.values()):  # an infinite PSNR is in no mean
            best[column] = (max if higher else min)(means, key=means.__getitem__)
    return table(results, head, body, {(row, column) for column, row in best.items()})


def table(results: Results, head: Sequence[str], body: Sequence[Sequence[str]], best: set[tuple[int, int]] | None = None) -> str:
    parts = ['<div class="wide"><table><thead><tr>', *(f"<th>{escape(h)}</th>" for h in head), "</tr></thead><tbody>"]
    for i, texts in enumerate(body):
        cells = [f"<td>{dot(i + 1)}{escape(texts[0])}</td>"]
        for j, text in enumerate(texts[1:], 1):
            mean, bracket, rest = text.partition(" [")
            inner = escape(mean) + (f"<small>{escape(bracket.strip() + rest)}</small>" if bracket else "")
            cells.append(f"<td{' class=best' if (i, j) in (best or ()) else ''}>{inner}</td>")
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*parts, "</tbody></table></div>"])


def _wins(results: Results) -> str:
    """How often each cell beats each other one on the same mask and picture."""
    names = [cell["label"] for cell in results.cells]
    if len(names) < 2:
        return ""
    text = [[a, *("" if a == b else _share(results.won(a, b)) for b in names)] for a in names]
    first = report.title(results, results.first)
    about = f"Share of masks and pictures on which the way on the left has the better {first} in the hole, with Wilson's intervals."
    numbers = [str(i) for i in range(1, len(names) + 1)]
    parts = [f"<h2>Paired wins</h2><p>{escape(about)}</p>", table(results, ["", *numbers], text), f"<h2>{report.PAIRED}</h2>"]
    parts.append("<p>The way on the left less the one above, masks and seeds of a picture averaged first.</p>")
    for metric in results.metrics:
        inner = table(results, ["", *numbers], report.paired(results, metric)[1])
        parts.append(f"<details><summary>{escape(report.title(results, metric))}</summary>{inner}</details>")
    return "\n".join(parts)


def _share(figure: Figure) -> str:
    if math.isnan(figure.mean):
        return ""
    return f"{figure.mean:.0%}" + ("" if math.isnan(figure.low) else f" [{figure.low:.0%}, {figure.high:.0%}]")
