"""`inpaintkit blind --how predict`: what is found is replaced and nothing else; nothing found is said."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from inpaintkit.models import catalog, damage
from inpaintkit.models.damage import DamageNet, DetectorConfig

PLAIN = ("plain", "--steps", "2")


def darkness() -> DamageNet:
    """A detector written by hand: likely damaged is where the red channel is below -0.8 (of [-1, 1])."""
    network = DamageNet(DetectorConfig(widths=(4,), reach=16))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(network.fine[0][1].weight)
    for channel, sign in enumerate((1.0, -1.0)):  # red above 0 and below, passed on by blocks that add nothing
        network.fine[0][0].weight.data[channel, 0, 1, 1] = sign
        network.last.weight.data[0, channel, 1, 1] = -40.0 * sign
    network.last.bias.data[0] = -32.0
    return network


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors") / "dark"
    damage.save_folder(folder, darkness(), "Finds what is dark.\n")
    return folder


@pytest.fixture
def scratched(tmp_path):
    """48x40, bright noise with a black scratch; and where it is."""
    pixels = np.random.default_rng(0).integers(100, 256, (40, 48, 3), np.uint8)
    where = np.zeros((40, 48), bool)
    where[10:13, 5:40] = True
    pixels[where] = 0
    path = tmp_path / "old.png"
    Image.fromarray(pixels).save(path)
    return path, where


@pytest.fixture
def blind(cli, model, detector):
    def call(image, *argv, method=PLAIN):
        return cli("blind", image, "--model", model, "--dtype", "float32", "--detector", detector, *argv, *method)

    return call


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_what_is_found_is_replaced_and_nothing_else(blind, scratched, tmp_path):
    path, where = scratched
    code, out, err = blind(path, "--json", "--mask-out", tmp_path / "mask.png", "--sheet", tmp_path / "sheet.png")
    assert code == 0, err
    record, before, after = json.loads(out), pixels(path), pixels(tmp_path / "old.repaired.png")
    mask = pixels(tmp_path / "mask.png")
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[where] == 255).all()
    assert (before[mask == 0] == after[mask == 0]).all()
    assert (before[where] != after[where]).any(-1).mean() > 0.9
    assert (record["how"], record["pasted"], record["changed_outside"]) == ("predict", "hole", 0)
    assert record["found"] == pytest.approx(where.mean())
    assert record["options"]["grow"] == 2
    assert (record["detector"], record["threshold"]) == (record["extras"] and str(catalog.locate(record["detector"])), 0.5)
    assert record["detector_sha256"] == damage.load(record["detector"]).sha256
    assert sorted(record["extras"]) == [str(tmp_path / "mask.png"), str(tmp_path / "sheet.png")]


def test_what_is_found_is_filled_by_the_bundled_model_that_fills_best(cli, detector, scratched, tmp_path):
    path, _ = scratched

    def used(*argv) -> str:
        return json.loads(cli("blind", path, "--detector", detector, "--json", "--overwrite", *argv)[1])["model"]

    assert used() == "photo-64-few"
    assert used("ddnm", "--steps", "1") == "photo-64"
    repeated = cli("blind", path, "--json", "--overwrite", "--box", "0,0,8,8", "ilvr", "--steps", "1")[1]
    assert json.loads(repeated)["model"] == "photo-64"


@pytest.mark.parametrize("grow", [0, 1, 4])
def test_what_is_found_is_grown(blind, scratched, tmp_path, grow):
    path, where = scratched
    assert blind(path, "--grow", grow, "--mask-out", tmp_path / "mask.npy")[0] == 0
    mask = np.load(tmp_path / "mask.npy")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (10 - grow, 12 + grow, 5 - grow, 39 + grow)
    assert mask.dtype == bool
    assert (mask[where]).all()


def test_nothing_found_is_said_in_one_line_and_nothing_is_written(blind, photo, tmp_path, model):
    bright = np.asarray(Image.open(photo)) // 2 + 100
    Image.fromarray(bright).save(photo)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = blind(photo, "--mask-out", tmp_path / "mask.png")
    assert (code, out, err) == (0, "", f"note: {photo}: no damage found; nothing is written\n")
    code, out, _ = blind(photo, "--json", "--quiet")
    record = json.loads(out)
    assert (code, record["outputs"], record["found"], record["how"]) == (0, [], 0, "predict")
    assert sorted(tmp_path.rglob("*")) == before


def test_more_than_half_found_is_doubted(blind, scratched, tmp_path):
    path, _ = scratched
    dark = pixels(path).copy()
    dark[:30] = 0
    Image.fromarray(dark).save(path)
    code, _, err = blind(path)
    assert code == 0
    assert "75% of the picture was found damaged" in err
    assert "--threshold" in err


def test_the_threshold_decides(blind, scratched, tmp_path):
    path, _ = scratched
    shaded = np.full((40, 48, 3), 255, np.uint8)
    shaded[10:13, 5:40] = 27  # red = -0.788: likelihood about 0.38
    Image.fromarray(shaded).save(path)
    assert "no damage found" in blind(path)[2]
    assert blind(path, "--threshold", 0.3, "--json")[0] == 0
    assert (tmp_path / "old.repaired.png").is_file()


def test_missing_values_are_damage(blind, tmp_path):
    values = np.random.default_rng(0).uniform(0.5, 1, (40, 48, 3)).astype(np.float32)
    values[20:24, 20:30] = np.nan
    np.save(tmp_path / "a.npy", values)
    code, out, err = blind(tmp_path / "a.npy", "--json")
    assert code == 0, err
    assert json.loads(out)["found"] == pytest.approx(40 / (40 * 48))
    assert not np.isnan(np.load(tmp_path / "a.repaired.npy")).any()


def test_a_gray_picture_keeps_its_kind(blind, scratched, tmp_path):
    path, _ = scratched
    Image.open(path).convert("L").save(path)
    assert blind(path)[0] == 0
    assert Image.open(tmp_path / "old.repaired.png").mode == "L"


def test_no_bundled_detector_is_a_refusal_that_says_how_to_train_one(cli, photo, model, monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "ASSETS", tmp_path / "empty")
    code, out, err = cli("blind", photo, "--model", model)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "inpaintkit train recipes/damage.toml" in err
    assert "--detector" in err


def test_what_cannot_be_written_is_refused_before_anything_is_computed(blind, scratched, tmp_path):
    path, _ = scratched
    assert "mask.jpg: is written as .png or .npy" in blind(path, "--mask-out", tmp_path / "mask.jpg")[2]
    code, _, err = blind(path, "--mask-out", path, "--overwrite")
    assert (code, "is an input" in err) == (6, True)
    assert "two outputs" in blind(path, "-o", tmp_path / "a.png", "--mask-out", tmp_path / "a.png")[2]
    assert sorted(tmp_path.iterdir()) == [path]


def test_detectors_are_listed_described_and_checked(cli, detector):
    assert "damage" in cli("models", "list")[1]
    code, out, _ = cli("models", "info", detector)
    assert code == 0
    assert "likelihood is above 0.5" in out
    assert "Finds what is dark." in out
    assert "complete" in cli("models", "check", detector)[1]
