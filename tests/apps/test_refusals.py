"""Whatever cannot be done is refused in one line with its exit code, and nothing is written."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from inpaintkit.apps.cli import results
from inpaintkit.core.errors import NotWritable
from inpaintkit.core.schedule import NoiseSchedule
from inpaintkit.models.checkpoints import WEIGHTS


@pytest.fixture
def refused(cli, tmp_path):
    """Run, check the one line and that no file appeared or changed; the line."""

    def call(code, *argv):
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        found, out, err = cli(*argv, "--quiet") if argv[0] == "fill" and len(argv) > 1 else cli(*argv)
        assert (found, out) == (code, ""), err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
        return err

    return call


@pytest.fixture
def refused_fill(refused, model, photo, mask):
    def call(code, *argv, image=photo, hole=mask, model=model, method=("plain", "--steps", 2)):
        return refused(code, "fill", image, *([] if hole is None else [hole]), "--model", model, *argv, *method)

    return call


def test_unreadable_pictures(refused_fill, photo, tmp_path):
    data = photo.read_bytes()
    hostile = {
        "text.png": b"hello, I am no picture",
        "empty.png": b"",
        "cut.png": data[: len(data) // 2],
        "flipped.png": data[:200] + bytes([data[200] ^ 255]) + data[201:],
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "object.npy": b"\x93NUMPY\x01\x00"
        + (118).to_bytes(2, "little")
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(118),
    }
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        assert name in refused_fill(3, image=tmp_path / name)
    assert "folder" in refused_fill(3, image=tmp_path)
    assert "no such file" in refused_fill(3, image=tmp_path / "missing.png")


def test_a_picture_that_declares_too_many_pixels(refused_fill, photo, tmp_path):
    data = bytearray(photo.read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    assert "--max-pixels" in refused_fill(5, image=tmp_path / "bomb.png")
    assert "--max-pixels" in refused_fill(5, "--max-pixels", 100)


def test_masks_that_do_not_fit(refused_fill, tmp_path):
    Image.new("L", (40, 48), 255).save(tmp_path / "turned.png")
    Image.new("L", (48, 40), 0).save(tmp_path / "black.png")
    err = refused_fill(3, hole=tmp_path / "turned.png")
    assert "40x48" in err
    assert "48x40" in err
    assert "no hole" in refused_fill(3, hole=tmp_path / "black.png")
    Image.new("L", (48, 40), 255).save(tmp_path / "white.png")
    assert "which --invert-mask takes for known" in refused_fill(3, "--invert-mask", hole=tmp_path / "white.png")
    Image.new("RGB", (48, 40), (255, 0, 0)).save(tmp_path / "red.png")
    err = refused_fill(3, hole=tmp_path / "red.png")
    assert "no pixel of the mask reaches half of white; the brightest has 29.9% of it" in err
    assert "--invert-mask" not in err
    assert "missing.png" in refused_fill(3, hole=tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "no hole was named"),
        (("--box", "1,2,3"), "X,Y,W,H"),
        (("--box", "-4,2,30,3"), "leaves the picture of 48x40"),
        (("--box", "40,2,30,3"), "leaves the picture of 48x40"),
        (("--mask-from", "beta"), "alpha"),
        (("--mask-from", "color:red"), "#rrggbb"),
        (("--outpaint", "0,0,0,0"), "--outpaint"),
        (("--invert-mask", "--hole", "all"), "no MASK"),
        (("--hole", "some"), "'all'"),
        (("--hole", "all", "--seed", "x"), "--seed"),
        (("--hole", "all", "--seed", "-1"), "seed = -1"),
        (("--hole", "all", "--variants", "0"), "variants = 0"),
        (("--hole", "all", "--grow", "-3"), "grow = -3"),
        (("--hole", "all", "--sede", "3"), "did you mean --seed"),
        (("--hole", "all", "--crop", "blah"), "'none'"),
        (("--hole", "all", "--uncertainty", "u.npy"), "--variants"),
        (("--hole", "all", "--device", "tpu"), "'cuda'"),
    ],
)
def test_options_that_cannot_be(refused_fill, argv, said):
    assert said in refused_fill(2, *argv, hole=None)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (("repiant",), "did you mean repaint"),
        (("repaint", "--eta", "3"), "eta = 3"),
        (("repaint", "--steps", "0"), "steps = 0"),
        (("repaint", "--steps", "5000"), "at most 100"),
        (("repaint", "--etta", "1"), "did you mean --eta"),
        (("--eta", "1"), "--eta belongs to"),
        (("repaint", "--start", "0.1", "--steps", "5", "--jump-length", "1"), "walk.start"),
        (("repaint", "--steps", "5"), "jump_length = 10"),
    ],
)
def test_methods_and_their_options_that_cannot_be(refused_fill, method, said):
    assert said in refused_fill(2, method=method)


def test_outputs_that_exist_or_cannot_be_written(refused_fill, photo, mask, tmp_path):
    (tmp_path / "there.png").write_bytes(b"precious")
    assert "--overwrite" in refused_fill(6, "-o", tmp_path / "there.png")
    assert "--overwrite" in refused_fill(6, "-o", tmp_path / "new.png", "--sheet", tmp_path / "there.png")
    assert "input" in refused_fill(6, "-o", photo)
    assert "input" in refused_fill(6, "-o", photo, "--overwrite")
    assert "input" in refused_fill(6, "-o", tmp_path / "." / "mask.png", "--overwrite")
    (tmp_path / "alias.png").symlink_to(photo)
    assert "input" in refused_fill(6, "-o", tmp_path / "alias.png", "--overwrite")
    assert "does not exist" in refused_fill(6, "-o", tmp_path / "no" / "x.png")
    assert "there.png" in refused_fill(6, "-o", tmp_path / "there.png" / "x.png")
    assert "is a folder" in refused_fill(6, "-o", tmp_path)
    assert "/proc/x.png" in refused_fill(6, "-o", "/proc/x.png")
    assert "two outputs" in refused_fill(6, "-o", tmp_path / "x.png", "--sheet", tmp_path / "x.png")
    assert ".png" in refused_fill(2, "-o", tmp_path / "x.xyz")
    assert "s.jpg: is written as .png" in refused_fill(2, "--sheet", tmp_path / "s.jpg")
    assert "g.png: is written as .gif" in refused_fill(2, "--gif", tmp_path / "g.png")


def test_when_one_output_fails_the_others_of_the_run_are_taken_back(cli, photo, mask, model, tmp_path, monkeypatch):
    def full(*_):
        raise NotWritable("s.png: No space left on device; make room and repeat")

    monkeypatch.setattr(results, "write_sheet", full)
    (tmp_path / "v-1.png").write_bytes(b"precious")
    run = "fill", photo, mask, "--model", model, "--variants", 2, "-o", tmp_path / "v.png", "--sheet", tmp_path / "s.png", "--overwrite"
    assert cli(*run, "plain", "--steps", 2)[0] == 6
    assert sorted(tmp_path.glob("v*.png")) == [tmp_path / "v-1.png"]


def test_tuning_without_its_package_says_what_brings_it(refused_fill, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "peft: cannot be imported" in (err := refused_fill(2, "--tune", 1, method=()))
    assert "pip install 'inpaintkit[train]' brings it" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_record_that_cannot_be_printed_is_said():
    with open("/dev/full", "w") as full:
        found = subprocess.run([sys.executable, "-m", "inpaintkit", "methods", "list"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (found.returncode, found.stderr.decode()) == (
        6,
        "error: stdout or a temporary file: No space left on device; make room and repeat\n",
    )


def test_names_that_the_terminal_cannot_show_are_no_fault():
    told = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    run = [sys.executable, "-m", "inpaintkit", "mask", "check", "Foto_ä_日本.png", "m.png"]
    found = subprocess.run(run, capture_output=True, env=told, check=False)
    assert (found.returncode, b"no such file" in found.stderr) == (3, True)


def test_an_existing_output_is_replaced_when_asked(cli, photo, mask, model, tmp_path):
    (tmp_path / "photo.filled.png").write_bytes(b"old")
    assert cli("fill", photo, mask, "--model", model, "--overwrite", "plain", "--steps", 2)[0] == 0
    assert Image.open(tmp_path / "photo.filled.png").size == (48, 40)


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle was executed')",)


def test_checkpoints_that_are_damaged_or_hostile(refused_fill, refused, model, tmp_path):
    weights = load_file(model / "unet" / WEIGHTS)

    def changed(name, write) -> None:
        folder = tmp_path / name
        shutil.copytree(model, folder)
        write(folder / "unet" / WEIGHTS)
        said = refused_fill(3, model=folder)
        assert name in said
        assert refused(3, "models", "check", folder) == said

    first = next(name for name, tensor in weights.items() if tensor.ndim == 4)
    changed("nan", lambda path: save_file(weights | {first: weights[first] * float("nan")}, path))
    changed("lacking", lambda path: save_file({k: v for k, v in weights.items() if k != first}, path))
    changed("reshaped", lambda path: save_file(weights | {first: weights[first].flatten()}, path))
    changed("truncated", lambda path: path.write_bytes(path.read_bytes()[:1000]))
    changed("pickled", lambda path: path.write_bytes(pickle.dumps(Bomb())))
    changed("config", lambda path: (path.parent / "config.json").write_text("{"))
    changed("strange", lambda path: (path.parents[1] / "inpaintkit.json").write_text('{"default_method": {"name": "magic"}, "patch": 99}'))

    def to_pickle(path) -> None:
        path.unlink()
        (path.parent / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))

    changed("pickle-only", to_pickle)
    torch.save(weights, tmp_path / "model.pt")
    assert "model.pt" in refused_fill(3, model=tmp_path / "model.pt")


def test_a_default_method_that_does_not_exist(refused_fill, model, tmp_path):
    shutil.copytree(model, tmp_path / "odd")
    path = tmp_path / "odd" / "inpaintkit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"default_method": {"name": "magic"}}))
    assert "magic" in refused_fill(3, model=tmp_path / "odd", method=())


@pytest.mark.parametrize("command", [("fill",), ("models", "info"), ("models", "check")])
def test_unknown_models(refused, photo, mask, command):
    argv = ("fill", photo, mask, "--model", "photo-46") if command == ("fill",) else (*command, "photo-46")
    assert "photo-64" in refused(2, *argv)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("fil",), "did you mean 'fill'"),
        (("frobnicate",), "there are fill"),
        (("fill",), "IMAGE is missing"),
        (("methods",), "methods"),
        (("methods", "info", "magic"), "there are plain"),
        (("models", "lits"), "did you mean list"),
        (("mask", "check"), "IMAGE is missing"),
    ],
)
def test_commands_that_do_not_exist_or_lack_something(refused, argv, said):
    assert said in refused(2, *argv)


def test_records_that_are_none(refused, photo, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("not json")
    values = {"request": {"image": str(photo), "wings": 2}, "method": {}, "device": "cpu", "dtype": "auto", "threads": 1}
    (tmp_path / "c.json").write_text(json.dumps(values | {"micro_batch": 1, "model_sha256": ""}))
    for name in "abc":
        refused(3, "fill", "--from-record", tmp_path / f"{name}.json")


def test_nan_outside_the_hole(refused_fill, mask, tmp_path):
    values = np.full((40, 48), 0.5, np.float32)
    values[0, 0] = np.nan
    np.save(tmp_path / "gaps.npy", values)
    assert "--mask-from nan" in refused_fill(3, image=tmp_path / "gaps.npy")


def test_a_fault_of_ours_says_so_and_debug_shows_where(cli, photo, mask, model, tmp_path, monkeypatch):
    monkeypatch.setattr(NoiseSchedule, "mean", lambda *a: {}["a fault"])
    argv = ("fill", photo, mask, "--model", model, "--quiet", "plain", "--steps", 2)
    code, out, err = cli(*argv)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "fault of inpaintkit (KeyError" in err
    assert "Traceback" in cli("--debug", *argv)[2]
    assert not (tmp_path / "photo.filled.png").exists()
