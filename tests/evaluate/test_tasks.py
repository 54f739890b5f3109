"""What a row does with its picture is what the commands of the same names do, and its truth is read outside the hole only."""

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from evaluate import suite as small
from inpaintkit.core.errors import UsageError
from inpaintkit.core.noise import derived
from inpaintkit.core.schedule import vp
from inpaintkit.data.images import from_array
from inpaintkit.evaluate.grid import Grid
from inpaintkit.evaluate.making import filled
from inpaintkit.evaluate.tasks import BLACK, GREY, Enlarge
from inpaintkit.methods import ILVR, Plain
from inpaintkit.models.damage import DamageNet, DetectorConfig, save_folder
from inpaintkit.pipeline.blind import blind
from inpaintkit.pipeline.fillers import Sampled
from inpaintkit.pipeline.onion import onion
from inpaintkit.pipeline.upscale import Upscale, upscale

WALK = {"walk": {"steps": 2}}
ILVR_2 = {"factor": 2, "range_t": 0, "walk": {"steps": 2}}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tasks")


def way(home: Path, kinds: tuple[str, ...] = ("right-half",), images: dict | None = None, **entry) -> Grid:
    """A suite of one way."""
    other = {} if images is None else {"images": images}
    methods = [{"name": "plain", "fields": WALK} | entry]
    return small.grid(home, fillers=[], seeds=[3], masks={"kinds": list(kinds)}, methods=methods, **other)


def made(grid: Grid) -> np.ndarray:
    return filled(grid, grid.jobs()[0], *given(grid)).pixels


def seed(grid: Grid) -> int:
    """The suite's, of the picture."""
    return derived(3, grid.jobs()[0].picture)


def given(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    job = grid.jobs()[0]
    return grid.pictures[job.picture], grid.holes[job.mask, job.picture]


def test_blind_repair_is_what_the_command_does_with_a_black_hole(home):
    grid = way(home, name="ilvr", fields=ILVR_2, task={"kind": "blind"})
    truth, hole = given(grid)
    picture = from_array(np.where(hole[:, :, None], np.uint8(BLACK), truth), "x")
    (expected,), _ = blind(next(iter(grid.models.values())), picture, hole, ILVR(**ILVR_2 | {"walk": {"steps": 2}}), seed(grid))
    assert (made(grid) == expected.pixels).all()


def test_blind_repair_by_another_method_than_ilvr_is_refused_before_any_work(home):
    with pytest.raises(UsageError, match="blind repair is done by ilvr"):
        way(home, task={"kind": "blind"})


def test_rings_are_those_of_onion(home):
    grid = way(home, task={"kind": "onion", "ring": 4})
    truth, hole = given(grid)
    sampled = Sampled(next(iter(grid.models.values())), Plain(walk=grid.cells[0].method.walk), seed(grid))
    picture = from_array(np.where(hole[:, :, None], np.uint8(GREY), truth), "x")
    expected, record = onion(picture, hole, sampled, 4)
    row = filled(grid, grid.jobs()[0], truth, hole)
    assert (row.pixels == expected.pixels).all()
    assert record["rings"] == 4
    assert row.nfe == grid.work(grid.jobs()[0]).evaluations >= 4 * small.STEPS


@pytest.mark.parametrize("how", ["operator", "bicubic-mask", "insert-mask", "ilvr"])
def test_enlarging_is_that_of_the_command_from_the_reduced_picture(home, how):
    method = {"name": "ilvr", "fields": ILVR_2} if how == "ilvr" else {"name": "ddnm", "fields": WALK}
    grid = way(home, ("all",), task={"kind": "upscale", "how": how, "input": "averaged"}, **method)
    truth, hole = given(grid)
    cells = truth.reshape(16, 2, 16, 2, 3).astype(float).mean((1, 3)).round().astype(np.uint8)
    settings = Upscale(how=how, decimated=how.endswith("mask"))
    pipe = next(iter(grid.models.values()))
    (expected,), record = upscale(pipe, from_array(cells, "x"), settings, grid.cells[0].method, seed(grid))
    row = filled(grid, grid.jobs()[0], truth, hole)
    assert (row.pixels == expected.pixels).all()
    assert row.nfe == record["nfe"] == grid.work(grid.jobs()[0]).evaluations


def test_the_input_of_enlarging_is_means_or_every_second_pixel():
    truth = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    assert (Enlarge("upscale", input="decimated").small(truth) == truth[:1, ::2]).all()
    assert Enlarge("upscale").small(truth)[0, 0].tolist() == [8, 8, 10]  # (0 + 3 + 12 + 15) / 4 = 7.5, rounded to even; 8.5; 9.5


def test_a_size_that_the_factor_does_not_divide_is_refused_before_any_work(tmp_path):
    for how in ("bicubic", "ilvr"):
        images = {"source": str(small.pictures(tmp_path / how, 1)), "size": 30}
        with pytest.raises(UsageError, match=r"task\.factor = 4: does not divide 30 px"):
            way(tmp_path, ("all",), name="default", fields={}, task={"kind": "upscale", "how": how, "factor": 4}, images=images)


def test_bicubic_asks_no_network(home):
    grid = way(home, ("all",), name="default", fields={}, task={"kind": "upscale", "how": "bicubic"})
    row = filled(grid, grid.jobs()[0], *given(grid))
    assert (row.nfe, grid.work(grid.jobs()[0]).evaluations) == (0, 0)
    assert row.pixels.shape == given(grid)[0].shape


def detector(path: Path, bias: float) -> str:
    """A detector that finds everything, or nothing, whatever it is shown."""
    network = DamageNet(DetectorConfig(widths=(4, 8), reach=16))
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.constant_(network.last.bias, bias)
    save_folder(path, network, "A detector for tests.\n", torch.float32)
    return str(path)


def test_what_a_detector_misses_stays_black(home):
    grid = way(home, task={"kind": "found", "detector": detector(home / "blind", -9.0)})
    truth, hole = given(grid)
    row = filled(grid, grid.jobs()[0], truth, hole)
    assert (row.pixels[hole] == BLACK).all()
    assert (row.pixels[~hole] == truth[~hole]).all()
    assert row.nfe == 0


def test_what_a_detector_finds_is_filled(home):
    grid = way(home, task={"kind": "found", "detector": detector(home / "all", 9.0)})
    truth, hole = given(grid)
    row = filled(grid, grid.jobs()[0], truth, hole)
    assert row.nfe > 0
    assert (row.pixels[~hole] != truth[~hole]).any()  # it found the known half too


def test_the_seconds_of_finding_count(home, monkeypatch):
    grid = way(home, task={"kind": "found", "detector": detector(home / "slow", -9.0)})
    ticks = iter([10.0, 12.5])
    monkeypatch.setattr("inpaintkit.evaluate.tasks.time.perf_counter", lambda: next(ticks))
    assert filled(grid, grid.jobs()[0], *given(grid)).seconds == 2.5


def test_gradients_of_all_rings_count(home):
    method = {"name": "dps", "fields": {"frugal": False, "walk": {"steps": 2}}}
    once, rings = way(home, **method), way(home, task={"kind": "onion", "ring": 8}, **method)
    rows = [filled(grid, grid.jobs()[0], *given(grid)) for grid in (once, rings)]
    assert rows[0].nfe_backward == rows[0].nfe > 0
    assert rows[1].nfe_backward == rows[1].nfe > rows[0].nfe


def test_a_generator_goes_over_what_the_denoiser_made(home):
    walk = {"steps": 2, "spacing": "trailing"}
    network = tiny.network(unet_other={"class_embed_type": "identity"}, latent=8, default_method={"name": "plain", "walk": walk})
    generator = tiny.folder(home / "generator", network, vp(2))
    alone, then = way(home), way(home, task={"kind": "then", "generator": str(generator)})
    assert then.work(then.jobs()[0]).evaluations == alone.work(alone.jobs()[0]).evaluations + 1
    one, two = (filled(g, g.jobs()[0], *given(g)) for g in (alone, then))
    assert two.nfe == one.nfe + 1
    assert (one.pixels != two.pixels).any()


def test_a_missing_model_leaves_out_its_ways_alone(home):
    entries = [
        {"name": "plain", "label": "there", "fields": WALK},
        {"label": "gone", "models": [str(home / "no" / "model")]},
        {"name": "plain", "label": "half gone", "fields": WALK, "task": {"kind": "then", "generator": str(home / "no" / "gan")}},
    ]
    grid = small.grid(home, fillers=[], methods=entries)
    assert [cell.label for cell in grid.cells] == ["there"]
    assert [cell.label for cell in grid.left_out()] == ["half gone", "gone"]
    assert [name.rpartition("/")[2] for name in grid.missing] == ["model", "gan"]
    assert all("no such model" in line for line in grid.missing.values())
