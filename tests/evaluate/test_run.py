"""A benchmark's rows are the same whenever and however they are made, and one that fails is a row too."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from evaluate import suite as small
from inpaintkit.core.errors import BadInput, NotWritable
from inpaintkit.evaluate import rows
from inpaintkit.evaluate.grid import expected_minutes, fingerprint
from inpaintkit.evaluate.metrics import METRICS
from inpaintkit.evaluate.run import remaining, run


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def figures(folder: Path) -> list:
    """What must not depend on the run: all but seconds and memory."""
    kept = [replace(row, seconds=0.0, memory=None) for row in rows.read(folder)]
    return [rows.line(row) for row in kept]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("suite")


@pytest.fixture(scope="module")
def whole(home) -> Path:
    """A run from beginning to end."""
    out = home / "whole"
    outcome = run(small.grid(home), out)
    assert (outcome.done, outcome.kept, outcome.failed) == (12, 0, 0)
    return out


def test_an_interrupted_and_resumed_run_agrees_bit_for_bit(home, whole, tmp_path):
    def stop(number, total, row):
        if number == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small.grid(home), tmp_path / "out", tell=stop)
    with open(tmp_path / "out" / rows.ROWS, "ab") as file:
        file.write(b'{"cell": "told", "ma')  # as a process leaves it that died while writing
    before = (tmp_path / "out" / rows.read(tmp_path / "out")[0].file).stat().st_mtime_ns
    outcome = run(small.grid(home), tmp_path / "out", resume=True)
    assert (outcome.done, outcome.kept) == (5, 7)
    assert (tmp_path / "out" / rows.read(tmp_path / "out")[0].file).stat().st_mtime_ns == before
    assert bytes_of(tmp_path / "out") == bytes_of(whole)
    assert figures(tmp_path / "out") == figures(whole)


def test_a_row_whose_picture_is_gone_is_made_again(home, whole, tmp_path):
    run(small.grid(home), tmp_path / "out")
    last = rows.read(tmp_path / "out")[-1]
    (tmp_path / "out" / last.file).unlink()
    todo, kept = remaining(small.grid(home), tmp_path / "out")
    assert ([job.picture for job in todo], len(kept)) == ([last.picture], 11)


def test_a_row_says_what_it_cost_and_that_known_pixels_are_as_they_were(home, whole):
    grid = small.grid(home)
    for job, row in zip(grid.jobs(), rows.read(whole), strict=True):
        assert row.changed == 0
        assert row.nfe == grid.evaluations(job)  # what a dry run says
        assert row.nfe == (0 if row.cell == "telea" else small.STEPS + (row.mask == "right-half"))  # deep: a finer level of one step
        files = f"truth/{row.picture}.png", row.file, f"masks/{row.mask}/{row.picture}.png"
        truth, made, hole = (np.asarray(Image.open(whole / file)) for file in files)
        assert row.area == (hole > 0).mean()
        error = np.abs(made.astype(float) - truth)[hole > 0].mean()
        assert row.value("hole", "mae") == pytest.approx(error, rel=1e-5)  # float32 samples in [-1, 1]
    assert {row.seed for row in rows.read(whole) if row.cell == "telea"} == {None}


def test_seeds_differ_where_the_network_fills(whole):
    by_seed = {row.seed: row for row in rows.read(whole) if (row.cell, row.mask, row.picture) == ("told", "right-half", "photo-0")}
    assert by_seed[0].metrics != by_seed[1].metrics


def test_nothing_that_fills_sees_the_truth(home, whole, tmp_path):
    grid = small.grid(home, masks={"kinds": ["right-half"]})
    other = {name: picture.copy() for name, picture in grid.pictures.items()}
    for name, picture in other.items():
        picture[grid.holes["right-half", name]] ^= 255
    run(grid, tmp_path / "one")
    run(small.with_pictures(grid, other), tmp_path / "other")
    one, changed = bytes_of(tmp_path / "one" / "pictures"), bytes_of(tmp_path / "other" / "pictures")
    assert one == changed
    assert bytes_of(tmp_path / "one" / "truth") != bytes_of(tmp_path / "other" / "truth")


def test_a_failing_way_leaves_its_rows_and_the_others_go_on(home, tmp_path):
    untold = tiny.folder(tmp_path / "untold", tiny.network(condition=None))
    told = {"name": "plain", "fields": {"walk": {"steps": 1}}, "options": {"guidance": 2.0}}
    outcome = run(small.grid(home, models=[str(untold), str(home / "tiny")], methods=[told], seeds=[0]), tmp_path / "out")
    assert (outcome.done, outcome.failed) == (12, 4)
    failed = [row for row in rows.read(tmp_path / "out") if row.error is not None]
    assert all("is told nothing, so it cannot be guided" in row.error and not row.file for row in failed)
    good = [row for row in rows.read(tmp_path / "out") if row.error is None and row.cell != "telea"]
    assert [row.nfe for row in good if row.mask == "box"] == [2] * 2  # with and without the condition


def test_results_of_another_suite_are_refused_with_the_difference(home, whole):
    with pytest.raises(BadInput, match=r"another suite or version \(suite.seeds: \[0, 1\] there, \[0\] now\)"):
        run(small.grid(home, seeds=[0]), whole, resume=True)


def test_results_of_another_version_are_refused(home, whole, tmp_path):
    run(small.grid(home, seeds=[0]), tmp_path / "out")
    path = tmp_path / "out" / rows.SUITE
    about = json.loads(path.read_text())
    about["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(about))
    with pytest.raises(BadInput, match=r"\(versions.torch: \"1.0\" there, "):
        run(small.grid(home, seeds=[0]), tmp_path / "out", resume=True)


def test_results_are_not_gone_on_with_unasked(home, whole, tmp_path):
    with pytest.raises(NotWritable, match="--resume"):
        run(small.grid(home), whole)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(NotWritable, match="not an empty folder"):
        run(small.grid(home), tmp_path)


def test_a_damaged_row_is_named(whole, tmp_path):
    lines = (whole / rows.ROWS).read_text().splitlines(keepends=True)
    (tmp_path / rows.ROWS).write_text(lines[0] + "{}\n" + lines[1])
    with pytest.raises(BadInput, match=r"rows.jsonl, line 2: "):
        rows.read(tmp_path)


def test_a_folder_without_a_mask_for_every_picture_is_refused(home, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(folder / "photo 0.png")
    with pytest.raises(BadInput, match="has no mask for photo-1; name each after its picture"):
        small.grid(home, masks={"folders": [str(folder)]})
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(folder / "photo 1.png")
    with pytest.raises(BadInput, match="16x16"):
        small.grid(home, masks={"folders": [str(folder)]})


def test_a_mask_does_not_depend_on_the_other_pictures(home, tmp_path):
    every, one = small.grid(home), small.grid(home, images={"source": str(home / "photos"), "size": 32, "limit": 1})
    (name,) = one.pictures
    assert (every.holes["box", name] == one.holes["box", name]).all()
    assert fingerprint(every.holes) != fingerprint(one.holes)


def test_metrics_without_their_weights_are_refused_before_any_work(home, tmp_path, monkeypatch):
    monkeypatch.setenv("INPAINTKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(BadInput, match=r"alexnet.*no such file; get"):
        small.grid(home, metrics=["lpips_alex"])


def test_expected_minutes_are_evaluations_times_the_measured_call(home, whole):
    grid = small.grid(home)
    ticks = iter([0.0, 99.0, 100.0, 103.0])  # the second call took three seconds
    assert expected_minutes(grid, grid.jobs(), lambda: next(ticks)) == pytest.approx(sum(row.nfe for row in rows.read(whole)) * 3 / 60)


def test_numbers_that_json_lacks_come_back(whole, tmp_path):
    row = replace(rows.read(whole)[0], metrics={"hole": {"psnr": np.inf, "ms_ssim": np.nan}})
    rows.write(tmp_path, [row])
    back = rows.read(tmp_path)[0]
    assert back.value("hole", "psnr") == np.inf
    assert np.isnan(back.value("hole", "ms_ssim"))
    assert set(METRICS) >= {"psnr", "ms_ssim"}
