"""Ring by ring: what is called with what, that known pixels stay, and every kind of filler."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

import tiny
from inpaintkit.core.errors import BadInput, Cancelled, UsageError
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import from_array
from inpaintkit.methods.plain import Plain
from inpaintkit.pipeline import fillers
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.fillers import FILLERS, Sampled, named
from inpaintkit.pipeline.onion import onion, rings

FAST = Plain(walk=Walk(2, "trailing"))


def smooth(h: int = 36, w: int = 44, dtype=np.uint8) -> np.ndarray:
    """A photo-like array: low-passed noise in three colours."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(h, w, 3)), (4, 4, 0))
    unit = (noise - noise.min()) / np.ptp(noise)
    return (unit * np.iinfo(dtype).max).astype(dtype)


def disc(h: int = 36, w: int = 44, radius: float = 9.5) -> np.ndarray:
    y, x = np.ogrid[:h, :w]
    return (y - h // 2) ** 2 + (x - w // 2) ** 2 < radius**2


def counting(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fills with the share of hole pixels, so that every call leaves its own colour."""
    return np.full_like(image, hole.mean())


@pytest.mark.parametrize("ring", [1, 3, 8, 100])
def test_there_is_one_call_for_each_ring_of_the_depth(ring):
    hole, holes = disc(), []

    def fill(image, left):
        holes.append(left.copy())
        return counting(image, left)

    result, record = onion(from_array(smooth()), hole, fill, ring)
    deepest = ndimage.distance_transform_edt(hole).max()
    assert record["rings"] == len(holes) == int(np.ceil(deepest / ring))
    assert np.array_equal(holes[0], hole)
    assert all((outer & inner == inner).all() and (inner.sum() < outer.sum()) for outer, inner in pairwise(holes))
    assert len(set(result.pixels[hole][:, 0])) == len(holes)
    depth = ndimage.distance_transform_edt(hole)
    assert np.array_equal(holes[-1], depth > ring * (len(holes) - 1))


def test_what_was_made_of_a_ring_is_known_to_the_next_call():
    hole, seen = disc(), []

    def fill(image, left):
        seen.append((image.copy(), left.copy()))
        return counting(image, left)

    onion(from_array(smooth()), hole, fill, 3)
    for (_, outer), (image, inner) in pairwise(seen):
        assert np.allclose(image[outer & ~inner], outer.mean())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", FILLERS)
def test_a_classical_filler_continues_a_smooth_picture_and_leaves_known_pixels(name, dtype):
    truth, hole = smooth(dtype=dtype), disc(radius=6)
    damaged = truth.copy()
    damaged[hole] = 0
    result, record = onion(from_array(damaged), hole, named(name), 3)
    assert np.array_equal(result.pixels[~hole], truth[~hole])
    assert record["changed_outside"] == 0
    error = np.abs(result.pixels[hole].astype(float) - truth[hole]).mean() / np.iinfo(dtype).max
    assert error < 0.1  # the colours of this picture have a standard deviation of about 0.2


@pytest.mark.parametrize("name", FILLERS)
def test_a_classical_filler_does_not_read_the_hole(name):
    image, hole = smooth().astype(np.float32) / 255, disc(radius=4)
    other = image.copy()
    other[hole] = 1 - other[hole]
    assert np.array_equal(FILLERS[name](image, hole)[hole], FILLERS[name](other, hole)[hole])


def test_a_model_fills_the_same_twice_and_its_evaluations_add_up(tmp_path):
    pipe = Inpainter.from_pretrained(str(tiny.folder(tmp_path)), device="cpu", dtype="float32")
    calls = []
    hook = pipe.denoiser.network.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    before, hole = smooth(), disc()
    fill = Sampled(pipe, FAST, 3)
    result, record = onion(from_array(before), hole, fill, 4)
    hook.remove()
    assert record["rings"] == 3
    assert fill.record["nfe"] == sum(calls) >= 3 * 2  # each ring is at least one walk
    assert np.array_equal(result.pixels[~hole], before[~hole])
    assert (result.pixels[hole] != before[hole]).any(-1).mean() > 0.9
    again, _ = onion(from_array(before), hole, Sampled(pipe, FAST, 3), 4)
    assert np.array_equal(again.pixels, result.pixels)


def test_with_nothing_known_there_is_one_ring():
    everything = np.ones((8, 8), bool)
    assert (rings(everything, 2) == 1).all()
    result, record = onion(from_array(smooth(8, 8)), everything, lambda image, hole: np.full_like(image, 1.0), 2)
    assert record["rings"] == 1
    assert (result.pixels == 255).all()


def test_gray_alpha_and_floats_are_kept():
    hole = disc()
    values = np.dstack([smooth()[..., :1] / 255, np.full((36, 44), 0.5)])
    values[hole, 0] = np.nan
    result, _ = onion(from_array(values), hole, named("telea"), 5)
    assert np.isfinite(result.pixels).all()
    assert result.pixels.dtype == np.float64
    assert np.array_equal(result.pixels[~hole][:, 0], values[~hole][:, 0])
    assert (result.alpha[hole] == 1).all()
    assert (result.alpha[~hole] == 0.5).all()


def test_the_caller_sees_every_ring_and_stops_by_raising():
    seen = []

    def watch(step):
        seen.append((step.done, step.total))
        if step.done == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        onion(from_array(smooth()), disc(), counting, 3, watch)
    assert seen == [(1, 4), (2, 4)]


def test_a_ring_without_width_an_empty_hole_and_an_unknown_filler_are_refused():
    with pytest.raises(UsageError, match="ring = 0"):
        onion(from_array(smooth()), disc(), counting, 0)
    with pytest.raises(BadInput, match="no hole"):
        onion(from_array(smooth()), np.zeros((36, 44), bool), counting)
    with pytest.raises(UsageError, match=r"there are telea, ns, biharmonic, else name an \.onnx file"):
        named("lama")
    with pytest.raises(UsageError, match="shape"):
        onion(from_array(smooth()), disc(), lambda image, hole: image[:5])


def test_a_package_that_is_not_installed_is_named_with_its_extra():
    with pytest.raises(UsageError, match=r"no_such_module: cannot be imported .* pip install 'inpaintkit\[classic\]'"):
        fillers.extra("no_such_module", "classic")


class TestOnnx:
    """A real network in a real file: it fills the hole with the mean of what it is given, times `scale`."""

    @staticmethod
    def file(path, scale=1.0, size=(None, None), channels=(3, 1), inputs=("image", "mask"), out="out"):
        helper = pytest.importorskip("onnx").helper
        pytest.importorskip("onnxruntime")
        h, w = (n or k for n, k in zip(size, ("h", "w"), strict=True))
        of = {"image": channels[0], "mask": channels[1]}
        nodes = [
            helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=1),
            helper.make_node("Mul", ["mean", "mask"], ["paint"]),
            helper.make_node("Add", ["image", "paint"], ["sum"]),
            helper.make_node("Mul", ["sum", "scale"], [out]),
        ]
        constant = helper.make_tensor("scale", 1, [1], [scale])
        values = [helper.make_tensor_value_info(name, 1, [1, of[name], h, w]) for name in inputs]
        graph = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info(out, 1, None)], [constant])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        path.write_bytes(model.SerializeToString())
        return path

    @pytest.mark.parametrize("inputs", [("image", "mask"), ("mask", "image")])
    @pytest.mark.parametrize("scale", [1.0, 255.0])
    def test_its_inputs_are_told_apart_and_its_range_is_found(self, tmp_path, scale, inputs):
        image, hole = smooth(40, 48).astype(np.float32) / 255, disc(40, 48)
        out = named(str(self.file(tmp_path / "a.onnx", scale, inputs=inputs)))(image, hole)
        masked = np.where(hole[:, :, None], 0, image)
        assert np.allclose(out[hole], masked.mean((0, 1)), atol=1e-5)
        assert np.allclose(out[~hole], image[~hole], atol=1e-5)

    def test_any_size_is_padded_to_a_multiple_of_eight_and_known_pixels_stay(self, tmp_path):
        before, hole = smooth(37, 43), disc(37, 43)
        result, record = onion(from_array(before), hole, named(str(self.file(tmp_path / "a.onnx"))), 4)
        assert record["rings"] == 3
        assert np.array_equal(result.pixels[~hole], before[~hole])
        assert np.ptp(result.pixels[rings(hole, 4) == 3].reshape(-1, 3), axis=0).max() == 0

    def test_a_stated_size_is_padded_to_and_not_exceeded(self, tmp_path):
        fill = named(str(self.file(tmp_path / "a.onnx", size=(48, 64))))
        image = smooth().astype(np.float32) / 255
        assert fill(image, disc()).shape == image.shape
        with pytest.raises(BadInput, match="takes pictures of 64x48 only, and this is 70x40"):
            fill(smooth(40, 70).astype(np.float32) / 255, disc(40, 70))

    def test_files_that_are_no_such_network_are_refused(self, tmp_path):
        pytest.importorskip("onnxruntime")
        with pytest.raises(BadInput, match="no such file"):
            named(str(tmp_path / "none.onnx"))
        (tmp_path / "text.onnx").write_text("hello")
        with pytest.raises(BadInput, match="is not an ONNX network that can be run"):
            named(str(tmp_path / "text.onnx"))
        image, hole = smooth().astype(np.float32) / 255, disc()
        with pytest.raises(BadInput, match="not finite"):
            named(str(self.file(tmp_path / "nan.onnx", float("nan"))))(image, hole)
        with pytest.raises(BadInput, match="failed on a picture of 44x36"):
            named(str(self.file(tmp_path / "five.onnx", channels=(5, 1))))(image, hole)
