"""A benchmark's report: one HTML page, CSV and Markdown. Every number in it is made from the rows, in `results.py`."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpaintkit.core.files import write_bytes
from inpaintkit.evaluate.distances import distances
from inpaintkit.evaluate.figures import Figure, by_area
from inpaintkit.evaluate.metrics import REGIONS, Region
from inpaintkit.evaluate.results import Line, Results, load, mean, of

SETS = "Distance of the sets, {name} ↓"
"""KID, and kernel[NAME] of other features than Inception's, are unbiased at any number of pictures; FID is given from 2,000."""
SHOWN_FIRST: tuple[Region, ...] = ("hole", "whole", "border")
PAIRED = "Differences, picture by picture, in the hole"
HTML, CSV, MARKDOWN = "report.html", "report.csv", "report.md"


def write(folder: Path, shown: int = 8) -> list[Path]:
    """Write the report beside the rows; the files. shown: pictures in a contact sheet, at most. Raises as `load`, and `NotWritable`."""
    from inpaintkit.evaluate.page import page

    results = load(folder)
    sets = set_tables(results)
    texts = {HTML: page(results, sets, shown), CSV: table(results), MARKDOWN: markdown(results, sets)}
    for name, text in texts.items():
        write_bytes(results.folder / name, text.encode())
    return [results.folder / name for name in texts]


def table(results: Results) -> str:
    """All rows as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{region} {metric}" for region in REGIONS for metric in results.metrics]
    cost = "seam", "changed", "nfe", "nfe_backward", "seconds", "memory"
    writer.writerow(["cell", "mask", "picture", "seed", "area", *names, *cost, "file", "error"])
    for row in results.rows:
        values = [row.value(region, metric) for region in REGIONS for metric in results.metrics]
        key = [row.cell, row.mask, row.picture, row.seed, row.area]
        writer.writerow([safe(v) for v in [*key, *values, *(getattr(row, name) for name in cost), row.file, row.error]])
    return out.getvalue()


def safe(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers, what is not there is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def markdown(results: Results, sets: "Sets") -> str:
    """The summary of each region, with tables by mask and by the share of the hole; differences; distances of sets."""
    suite = results.about["suite"]
    text = [f"# {cell(suite['name'])}", "", f"{facts(results)}.", "", *([cell(suite["notes"]), ""] if suite["notes"] else [])]
    for region in SHOWN_FIRST:
        text += [f"## {region}", "", *_table(*summary(results, region)), ""]
        for metric in results.metrics:
            text += [f"### {title(results, metric)}, by mask", "", *_table(*by_mask(results, region, metric)), ""]
            text += [f"### {title(results, metric)}, by share of the hole", "", *_table(*by_share(results, region, metric)), ""]
    if len(results.cells) > 1:
        text += [f"## {PAIRED}", ""]
        for metric in results.metrics:
            text += [f"### {title(results, metric)}", "", *_table(*paired(results, metric)), ""]
    for name, (head, lines) in sets.tables.items():
        text += [f"## {cell(SETS.format(name=name))}", "", *_table(head, lines), ""]
    text += [part for line in sets.left for part in (f"Left out: {cell(line)}", "")]
    return "\n".join(text)


def facts(results: Results) -> str:
    """n, size, seeds, masks, machine, versions: what a figure has to be read with."""
    about, suite = results.about, results.about["suite"]
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    noise = about.get("noise", "of the seed, the same for all pictures")
    machines = "; ".join(f"{machine['processor']}, {machine['date']}" for machine in about["machines"])
    return (
        f"{len(results.pictures)} {counted(suite['images'])} of {suite['images']['size']} px, masks {', '.join(results.masks)}, "
        f"seeds {', '.join(map(str, suite['seeds']))}, noise {noise}; {len(results.rows)} of {sum(c['rows'] for c in results.cells)} rows, "
        f"{len(results.rows) - len(results.good)} failed; "
        f"{', '.join(about['device']) or 'cpu'}, {', '.join(about['dtype']) or 'no network'}, {about['threads']} threads, "
        f"{machines}; {versions}"
    )


def counted(images: dict[str, Any]) -> str:
    """What the pictures are."""
    each = images.get("crops", 1)
    return "pictures" if each == 1 else f"crops ({each} of each picture, which resemble each other: intervals are too narrow)"


def summary(results: Results, region: Region) -> tuple[list[str], list[list[str]]]:
    """(head, lines) of the table of ways, figures with 95 % intervals over pictures."""
    head = ["way", "steps", "evaluations", *(title(results, m) for m in results.metrics)]
    head += [
        "seam (1 = as in the truth)",
        "diversity of seeds, of 255",
        "s per sample",
        "peak MiB",
        "change outside",
        "n",
        "rows",
        "failed",
    ]
    lines = []
    for line in (results.line(cell, region) for cell in results.cells):
        n = max((f.n for f in line.figures.values()), default=0)
        figures = [shown(line.figures[m]) for m in results.metrics]
        tail = [number(v) for v in (line.seam, line.diversity, line.seconds, line.memory, line.changed)]
        lines.append(
            [line.cell["label"], str(line.cell["steps"] or "-"), evaluations(line), *figures, *tail, str(n), rows(line), str(line.failed)]
        )
    return head, lines


def by_mask(results: Results, region: Region, metric: str) -> tuple[list[str], list[list[str]]]:
    """(head, lines) of one metric by kind of mask."""
    area = {mask: mean(row.area for row in results.rows if row.mask == mask) for mask in results.masks}
    head = ["way", *(f"{mask} ({area[mask]:.0%} hole)" for mask in results.masks)]
    lines = [[cell["label"], *(shown(of(results.of(cell["label"], m), region, metric)) for m in results.masks)] for cell in results.cells]
    return head, lines


def by_share(results: Results, region: Region, metric: str) -> tuple[list[str], list[list[str]]]:
    """(head, lines) of one metric by the hole's share of the picture."""
    head = list(by_area(results.good))
    bins = [by_area(results.of(cell["label"])) for cell in results.cells]
    lines = [[c["label"], *(shown(of(b.get(name, []), region, metric)) for name in head)] for c, b in zip(results.cells, bins, strict=True)]
    return ["way", *head], lines


def paired(results: Results, metric: str) -> tuple[list[str], list[list[str]]]:
    """(head, lines): the way on the left less the one above, on the same masks and pictures, in the hole."""
    names = [cell["label"] for cell in results.cells]
    lines = [[one, *("" if one == other else signed(results.ahead(one, other, metric)) for other in names)] for one in names]
    return ["less", *names], lines


def signed(figure: Figure) -> str:
    """A difference with its interval."""
    if math.isnan(figure.mean):
        return "-"
    exact = f"; {figure.exact} without, one being exact" if figure.exact else ""
    return f"{figure.mean:+.3g}" + ("" if math.isnan(figure.low) else f" [{figure.low:+.3g}, {figure.high:+.3g}]") + exact


@dataclass(frozen=True)
class Sets:
    """Distances of each way's pictures from the truths, as sets."""

    tables: dict[str, tuple[list[str], list[list[str]]]]
    """What it is called -> (head, lines); where a way has fewer pictures than others they are counted."""
    left: list[str]
    """Of what is left out why, a line."""


def set_tables(results: Results) -> Sets:
    """The distances as tables."""
    found, left = distances(results)
    tables = {}
    for name, of_cells in found.items():
        most = {mask: max(of_cells[cell["label"], mask].n for cell in results.cells) for mask in results.masks}

        def told(figure: Figure, most: int) -> str:
            return shown(figure) + (f" ({figure.n} of {most})" if figure.n < most else "")

        lines = [[c["label"], *(told(of_cells[c["label"], mask], most[mask]) for mask in results.masks)] for c in results.cells]
        tables[name] = ["way", *results.masks], lines
    return Sets(tables, left)


def rows(line: Line) -> str:
    """How many rows there are, and of how many when some are not made."""
    return f"{line.made}" if line.complete else f"{line.made} of {line.wanted}"


def title(results: Results, metric: str) -> str:
    about = results.metrics[metric]
    unit = f" {about['unit']}" if about["unit"] else ""
    name = metric if "[" in metric else metric.replace("_", "-").upper()  # what stands in brackets is a file's name
    return f"{name}{unit} {'↑' if about['higher'] else '↓'}"


def evaluations(line: Line) -> str:
    return f"{line.nfe:.0f}" + (f" + {line.nfe_backward:.0f} backward" if line.nfe_backward else "") if not math.isnan(line.nfe) else "-"


def shown(figure: Figure) -> str:
    exact = f" and {figure.exact} exact" if figure.exact else ""
    if math.isnan(figure.mean):
        return exact.removeprefix(" and ") or "-"
    return number(figure.mean) + ("" if math.isnan(figure.low) else f" [{number(figure.low)}, {number(figure.high)}]") + exact


def number(value: float) -> str:
    """Three digits, more of what is above 1000."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 or value == 0 else f"{value:#.3g}".removesuffix(".")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = "|---" * len(head) + "|"
    return [f"| {' | '.join(map(cell, head))} |", rule, *(f"| {' | '.join(map(cell, line))} |" for line in lines)]


def cell(text: str) -> str:
    """Text that neither ends a cell of a Markdown table nor is taken for HTML or a link."""
    for sign in "\\|<>[]`*_" if not re.fullmatch(r"[\d.,+e \[\]-]+", text) else "":  # a figure with its interval stays legible
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
