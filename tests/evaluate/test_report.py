"""A report holds nothing but what the rows say, in one page that needs nothing else; the vote counts as it should."""

import base64
import csv
import json
import math
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evaluate import suite as small
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.evaluate import distances, extractors, features, gallery, index, parts, report, results, rows, sets, suites, vote
from inpaintkit.evaluate.charts import Mark, front, lines, scatter
from inpaintkit.evaluate.figures import share
from inpaintkit.evaluate.inception import Inception, clean
from inpaintkit.evaluate.metrics import REGIONS, interval
from inpaintkit.evaluate.results import of
from inpaintkit.evaluate.run import run

EVIL = "=<script>alert('x')</script>|"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A reported run of a suite with a label that means harm, one of its rows failed."""
    home = tmp_path_factory.mktemp("suite")
    methods = [{"name": "plain", "label": label, "fields": {"walk": {"steps": n}}} for n, label in ((1, EVIL), (2, "told"))]
    run(small.grid(home, methods=methods), home / "out")
    made = rows.read(home / "out")
    rows.write(home / "out", [*made[:-1], replace(made[-1], error="it's <b>broken</b>", file="", metrics={})])
    report.write(home / "out")
    return home / "out"


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def parsed(path: Path) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text())
    return reader


def test_the_page_needs_nothing_outside_it(folder):
    page = parsed(folder / report.HTML)
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset", "data", "action")]
    assert sources
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object")]
    text = (folder / report.HTML).read_text()
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "@import" not in text


def test_names_are_text_and_never_markup(folder):
    page = parsed(folder / report.HTML)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1  # the page's own
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert any(EVIL in row[0] for row in page.rows if row)


def test_pictures_are_in_the_page_once_and_are_those_of_the_folder(folder):
    page = parsed(folder / report.HTML)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    inside = {attrs["id"]: base64.b64decode(attrs["src"].split(",")[1]) for attrs in images if "src" in attrs}
    assert len(set(inside.values())) >= 10
    assert {attrs["data-like"] for attrs in images if "data-like" in attrs} <= inside.keys()
    for row in rows.read(folder):
        if row.error is None:
            assert (folder / row.file).read_bytes() in inside.values()


def test_ways_from_noise_are_shown_with_their_levels(folder):
    text = (folder / report.HTML).read_text().split("From noise to picture")[1]
    kept = [row for row in rows.read(folder) if row.strip]
    assert len(kept) == 4  # two ways with a network, two masks
    for row in kept:
        assert base64.b64encode((folder / row.strip).read_bytes()).decode() in text
        assert f"{row.mask}, {row.picture}: noise levels {', '.join(map(str, row.levels))}" in text


def test_a_run_of_parts_has_a_page_that_leads_to_them(folder, tmp_path):
    (tmp_path / parts.LIST).write_text(json.dumps({"name": "all <b>", "notes": "why", "parts": ["one", "two"]}))
    shutil.copytree(folder, tmp_path / "one")
    files = index.write(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in files} == {
        *("report.html", "report.md", "one/report.html", "one/report.csv", "one/report.md")
    }
    page = parsed(tmp_path / report.HTML)
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == ["one/report.html"]
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert next(row for row in page.rows if row and row[0].endswith("told"))[1] == "2"
    assert "not run yet" in (tmp_path / report.HTML).read_text()
    text = (tmp_path / report.MARKDOWN).read_text()
    assert text.startswith("# all \\<b\\>\n\nwhy\n")
    assert "\n## small\n" in text
    assert "\n### hole\n" in text
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(BadInput, match="none of its parts has a row yet"):
        index.write(tmp_path)


def test_sets_are_compared_on_the_features_a_suite_names(tmp_path):
    save_file(dict(extractors.EXTRACTORS["squeezenet1_1"]().maps.state_dict()), tmp_path / "mine.safetensors")
    small.pictures(tmp_path / "photos", 4)
    run(small.grid(tmp_path, features=[str(tmp_path / "mine.safetensors")], fillers=[], masks={"kinds": ["box"]}), tmp_path / "out")
    found = results.load(tmp_path / "out")
    extract = extractors.load(tmp_path / "mine.safetensors").extract
    first = [row for row in found.good if row.seed == 0]
    real, fake = [], []
    with torch.no_grad():
        for row in first:
            for features, file in ((real, f"truth/{row.picture}.png"), (fake, row.file)):
                values = torch.from_numpy(found.array(file).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
                features.append(extract(values)[1][0].double().numpy())
    figure = distances.distances(found)[0]["kernel[mine]"]["told", "box"]
    assert (figure.mean, figure.low, figure.high) == pytest.approx(sets.kernel(np.array(real), np.array(fake)))
    assert figure.n == 4
    report.write(tmp_path / "out")
    assert "kernel[mine]" in (tmp_path / "out" / report.HTML).read_text()
    assert "kernel" in (tmp_path / "out" / report.MARKDOWN).read_text()
    (tmp_path / "mine.safetensors").unlink()
    table, left = distances.distances(found)
    assert (table, len(left)) == ({}, 1)
    assert left[0].startswith("kernel[mine]: ")
    assert "no such file" in left[0]
    report.write(tmp_path / "out")
    assert all("Left out: kernel" in (tmp_path / "out" / name).read_text() for name in (report.HTML, report.MARKDOWN))


def test_the_figures_are_those_of_the_rows(folder):
    mine = [row for row in rows.read(folder) if row.cell == "told" and row.error is None]
    by_picture = [fmean(row.metrics["hole"]["psnr"] for row in mine if row.picture == name) for name in ("photo-0", "photo-1")]
    text = f"{fmean(by_picture):.1f}"  # two pictures are too few for an interval
    line = next(row for row in parsed(folder / report.HTML).rows if row and row[0].endswith("told") and len(row) > 6)
    assert line[3] == text
    assert line[1] == "2"
    assert line[-3:] == ["2", "7 of 8", "1"]  # n, rows, failed
    assert f"| {text} |" in (folder / report.MARKDOWN).read_text()


def test_a_way_that_failed_is_not_the_best(folder):
    assert not best((folder / report.HTML).read_text(), "told")
    assert "class=best" in (folder / report.HTML).read_text()


def test_a_way_whose_rows_are_not_all_made_is_not_the_best(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    made = rows.read(folder)
    whole = [row for row in made if row.cell != "told"]
    few = [replace(row, metrics={r: m | {"psnr": 99.0} for r, m in row.metrics.items()}) for row in made if row.cell == "told"][:3]
    rows.write(tmp_path / "out", whole + few)
    report.write(tmp_path / "out")
    text = (tmp_path / "out" / report.HTML).read_text()
    assert not best(text, "told")
    assert "told: 99.0" not in text  # in no chart of cost
    assert "3 of 8" in text
    assert f"{len(whole) + 3} of {len(made)} rows" in text


def test_an_exact_picture_is_counted_and_its_column_has_no_best(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    made = rows.read(folder)
    rows.write(tmp_path / "out", [replace(row, metrics={"hole": {"psnr": math.inf}}) if row.cell == "telea" else row for row in made])
    report.write(tmp_path / "out")
    assert "| 4 exact |" in (tmp_path / "out" / report.MARKDOWN).read_text()
    found = results.load(tmp_path / "out")
    assert found.won("telea", EVIL).mean == 1


def best(page: str, label: str) -> bool:
    """Whether a way is marked as best in any table."""
    lines = [part for part in page.split("<tr>") if f"</span>{label}</td>" in part]
    assert lines
    return any("class=best" in part for part in lines)


def test_no_spreadsheet_takes_a_name_for_a_formula(folder):
    with open(folder / report.CSV, newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows.read(folder))
    assert not any(value.startswith(("=", "+", "@")) for line in table for value in line.values())
    assert {line["cell"] for line in table} == {"telea", "told", f"'{EVIL}"}
    assert [report.safe(v) for v in ("-1+1", "@x", "+1", "\tx")] == ["'-1+1", "'@x", "'+1", "'\tx"]
    assert [report.safe(v) for v in (-1.5, None, math.nan, "a=b")] == [-1.5, "", "", "a=b"]
    first = rows.read(folder)[0]
    assert float(table[0]["hole psnr"]) == first.value("hole", "psnr")


def test_whose_noise_it_was_is_said(folder):
    found = results.load(folder)
    assert "seeds 0, 1, noise of the seed and the picture's name; " in report.facts(found)
    earlier = {name: value for name, value in found.about.items() if name != "noise"}
    assert "noise of the seed, the same for all pictures; " in report.facts(replace(found, about=earlier))


def test_wins_are_of_the_same_mask_and_picture(folder):
    found = results.load(folder)
    one, other = found.won("telea", EVIL), found.won(EVIL, "telea")
    assert one.mean + other.mean == pytest.approx(1)
    assert (math.isnan(one.low), one.n) == (True, 2)
    better = [
        found.of("telea", mask)[i].value("hole", "psnr")
        > fmean(row.value("hole", "psnr") for row in found.of(EVIL, mask) if row.picture == picture)
        for mask in found.masks
        for i, picture in enumerate(found.pictures)
    ]
    assert one.mean == pytest.approx(fmean(better))


def several(folder: Path, values: dict[str, list[float]]) -> results.Results:
    """Results with a picture for every value of PSNR in the hole."""
    found = results.load(folder)
    made = [
        replace(found.good[0], cell=cell, picture=f"p{i}", metrics={"hole": {"psnr": value}})
        for cell, numbers in values.items()
        for i, value in enumerate(numbers)
    ]
    return replace(found, rows=made)


def test_differences_and_wins_are_picture_by_picture(folder):
    found = several(folder, {"telea": [20.0] * 12, "told": [19.0, 18.0] * 6})
    ahead = found.ahead("telea", "told", "psnr")
    assert (ahead.mean, ahead.n) == (1.5, 12)
    assert (ahead.low, ahead.high) == interval([1.0, 2.0] * 6)
    assert found.ahead("told", "telea", "psnr").high == pytest.approx(-ahead.low, abs=0.02)
    won = found.won("telea", "told")  # Wilson's interval of 12 of 12
    assert (won.mean, won.n) == (1.0, 12)
    assert (won.low, won.high) == (pytest.approx(0.7575, abs=1e-4), pytest.approx(1.0))
    head, lines = report.paired(found, "psnr")
    line = next(line for line in lines if line[0] == "told")
    assert line[head.index("telea")] == report.signed(found.ahead("told", "telea", "psnr"))
    assert line[head.index("telea")].startswith("-1.5 [-1.8")
    assert line[head.index("told")] == ""
    assert f"\n## {report.PAIRED}\n" in report.markdown(found, report.set_tables(found))


def test_share_of_the_hole_has_a_table_in_every_region(folder):
    found = several(folder, {"telea": [20.0] * 12, "told": [19.0, 18.0] * 6})
    areas = [0.1, 0.31, 0.4] * 4  # a bin holds its upper edge
    found = replace(found, rows=[replace(row, area=areas[i % 12]) for i, row in enumerate(found.rows)])
    head, lines = report.by_share(found, "hole", "psnr")
    assert head == ["way", "0% to 10%", "30% to 40%"]
    for line in (line for line in lines if line[0] != EVIL):
        for name, within in zip(head[1:], ((0.0, 0.1), (0.3, 0.4)), strict=True):
            rows = [row for row in found.of(line[0]) if within[0] < row.area <= within[1]]
            assert rows
            assert line[head.index(name)] == report.shown(of(rows, "hole", "psnr"))
    text = report.markdown(found, report.set_tables(found))
    for region in REGIONS:
        assert f"\n## {region}\n" in text
    assert text.count("| way | 0% to 10% | 30% to 40% |") == len(REGIONS) * len(found.metrics)


def test_an_exact_result_has_no_difference_and_is_counted(folder):
    found = several(folder, {"telea": [math.inf, math.inf, *[20.0] * 8], "told": [math.inf, *[19.0] * 9]})
    ahead = found.ahead("telea", "told", "psnr")
    assert (ahead.mean, ahead.n, ahead.exact) == (pytest.approx(8 / 9), 9, 1)
    assert report.signed(ahead).endswith("; 1 without, one being exact")


def test_wilsons_interval_is_the_published_one():
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, 15 of 148 0.0624 to 0.1605, 0 of 20 0 to 0.1611."""
    for won, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = share((str(i), float(i < won)) for i in range(n))
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_rows_that_are_not_made_are_not_called_failed(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    made = rows.read(folder)
    rows.write(tmp_path / "out", [row for row in made if row.cell == "telea"] + [row for row in made if row.error is not None])
    text = gallery.sheets(found := results.load(tmp_path / "out"), gallery.Pictures(found), 8)
    assert text.count("<td>failed</td>") == 1
    assert text.count("<td>not made yet</td>") == 2 * len(found.masks) * len(found.pictures) - 1


def test_files_of_another_version_are_told(folder, tmp_path):
    for key in ("metrics", "device", "machines"):
        about = json.loads((folder / rows.SUITE).read_text())
        del about[key]
        (tmp_path / rows.SUITE).write_text(json.dumps(about))
        with pytest.raises(BadInput, match=f"was written by another version of inpaintkit .it has no {key}.; run the suite again"):
            rows.about(tmp_path)
    about = json.loads((folder / rows.SUITE).read_text())
    del about["cells"][0]["rows"]
    (tmp_path / rows.SUITE).write_text(json.dumps(about))
    with pytest.raises(BadInput, match="is not what `inpaintkit bench run` writes"):
        rows.about(tmp_path)
    line = json.loads(rows.line(rows.read(folder)[0])) | {"area": "much"}
    (tmp_path / rows.ROWS).write_text(json.dumps(line) + "\n")
    with pytest.raises(BadInput, match="line 1: is no row of a benchmark"):
        rows.read(tmp_path)


def test_kid_and_fid_stand_in_tables_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("INPAINTKIT_WEIGHTS", str(tmp_path / "weights"))
    small.pictures(tmp_path / "photos", 4)
    suite = {"metrics": ["psnr", "kid"], "fillers": ["telea", "ns"], "methods": [], "models": [], "masks": {"kinds": ["box"]}}
    with pytest.raises(BadInput, match=r"pt_inception.*no such file; get"):
        small.grid(tmp_path, **suite)
    (tmp_path / "weights").mkdir()
    torch.save(Inception().state_dict(), tmp_path / "weights" / features.WEIGHTS["inception"].file)
    run(grid := small.grid(tmp_path, **suite), tmp_path / "out")
    assert list(grid.metrics) == ["psnr"]
    assert any("inception" in file for file in grid.files())
    found = results.load(tmp_path / "out")
    network, pooled = features.inception(), []
    with torch.no_grad():
        for files in zip(*((f"truth/{row.picture}.png", row.file) for row in found.of("telea")), strict=True):
            pictures = [torch.from_numpy(found.array(file).astype(np.float32) / 127.5 - 1).permute(2, 0, 1) for file in files]
            pooled.append(torch.cat([network(clean(picture)[None]) for picture in pictures]).double().numpy())
    expected = sets.kernel(*pooled)
    table, left = distances.distances(found)
    assert (list(table), left) == (["KID"], [])
    figure = table["KID"]["telea", "box"]
    assert (figure.mean, figure.low, figure.high, figure.n) == (*(pytest.approx(v) for v in expected), 4)
    assert "Distance of the sets, KID" in report.markdown(found, report.set_tables(found))
    lost = replace(found, rows=found.rows[1:])
    lines = report.set_tables(lost).tables["KID"][1]
    assert [line[1].endswith(" (3 of 4)") for line in lines] == [True, False]
    torch.save(Inception().state_dict(), tmp_path / "weights" / features.WEIGHTS["inception"].file)  # random, so they are others
    table, left = distances.distances(found)
    assert (table, len(left)) == ({}, 1)
    assert "holds other weights than the run was measured with" in left[0]
    with pytest.raises(UsageError, match="'fid': 4 pictures, and it is biased below 2,000; use kid"):
        small.grid(tmp_path, **suite | {"metrics": ["psnr", "fid"]})
    with pytest.raises(UsageError, match="'kid': is no metric of single pictures and cannot rank"):
        suites.check(replace(grid.suite, metrics=("kid", "psnr")))


def test_results_that_are_not_whole_are_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="bench run"):
        results.load(tmp_path)
    shutil.copytree(folder, tmp_path / "copy")
    row = results.load(tmp_path / "copy").good[0]
    for file in (row.file, f"truth/{row.picture}.png", f"masks/{row.mask}/{row.picture}.png"):
        (tmp_path / "copy" / file).rename(tmp_path / "away")
        with pytest.raises(BadInput, match=f"{file}: is missing; run the suite with --resume"):
            results.load(tmp_path / "copy")
        (tmp_path / "away").rename(tmp_path / "copy" / file)
    (tmp_path / "copy" / rows.ROWS).write_text("")
    with pytest.raises(BadInput, match="has no row yet"):
        results.load(tmp_path / "copy")


def test_the_front_holds_what_nothing_cheaper_beats():
    marks = [Mark(1, 10, 20, "a"), Mark(2, 5, 15, "b"), Mark(3, 7, 14, "c"), Mark(4, 20, 20, "d"), Mark(5, 5, 12, "e")]
    assert [m.number for m in front(marks, higher=True)] == [2, 1]
    assert [m.number for m in front(marks, higher=False)] == [5]


def test_charts_show_every_point_and_bear_missing_ones():
    marks = [Mark(1, 0, 20, "<a>", 19, 21), Mark(2, 250, 25, "b"), Mark(3, 10, math.nan, "c")]
    svg = scatter(marks, "evaluations", "PSNR", True)
    assert svg.count("<circle") == 2
    assert "&lt;a&gt;" in svg
    assert "nan" not in svg
    assert scatter([], "x", "y", True) == lines([[]], "x", "y")
    assert lines([[Mark(1, 0.1, 5, "a"), Mark(1, 0.2, 6, "b")], [Mark(2, 0.1, math.nan, "c")]], "x", "y").count("<circle") == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(1234.5, "1234"), (123.45, "123"), (99.97, "100"), (12.345, "12.3"), (1.2345, "1.23")],
        *[(0.12345, "0.123"), (0.0012, "0.00120"), (-0.0004, "-0.000400"), (0, "0")],
    ],
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


def test_the_vote_is_blind_random_by_its_seed_and_complete(folder):
    found = results.load(folder)
    data = vote.questions(found, (), 0, 1000)
    pairs = {(frozenset((t["left"], t["right"])), t["mask"], t["picture"]) for t in data["trials"]}
    assert len(pairs) == len(data["trials"]) == 12  # three pairs of ways, two masks, two pictures
    assert {t["left"] < t["right"] for t in data["trials"]} == {True, False}
    assert vote.questions(found, (), 0, 1000) == data
    assert vote.questions(found, (), 1, 1000) != data
    for trial in data["trials"]:
        row = next(r for r in found.of(data["cells"][trial["left"]], trial["mask"]) if r.picture == trial["picture"])
        assert base64.b64decode(data["pictures"][trial["left_picture"]].split(",")[1]) == (folder / row.file).read_bytes()
    assert len(vote.questions(found, ("telea", "told"), 0, 3)["trials"]) == 3
    with pytest.raises(UsageError, match="there are telea"):
        vote.questions(found, ("lama",), 0, 3)
    with pytest.raises(UsageError, match="telea: is one way, and two are compared"):
        vote.questions(found, ("telea",), 0, 3)


def test_of_a_collection_one_part_is_voted_on(tmp_path):
    (tmp_path / parts.LIST).write_text(json.dumps({"name": "all", "notes": "", "parts": ["one", "two"]}))
    with pytest.raises(UsageError, match=r"holds several suites; name one of them, such as .*one"):
        vote.write(tmp_path)


def test_the_votes_page_holds_the_questions_and_no_markup_of_theirs(folder):
    page = parsed(vote.write(folder))
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{"id": "data", "type": "application/json"}, {}]
    text = (folder / vote.HTML).read_text()
    data = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
    assert EVIL in data["cells"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_votes_are_counted_with_wilsons_interval(folder):
    script = vote.write(folder).read_text().rsplit("<script>", 1)[1].split("</script>")[0]
    trials = [{"left": 0, "right": 1}, {"left": 1, "right": 0}, {"left": 0, "right": 1}, {"left": 2, "right": 1}]
    votes = ["left", "left", "skip", "right"]
    asked = f"[wilson(7, 10), wilson(0, 0), counted({json.dumps(trials)}, {json.dumps(votes)})]"
    check = f"{script}; console.log(JSON.stringify({asked}))"
    out = subprocess.run(["node", "-e", check], capture_output=True, text=True, check=True).stdout
    interval_of, empty, pairs = json.loads(out)
    # 7 of 10, written out: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96 gives 0.3968 and 0.8922
    assert interval_of == pytest.approx([0.3968, 0.8922], abs=1e-4)
    assert empty == [0, 1]
    assert pairs == {"0|1": {"a": 0, "b": 1, "won": 1, "n": 2}, "1|2": {"a": 1, "b": 2, "won": 1, "n": 1}}
