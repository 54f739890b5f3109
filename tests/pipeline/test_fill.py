"""Filling: only the hole changes, the same seed gives the same bytes, and the record says what was done."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tiny
from inpaintkit.core.errors import BadInput, Cancelled, UsageError
from inpaintkit.core.sampler import Method
from inpaintkit.core.walk import Walk
from inpaintkit.data.images import check_hole, to_picture
from inpaintkit.methods import METHODS
from inpaintkit.methods.ilvr import ILVR
from inpaintkit.methods.plain import Plain
from inpaintkit.methods.repaint import RePaint
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options

FAST = Plain(walk=Walk(2, "trailing"))


def few(method: Method) -> Method:
    """The method on four levels, with its jumps if it has any."""
    walk = method.walk
    return replace(method, walk=replace(walk, steps=4, jump_length=min(walk.jump_length, 2), jump_n_sample=min(walk.jump_n_sample, 2)))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory) -> Inpainter:
    return Inpainter.from_pretrained(str(tiny.folder(tmp_path_factory.mktemp("model"))), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def cheap(tmp_path_factory) -> Inpainter:
    """The same on patches of 2x2 pixels, for large regions."""
    folder = tiny.folder(tmp_path_factory.mktemp("cheap"), tiny.network(patch=2))
    return Inpainter.from_pretrained(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory) -> Inpainter:
    return Inpainter.from_pretrained(str(tiny.foreign(tmp_path_factory.mktemp("ddpm"))), device="cpu", dtype="float32")


def photo(h: int = 24, w: int = 20, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels), np.uint8)


def boxed(h: int, w: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    hole = np.zeros((h, w), bool)
    for x0, y0, x1, y1 in boxes:
        hole[y0:y1, x0:x1] = True
    return hole


MIDDLE = boxed(24, 20, (6, 8, 12, 17))


def arrays_and_tensors() -> dict:
    eight = photo()
    unit = np.random.default_rng(1).random((24, 20, 3))
    missing = unit.astype(np.float32)
    missing[MIDDLE] = np.nan
    return {
        "uint8": eight,
        "uint8 gray": eight[..., 0],
        "uint8 gray with an axis": eight[..., :1],
        "uint8 with alpha": photo(channels=4),
        "uint16": eight.astype(np.uint16) * 257 + 3,
        "float16": unit.astype(np.float16),
        "float32": unit.astype(np.float32),
        "float32 with NaN in the hole": missing,
        "float64": unit,
        "tensor": torch.from_numpy(unit).permute(2, 0, 1) * 2 - 1,
        "tensor of one": torch.rand(1, 1, 24, 20, generator=torch.Generator().manual_seed(0)),
        "uint8 tensor": torch.from_numpy(eight).permute(2, 0, 1).contiguous(),
    }


@pytest.mark.parametrize("kind", list(arrays_and_tensors()))
def test_an_array_or_tensor_comes_back_as_it_was_but_for_the_hole(pipe, kind):
    before = arrays_and_tensors()[kind]
    (after,) = pipe(before, MIDDLE, FAST).images
    assert type(after) is type(before)
    assert after.dtype == before.dtype
    assert after.shape == before.shape
    old, new = (v.numpy() if isinstance(v, torch.Tensor) else v for v in (before, after))
    if isinstance(before, torch.Tensor):
        old, new = (np.moveaxis(v.reshape(-1, 24, 20), 0, -1) for v in (old, new))
    assert old[~MIDDLE].tobytes() == new[~MIDDLE].tobytes()
    assert (old[MIDDLE] != new[MIDDLE]).mean() > 0.9
    assert np.isfinite(new.astype(np.float64)).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_a_pillow_image_comes_back_in_its_mode_but_for_the_hole(pipe, mode):
    before = Image.fromarray(photo(channels=4)).convert(mode)
    (after,) = pipe(before, Image.fromarray(MIDDLE), FAST).images
    assert isinstance(after, Image.Image)
    assert (after.mode, after.size) == (mode, before.size)
    old, new = np.asarray(before), np.asarray(after)
    assert np.array_equal(old[~MIDDLE], new[~MIDDLE])
    assert (old[MIDDLE] != new[MIDDLE]).mean() > 0.5
    if mode.endswith("A"):
        assert (new[MIDDLE][:, -1] == 255).all()


def test_a_file_is_read_and_filled(pipe, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    Image.fromarray(MIDDLE).save(tmp_path / "hole.png")
    (after,) = pipe(tmp_path / "photo.png", str(tmp_path / "hole.png"), FAST).images
    (wanted,) = pipe(photo(), MIDDLE, FAST).images
    assert np.array_equal(np.asarray(after), wanted)


@settings(max_examples=15)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["corner", "all", "outpaint", "specks", "all but one"]),
    st.sampled_from(["auto", "none"]),
    st.integers(0, 5),
)
def test_any_size_and_any_hole_is_filled_and_nothing_else(pipe, h, w, kind, crop, grow):
    hole = np.zeros((h, w), bool)
    if kind == "corner":
        hole[: (h + 1) // 2, : (w + 1) // 2] = True
    elif kind == "outpaint":
        hole[:, : max(1, w // 3)] = hole[h - max(1, h // 4) :] = True
    elif kind == "specks":
        hole[::7, ::11] = True
    else:
        hole[:] = True
        hole[-1, -1] = kind == "all" or hole.size == 1
    before = photo(h, w)
    result = pipe(before, hole, FAST, options=Options(crop=crop, grow=grow))
    ys, xs = np.indices(hole.shape)
    near = (
        np.array([[((np.argwhere(hole) - [y, x]) ** 2).sum(1).min() <= grow**2 for x in xs[0]] for y in ys[:, 0]])
        if hole.size < 400
        else None
    )
    if near is not None:
        assert np.array_equal(before[~near], result.images[0][~near])
        assert result.record["hole_fraction"] == pytest.approx(near.mean())
    if grow == 0:
        assert np.array_equal(before[~hole], result.images[0][~hole])
    assert result.images[0].shape == before.shape
    assert result.record["changed_outside"] == 0
    planned = result.record["windows"]
    assert all(hole[max(r["box"][1], 0) : r["box"][3], max(r["box"][0], 0) : r["box"][2]].any() for r in planned)


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1)])
def test_a_picture_one_pixel_wide_is_filled(pipe, size):
    hole = np.zeros(size, bool)
    hole.flat[: max(1, hole.size // 2)] = True
    before = photo(*size)
    (after,) = pipe(before, hole, FAST).images
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any()


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_fills_the_hole_only_and_repeats_itself(pipe, name):
    before, method = photo(), few(METHODS[name])
    result = pipe(before, MIDDLE, method, seed=3)
    assert np.array_equal(before[~MIDDLE], result.images[0][~MIDDLE])
    assert (before[MIDDLE] != result.images[0][MIDDLE]).mean() > 0.9
    assert pipe(before, MIDDLE, method, seed=3).images[0].tobytes() == result.images[0].tobytes()
    assert pipe(before, MIDDLE, method, seed=4).images[0].tobytes() != result.images[0].tobytes()


@pytest.mark.parametrize("name", ["ddim", "ddpm", "repaint"])
def test_an_unconditional_diffusers_folder_fills_too(unconditional, name):
    before = photo()
    result = unconditional(before, MIDDLE, few(METHODS[name]))
    assert np.array_equal(before[~MIDDLE], result.images[0][~MIDDLE])
    assert (before[MIDDLE] != result.images[0][MIDDLE]).mean() > 0.9
    assert not result.record["told"]


def test_every_model_names_a_default_method_that_exists(pipe, unconditional):
    assert pipe.method() == METHODS["plain"]
    assert unconditional.method() in METHODS.values()


def test_a_variant_is_the_fill_of_its_own_seed(pipe):
    together = pipe(photo(), MIDDLE, FAST, seed=5, variants=3)
    alone = [pipe(photo(), MIDDLE, FAST, seed=5 + k).images[0] for k in range(3)]
    assert [image.tobytes() for image in together.images] == [image.tobytes() for image in alone]
    assert len({image.tobytes() for image in alone}) == 3


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_variants_are_the_same_in_any_micro_batch_fill(pipe, micro_batch):
    grouped = replace(pipe, denoiser=replace(pipe.denoiser, micro_batch=micro_batch))
    together = grouped(photo(), MIDDLE, FAST, seed=5, variants=5).images
    for k in (0, 3, 4):
        assert grouped(photo(), MIDDLE, FAST, seed=5 + k).images[0].tobytes() == together[k].tobytes()


@pytest.mark.parametrize("second", [(250, 150, 260, 160), (240, 150, 268, 158)])
def test_holes_far_apart_do_not_influence_each_other(pipe, second):
    h, w = 200, 300
    before, first = photo(h, w), (10, 20, 20, 30)
    together = pipe(before, boxed(h, w, first, second), FAST).images[0]
    for one in (first, second):
        hole = boxed(h, w, one)
        assert np.array_equal(pipe(before, hole, FAST).images[0][hole], together[hole])


def test_large_holes_far_apart_do_not_influence_each_other(cheap):
    """Two regions of one size, an L and its mirror image: each needs several windows, but not those the other needs."""
    h, w = 260, 640
    before = photo(h, w)
    ell = boxed(h, w, (50, 50, 58, 190), (50, 182, 190, 190))
    mirrored = ell[:, ::-1].copy()
    both = cheap(before, ell | mirrored, FAST)
    first, second = both.record["windows"]
    assert [first["box"][k + 2] - first["box"][k] for k in (0, 1)] == [second["box"][k + 2] - second["box"][k] for k in (0, 1)]
    assert np.array_equal(cheap(before, ell, FAST).images[0][ell], both.images[0][ell])
    assert np.array_equal(cheap(before, mirrored, FAST).images[0][mirrored], both.images[0][mirrored])


def test_a_hole_in_the_surroundings_of_another_is_filled_once(cheap):
    h, w = 400, 400
    before, small, long = photo(h, w), (200, 20, 206, 26), (40, 130, 340, 200)
    both = cheap(before, boxed(h, w, small, long), FAST)
    assert len(both.record["windows"]) == 2
    together = both.images[0]
    hole = boxed(h, w, small)
    assert np.array_equal(cheap(before, hole, FAST).images[0][hole], together[hole])


def test_far_pixels_never_enter(pipe):
    h, w = 150, 150
    before, hole = photo(h, w), boxed(h, w, (10, 10, 20, 20))
    other = before.copy()
    other[100:] = 255 - other[100:]
    assert np.array_equal(pipe(before, hole, FAST).images[0][hole], pipe(other, hole, FAST).images[0][hole])
    other[30, 15] = 255 - other[30, 15]
    assert not np.array_equal(pipe(before, hole, FAST).images[0][hole], pipe(other, hole, FAST).images[0][hole])


def test_what_the_hole_held_does_not_matter(pipe):
    before, other = photo(), photo()
    other[MIDDLE] = 255 - other[MIDDLE]
    for method in (FAST, few(METHODS["repaint"])):
        assert np.array_equal(pipe(before, MIDDLE, method).images[0], pipe(other, MIDDLE, method).images[0])


@pytest.mark.parametrize("method", [FAST, RePaint(walk=Walk(6, jump_length=2, jump_n_sample=2))], ids=["plain", "jumps"])
def test_every_move_is_reported_and_counted(pipe, method):
    h, w = 64, 200  # a deep hole, filled on two scales, and a small one
    hole = boxed(h, w, (10, 10, 40, 40), (180, 10, 190, 20))
    steps = []
    pipe(photo(h, w), hole, method, variants=2, options=Options(reach=10.0), on_step=steps.append)
    assert [step.done for step in steps] == list(range(1, steps[0].total + 1))
    assert {step.total for step in steps} == {len(steps)}
    assert {step.scale for step in steps} > {1}
    for step in steps:
        assert len(step.boxes) == len(step.x) == 2 * len(set(step.boxes))
        x0, y0, x1, y1 = step.boxes[0]
        assert tuple(step.x.shape[2:]) == ((y1 - y0) // step.scale, (x1 - x0) // step.scale)


def test_a_caller_stops_the_run_by_raising(pipe):
    steps = []

    def stop(step):
        steps.append(step)
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        pipe(photo(), MIDDLE, FAST, on_step=stop)
    assert len(steps) == 1


@pytest.mark.parametrize("hole", [MIDDLE, boxed(24, 20, (0, 0, 20, 24))])
@pytest.mark.parametrize("name", list(METHODS))
def test_the_evaluations_in_the_record_are_those_of_the_network(pipe, name, hole):
    calls = []
    hook = pipe.denoiser.network.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    record = pipe(photo(), hole, few(METHODS[name]), variants=2).record
    hook.remove()
    assert record["nfe"] * 2 == sum(calls) > 0


def test_a_region_of_several_windows_counts_each(cheap):
    h, w = 90, 200
    record = cheap(photo(h, w), boxed(h, w, (10, 40, 190, 48)), FAST).record
    (region,) = record["windows"]
    assert region["box"][2] - region["box"][0] > cheap.model.network.config.largest
    assert record["nfe"] % record["steps"] == 0
    assert record["nfe"] > record["steps"]


def test_the_record_holds_all_that_is_needed_to_repeat_the_run(pipe):
    method = RePaint(eta=0.5, walk=Walk(3))
    record = pipe(photo(), MIDDLE, method, seed=9, variants=2, options=Options(feather=3, tell_network=True)).record
    record = json.loads(json.dumps(record))  # plain values
    assert record["model"] == pipe.model.name
    assert record["model_sha256"] == pipe.model.sha256
    assert record["method"]["class"] == "RePaint"
    assert record["method"]["eta"] == 0.5
    assert record["method"]["walk"]["steps"] == record["steps"] == 3
    assert (record["seed"], record["variants"], record["told"]) == (9, 2, True)
    assert record["options"]["feather"] == 3
    assert record["nfe"] == 3
    assert record["windows"] == [{"box": [0, 0, 20, 24], "scales": [1]}]
    assert record["hole_fraction"] == MIDDLE.mean()
    assert 0 < record["seconds"] <= record["seconds_total"]
    assert (record["dtype"], record["device"], record["threads"], record["micro_batch"]) == ("float32", "cpu", torch.get_num_threads(), 1)
    assert {"inpaintkit", "torch", "numpy", "pillow", "diffusers"} <= record["versions"].keys()
    assert record["changed_outside"] == 0


@pytest.mark.parametrize(("name", "tell", "told"), [("plain", False, True), ("repaint", False, False), ("repaint", True, True)])
def test_plain_tells_the_network_and_others_only_when_asked(pipe, unconditional, name, tell, told):
    options = Options(tell_network=tell)
    assert pipe(photo(), MIDDLE, few(METHODS[name]), options=options).record["told"] is told
    assert unconditional(photo(), MIDDLE, few(METHODS[name]), options=options).record["told"] is False


def test_telling_changes_the_fill(pipe):
    told, untold = (pipe(photo(), MIDDLE, few(METHODS["repaint"]), options=Options(tell_network=tell)).images[0] for tell in (True, False))
    assert (told[MIDDLE] != untold[MIDDLE]).mean() > 0.5


def test_the_fill_meets_a_constant_picture_at_the_rim_when_feathered(pipe):
    before = np.full((24, 20, 3), 128, np.uint8)
    rim = MIDDLE & ~boxed(24, 20, (7, 9, 11, 16))
    step = [abs(pipe(before, MIDDLE, FAST, options=Options(feather=f)).images[0][rim].astype(int) - 128).mean() for f in (0, 8)]
    assert step[1] < step[0]


@pytest.mark.parametrize("options", [Options(grow=2), Options(crop="none"), Options(reach=2.0, refine=0.3)])
def test_every_option_leaves_the_known_pixels(pipe, options):
    before = photo(40, 50)
    hole = boxed(40, 50, (10, 10, 30, 30))
    result = pipe(before, hole, FAST, options=options)
    grown = boxed(40, 50, (8, 8, 32, 32)) if options.grow else hole
    assert np.array_equal(before[~grown], result.images[0][~grown])
    assert result.record["changed_outside"] == 0
    assert len(result.record["windows"][0]["scales"]) == (1 if options.reach > 20 else 2)  # 50 px hold the network's 16 twice


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"device": "tpu"}, "device 'tpu' is not available here; use cpu"),
        ({"device": "cuda:7"}, "device 'cuda:7' is not available here"),
        ({"dtype": "float8"}, "dtype 'float8' is not known; use auto, float32, bfloat16"),
    ],
)
def test_an_unknown_device_or_dtype_is_refused(pipe, arguments, says):
    with pytest.raises(UsageError, match=says):
        Inpainter.from_pretrained(pipe.model.name, **arguments)


def test_bfloat16_is_available_everywhere_and_recorded(pipe):
    narrow = Inpainter.from_pretrained(pipe.model.name, device="cpu", dtype="bfloat16")
    before = photo()
    result = narrow(before, MIDDLE, FAST)
    assert result.record["dtype"] == "bfloat16"
    assert np.array_equal(before[~MIDDLE], result.images[0][~MIDDLE])


def refusal(call) -> str:
    with pytest.raises((BadInput, UsageError)) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_empty_mask_is_refused(pipe):
    assert "the mask has no hole" in refusal(lambda: pipe(photo(), np.zeros((24, 20), bool), FAST))


def test_a_mask_of_another_size_is_refused_naming_both(pipe):
    line = refusal(lambda: pipe(photo(24, 20), np.ones((20, 24), bool), FAST))
    assert "24x20" in line
    assert "20x24" in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": -1}, "seed = -1"),
        ({"seed": "a"}, "seed = 'a', variants = 1: both are whole numbers"),
        ({"method": "ddnm"}, "method = 'ddnm': is no method; pass one of inpaintkit.methods.METHODS"),
        ({"variants": 0}, "variants = 0"),
        ({"options": Options(feather=-1)}, "feather = -1"),
        ({"options": Options(crop="some")}, "crop = 'some'"),
        ({"method": Plain(eta=2.0)}, "eta = 2.0"),
        ({"method": Plain(walk=Walk(2000))}, "steps = 2000: the schedule has only 1000 levels"),
    ],
)
def test_values_out_of_bounds_are_refused(pipe, change, says):
    assert says in refusal(lambda: pipe(photo(), MIDDLE, **({"method": FAST} | change)))


def test_a_default_method_that_does_not_exist_is_refused_naming_the_model(tmp_path):
    folder = tiny.folder(tmp_path, tiny.network(default_method={"name": "magic"}))
    line = refusal(lambda: Inpainter.from_pretrained(str(folder), dtype="float32").method())
    assert line.startswith(f"{folder}: its default method 'magic' is not known")


def test_missing_values_outside_the_hole_are_refused(pipe):
    holed = np.random.default_rng(0).random((24, 20, 3))
    holed[0, 0] = np.nan
    assert "NaN in pixels that are not in the hole" in refusal(lambda: pipe(holed, MIDDLE, FAST))


def test_a_network_of_another_number_of_channels_is_refused(tmp_path):
    from diffusers import DDPMScheduler

    tiny.unet(1, 1).save_pretrained(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    assert "channel" in refusal(lambda: Inpainter.from_pretrained(str(tmp_path), dtype="float32")(photo(), MIDDLE, few(METHODS["ddim"])))


def test_a_full_mask_is_filled_with_a_note(pipe):
    everything = np.ones((24, 20), bool)
    result = pipe(photo(), everything, FAST)
    assert result.record["notes"] == list(check_hole(everything, "x"))
    assert result.record["hole_fraction"] == 1


def test_what_ilvr_makes_of_a_whole_picture_is_not_called_made_up(unconditional):
    everything, (picture, _), two = np.ones((24, 20), bool), to_picture(photo()), Walk(2, "trailing")
    made = {kind: unconditional.fill(picture, everything, kind(walk=two))[1]["notes"] for kind in (ILVR, Plain)}
    assert not any("makes up" in text for text in made[ILVR])
    assert any("makes up" in text for text in made[Plain])
