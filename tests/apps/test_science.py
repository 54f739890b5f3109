"""`inpaintkit science fill`: from an array with gaps to mean, std and samples, complete or absent, refusals in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

import tiny


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> Path:
    return tiny.field_folder(tmp_path_factory.mktemp("models") / "fields")


@pytest.fixture
def array(tmp_path) -> Path:
    """16x14 kelvins, some NaN."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((16, 14)) < 0.3, rng.normal(280, 5, (16, 14)), np.nan)
    np.save(tmp_path / "field.npy", values)
    return tmp_path / "field.npy"


@pytest.fixture
def science(cli, fields, array, tmp_path):
    def call(*argv, source=array, out=tmp_path / "out.npz", model=fields):
        return cli("science", "fill", source, "--model", model, "--dtype", "float32", "-o", out, *argv)

    return call


def test_it_writes_mean_std_and_samples_and_says_how(science, array, tmp_path):
    code, out, err = science("--samples", 3, "--seed", 7, "--json")
    assert code == 0, err
    record, values = json.loads(out), np.load(array)
    with np.load(tmp_path / "out.npz") as made:
        assert set(made) == {"mean", "std", "samples"}
        assert made["samples"].shape == (3, 16, 14)
        assert made["mean"].shape == made["std"].shape == values.shape
        assert np.allclose(made["mean"], made["samples"].mean(0), atol=1e-3)
        known = ~np.isnan(values)
        assert np.array_equal(made["mean"][known], values[known].astype(np.float32))
        assert not made["std"][known].any()
        assert (made["std"][~known] > 0).all()
    assert record["outputs"] == [str(tmp_path / "out.npz")]
    assert (record["seed"], record["samples"], record["nfe"], record["units"]) == (7, 3, 3, "K")
    assert record["method"]["class"] == "Plain"
    assert "reconstructing field.npy" in err


def test_the_same_seed_gives_the_same_file_and_options_change_it(science, tmp_path):
    def made(*argv) -> np.ndarray:
        code, _, err = science("--overwrite", "--quiet", "--samples", 2, *argv)
        assert code == 0, err
        assert not err
        with np.load(tmp_path / "out.npz") as found:
            return found["samples"]

    first = made()
    assert np.array_equal(made(), first)
    for other in (["--seed", 1], ["--guidance", 3], ["ddnm", "--steps", 3], ["plain", "--steps", 2]):
        assert not np.array_equal(made(*other), first)
    assert np.array_equal(made("--seed", 1)[0], first[1])


def test_masks_come_as_files(science, array, tmp_path):
    values = np.load(array)
    np.save(tmp_path / "full.npy", np.nan_to_num(values, nan=1e9))
    np.save(tmp_path / "mask.npy", np.isnan(values))
    np.save(tmp_path / "known.npy", ~np.isnan(values))
    results = []
    for argv in ([], ["--mask", tmp_path / "mask.npy"], ["--known", tmp_path / "known.npy"]):
        code, _, err = science("--overwrite", "--samples", 1, *argv, source=tmp_path / "full.npy" if argv else array)
        assert code == 0, err
        with np.load(tmp_path / "out.npz") as made:
            results.append(made["mean"])
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_mask_that_is_named_counts_in_place_of_the_arrays_own(science, tmp_path):
    values, own = np.zeros((16, 14)), np.zeros((16, 14), bool)
    own[:8] = True
    np.savez(tmp_path / "both.npz", values=values, mask=own)
    np.save(tmp_path / "known.npy", own)
    made = {}
    for name, argv in (("own", ()), ("named", ("--known", tmp_path / "known.npy"))):
        code, _, err = science("--samples", 2, "--overwrite", "--quiet", *argv, source=tmp_path / "both.npz")
        assert code == 0, err
        with np.load(tmp_path / "out.npz") as found:
            made[name] = found["std"] > 0
    assert np.array_equal(made["own"], own)
    assert np.array_equal(made["named"], ~own)
    np.savez(tmp_path / "both.npz", values=values, mask=own, known=own)
    code, _, err = science("--overwrite", source=tmp_path / "both.npz")
    assert (code, "holds mask and known" in err) == (3, True)


def test_refusals_are_one_line_with_the_documented_code_and_leave_nothing(science, cli, array, model, tmp_path):
    np.save(tmp_path / "full.npy", np.zeros((16, 14)))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "there.npz").write_bytes(b"mine")
    cases = [
        (science(source=tmp_path / "full.npy"), 3, "nothing is missing"),
        (science(source=tmp_path / "broken.npy"), 3, "not a .npy file, or damaged"),
        (science(source=tmp_path / "nowhere.npy"), 3, "no such file"),
        (science(model=model), 2, "is a model of pictures, not of fields"),
        (science(model="photo-64"), 2, "photo-64: is a model of pictures"),
        (science(out=tmp_path / "out.npy"), 2, "the result is an .npz file"),
        (science(out=tmp_path / "there.npz"), 6, "exists already"),
        (science(out=tmp_path / "no" / "out.npz"), 6, "does not exist"),
        (science("--guidance", -1), 2, "guidance"),
        (science("--samples", 0), 2, "samples"),
        (cli("science", "fill"), 2, "--model is missing"),
        (cli("science", "fill", "--model", model), 2, "ARRAY is missing"),
        (cli("science", "reconstruct"), 2, "there is fill"),
    ]
    for (code, out, err), wanted, says in cases:
        lines = [line for line in err.splitlines() if not line.startswith("reconstructing")]
        assert (code, len(lines), out) == (wanted, 1, ""), err
        assert lines[0].startswith("error: ")
        assert says in lines[0]
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out") or path.suffix == ".part"]


def test_it_is_described(cli, fields):
    code, out, _ = cli("science")
    assert code == 0
    assert "fill" in out
    code, out, _ = cli("science", "fill", "--help")
    assert code == 0
    assert "--guidance" in out
    assert "ddnm" in out
    code, out, _ = cli("models", "info", fields)
    assert code == 0
    assert "values, 1 channels of fields in K" in out


def test_fill_takes_guidance(fill, photo, tmp_path):
    code, out, err = fill("-o", tmp_path / "a.png", "--guidance", 2, "--json")
    assert code == 0, err
    assert json.loads(out)["nfe"] == 4  # two steps, told and untold
    code, _, err = fill("-o", tmp_path / "b.png", "--guidance", -1)
    assert code == 2
    assert "guidance" in err
