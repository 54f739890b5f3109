"""Fine-tuning on one photo: from its known pixels alone, the same for the same seed, and with an effect one can measure."""

import numpy as np
import pytest
import torch

import tiny
from inpaintkit.core.errors import UsageError
from inpaintkit.core.progress import Progress
from inpaintkit.data.images import to_picture
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options
from inpaintkit.train.tuning import tuned

HOLE = np.zeros((48, 40), bool)
HOLE[10:34, 12:30] = True


def photo(seed: int = 0) -> np.ndarray:
    """Stripes and noise."""
    stripes = (np.indices((48, 40)).sum(0) // 3 % 2 * 150 + 50).astype(np.uint8)
    return np.stack([stripes] * 3, 2) + np.random.default_rng(seed).integers(0, 40, (48, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("m"), tiny.network(patch=2))


@pytest.fixture
def pipe(folder) -> Inpainter:
    return Inpainter.from_pretrained(str(folder), device="cpu", dtype="float32")


def tune(pipe: Inpainter, image: np.ndarray, hole: np.ndarray = HOLE, steps: int = 3, seed: int = 0, **more) -> Inpainter:
    return tuned(pipe, to_picture(image)[0], hole, steps, seed, **more)


def weights(pipe: Inpainter) -> torch.Tensor:
    return torch.cat([value.flatten() for value in pipe.model.network.state_dict().values()])


def test_what_lies_in_the_hole_has_no_influence(pipe):
    other = photo()
    other[HOLE] = 255 - other[HOLE]
    assert torch.equal(weights(tune(pipe, photo())), weights(tune(pipe, other)))
    other = photo()
    other[~HOLE] = 255 - other[~HOLE]
    assert not torch.equal(weights(tune(pipe, photo())), weights(tune(pipe, other)))


def test_a_grown_hole_hides_more(pipe):
    """The rim that is to be filled too is not learnt from: the caller passes the hole as it is filled."""
    image, wide = photo(), np.zeros_like(HOLE)
    wide[8:36, 10:32] = True
    changed = image.copy()
    changed[wide & ~HOLE] = 0
    assert torch.equal(weights(tune(pipe, image, wide)), weights(tune(pipe, changed, wide)))
    assert not torch.equal(weights(tune(pipe, image)), weights(tune(pipe, changed)))


def test_the_same_seed_gives_the_same_network_and_the_model_stays_as_it_was(pipe):
    before = weights(pipe).clone()
    one, again, other = (weights(tune(pipe, photo(), seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(weights(pipe), before)
    assert not torch.equal(one, before)


def test_the_photo_is_learnt(pipe):
    """Of a network that knows nothing, the fill of an orange photo comes nearer to the truth."""
    image, steps = np.full((48, 40, 3), (220, 120, 20), np.uint8), []
    better = tune(pipe, image, steps=60, on_step=steps.append)
    assert steps[0] == Progress(1, 60)
    assert steps[-1] == Progress(60, 60)
    errors = [np.abs(p(image, HOLE, seed=1).images[0].astype(float) - image)[HOLE].mean() for p in (pipe, better)]
    assert errors[1] < 0.85 * errors[0], errors


def test_a_small_photo_is_enough_and_nothing_known_is_not(pipe):
    assert weights(tune(pipe, photo()[:9, :7], HOLE[4:13, 8:15])).isfinite().all()
    with pytest.raises(UsageError, match="too little is known around the hole to learn from"):
        tune(pipe, photo(), np.ones_like(HOLE))


def test_a_large_photo_is_cut_to_what_lies_around_its_holes(pipe):
    """Far pixels do not matter."""
    image = np.zeros((300, 300, 3), np.uint8)
    image[:48, :40] = photo()
    hole = np.zeros((300, 300), bool)
    hole[10:16, 12:18] = True
    far = image.copy()
    far[200:] = 255
    assert torch.equal(weights(tune(pipe, image, hole)), weights(tune(pipe, far, hole)))


@pytest.mark.parametrize("kind", ["unconditional", "generator"])
def test_models_that_are_not_told_the_hole_are_refused(tmp_path, kind):
    made = tiny.network(condition=None) if kind == "unconditional" else tiny.network(latent=8, unet_other={"class_embed_type": "identity"})
    pipe = Inpainter.from_pretrained(str(tiny.folder(tmp_path / "m", made)), device="cpu", dtype="float32")
    with pytest.raises(UsageError, match="cannot be tuned on a picture; a mask-conditioned model such as photo-64 can"):
        tuned(pipe, to_picture(photo())[0], HOLE, 1, options=Options())
