"""`inpaintkit train`: one command from a recipe to a model that `inpaintkit fill` takes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from inpaintkit.apps.cli.train import _time
from train.runs import FILE, pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture
def train(cli, data):
    """`inpaintkit train` of the tiny recipe, on the CPU."""
    return lambda *argv: cli("train", FILE, "--set", f"data.root={data}", "--device", "cpu", *argv)


def test_a_recipe_becomes_a_model_that_fills(train, cli, photo, mask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = train("--set", "steps=2")
    assert (code, out) == (0, "runs/tiny/model\n")
    lines = err.splitlines()
    assert lines[0].startswith("tiny: cpu, float32, 1 x 1 threads; ")
    assert lines[1] == "step 0 of 2; everything goes to runs/tiny"
    assert lines[2].startswith("step 1 of 2: network ")
    assert lines[3].startswith("step 2 of 2: network ")
    assert lines[3].endswith(", about 0 s left")
    assert lines[4].startswith("step 2: saved; validation loss_16 ")
    assert len(lines) == 5
    filled = tmp_path / "filled.png"
    assert cli("fill", photo, mask, "--model", "runs/tiny/model", "-o", filled)[0] == 0
    assert Image.open(filled).size == Image.open(photo).size
    code, out, err = train("--set", "steps=3", "--quiet", "--out", "runs/tiny")
    assert (code, out, err) == (0, "runs/tiny/model\n", "")
    assert (tmp_path / "runs" / "tiny" / "step-0000003").is_dir()


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["train"], 2, "inpaintkit train: RECIPE.toml is missing"),
        (["train", "none.toml"], 3, "none.toml: No such file or directory; name a recipe file"),
        (["train", FILE, "--set", "stpes=3"], 2, "--set stpes=3: Recipe has no option 'stpes'; did you mean 'steps'?"),
        (["train", FILE, "--minutes", "0"], 2, "minutes = 0.0: input should be greater than 0"),
        (["train", FILE, "--resum", "auto"], 2, "--resum is not known; did you mean --resume?"),
        (
            ["train", FILE, "--set", "data.root=/nowhere"],
            3,
            "/nowhere/photos: nothing there; say where the pictures are with --set data.root=DIR",
        ),
        (["trian", FILE], 2, "trian: no such command; did you mean 'train'?"),
    ],
)
def test_a_refusal_is_one_line(cli, tmp_path, monkeypatch, argv, code, says):
    monkeypatch.chdir(tmp_path)
    got, out, err = cli(*argv)
    assert (got, out) == (code, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert says in err


def test_help_says_what_it_takes_without_importing_torch():
    code = "import sys; from inpaintkit.apps.cli import main; main(['train', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("RECIPE.toml", "--set KEY=VALUE", "--resume auto|never|DIR", "--out DIR", "runs/NAME", "torchrun --nproc-per-node 2"):
        assert option in done.stdout


def test_a_missing_extra_is_named(cli, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("inpaintkit.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "accelerate", None)  # as if it were not installed
    code, _, err = cli("train", FILE)
    assert code == 2
    assert err == "error: inpaintkit train: needs accelerate, which is not installed; pip install 'inpaintkit[train]'\n"


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (36000, "10.0 h")])
def test_the_time_left_is_rounded(seconds, text):
    assert _time(seconds) == text


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_a_signal_to_the_whole_group_ends_in_order_within_ten_seconds(data, tmp_path, number, code, name, workers):
    """As a terminal sends Ctrl-C, and cluster schedulers SIGTERM: to the workers too."""
    sets = [f"data.root={data}", "steps=1000000", f"workers={workers}"]
    command = [sys.executable, "-m", "inpaintkit", "train", FILE, "--out", tmp_path / "out", "--device", "cpu"]
    command += [part for each in sets for part in ("--set", each)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("step 1 of"):
            break
    time.sleep(1)
    os.killpg(run.pid, number)
    sent = time.monotonic()
    _, err = run.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert run.returncode == code
    lines = err.splitlines()
    assert "stopping after this step" in lines
    assert lines[-1].startswith(f"error: stopped by {name} at step ")
    assert "Traceback" not in err
    step = int(lines[-1].split("at step ")[1].split()[0])
    assert (tmp_path / "out" / f"step-{step:07d}" / "SHA256SUMS").is_file()


@pytest.mark.slow
def test_a_terminal_shows_a_bar_with_the_time_left(data, tmp_path):
    import pty

    command = [sys.executable, "-m", "inpaintkit", "train", str(FILE), "--out", str(tmp_path / "out"), "--device", "cpu"]
    seen = bytearray()

    def read(descriptor: int) -> bytes:
        content = os.read(descriptor, 4096)
        seen.extend(content)
        return content

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "120"
    try:
        assert pty.spawn([*command, "--set", f"data.root={data}"], read) == 0
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    assert b"6/6" in seen
    assert b"network 0." in seen or b"network 1." in seen
    assert b"0 s left" in seen
    assert b"step 6: saved; validation" in seen


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        (
            "norm_num_groups",
            "nrom_num_groups",
            "task.unet.nrom_num_groups: UNet2DModel has no such setting; did you mean 'norm_num_groups'?",
        ),
        ("[0.0, 5.0]", "[6.0, 5.0]", "task.snr_clip = (6, 5): the lower bound comes first"),
    ],
)
def test_what_only_the_network_finds_wrong_is_named_with_its_line_too(cli, data, tmp_path, right, wrong, says):
    text = FILE.read_text().replace("[task]\n", "[task]\nsnr_clip = [0.0, 5.0]\n")
    recipe, made = tmp_path / "r.toml", text.replace(right, wrong)
    assert made != text
    recipe.write_text(made)
    code, _, err = cli("train", recipe, "--set", f"data.root={data}", "--out", tmp_path / "out")
    place, _, rest = err.removeprefix(f"error: {recipe}, line ").partition(": ")
    assert rest.startswith(says)
    line = made.splitlines()[int(place) - 1]
    assert line.startswith("snr_clip" if "snr" in says else wrong)
    assert code == 2


def test_a_setting_found_wrong_late_is_named(train, tmp_path):
    code, _, err = train("--set", "task.snr_clip=[9.0, 5.0]", "--out", tmp_path / "out")
    assert (code, err.partition(": task.snr_clip = (9, 5)")[0]) == (2, "error: --set task.snr_clip=[9.0, 5.0]")
    code, _, err = train("--set", "data.root=nowhere", "--out", tmp_path / "out")
    assert err.startswith("error: nowhere/photos: ")  # a place is only named for a setting
