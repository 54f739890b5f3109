"""`inpaintkit eval` and `inpaintkit mask set`: the tables, the JSON object, the refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaintkit.evaluate.frozen import read


@pytest.fixture
def folders(tmp_path) -> list:
    """Two kinds of masks, two pictures; the holes of "thin" are filled exactly, those of "box" are off by 20."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        truth = rng.integers(60, 200, (40, 48, 3))
        hole = np.zeros((40, 48), bool)
        hole[8:20, 10:30] = True
        files = {"truth": truth, "results/thin": truth, "results/box": truth + 20 * hole[:, :, None]}
        for folder, pixels in {**files, "masks/thin": hole * 255, "masks/box": hole * 255}.items():
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return [tmp_path / "results", "--truth", tmp_path / "truth", "--masks", tmp_path / "masks"]


def test_the_tables(cli, folders):
    code, out, err = cli("eval", *folders)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "| metric | whole picture | hole | border |"
    assert "largest difference outside the holes: 0 of 255" in lines
    (box,) = (line for line in lines if line.startswith("| mask box |"))
    assert box.split("|")[2:5] == [" 2 ", " 22.11 ", " 20 "]  # two pictures: no interval
    (thin,) = (line for line in lines if line.startswith("| mask thin |"))
    assert thin.split("|")[3] == " 2 exact "
    assert any(line.startswith("| area 10% to 20% | 2 |") for line in lines)
    assert "picture 4 of 4" in err
    assert "note: ms_ssim: not measured, the pictures are too small for it" in err


def test_the_json_object(cli, folders):
    code, out, err = cli("eval", *folders, "--metrics", "psnr", "mae", "--json", "--quiet")
    assert (code, err) == (0, "")
    found = json.loads(out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert (found["n"], found["changed_outside"]) == (4, 0)
    assert found["metrics"]["mask box"]["hole"]["mae"]["mean"] == pytest.approx(20, abs=1e-4)
    assert found["metrics"]["mask thin"]["hole"]["psnr"]["exact"] == 2
    assert {row["kind"] for row in found["pictures"]} == {"thin", "box"}
    assert next(row for row in found["pictures"] if row["kind"] == "thin")["hole"]["psnr"] == "Infinity"
    assert {"inpaintkit", "torchmetrics"} <= found["versions"].keys()


def test_a_kind_of_mask_called_all_is_not_taken_for_the_overall_table(cli, folders):
    for folder in (folders[0], folders[-1]):
        (folder / "box").rename(folder / "all")
    code, out, _ = cli("eval", *folders, "--metrics", "mae", "--json", "--quiet")
    assert code == 0
    found = json.loads(out)["metrics"]
    assert (found["all"]["hole"]["mae"]["mean"], found["mask all"]["hole"]["mae"]["mean"]) == pytest.approx((10, 20), abs=1e-4)


def test_unmatched_files_are_refused_or_left_out(cli, folders):
    Image.new("RGB", (48, 40)).save(folders[0] / "thin" / "x.png")
    (folders[0] / "box" / "a.png").unlink()
    (folders[0] / "thin" / "a.png").unlink()
    code, out, err = cli("eval", *folders)
    assert (code, out) == (3, "")
    assert "has no partner for thin/x (no truth)" in err
    code, out, err = cli("eval", *folders, "--partial", "--json")
    assert code == 0
    assert "note: 1 results left out: thin/x (no truth)" in err
    assert "note: 1 truths have no result: a" in err
    assert json.loads(out)["n"] == 2


def test_refusals(cli, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("INPAINTKIT_WEIGHTS", str(tmp_path / "weights"))
    code, out, err = cli("eval", *folders, "--metrics", "lpips_alex")
    assert (code, out) == (3, "")
    assert err.startswith(f"error: {tmp_path}/weights/alexnet-owt-7be5be79.pth: no such file; get https://")
    assert cli("eval", *folders, "--metrics", "psnrr")[0] == 2
    assert cli("eval", *folders, "--features", tmp_path / "none.safetensors")[0] == 3
    assert cli("eval", folders[0])[0] == 2
    assert cli("eval", *folders, "--wrong")[0] == 2


def test_a_mask_set_is_written_and_named_after_pictures(cli, folders, tmp_path):
    target = tmp_path / "set"
    code, out, _ = cli("mask", "set", target, "--size", "48x40", "--kinds", "lama", "centre-box", "--names", folders[2])
    assert code == 0
    assert out == f"{target}: digest {read(target).digest}\n"
    assert {kind: list(holes) for kind, holes in read(target).holes.items()}["thin"] == ["a", "b"]
    assert cli("mask", "set", target, "--size", "48x40")[0] == 6
    assert cli("mask", "set", tmp_path / "other", "--size", "48")[0] == 2
    assert cli("mask", "set", tmp_path / "other", "--size", "48x40", "--kinds", "thim")[0] == 2
    assert not Path(tmp_path / "other").exists()
    assert cli("mask", "set", tmp_path / "other", "--size", "48x40", "--kinds", "thin", "--count", "3")[0] == 0
    assert list(read(tmp_path / "other").holes["thin"]) == ["00000", "00001", "00002"]
