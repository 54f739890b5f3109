"""The report of a run: of one suite, or of several parts with a page that leads to them."""

from html import escape
from pathlib import Path

from inpaintkit.core.errors import BadInput
from inpaintkit.core.files import write_bytes
from inpaintkit.evaluate import page, parts, report, rows
from inpaintkit.evaluate.results import Results, load


def write(folder: Path, shown: int = 8) -> list[Path]:
    """Write the report; its files. Raises as `report.write`; parts that have no row yet are named on the page."""
    about = parts.about(folder)
    if about is None:
        return report.write(folder, shown)
    files: list[Path] = []
    found: dict[str, Results | str] = {}
    for name in about["parts"]:
        if not (folder / name / rows.SUITE).exists():
            found[name] = "not run yet"
            continue
        try:
            files += report.write(folder / name, shown)
            found[name] = load(folder / name)
        except BadInput as error:
            found[name] = str(error)
    if not files:
        raise BadInput(f"{folder}: none of its parts has a row yet; run the suite first")
    texts = {report.HTML: _page(about["name"], about["notes"], found), report.MARKDOWN: _markdown(about["name"], about["notes"], found)}
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    return [*(folder / name for name in texts), *files]


def _page(name: str, notes: str, found: dict[str, Results | str]) -> str:
    body = [f"<h1>{escape(name)}</h1>", f"<p>{escape(notes)}</p>" if notes else "", f'<p class="soft">{page.NOTE}</p>']
    for part, results in found.items():
        if isinstance(results, str):
            body.append(f"<h2>{escape(part)}</h2><p>{escape(results)}</p>")
            continue
        suite = results.about["suite"]
        body.append(f'<h2><a href="{escape(part)}/{report.HTML}">{escape(part)}</a></h2>')
        body += [f"<p>{escape(suite['notes'])}</p>" if suite["notes"] else "", page.missing(results)]
        body += [f'<p class="soft">{escape(report.facts(results))}.</p>', page.summary(results, "hole")]
    return page.whole(name, body)


def _markdown(name: str, notes: str, found: dict[str, Results | str]) -> str:
    texts = [f"# {report.cell(name)}", "", *([report.cell(notes), ""] if notes else [])]
    for part, results in found.items():
        if isinstance(results, str):
            texts += [f"## {report.cell(part)}", "", report.cell(results), ""]
        else:
            text = (results.folder / report.MARKDOWN).read_text(encoding="utf-8")
            texts.append(text.replace("\n#", "\n##").replace("# ", "## ", 1))
    return "\n".join(texts)
