"""The other commands, and what only a process of its own shows: signals, separation of the streams, the speed of help."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from inpaintkit import __version__
from inpaintkit.apps.cli import COMMANDS
from inpaintkit.apps.cli.demo import STEPS, Demo
from inpaintkit.methods import METHODS
from inpaintkit.models import catalog
from inpaintkit.models.catalog import MODELS

PROGRAM = [sys.executable, "-m", "inpaintkit"]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def test_help_names_every_command(cli):
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)
    assert cli()[1] == out
    assert cli("--version")[:2] == (0, f"inpaintkit {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli, name):
    code, out, err = cli(name, "--help")
    assert (code, err) == (0, "")
    assert f"usage: inpaintkit {name}" in out


def test_help_imports_nothing_heavy():
    code = "import sys, inpaintkit.apps.cli as c; c.main(['--help']); print({'torch', 'numpy', 'PIL', 'tyro'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.endswith("\nset()\n")


def seconds(*argv, program=PROGRAM) -> float:
    """Processor seconds of a run, the least of three. The clock on the wall would measure what else the machine is doing;
    with one thread it shows no less than this."""
    times = []
    for _ in range(3):
        begin = os.times()
        subprocess.run([*program, *argv], capture_output=True, check=True, env=ENV)
        end = os.times()
        times.append(end.children_user - begin.children_user + end.children_system - begin.children_system)
    return min(times)


def test_help_is_quick():
    """Under half a second without torch. With it, at most twice what importing torch takes alone (1.5 s where 3 s are promised):
    how fast a machine is at the moment changes more than what we import."""
    assert seconds("--help") < 0.5
    assert seconds("fill", "--help") < 2 * seconds("-c", "import torch", program=[sys.executable])


def test_methods_are_listed_and_described_from_their_dataclasses(cli):
    listed = cli("methods", "list")[1]
    assert [line.split()[0] for line in listed.splitlines()] == list(METHODS)
    for name, method in METHODS.items():
        out = cli("methods", "info", name)[1]
        assert f"--steps = {method.walk.steps}  [>= 1, <= 100000]" in out
        assert type(method).__doc__.split()[0] in out


def test_models_are_listed_described_and_checked(cli, model):
    assert all(name in cli("models", "list")[1] for name in MODELS)
    out = cli("models", "info", model)[1]
    assert "A tiny untrained network." in out
    assert "plain" in out
    code, out, _ = cli("models", "check", model)
    assert (code, "all finite" in out) == (0, True)
    assert "adapts" not in cli("models", "info", model)[1]
    assert re.search(r"adapts +photo-64\n", cli("models", "info", "face-64")[1])


def test_mask_show_tints_the_hole_only(cli, photo, mask, tmp_path):
    code, out, _ = cli("mask", "show", photo, mask)
    assert (code, out) == (0, f"{tmp_path / 'photo.mask.png'}\n")
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(tmp_path / "photo.mask.png"))
    changed = (before != after).any(-1)
    hole = np.asarray(Image.open(mask)) > 0
    assert not changed[~hole].any()
    assert changed[hole].all()
    assert cli("mask", "show", photo, mask)[0] == 6


def test_mask_check_measures(cli, photo, mask, tmp_path):
    found = json.loads(cli("mask", "check", photo, mask, "--json")[1])
    assert (found["hole_pixels"], found["components"], found["deepest"]) == (80, 1, 4.0)
    assert found["notes"] == []
    gray = np.asarray(Image.open(mask)).copy()
    gray[0:10] = 100
    gray[30:35, 0:5] = 200
    Image.fromarray(gray).save(tmp_path / "gray.png")
    out = cli("mask", "check", photo, tmp_path / "gray.png")[1]
    assert "in 2 parts" in out
    assert "gray" in out
    Image.new("L", (48, 40)).save(tmp_path / "empty.png")
    assert cli("mask", "check", photo, tmp_path / "empty.png")[0] == 3


def test_doctor_fails_only_when_something_is_broken(cli):
    code, out, err = cli("doctor")
    assert code == (3 if "BROKEN" in out else 0)
    assert (err != "") == (code == 3)
    assert "bfloat16" in out
    assert "torch " in out
    assert all(any(line.split()[1] == name for line in out.splitlines()) for name in (*catalog.MODELS, *catalog.DETECTORS, "train"))


def test_doctor_finds_a_bundled_detector_that_is_gone(cli, monkeypatch, tmp_path):
    locate = catalog.locate
    monkeypatch.setattr(catalog, "locate", lambda name, **how: tmp_path / name if name in catalog.DETECTORS else locate(name, **how))
    code, out, err = cli("doctor")
    assert (code, "BROKEN  damage" in out, "damage" in err) == (3, True, True)


def test_the_demo_makes_five_pictures_and_does_not_replace_them(cli, model, tmp_path):
    code, out, _ = cli("demo", "-o", tmp_path / "d", "--model", model, "--quiet")
    assert code == 0
    photo, mask, filled = (np.asarray(Image.open(tmp_path / "d" / name)) for name in ("photo.png", "mask.png", "filled.png"))
    assert (photo[mask == 0] == filled[mask == 0]).all()
    assert (photo[mask > 0] != filled[mask > 0]).any()
    assert Image.open(tmp_path / "d" / "denoising.gif").n_frames >= STEPS.walk.steps + 2  # before, every step, after
    assert all(str(tmp_path / "d" / name) in out for name in ("sheet.png", "denoising.gif"))
    assert cli("demo", "-o", tmp_path / "d", "--model", model)[0] == 6
    assert Demo().model == "photo-64-few"


def test_results_go_to_stdout_and_progress_to_stderr(photo, mask, model, tmp_path):
    argv = [*PROGRAM, "fill", photo, mask, "--model", model, "--json", "plain", "--steps", "2"]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, env=ENV)
    assert done.returncode == 0
    assert json.loads(done.stdout)["outputs"] == [str(tmp_path / "photo.filled.png")]
    assert "filling" in done.stderr
    again = subprocess.run(list(map(str, argv)), capture_output=True, text=True, env=ENV)
    assert (again.returncode, again.stdout) == (6, "")
    assert again.stderr.startswith("error: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_says_so_in_one_line_and_leaves_nothing(photo, mask, model, tmp_path, number, code):
    argv = [*PROGRAM, "fill", photo, mask, "--model", model, "repaint", "--steps", "100", "--jump-n-sample", "500"]

    def hearing() -> None:  # a suite started in the background ignores SIGINT, and its children would, too
        signal.signal(number, signal.SIG_DFL)

    process = subprocess.Popen([*map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV, preexec_fn=hearing)
    assert process.stderr is not None
    assert "move 1 of" in process.stderr.readline()  # it is sampling now
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1].startswith("error: stopped")
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.png", "photo.png"]


def test_a_reader_that_goes_away_is_no_error():
    line = f"{sys.executable} -m inpaintkit methods info repaint | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=ENV)
    assert (done.returncode, done.stderr) == (0, "")
