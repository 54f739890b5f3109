"""A benchmark's rows are the same whenever and however they are made, and one that fails is a row too."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import tiny
from evaluate import suite as small
from inpaintkit.core.errors import BadInput, NotWritable
from inpaintkit.core.locks import taken
from inpaintkit.data.datasets import load
from inpaintkit.evaluate import extractors, rows
from inpaintkit.evaluate.features import differences, distance
from inpaintkit.evaluate.frozen import freeze
from inpaintkit.evaluate.grid import expected_minutes
from inpaintkit.evaluate.inputs import fingerprint, read_pictures, squares
from inpaintkit.evaluate.metrics import METRICS
from inpaintkit.evaluate.run import remaining, run
from inpaintkit.evaluate.suites import Images, slug


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


def test_a_row_that_was_tried_again_stands_where_it_belongs(home, whole, tmp_path):
    run(small.grid(home), tmp_path / "out")
    made = rows.read(tmp_path / "out")
    rows.write(tmp_path / "out", [replace(made[0], error="no", file=""), *made[1:]])
    assert run(small.grid(home), tmp_path / "out", resume=True).done == 1
    assert figures(tmp_path / "out") == figures(whole)


def test_every_picture_has_noise_of_its_own(home, tmp_path):
    grid = small.grid(home, masks={"kinds": ["right-half"]}, fillers=[])
    one, other = grid.pictures
    same = {one: grid.pictures[one], other: grid.pictures[one]}
    run(replace(grid, pictures=same, holes=dict.fromkeys(grid.holes, grid.holes["right-half", one])), tmp_path / "out")
    first, second = (row.metrics for row in rows.read(tmp_path / "out") if row.seed == 0)
    assert first != second


def test_a_row_whose_picture_is_gone_is_made_again(home, whole, tmp_path):
    run(small.grid(home), tmp_path / "out")
    last = rows.read(tmp_path / "out")[-1]
    (tmp_path / "out" / last.file).unlink()
    todo, kept = remaining(small.grid(home), tmp_path / "out")
    assert ([job.picture for job in todo], len(kept)) == ([last.picture], 11)


def test_what_rows_were_made_from_is_written_again_when_it_is_gone(home, whole, tmp_path):
    """Also what is left of a run that was killed at once: the suite is written first."""
    run(small.grid(home), tmp_path / "out")
    for file in ("truth/photo-0.png", "masks/box/photo-1.png"):
        (tmp_path / "out" / file).unlink()
    (strip,) = {row.strip for row in rows.read(tmp_path / "out") if row.strip and row.mask == "box"}
    (tmp_path / "out" / strip).unlink()
    outcome = run(small.grid(home), tmp_path / "out", resume=True)
    assert (outcome.done, outcome.kept) == (1, 11)
    assert bytes_of(tmp_path / "out") == bytes_of(whole)


def test_a_row_says_what_it_cost_and_that_known_pixels_are_as_they_were(home, whole):
    grid = small.grid(home)
    for job, row in zip(grid.jobs(), rows.read(whole), strict=True):
        assert row.changed == 0
        assert row.nfe == grid.work(job).evaluations  # what a dry run says
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
    grid = small.grid(home, models=[str(untold), str(home / "tiny")], methods=[told], seeds=[0])
    outcome = run(grid, tmp_path / "out")
    assert (outcome.done, outcome.failed) == (12, 4)
    failed = [row for row in rows.read(tmp_path / "out") if row.error is not None]
    assert all("is told nothing, so it cannot be guided" in row.error and not row.file for row in failed)
    good = [row for row in rows.read(tmp_path / "out") if row.error is None and row.cell != "telea"]
    assert [row.nfe for row in good if row.mask == "box"] == [2] * 2  # with and without the condition
    pairs = zip(grid.jobs(), rows.read(tmp_path / "out"), strict=True)
    assert all(grid.work(job).evaluations == row.nfe for job, row in pairs if row.error is None)


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


def test_a_run_goes_on_on_another_machine_and_both_are_named(home, tmp_path):
    run(small.grid(home, seeds=[0]), tmp_path / "out")
    about = rows.about(tmp_path / "out")
    other = about["machines"][0] | {"processor": "another"}
    (tmp_path / "out" / rows.SUITE).write_bytes(rows.dumps(about | {"machines": [other]}))
    assert run(small.grid(home, seeds=[0]), tmp_path / "out", resume=True).done == 0
    assert rows.about(tmp_path / "out")["machines"] == [other, about["machines"][0]]


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


def test_two_masks_of_one_picture_are_refused(home, tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("photo-0.png", "photo-0.bmp", "photo-1.png"):
        Image.new("L", (32, 32), 255).save(tmp_path / "mine" / name)
    with pytest.raises(BadInput, match=r"photo-0.png: and .*photo-0.bmp are masks of one picture"):
        small.grid(home, masks={"folders": [str(tmp_path / "mine")]})


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
    grid = small.grid(home, masks={"kinds": ["box"]})  # no level of which is smaller than the picture
    ticks = iter([0.0, 99.0, 100.0, 103.0, 200.0, 202.0, 300.0, 350.0])  # the median of all but the first is three seconds
    nfe = sum(row.nfe for row in rows.read(whole) if row.mask == "box")
    assert expected_minutes(grid, grid.jobs(), lambda: next(ticks)) == pytest.approx(nfe * 3 / 60)


def test_minutes_of_windows_are_those_of_calls_of_their_size(tmp_path):
    """A network of at most 32 px fills a picture of 64 px in windows of 32: each of their evaluations is one measured call."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "photos" / "large.png")
    narrow = tiny.folder(tmp_path / "narrow", tiny.network(largest=32))
    images, options = {"source": str(tmp_path / "photos"), "size": 64}, {"crop": "none", "reach": 1000.0}
    grid = small.grid(tmp_path, images=images, models=[str(narrow)], options=options, fillers=[], seeds=[0])
    evaluations = sum(grid.work(job).evaluations for job in grid.jobs())
    assert evaluations > small.STEPS * len(grid.jobs())
    ticks = iter([0.0, 99.0, 100.0, 103.0, 200.0, 203.0, 300.0, 303.0])
    assert expected_minutes(grid, grid.jobs(), lambda: next(ticks)) == pytest.approx(evaluations * 3 / 60)


def test_the_way_of_the_first_picture_is_kept_with_its_levels(home, whole):
    grid = small.grid(home)
    first = next(iter(grid.pictures))
    kept = [row for row in rows.read(whole) if row.strip]
    assert {(row.cell, row.mask, row.picture, row.seed) for row in kept} == {("told", mask, first, 0) for mask in ("box", "right-half")}
    for row in kept:
        strip = np.asarray(Image.open(whole / row.strip))
        assert strip.shape == (64, 32 * len(row.levels), 3)  # the state above the estimate, 32 px each
        assert len(row.levels) == row.nfe  # as few moves as these are all shown
        assert row.levels[-1] == 0
        hole = np.asarray(Image.open(whole / f"masks/{row.mask}/{row.picture}.png")) > 0
        last, made = strip[:32, -32:], np.asarray(Image.open(whole / row.file))
        shown = np.abs(last.astype(int) - made)[hole].mean()
        assert shown < 50  # but for the seam the last state is the result; other pictures are 85 away
        assert np.abs(strip[:32, :32].astype(int) - made)[hole].mean() > shown or len(row.levels) == 1


def test_strips_can_be_left_out(home, tmp_path):
    run(small.grid(home, strips=0, seeds=[0]), tmp_path / "out")
    assert not (tmp_path / "out" / "strips").exists()
    assert not any(row.strip or row.levels for row in rows.read(tmp_path / "out"))


def test_a_model_that_was_missing_is_run_when_it_is_there(home, tmp_path):
    ways = [{"name": "plain", "fields": {"walk": {"steps": 1}}}]
    later = tmp_path / "later"
    settings = {"models": [str(home / "tiny"), str(later)], "methods": ways, "fillers": [], "seeds": [0], "masks": {"kinds": ["box"]}}
    assert run(small.grid(home, **settings), tmp_path / "out").done == 2
    tiny.folder(later, tiny.network(seed=1))
    outcome = run(small.grid(home, **settings), tmp_path / "out", resume=True)
    assert (outcome.done, outcome.kept, outcome.failed) == (2, 2, 0)
    assert len(rows.about(tmp_path / "out")["cells"]) == 2
    tiny.folder(tmp_path / "other", tiny.network(seed=2))
    (later / "unet").rename(later / "was")
    (tmp_path / "other" / "unet").rename(later / "unet")
    with pytest.raises(BadInput, match=r"another suite or version \(models\."):
        run(small.grid(home, **settings), tmp_path / "out", resume=True)


def test_two_runs_at_once_in_one_folder_are_refused(home, tmp_path):
    held = taken(tmp_path / "out", "")
    with pytest.raises(NotWritable, match="another process runs a suite there"):
        run(small.grid(home), tmp_path / "out")
    held.release()
    assert run(small.grid(home, seeds=[0]), tmp_path / "out").failed == 0


def test_features_measure_a_distance_under_the_files_name(home, tmp_path):
    extractor = extractors.EXTRACTORS["squeezenet1_1"]()
    save_file(dict(extractor.maps.state_dict()), tmp_path / "mine.safetensors")
    grid = small.grid(home, features=[str(tmp_path / "mine.safetensors")], seeds=[0], masks={"kinds": ["box"]})
    assert list(grid.metrics) == ["psnr", "mae", "ssim", "perceptual[mine]"]
    run(grid, tmp_path / "out")
    row = rows.read(tmp_path / "out")[0]
    pair = (np.asarray(Image.open(tmp_path / "out" / file)) for file in (row.file, f"truth/{row.picture}.png"))
    one, other = (torch.from_numpy(x.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None] for x in pair)
    loaded = extractors.load(tmp_path / "mine.safetensors").extract
    with torch.no_grad():
        expected = float(distance(differences(loaded(one)[0], loaded(other)[0])))
    assert row.value("whole", "perceptual[mine]") == pytest.approx(expected, rel=1e-4)
    assert expected > 0
    save_file(dict(extractors.EXTRACTORS["squeezenet1_1"]().maps.state_dict()), tmp_path / "mine.safetensors")  # other weights
    again = small.grid(home, features=[str(tmp_path / "mine.safetensors")], seeds=[0], masks={"kinds": ["box"]})
    with pytest.raises(BadInput, match=r"another suite or version \(files\."):
        run(again, tmp_path / "out", resume=True)


def test_crops_lie_side_by_side_and_cover_no_pixel_twice():
    image = np.arange(40 * 60 * 3).reshape(40, 60, 3).astype(np.uint16)
    parts = [image[:20, :20], image[:20, 20:40], image[:20, 40:], image[20:, :20], image[20:, 20:40], image[20:, 40:]]
    cut = squares((image % 251).astype(np.uint8), 20, 6)
    assert all((one == part % 251).all() for one, part in zip(cut, parts, strict=True))
    (middle,) = squares((image % 251).astype(np.uint8), 40)
    assert (middle == image[:, 10:50] % 251).all()


def test_pictures_that_would_be_enlarged_are_left_out_and_told(tmp_path):
    small.pictures(tmp_path / "photos", 2)  # 48 x 40 px
    Image.new("RGB", (31, 200)).save(tmp_path / "photos" / "narrow.png")
    told = []
    found = read_pictures(Images(str(tmp_path / "photos"), 32), told.append)
    assert len(found) == 2
    assert told == [f"{tmp_path}/photos: 1 pictures, whose shorter sides are below 32 px"]
    with pytest.raises(BadInput, match="no pictures of at least 96 px"):  # three squares side by side
        read_pictures(Images(str(tmp_path / "photos"), 32, crops=6))
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r'bad.png: not a readable picture.*bad = "skip"'):
        read_pictures(Images(str(tmp_path / "photos"), 32))
    read_pictures(Images(str(tmp_path / "photos"), 32, bad="skip"), told.append)
    assert "1 files that cannot be read, such as" in told[-1]
    grid = small.grid(tmp_path, images={"source": str(tmp_path / "photos"), "size": 32, "bad": "skip"})
    assert len(grid.missing) == 2


def test_masks_of_a_frozen_set_must_be_its_own(home, tmp_path):
    freeze(tmp_path / "set", ["thin"], (32, 32), list(small.grid(home).pictures))
    grid = small.grid(home, masks={"folders": [str(tmp_path / "set" / "thin")]})
    assert {mask for mask, _ in grid.holes} == {"thin"}
    Image.new("L", (32, 32), 255).save(next((tmp_path / "set" / "thin").glob("*.png")))
    with pytest.raises(BadInput, match="is not the mask of the set's list"):
        small.grid(home, masks={"folders": [str(tmp_path / "set" / "thin")]})


def test_held_out_pictures_are_those_that_training_holds_out(tmp_path):
    small.pictures(tmp_path / "many", 40)
    every = load([(tmp_path / "many",)], {})
    expected = {slug(Path(name).stem) for name in every.split()["test"].names}
    found = read_pictures(Images(str(tmp_path / "many"), 32, split="test"))
    assert 0 < len(expected) < 40
    assert set(found) == expected
    few = read_pictures(Images(str(tmp_path / "many"), 32, limit=2, split="test"))
    assert len(few) == 2
    assert set(few) < expected


def test_numbers_that_json_lacks_come_back(whole, tmp_path):
    row = replace(rows.read(whole)[0], metrics={"hole": {"psnr": np.inf, "ms_ssim": np.nan}})
    rows.write(tmp_path, [row])
    back = rows.read(tmp_path)[0]
    assert back.value("hole", "psnr") == np.inf
    assert np.isnan(back.value("hole", "ms_ssim"))
    assert set(METRICS) >= {"psnr", "ms_ssim"}
