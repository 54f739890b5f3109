"""Denoise, then let a generator go over it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from inpaintkit.apps.cli import main
from inpaintkit.core.errors import UsageError
from inpaintkit.core.schedule import cosine, vp
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import from_array, read_picture, write_picture
from inpaintkit.methods.plain import Plain
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.two_stage import check, two_stage

HOLE = np.zeros((24, 20), bool)
HOLE[6:18, 5:15] = True
PICTURE = from_array(np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8))
FEW = Plain(walk=Walk(3, "trailing"))


def folder(path: Path, steps: int, latent: int = 8) -> Path:
    walk = {"steps": steps, "spacing": "trailing"}
    made = tiny.network(
        unet_other={"class_embed_type": "identity" if latent else None},
        latent=latent,
        default_method={"name": "plain", "eta": 1.0, "walk": walk},
    )
    if made.mapping is not None:
        nn.init.normal_(made.mapping.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    return tiny.folder(path, made, vp(steps))


def opened(path: Path) -> Inpainter:
    return Inpainter.from_pretrained(str(path), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> Inpainter:
    return opened(tiny.folder(tmp_path_factory.mktemp("denoiser"), schedule=cosine(100)))


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Inpainter:
    return opened(folder(tmp_path_factory.mktemp("generator"), 4))


def test_the_generator_makes_one_step_from_the_denoised_picture(pipe, generator):
    denoised, first = pipe.fill(PICTURE, HOLE, FEW, seed=3, variants=2)
    results, record = two_stage(pipe, generator, PICTURE, HOLE, FEW, seed=3, variants=2)
    assert len(results) == 2
    for result, before in zip(results, denoised, strict=True):
        assert np.array_equal(result.pixels[~HOLE], PICTURE.pixels[~HOLE])
        assert (result.pixels[HOLE] != before.pixels[HOLE]).any(-1).mean() > 0.5
    assert (first["nfe"], record["nfe"]) == (3, 4)
    assert record["then"]["walk"]["start"] == 0.25
    assert (record["then"]["told"], record["changed_outside"]) == (True, 0)


def test_it_starts_from_what_the_denoiser_made(pipe, generator):
    """With another denoised picture and the same noise, the generator's answer is another one."""
    one, _ = two_stage(pipe, generator, PICTURE, HOLE, FEW)
    other, _ = two_stage(pipe, generator, PICTURE, HOLE, Plain(walk=Walk(1, "trailing")))
    assert (one[0].pixels[HOLE] != other[0].pixels[HOLE]).any()


@pytest.mark.parametrize(("steps", "latent", "says"), [(1, 8, "from pure noise in one step"), (4, 0, "is not a generator")])
def test_a_model_that_cannot_do_it_is_refused(tmp_path, steps, latent, says):
    with pytest.raises(UsageError, match=says):
        check(opened(folder(tmp_path / "m", steps, latent)))


def test_the_command_line_does_the_same_and_its_record_repeats_it(tmp_path, capsys, pipe, generator):
    write_picture(PICTURE, tmp_path / "in.png")
    write_picture(from_array((HOLE * 255).astype(np.uint8)), tmp_path / "hole.png")
    models = ["--model", pipe.model.name, "--then", generator.model.name, "--device", "cpu", "--dtype", "float32"]
    asked = ["fill", tmp_path / "in.png", tmp_path / "hole.png", *models, "--seed", 3, "--json", "-o", tmp_path / "out.png"]
    assert main([str(a) for a in [*asked, "plain", "--steps", 3, "--spacing", "trailing"]]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["nfe"] == 4
    (expected,), _ = two_stage(pipe, generator, PICTURE, HOLE, FEW, seed=3)
    assert np.array_equal(read_picture(tmp_path / "out.png").pixels, expected.pixels)
    (tmp_path / "record.json").write_text(printed)
    assert main(["fill", "--from-record", str(tmp_path / "record.json"), "-o", str(tmp_path / "again.png"), "--quiet"]) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
