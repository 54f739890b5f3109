"""No verdict without a figure, no figure that its source does not have, no cell or command that does not exist."""

import re
from pathlib import Path

import pytest

from inpaintkit.evaluate import parts, suites

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "claims.md"
VERDICTS = ("holds", "fails", "not shown")
DOCUMENTS = ("000", "001", "002", "003", "004")


def claims(text: str) -> list[dict[str, str]]:
    """The rows of the page's tables, with the section each stands in."""
    found, section = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:6]
        elif line.startswith("| ") and not line.startswith("| claim |"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 5, line
            found.append(dict(zip(("claim", "cell", "command", "verdict", "figure"), cells, strict=True)) | {"section": section})
    return found


def slips(row: dict[str, str]) -> list[str]:
    """What is wrong with a row's verdict."""
    wrong = [] if row["verdict"] in VERDICTS else [f"no verdict: {row['verdict']}"]
    if row["verdict"] != "not shown" and not re.search(r"\d", row["figure"]):
        wrong.append(f"{row['verdict']}, without a figure")
    return wrong + [name for name in ("claim", "cell", "command") if not row[name]]


ROWS = claims(PAGE.read_text(encoding="utf-8"))
PARTS = {part.name.rpartition("-")[0]: part for part in parts.read(ROOT / "suites" / "documents.toml")[1]}


def named(row: dict[str, str]) -> str:
    return f"{row['section']} {row['claim'][:50]}"


def test_every_document_has_claims_and_every_kind_of_verdict_occurs():
    assert {row["section"] for row in ROWS} == set(DOCUMENTS)
    assert {row["verdict"] for row in ROWS} == set(VERDICTS)
    assert min(sum(row["section"] == document for row in ROWS) for document in DOCUMENTS) >= 5


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_verdict_stands_on_a_figure(row):
    assert slips(row) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [({"verdict": "holds", "figure": ""}, "without a figure"), ({"verdict": "true"}, "no verdict"), ({"command": ""}, "command")],
)
def test_a_slip_is_seen(change, says):
    good = next(row for row in ROWS if row["verdict"] == "fails")
    assert any(says in slip for slip in slips(good | change))


@pytest.mark.parametrize("row", [row for row in ROWS if "](" in row["figure"]], ids=named)
def test_a_figure_stands_in_the_page_it_is_taken_from(row):
    text = "".join((PAGE.parent / target).read_text(encoding="utf-8") for target in re.findall(r"\]\(([^)#]+)\)", row["figure"]))
    figures = numbers(re.sub(r"\]\([^)]*\)", "", row["figure"]))
    assert figures
    assert figures - numbers(text) == set()


def numbers(text: str) -> set[str]:
    """The numbers of a text that have more than one part: 0.48, 2,410, 3e-15."""
    return set(re.findall(r"(?<![\d.])\d+(?:[.,]\d+)+(?:e-?\d+)?|\d+e-\d+", text))


def test_a_part_of_a_number_is_not_it():
    assert numbers("18.0 [16.1, 19.5], 2,410 and 7.") == {"18.0", "16.1", "19.5", "2,410"}
    assert "8.0" not in numbers("18.0 [")


@pytest.mark.parametrize("row", [row for row in ROWS if row["command"].startswith("`--part")], ids=named)
def test_a_cell_of_the_documents_suite_exists(row):
    part = PARTS[row["command"].strip("`").split()[1]]
    labels = {cell.label for cell in suites.cells(part.suite)}
    assert [name for name in re.findall(r"`([^`]+)`", row["cell"]) if name not in labels] == []


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_command_names_files_that_are_here(row):
    for name in re.findall(r"(?:recipes|tests|suites)/[\w/.-]+", row["command"]):
        assert (ROOT / name).is_file(), name


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).is_file(), target
