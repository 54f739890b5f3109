"""Cost follows the hole, not the photo: measured in a process of its own."""

import json
import subprocess
import sys

import pytest

import tiny

MEASURE = """
import json, resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from inpaintkit.core.walk import Walk
from inpaintkit.methods.plain import Plain
from inpaintkit.pipeline.fill import Inpainter
pipe = Inpainter.from_pretrained(sys.argv[1], device="cpu", dtype="float32")
loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds, nfe = {512: [], 4000: []}, {}
for _ in range(3):
    for w, h in ((512, 512), (4000, 3000)):
        picture = np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)
        hole = np.zeros((h, w), bool)
        hole[(h - 200) // 2 : (h + 200) // 2, (w - 200) // 2 : (w + 200) // 2] = True
        result = pipe(picture, hole, Plain(walk=Walk(2, "trailing")))
        assert (result.images[0] == picture)[~hole].all()
        seconds[w].append(result.record["seconds"])
        nfe[w] = result.record["nfe"]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": [min(v) for v in seconds.values()], "nfe": list(nfe.values()), "loaded": loaded, "peak": peak}))
"""


@pytest.mark.slow
def test_a_hole_in_a_12_megapixel_photo_costs_what_it_does_in_a_small_one(tmp_path):
    folder = tiny.folder(tmp_path, tiny.network(size=64, largest=256, patch=2))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["nfe"][0] == measured["nfe"][1]
    assert measured["seconds"][1] < 1.1 * measured["seconds"][0], measured
    assert measured["peak"] < 2_000_000, measured  # kB
