"""Every method through `Inpainter`, with everything it does: coarse to fine, tiles, variants, 8 bits; and what the record says of it."""

from dataclasses import replace

import numpy as np
import pytest

import tiny
from inpaintkit.core.walk import Walk
from inpaintkit.methods import METHODS, CoPaint, RePaint
from inpaintkit.methods.gradient import GradientMethod
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options, refined


def few(method):
    walk = replace(method.walk, steps=4, jump_length=min(method.walk.jump_length, 3), jump_n_sample=min(method.walk.jump_n_sample, 2))
    return replace(method, walk=walk, **({"range_t": 1, "factor": 4} if isinstance(method, ILVR) else {}))


FEW = {name: few(method) for name, method in METHODS.items()}
every_method = pytest.mark.parametrize("name", FEW)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tiny.folder(tmp_path_factory.mktemp("model"), tiny.network(size=16, largest=32))
    return Inpainter.from_pretrained(str(folder), device="cpu", dtype="float32")


PHOTO = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
HOLE = np.zeros((32, 48), bool)
HOLE[8:24, 8:40] = True


@every_method
def test_coarse_to_fine_in_tiles_with_variants(pipe, name):
    scales = set()
    options = Options(reach=4.0, feather=2, crop="none")
    done = pipe(PHOTO, HOLE, FEW[name], 7, 2, options, on_step=lambda step: scales.add(step.scale))
    assert scales == {1, 2}
    one, other = done.images
    assert (one[~HOLE] == PHOTO[~HOLE]).all()
    assert (one != other).any()
    assert done.record["changed_outside"] == 0
    assert (done.record["nfe_backward"] > 0) == isinstance(FEW[name], GradientMethod)
    assert done.record["nfe"] >= 4
    alone = pipe(PHOTO, HOLE, FEW[name], 8, 1, options)
    assert (alone.images[0] == other).all()  # variant 1 of seed 7


@pytest.mark.parametrize("name", [name for name, method in FEW.items() if isinstance(method, GradientMethod)])
def test_the_frugal_way_makes_the_same_picture(pipe, name):
    plain, frugal = (pipe(PHOTO, HOLE, replace(FEW[name], frugal=f), 7) for f in (False, True))
    assert (plain.images[0] == frugal.images[0]).all()
    assert frugal.record["nfe"] == plain.record["nfe"] + plain.record["nfe_backward"]


@every_method
def test_the_record_names_the_papers(pipe, name):
    papers = pipe(PHOTO, HOLE, FEW[name]).record["papers"]
    assert papers == [str(paper) for paper in METHODS[name].papers]
    assert all(f" {paper.year}." in text for paper, text in zip(METHODS[name].papers, papers, strict=True))


@pytest.mark.parametrize("kind", [ILVR, RePaint])
def test_a_range_that_switches_the_condition_off_is_noted_in_the_record(pipe, kind):
    values = {"factor": 4} if kind is ILVR else {}
    notes = pipe(PHOTO, HOLE, kind(range_t=4, walk=Walk(4), **values)).record["notes"]
    assert sum("range_t = 4" in text for text in notes) == 1
    assert not pipe(PHOTO, HOLE, kind(range_t=1, walk=Walk(4), **values)).record["notes"]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_the_walk_of_a_finer_level_has_no_jump_longer_than_itself(steps):
    from inpaintkit.core.schedule import cosine

    walk = refined(CoPaint(walk=Walk(steps, jump_length=max(1, steps - 1), jump_n_sample=2 if steps > 1 else 1)), 0.5).walk
    assert walk.times(cosine())[-1] == 0
    assert walk.steps == max(1, round(steps / 2))
