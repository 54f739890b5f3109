"""What a plan says before anything is computed."""

from itertools import count

import numpy as np
import pytest

import tiny
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import to_picture
from inpaintkit.methods.copaint import CoPaint
from inpaintkit.methods.dps import DPS
from inpaintkit.methods.plain import Plain
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options
from inpaintkit.pipeline.plans import counted, plan


@pytest.mark.parametrize("method", [Plain(walk=Walk(2, "trailing")), DPS(walk=Walk(2, "trailing"))])
def test_the_seconds_are_the_evaluations_times_one_measured_call(tmp_path, method):
    pipe = Inpainter.from_pretrained(str(tiny.folder(tmp_path, tiny.network(patch=2))), device="cpu", dtype="float32")
    hole = np.zeros((200, 90), bool)
    hole[10:14, 10:14] = hole[150:190, 20:70] = True
    ticks = count(step=3)  # every call takes 3 s
    found = plan(pipe, to_picture(np.zeros((200, 90, 3), np.float32))[0], hole, method, Options(), 2, lambda: next(ticks))
    levels = [(level["evaluations"], np.prod(level["window_size"])) for region in found["regions"] for level in region["levels"]]
    widest = max(size for _, size in levels)
    assert len({size for _, size in levels}) > 1
    assert next(ticks) == 24  # four calls were made, each looked at the clock before and after
    assert found["seconds"] == pytest.approx(2 * 3 * sum(calls * size / widest for calls, size in levels), abs=0.01)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (Plain(walk=Walk(3, "trailing")), Options()),
        (Plain(walk=Walk(3, "trailing")), Options(guidance=2.0)),
        (Plain(walk=Walk(3, "trailing")), Options(guidance=1.0)),
        (DPS(walk=Walk(3, "trailing")), Options()),
        (DPS(frugal=True, walk=Walk(3, "trailing")), Options()),
        (CoPaint(inner=2, frugal=True, walk=Walk(3, "trailing")), Options()),
        (CoPaint(inner=3, walk=Walk(3, "trailing")), Options()),
    ],
)
def test_as_many_evaluations_are_planned_as_are_made(tmp_path, method, options):
    pipe = Inpainter.from_pretrained(str(tiny.folder(tmp_path, tiny.network())), device="cpu", dtype="float32")
    hole = np.zeros((32, 32), bool)
    hole[10:14, 10:14] = True
    picture = to_picture(np.zeros((32, 32, 3), np.float32))[0]
    planned = counted(pipe, picture, hole, method, options)[0]["evaluations"]
    assert planned == pipe.fill(picture, hole, method, options=options)[1]["nfe"] >= 3
