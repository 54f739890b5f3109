"""`upscale`, `blind`, `onion`, `mask make`, and `fill` with a reference: outputs, records and refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from inpaintkit.data.masks import MASKS, draw

TWO = ("--steps", 2)
UPSCALE = ("ddnm", *TWO)
BLIND = ("ilvr", *TWO, "--range-t", 0)
ONION = ("plain", *TWO)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def command(cli, model, photo, mask):
    """A command on the photo, on the tiny model, in few steps: name -> (exit code, stdout, stderr)."""
    masked = {"blind": BLIND, "onion": ONION}

    def call(name, *argv, image=photo, hole=mask, method=None) -> tuple[int, str, str]:
        holes = [hole] if name in masked and hole is not None else []
        chosen = method if method is not None else masked.get(name, UPSCALE)
        return cli(name, image, *holes, "--model", model, "--dtype", "float32", *argv, *chosen)

    return call


@pytest.fixture
def refused(cli, tmp_path):
    """Run, check the one line and that no file appeared; the line."""

    def call(code, *argv):
        before = sorted(tmp_path.rglob("*"))
        found, out, err = cli(*argv, "--quiet") if argv[0] != "mask" else cli(*argv)
        assert (found, out, err.count("\n")) == (code, "", 1), err
        assert err.startswith("error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return call


def test_upscale_writes_a_larger_picture_that_pools_to_the_input(command, photo, tmp_path):
    code, out, err = command("upscale")
    assert (code, out) == (0, f"{tmp_path / 'photo.x2.png'}\n")
    assert "move 2 of 2" in err
    large = pixels(tmp_path / "photo.x2.png")
    assert large.shape == (80, 96, 3)
    cells = large.reshape(40, 2, 48, 2, 3)
    whole = ~((cells == 0) | (cells == 255)).any((1, 3))
    assert np.abs(cells.mean((1, 3)) - pixels(photo))[whole].max() <= 0.5


@pytest.mark.parametrize(
    ("way", "method"),
    [("operator", UPSCALE), ("bicubic-mask", ("plain", *TWO)), ("insert-mask", ("plain", *TWO)), ("ilvr", ("ilvr", *TWO))],
)
def test_upscale_in_every_way_by_four(command, photo, way, method):
    code, out, err = command("upscale", "--how", way, "--factor", 4, "--decimated", "--json", "--quiet", method=method)
    assert code == 0, err
    record = json.loads(out)
    assert record["upscale"] == {"factor": 4, "how": way, "down": "avgpool", "decimated": True, "average": 1}
    assert record["outputs"] == [str(photo.with_name("photo.x4.png"))]
    assert pixels(record["outputs"][0]).shape == (160, 192, 3)


def test_the_factor_may_be_left_to_its_default_with_a_method_that_has_one_too(command, photo):
    code, out, err = command("upscale", "--how", "ilvr", "--json", "--quiet", method=("ilvr", *TWO, "--factor", 4))
    assert code == 0, err
    assert (json.loads(out)["upscale"]["factor"], json.loads(out)["method"]["factor"]) == (2, 4)


def test_upscale_makes_variants_and_their_uncertainty(command, tmp_path):
    code, out, _ = command("upscale", "--variants", 2, "--uncertainty", tmp_path / "u.npy", "--quiet")
    assert code == 0
    assert out.split() == [str(tmp_path / name) for name in ("photo.x2-1.png", "photo.x2-2.png", "u.npy")]
    assert np.load(tmp_path / "u.npy").shape == (80, 96)
    assert np.load(tmp_path / "u.npy").mean() > 0


def test_blind_pastes_the_hole_or_gives_the_whole_picture(command, photo, mask, tmp_path):
    code, out, _ = command("blind", "--json")
    record, inside = json.loads(out), pixels(mask) > 0
    assert (code, record["how"], record["pasted"], record["changed_outside"]) == (0, "ilvr", "hole", 0)
    before, after = pixels(photo), pixels(tmp_path / "photo.repaired.png")
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any(-1).all()
    code, out, _ = command("blind", "-o", tmp_path / "whole.png", "--json", hole=None)
    assert (code, json.loads(out)["pasted"]) == (0, "all")
    assert (pixels(tmp_path / "whole.png") != before).any(-1).mean() > 0.9


def test_blind_has_a_default_and_warns_when_the_condition_is_never_used(command, tmp_path):
    code, _, err = command("blind", "-o", tmp_path / "x.png", method=("ilvr", *TWO))
    assert code == 0
    assert "note: range_t = 20" in err


@pytest.mark.parametrize("name", ["model", "telea", "ns", "biharmonic"])
def test_onion_fills_in_rings_with_anything_that_fills(command, cli, photo, mask, name, tmp_path):
    shared = "--ring", 2, "--with", name, "--json", "--sheet", tmp_path / "s.png"
    code, out, err = command("onion", *shared) if name == "model" else cli("onion", photo, mask, *shared)
    assert code == 0, err
    record, inside = json.loads(out), pixels(mask) > 0
    assert (record["with"], record["ring"], record["rings"], record["changed_outside"]) == (name, 2, 2, 0)
    assert ("model_sha256" in record, record["nfe"]) == ((True, 4) if name == "model" else (False, 0))
    assert {"device", "threads", "versions"} <= record.keys()
    assert "ring 2 of 2" in err
    before, after = pixels(photo), pixels(tmp_path / "photo.filled.png")
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any(-1).all()
    assert record["extras"] == [str(tmp_path / "s.png")]


def test_rings_are_filled_by_the_bundled_model_that_fills_best(cli, photo, mask, tmp_path):
    def used(*argv) -> str:
        out = cli("onion", photo, mask, "--ring", 9, "--json", "--overwrite", "-o", tmp_path / "x.png", *argv)[1]
        return json.loads(out)["model"]

    assert used() == "photo-64-few"
    assert used("ddnm", "--steps", "1") == used("--guidance", "2") == "photo-64"


def test_mask_make_draws_what_the_library_draws(cli, tmp_path):
    code, out, _ = cli("mask", "make", "thin", "--size", "96x64", "--seed", 5, "-o", tmp_path / "m.png")
    assert (code, out) == (0, f"{tmp_path / 'm.png'}\n")
    assert np.array_equal(pixels(tmp_path / "m.png"), draw("thin", (96, 64), 5) * np.uint8(255))
    code, out, _ = cli("mask", "make", "expand", "--size", "16x16", "-o", tmp_path / "m.npy", "--json")
    about = {"kind": "expand", "size": [16, 16], "seed": 0, "hole_fraction": 15 / 16}
    assert json.loads(out) == {"outputs": [str(tmp_path / "m.npy")], **about}
    assert np.array_equal(np.load(tmp_path / "m.npy"), draw("expand", (16, 16), 0))


@pytest.mark.parametrize("kind", MASKS)
def test_every_kind_of_mask_is_made_and_passes_its_check(cli, kind, tmp_path):
    assert cli("mask", "make", kind, "--size", "48x40", "-o", tmp_path / "m.png")[0] == 0
    Image.new("RGB", (48, 40)).save(tmp_path / "p.png")
    assert cli("mask", "check", tmp_path / "p.png", tmp_path / "m.png")[0] == 0


def test_fill_takes_the_picture_as_the_reference_of_ilvr(fill, photo, tmp_path):
    method = ("ilvr", *TWO, "--range-t", 0, "--factor", 1)
    assert fill("--hole", "all", "-o", tmp_path / "a.png", hole=None, method=method)[0] == 0
    assert np.abs(pixels(tmp_path / "a.png").astype(int) - pixels(photo)).max() <= 1  # factor 1 overwrites with the reference
    many = ("--hole", "all", "--variants", 2, "--uncertainty", tmp_path / "u.npy", "--json")
    code, out, _ = fill(*many, hole=None, method=("ilvr", *TWO, "--range-t", 0, "--factor", 16))
    record = json.loads(out)
    assert (code, record["nfe"], record["method"]["factor"]) == (0, 2, 16)
    assert np.load(tmp_path / "u.npy").min() > 0
    plan = json.loads(fill("--hole", "all", "--plan", "--json", hole=None, method=("ilvr", *TWO, "--factor", 16))[1])
    assert plan["evaluations"] == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("upscale",), "IMAGE is missing"),
        (("upscale", "IMAGE", "--how", "insert-mask"), "pass --decimated"),
        (("upscale", "IMAGE", "--how", "bicubic-mask"), "pass --decimated"),
        (("upscale", "IMAGE", "--factor", "3"), "--factor"),
        (("upscale", "IMAGE", "--how", "operator", "plain"), "Plain: asks the network alone"),
        (("upscale", "IMAGE", "--how", "ilvr", "ddnm"), "cannot follow a reference"),
        (("upscale", "IMAGE", "--uncertainty", "u.npy"), "--variants"),
        (("blind", "IMAGE", "MASK", "repaint"), "RePaint: has to know the hole"),
        (("blind", "IMAGE", "MASK", "--how", "predict"), "finds the hole itself"),
        (("blind", "IMAGE", "--threshold", "1.5"), "threshold = 1.5"),
        (("blind", "IMAGE", "--detector", "none"), "none: no such model"),
        (("blind", "IMAGE", "--how", "ilvr", "--mask-out", "OUT"), "belong to --how predict"),
        (("blind", "IMAGE", "--invert-mask"), "no MASK file to invert"),
        (("onion", "IMAGE"), "no hole was named; give a MASK file, --box X,Y,W,H or --mask-from alpha"),
        (("onion", "IMAGE", "MASK", "--ring", "0"), "ring = 0"),
        (("onion", "IMAGE", "MASK", "--with", "lama"), "there are model, telea, ns, biharmonic"),
        (("onion", "IMAGE", "MASK", "--with", "telea", "repaint"), "leave RePaint out"),
        (("onion", "IMAGE", "MASK", "--with", "telea", "--seed", "3"), "--with telea: does not sample; leave --seed out"),
        (("onion", "IMAGE", "MASK", "--with", "ns", "--guidance", "3"), "--with ns: does not sample; leave --guidance out"),
        (("mask", "make", "thin", "--size", "0x5", "-o", "OUT"), "two whole numbers of pixels from 1 on"),
        (("mask", "make", "thin", "-o", "OUT"), "inpaintkit mask make: --size is missing; inpaintkit mask make --help"),
        (("mask", "make", "thinn", "--size", "8x8", "-o", "OUT"), "did you mean 'thin'"),
        (("mask", "make", "thin", "--size", "8", "-o", "OUT"), "write WxH"),
        (("mask", "make", "thin", "-o", "OUT"), "--size"),
    ],
)
def test_what_cannot_be_asked_for(refused, photo, mask, model, tmp_path, argv, said):
    names = {"IMAGE": photo, "MASK": mask, "OUT": tmp_path / "new.png"}
    extra = [] if argv[0] == "mask" or len(argv) == 1 or {"telea", "ns"} & {*argv} else ["--model", model]
    assert said in refused(2, *(names.get(text, text) for text in argv), *extra)


def test_files_that_cannot_be_used_or_written(refused, photo, mask, model, tmp_path):
    (tmp_path / "photo.x2.png").write_bytes(b"precious")
    assert "--overwrite" in refused(6, "upscale", photo, "--model", model)
    assert "input" in refused(6, "blind", photo, "--model", model, "-o", photo, "--overwrite")
    assert "input" in refused(6, "onion", photo, mask, "--with", "telea", "-o", mask, "--overwrite")
    assert "no such file" in refused(3, "onion", photo, mask, "--with", tmp_path / "lama.onnx")
    Image.new("L", (48, 40), 255).save(tmp_path / "full.png")
    for name in ("telea", "ns", "biharmonic"):
        assert "nothing is known" in refused(3, "onion", photo, tmp_path / "full.png", "--with", name)
    (tmp_path / "nothing").mkdir()
    nameless = "mask", "set", tmp_path / "set", "--size", "8x8", "--names", tmp_path / "nothing"
    assert "holds no picture to name a mask after" in refused(3, *nameless)
    assert "no such file" in refused(3, "upscale", tmp_path / "none.png", "--model", model)
    assert "--max-pixels" in refused(5, "upscale", photo, "--model", model, "--max-pixels", 48 * 40 * 2)
    assert ".png or .npy" in refused(2, "mask", "make", "thin", "--size", "8x8", "-o", tmp_path / "m.jpg")
    assert "--overwrite" in refused(6, "mask", "make", "thin", "--size", "8x8", "-o", mask)
    assert "--max-pixels" in refused(5, "mask", "make", "thin", "--size", "9999999x9999999", "-o", tmp_path / "m.png")
    assert "has no hole at 1x1" in refused(3, "mask", "make", "super-resolve", "--size", "1x1", "-o", tmp_path / "m.png")
