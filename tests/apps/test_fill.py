"""`inpaintkit fill`: what is written, printed and recorded."""

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from inpaintkit.methods import METHODS


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def known_equal(before, after) -> bool:
    """Whether the two photos agree outside the fixture's hole, and differ inside."""
    inside = np.zeros((40, 48), bool)
    inside[12:20, 20:30] = True
    return bool((before[~inside] == after[~inside]).all() and (before[inside] != after[inside]).any())


def test_only_the_hole_changes_and_stdout_is_the_path(fill, photo, tmp_path):
    code, out, err = fill()
    assert (code, out) == (0, f"{tmp_path / 'photo.filled.png'}\n")
    assert "move 2 of 2" in err
    assert known_equal(pixels(photo), pixels(tmp_path / "photo.filled.png"))


def test_quiet_prints_nothing_but_the_path(fill, tmp_path):
    assert fill("--quiet")[1:] == (f"{tmp_path / 'photo.filled.png'}\n", "")


def test_json_is_one_object_with_the_record(fill, photo, tmp_path, model):
    code, out, _ = fill("--json", "--seed", 7, "-o", tmp_path / "x.png")
    record = json.loads(out)
    assert code == 0
    assert record["outputs"] == [str(tmp_path / "x.png")]
    assert record["changed_outside"] == 0
    assert not record["lossy"]
    assert (record["seed"], record["steps"], record["nfe"], record["told"]) == (7, 2, 2, True)
    assert record["input_sha256"] == hashlib.sha256(photo.read_bytes()).hexdigest()
    wanted = {"model", "model_sha256", "method", "windows", "hole_fraction", "seconds", "seconds_total"}
    assert wanted | {"dtype", "device", "threads", "micro_batch", "versions"} <= record.keys()


@pytest.mark.parametrize(
    ("argv", "used"),
    [
        ((), "photo-64-few"),
        (("ddnm", "--steps", "1"), "photo-64"),
        (("--tune", "1"), "photo-64"),
        (("--guidance", "2"), "photo-64"),
        (("--guidance", "1"), "photo-64-few"),
        (("--model", "photo-64"), "photo-64"),
        (("--model", "photo-64-few", "plain", "--steps", "1"), "photo-64-few"),
    ],
)
def test_the_bundled_model_that_fills_best_fills_unless_something_else_is_asked_for(cli, photo, mask, tmp_path, argv, used):
    code, out, err = cli("fill", photo, mask, "--json", "-o", tmp_path / "x.png", *argv)
    assert code == 0, err
    assert json.loads(out)["request"]["model"] == used


def test_a_repeated_run_does_something_else_with_the_model_for_that(cli, photo, mask, tmp_path):
    (tmp_path / "r.json").write_text(cli("fill", photo, mask, "--json", "-o", tmp_path / "x.png")[1])

    def again(*argv) -> str:
        out = cli("fill", "--from-record", tmp_path / "r.json", "--json", "--overwrite", "-o", tmp_path / "y.png", *argv)[1]
        return json.loads(out)["model"]

    assert again() == "photo-64-few"
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
    assert again("--guidance", "2") == again("ddnm", "--steps", "1") == "photo-64"
    assert again("--model", "photo-64-few", "ddnm", "--steps", "1") == "photo-64-few"


def test_a_folder_named_like_a_bundled_model_does_not_change_the_record(cli, photo, mask, tmp_path, monkeypatch):
    (tmp_path / "photo-64").mkdir()
    monkeypatch.chdir(tmp_path)
    out = cli("fill", photo, mask, "--json", "-o", tmp_path / "x.png", "plain", "--steps", "1")[1]
    assert json.loads(out)["request"]["model"] == "photo-64"


def test_an_empty_name_of_a_model_is_refused(cli, photo, mask):
    for command in (("fill", photo, mask), ("upscale", photo)):
        code, out, err = cli(*command, "--model", "")
        assert (code in (2, 3), out) == (True, "")
        assert err.startswith("error: ")


def test_changed_outside_is_measured_in_the_written_file(fill, tmp_path):
    code, out, err = fill("--json", "-o", tmp_path / "x.jpg")
    record = json.loads(out)
    assert code == 0
    assert record["lossy"]
    assert record["changed_outside"] > 0
    assert "note: JPEG is lossy" in err


def test_a_jpeg_becomes_a_png(fill, photo, tmp_path):
    jpeg = tmp_path / "j.jpg"
    Image.open(photo).save(jpeg)
    assert fill(image=jpeg)[1] == f"{tmp_path / 'j.filled.png'}\n"
    assert known_equal(pixels(jpeg), pixels(tmp_path / "j.filled.png"))


def test_sixteen_bits_and_alpha_are_kept(fill, tmp_path):
    array = np.random.default_rng(1).integers(0, 65536, (40, 48), np.uint16)
    Image.fromarray(array).save(tmp_path / "deep.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 48, 4), np.uint8)).save(tmp_path / "clear.png")
    assert fill(image=tmp_path / "deep.png")[0] == 0
    assert fill(image=tmp_path / "clear.png")[0] == 0
    deep, clear = pixels(tmp_path / "deep.filled.png"), pixels(tmp_path / "clear.filled.png")
    assert deep.dtype == np.uint16
    assert known_equal(array, deep)
    assert known_equal(pixels(tmp_path / "clear.png"), clear)
    assert (clear[12:20, 20:30, 3] == 255).all()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_table_is_a_subcommand(fill, name):
    code, out, err = fill("--json", method=(name, "--steps", 2, "--jump-length", 1))
    assert code == 0, err
    assert json.loads(out)["method"]["class"] == type(METHODS[name]).__name__
    assert json.loads(out)["changed_outside"] == 0


def test_options_stand_before_or_after_the_method_and_its_fields_reach_it(fill, tmp_path):
    before = json.loads(fill("--json", "--seed", 3, method=("ddim", "--steps", 3, "--eta", 0.5))[1])
    after = json.loads(fill(method=("ddim", "--steps", 3, "--eta", 0.5, "--seed", 3, "--json", "--overwrite"))[1])
    assert before["method"] == after["method"]
    assert before["method"]["eta"] == 0.5
    assert before["seed"] == after["seed"] == 3


def test_without_a_method_the_model_names_it(fill):
    assert json.loads(fill("--json", method=())[1])["method"]["class"] == "Plain"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(fill, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert fill("-o", tmp_path / f"{name}.png", "--seed", seed)[0] == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_variant_k_is_the_picture_of_seed_plus_k(fill, tmp_path):
    code, out, _ = fill("--variants", 2, "--seed", 5)
    assert code == 0
    assert out.split() == [str(tmp_path / "photo.filled-1.png"), str(tmp_path / "photo.filled-2.png")]
    fill("--seed", 6, "-o", tmp_path / "six.png")
    assert (tmp_path / "photo.filled-2.png").read_bytes() == (tmp_path / "six.png").read_bytes()


@pytest.mark.parametrize("boxes", [("--box", "20,12,10,8"), ("--box", "20,12,5,8", "25,12,5,8"), ("--box", "20,12,5,8", "--box=25,12,5,8")])
def test_boxes_are_a_hole(fill, photo, tmp_path, boxes):
    assert fill(*boxes, "-o", tmp_path / "x.png", hole=None)[0] == 0
    assert known_equal(pixels(photo), pixels(tmp_path / "x.png"))


def test_an_inverted_mask_means_the_same_hole(fill, mask, photo, tmp_path):
    Image.fromarray(255 - pixels(mask)).save(tmp_path / "keep.png")
    assert fill("--invert-mask", hole=tmp_path / "keep.png")[0] == 0
    assert known_equal(pixels(photo), pixels(tmp_path / "photo.filled.png"))


def test_a_colour_transparency_and_nan_are_holes(fill, photo, tmp_path):
    array = pixels(photo).copy()
    array[12:20, 20:30] = (255, 0, 255)
    Image.fromarray(array).save(tmp_path / "pink.png")
    clear = np.dstack([array, np.full((40, 48), 255, np.uint8)])
    clear[12:20, 20:30, 3] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    missing = (array / 255).astype(np.float32)
    missing[12:20, 20:30] = np.nan
    np.save(tmp_path / "missing.npy", missing)
    for name, source in (("pink.png", "color:#ff00ff"), ("clear.png", "alpha"), ("missing.npy", "nan")):
        code, out, err = fill("--mask-from", source, "--json", image=tmp_path / name, hole=None)
        assert code == 0, err
        assert json.loads(out)["hole_fraction"] == 80 / (40 * 48)
    assert np.isfinite(np.load(tmp_path / "missing.filled.npy")).all()


def test_hole_all_fills_everything(fill):
    code, out, err = fill("--hole", "all", "--json", hole=None)
    assert code == 0
    assert json.loads(out)["hole_fraction"] == 1
    assert "note: the hole is the whole picture" in err


def test_outpainting_adds_a_frame_and_keeps_the_picture(fill, photo, tmp_path):
    assert fill("--outpaint", "8,4,0,2", hole=None)[0] == 0
    out = pixels(tmp_path / "photo.filled.png")
    assert out.shape == (46, 56, 3)
    assert (out[4:44, 8:] == pixels(photo)).all()


def test_the_plan_counts_what_the_run_then_does(fill, tmp_path):
    plan = json.loads(fill("--plan", "--json")[1])
    assert list(tmp_path.glob("*filled*")) == []
    assert plan["evaluations"] == json.loads(fill("--json")[1])["nfe"]
    code, out, _ = fill("--plan")
    assert code == 0
    assert "2 evaluations" in out
    assert "steps of tuning" not in out
    assert "5 steps of tuning, about " in fill("--plan", "--tune", 5)[1]


def test_tuning_on_the_photo_first_changes_the_fill_and_repeats_from_its_record(fill, cli, photo, tmp_path):
    plain = json.loads(fill("--json", "-o", tmp_path / "plain.png")[1])
    code, out, err = fill("--json", "--tune", 2, "-o", tmp_path / "tuned.png")
    record = tmp_path / "record.json"
    record.write_text(out)
    assert (code, plain["tuned"], json.loads(out)["tuned"]) == (0, 0, 2)
    assert "tuning on " in err
    assert "step 2 of 2" in err
    assert known_equal(pixels(photo), pixels(tmp_path / "tuned.png"))
    assert (pixels(tmp_path / "plain.png") != pixels(tmp_path / "tuned.png")).any()
    assert cli("fill", "--from-record", record, "-o", tmp_path / "again.png")[0] == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "tuned.png").read_bytes()


def test_sheet_gif_and_uncertainty_show_the_run(fill, tmp_path):
    sheet, gif, spread = tmp_path / "s.png", tmp_path / "g.gif", tmp_path / "u.npy"
    code, out, _ = fill("--sheet", sheet, "--gif", gif, "--uncertainty", spread, "--variants", 2, method=("plain", "--steps", 4))
    assert code == 0
    assert out.split()[2:] == [str(sheet), str(gif), str(spread)]
    assert Image.open(sheet).width == 4 * 48 + 3 * 8
    assert Image.open(gif).n_frames >= 5
    std = np.load(spread)
    assert std.shape == (40, 48)
    assert std[:12].max() == 0 < std[12:20, 20:30].mean() < 1


def test_the_animation_of_jumps_shows_noise_rising(fill, tmp_path):
    gif = tmp_path / "g.gif"
    method = ("repaint", "--steps", 6, "--jump-length", 2, "--jump-n-sample", 3)
    assert fill("--gif", gif, "--hole", "all", method=method)[0] == 0
    film, energy = Image.open(gif), []
    for k in range(1, film.n_frames - 1):
        film.seek(k)
        frame = np.asarray(film.convert("L"), float)[:40]
        energy.append(np.abs(np.diff(frame, axis=1)).mean())
    assert sum(b > a for a, b in pairwise(energy)) >= 3  # it would only fall without jumps


def test_a_run_is_repeated_from_its_record_to_the_byte(fill, cli, tmp_path):
    record = tmp_path / "r.json"
    record.write_text(fill("--json", "--seed", 9, "--feather", 2, "-o", tmp_path / "a.png", method=("ddim", "--steps", 3))[1])
    code, _, err = cli("fill", "--from-record", record, "-o", tmp_path / "b.png")
    assert (code, err.count("note:")) == (0, 0), err
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_is_given_replaces_what_the_record_says(fill, cli, mask, tmp_path):
    record = tmp_path / "r.json"
    record.write_text(fill("--json", "--seed", 9)[1])
    Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(tmp_path / "other.png")
    code, out, err = cli("fill", tmp_path / "other.png", mask, "--from-record", record, "--seed", 4, "--json")
    assert code == 0
    assert json.loads(out)["seed"] == 4
    assert "note: the picture is another one than the record's" in err
