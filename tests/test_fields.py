"""The script that writes fields: they are what it states, a seed repeats them, and each measurement tells what it should."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from inpaintkit.core.errors import BadInput, NotWritable, UsageError
from inpaintkit.data.arrays import read
from inpaintkit.evaluate.kriging import Covariance, Table, main

SCRIPT = Path(__file__).parents[1] / "recipes" / "fields.py"
spec = importlib.util.spec_from_file_location("fields_recipe", SCRIPT)
assert spec is not None
assert spec.loader is not None
recipe = importlib.util.module_from_spec(spec)
sys.modules["fields_recipe"] = recipe  # dataclasses look their module up
spec.loader.exec_module(recipe)

MEASURES = ("sparse", "lowres", "corrupted", "projected")


def written(tmp_path: Path, kind: str, **options) -> Path:
    out = tmp_path / "-".join([kind, *map(str, options.values())])
    recipe.write(recipe.Args(kind=kind, out=out, **{"count": 60, "size": 16} | options))
    return out


def targets(folder: Path) -> np.ndarray:
    return np.load(folder / "target.npy")[..., 0]


def test_gaussian_fields_have_the_stated_mean_and_covariance(tmp_path):
    count, covariance = 6000, Covariance("matern32", 4.0, 0.5, 0.01)
    fields = targets(written(tmp_path, "grf", count=count, size=8, covariance=covariance)).reshape(count, -1).astype(float)
    wanted = covariance.matrix((8, 8))
    # a mean is off by sqrt(v / n), a covariance by sqrt((v^2 + c^2) / n); 5 of that for some 2000 entries
    assert (abs(fields.mean(0) - 2) < 5 * np.sqrt(0.51 / count)).all()
    error = np.sqrt((0.51**2 + wanted**2) / count)
    found = (fields - 2).T @ (fields - 2) / count
    assert (abs(found - wanted) < 5 * error).all()
    assert (abs(found - Covariance("matern32", 5.0, 0.5, 0.01).matrix((8, 8))) > 5 * error).any()  # so it would show


def test_gaussian_fields_are_gaussian(tmp_path):
    fields = targets(written(tmp_path, "grf", count=6000, size=8))
    one = (fields[:, 3, 3].astype(float) - 2) / recipe.Args(kind="grf", out=Path()).covariance.std
    for power, moment, variance in ((2, 1, 2), (3, 0, 15), (4, 3, 96)):  # of a standard normal variable
        assert abs((one**power).mean() - moment) < 4 * np.sqrt(variance / 6000)


def test_fronts_are_much_sharper_than_gaussian_fields_of_the_same_size(tmp_path):
    smooth, sharp = (targets(written(tmp_path, kind, size=32, count=300)).astype(float) for kind in ("grf", "fronts"))
    steps = [np.diff(fields, axis=2) for fields in (smooth, sharp)]
    steepest = [np.median(abs(step).max((1, 2)) / fields.std((1, 2))) for step, fields in zip(steps, (smooth, sharp), strict=True)]
    assert steepest[1] > 1.25 * steepest[0]
    kurtosis = [(step**4).mean() / (step**2).mean() ** 2 for step in steps]  # 3 for Gaussian steps; flat between fronts: large
    assert abs(kurtosis[0] - 3) < 4 * np.sqrt(24 / (300 * 32))  # with at least as many independent steps as rows
    assert kurtosis[1] > 8


def test_fronts_keep_within_the_temperatures_they_start_from(tmp_path):
    """Advection and diffusion obey a maximum principle: 15 degrees, half a step of 3, three discs of 3 that may overlap."""
    fields = targets(written(tmp_path, "fronts", count=300))
    assert 15 - 1.5 - 9 < fields.min() < 14
    assert 16 < fields.max() < 15 + 1.5 + 9
    field_means = fields.mean((1, 2)).astype(float)
    assert abs(field_means.mean() - 15) < 4 * field_means.std() / np.sqrt(300)


def test_the_flow_map_is_incompressible_and_its_integration_has_converged():
    side = np.arange(0, 0.3, 0.005, np.float32)
    x, y = (a.ravel() for a in np.meshgrid(side, side))
    flow = recipe.Flow()
    mapped = [a.reshape(-1, len(side), len(side)).astype(float) for a in recipe.carried(x, y, flow, np.random.default_rng(0))]
    (xy, xx), (yy, yx) = (np.gradient(a, 0.005, axis=(1, 2)) for a in mapped)
    area = (xx * yy - xy * yx)[:, 2:-2, 2:-2]
    assert abs(area - 1).mean() < 0.01  # central differences: (0.005 k)^2 / 6 with k up to 4 pi, times the stretching
    fine = recipe.carried(x, y, recipe.Flow(steps=24), np.random.default_rng(0))
    coarse = recipe.carried(x, y, flow, np.random.default_rng(0))
    assert max(abs(a - b).max() for a, b in zip(coarse, fine, strict=True)) < 0.005  # a quarter of the kernel's width


def test_a_resting_flow_leaves_a_diffused_step():
    """Without flow the two halves of the diffusion add up: an edge has the width sqrt 2 times `diffusion`."""
    args = recipe.Args(kind="fronts", out=Path(), size=64, flow=recipe.Flow(travel=0.0))
    fields = recipe.fronts(args)(np.random.default_rng(0))
    steepest = abs(np.diff(fields.astype(float), axis=2)).max((1, 2)) * 64
    edge = 1 / (np.sqrt(2 * np.pi) * np.sqrt(2) * args.flow.diffusion)  # slope of a unit step, per side
    assert (steepest < 3 * 4 * edge).all()  # at most four edges of 3 degrees on top of each other
    assert np.median(steepest) > edge  # and commonly one of at least 1 degree, straight on


@pytest.mark.parametrize("kind", ["grf", "fronts"])
def test_a_seed_repeats_its_fields_and_a_larger_count_adds_to_them(tmp_path, kind):
    few, again, more, other = (
        written(tmp_path / name, kind, count=count, seed=seed)
        for name, count, seed in (("a", 30, 4), ("b", 30, 4), ("c", 70, 4), ("d", 30, 5))
    )
    for name in ("target", "cond", "mask"):
        first = np.load(few / f"{name}.npy")
        assert np.array_equal(first, np.load(again / f"{name}.npy"))
        assert np.array_equal(first, np.load(more / f"{name}.npy")[:30])
        assert not np.array_equal(first, np.load(other / f"{name}.npy"))
    assert len(np.unique(targets(more).reshape(70, -1), axis=0)) == 70


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", ["grf", "fronts"])
def test_every_data_set_reads_and_is_scaled_to_unit_variance(tmp_path, kind, measure):
    folder = written(tmp_path, kind, measure=measure, count=200)
    arrays = read(folder)
    target, cond, known = arrays.batch(range(200))
    assert arrays.about["units"]
    assert len(arrays.about["cond"]["channels"]) == cond.shape[1]
    spread = target.flatten(1).square().mean(1)
    assert abs(spread.mean() - 1) < 4 * spread.std() / np.sqrt(200)
    assert (known.sum() > 0) == (measure == "sparse") == (folder / "mask.npy").exists()


def test_sparse_tells_one_to_ten_percent_of_the_points_exactly(tmp_path):
    folder = written(tmp_path, "grf", size=32, count=200)
    target, cond, mask = (np.load(folder / f"{name}.npy") for name in ("target", "cond", "mask"))
    share = (~mask).mean((1, 2))
    assert 0.009 < share.min() < 0.02
    assert 0.09 < share.max() < 0.101
    assert np.array_equal(cond[..., 1] == 1, ~mask)
    assert np.array_equal(cond[~mask, 0], target[~mask, 0])
    assert (cond[mask, 0] == 2).all()


def test_lowres_tells_averages_of_four_by_four(tmp_path):
    folder = written(tmp_path, "fronts", measure="lowres")
    fields, cond = targets(folder), np.load(folder / "cond.npy")
    assert np.allclose(cond[:, 5, 9, 0], fields[:, 4:8, 8:12].mean((1, 2)), atol=1e-5)
    assert np.array_equal(cond[:, 4, 8], cond[:, 7, 11])


def test_corrupted_adds_the_stated_noise_and_leaves_boxes_out(tmp_path):
    folder = written(tmp_path, "grf", measure="corrupted", size=32)
    fields, cond = targets(folder), np.load(folder / "cond.npy")
    there, sigma = cond[..., 1] == 1, json.loads((folder / "fields.json").read_text())["measure"]["noise"]
    noise = (cond[..., 0] - fields)[there].astype(float)
    assert sigma == 0.14
    assert abs(noise.std() / sigma - 1) < 4 / np.sqrt(2 * noise.size)
    assert (cond[~there, 0] == 2).all()
    gone = 1 - there.mean((1, 2))
    assert 0.01 < gone.min() < gone.max() < 0.5


def test_projected_tells_the_sums_of_rows_and_columns(tmp_path):
    folder = written(tmp_path, "grf", measure="projected")
    fields, cond = targets(folder), np.load(folder / "cond.npy")
    assert np.allclose(cond[:, :, 3, 0] * 16, fields.sum(2), atol=1e-4)
    assert np.allclose(cond[:, 5, :, 1] * 16, fields.sum(1), atol=1e-4)


def test_wrong_values_and_an_existing_folder_are_refused_and_leave_nothing(tmp_path):
    for wrong in ({"size": 30}, {"size": 128}, {"count": 0}, {"measure": "all"}, {"flow": recipe.Flow(wavelength=(2.0, 1.0))}):
        with pytest.raises(UsageError):
            written(tmp_path, "grf", **wrong)
    assert not list(tmp_path.iterdir())
    folder = written(tmp_path, "grf")
    with pytest.raises(NotWritable, match="exists already"):
        written(tmp_path, "grf")
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(("kind", "rows"), [("grf", 4), ("fronts", 3)])
def test_the_table_of_kriging_is_made_from_a_folder(tmp_path, capsys, kind, rows):
    main(Table(written(tmp_path, kind, count=300), fields=20))
    head, *lines = capsys.readouterr().out.splitlines()
    assert "20 test fields" in head
    errors = [float(line.split("RMSE ")[1].split()[0]) for line in lines]
    assert len(errors) == rows
    assert max(errors[1:]) < errors[0]  # all of them beat the mean
    with pytest.raises(BadInput, match="--measure sparse"):
        main(Table(written(tmp_path, kind, measure="lowres")))


@pytest.mark.parametrize("measure", ["lowres", "corrupted", "projected"])
def test_the_best_linear_reconstruction_is_as_wrong_as_it_says_and_agrees_with_what_was_measured(tmp_path, monkeypatch, measure):
    """For Gaussian fields it is the posterior: its error has the variance it states, and no regression on other fields is nearer."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    linear = runpy.run_path(str(SCRIPT.with_name("score_fields.py")))["linear"]
    covariance = Covariance("matern32", 4.0, 0.5, 0.01)
    folder = written(tmp_path, "grf", count=1500, size=8, covariance=covariance, measure=measure)
    truth, cond = targets(folder).astype(float), np.load(folder / "cond.npy")
    found = linear(cond, json.loads((folder / "fields.json").read_text())["measure"], covariance.matrix((8, 8)), 2.0)
    share = ((truth - found.mean) ** 2).mean((1, 2)) / found.variance.mean((1, 2))
    assert share.mean() == pytest.approx(1, abs=5 * share.std() / np.sqrt(len(share)))
    assert found.variance.mean() < 0.7 * covariance.std**2
    if measure == "corrupted":
        return
    args = recipe.Args("grf", Path(), measure=measure)
    again = recipe.measured(found.mean[:5].astype(np.float32), args, np.random.default_rng(0))[0]
    assert abs(again - cond[:5]).max() < 1e-4
    given = np.concatenate([np.ones((1500, 1)), cond.reshape(1500, -1)], 1)
    weights = np.linalg.lstsq(given[:1000], truth[:1000].reshape(1000, -1), rcond=1e-6)[0]
    regressed = ((given[1000:] @ weights - truth[1000:].reshape(500, -1)) ** 2).mean()
    assert ((truth[1000:] - found.mean[1000:]) ** 2).mean() < regressed < 1.1 * ((truth[1000:] - found.mean[1000:]) ** 2).mean()
