"""Fields from measurements: what is given is kept, the samples are the model's in the array's units, nothing depends on
neighbours, and what cannot be used is refused in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from inpaintkit.core.errors import BadInput, OverLimit, UsageError
from inpaintkit.core.noise import Noise
from inpaintkit.core.operators import Known
from inpaintkit.core.sampler import Context, begin, sample
from inpaintkit.core.walk import Walk
from inpaintkit.data.picture import Limits
from inpaintkit.methods.ddnm import DDNM
from inpaintkit.methods.plain import Plain
from inpaintkit.methods.repaint import RePaint
from inpaintkit.models.control import Units
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.pipeline.job import Options
from inpaintkit.pipeline.measurements import Measurements, read
from inpaintkit.pipeline.science import Reconstructor


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.field_folder(tmp_path_factory.mktemp("models") / "fields")


@pytest.fixture(scope="module")
def model(folder) -> Reconstructor:
    return Reconstructor.from_pretrained(str(folder), "cpu", "float32", micro_batch=4)


def field(h: int = 16, w: int = 16, seed: int = 0, share: float = 0.2) -> np.ndarray:
    """Kelvins, NaN where not known."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((h, w)) < share, rng.normal(280, 5, (h, w)), np.nan).astype(np.float32)


def given(*fields: np.ndarray) -> Measurements:
    values = np.stack(fields)[..., None]
    return Measurements("here", values, ~np.isnan(values[..., 0]), None, (True, False))


def test_one_field_with_an_axis_of_one_channel_is_one_field(model, tmp_path):
    f = field()
    np.save(tmp_path / "channel.npy", f[..., None])
    np.save(tmp_path / "plain.npy", f)
    np.save(tmp_path / "hole.npy", np.isnan(f))
    one, plain = (read(tmp_path / f"{name}.npy", model.config, tmp_path / "hole.npy") for name in ("channel", "plain"))
    assert one.values.shape == plain.values.shape == (1, 16, 16, 1)
    assert (one.known == plain.known).all()
    (found, _), (wanted, _) = (model(given, samples=1) for given in (one, plain))
    assert (found.mean == wanted.mean).all()
    assert (one.shaped(found.mean).shape, plain.shaped(wanted.mean).shape) == ((16, 16, 1), (16, 16))


def test_samples_are_those_of_the_loop_in_the_units_of_the_array(model):
    f = field()
    made, record = model(given(f), samples=2, seed=5)
    known = torch.from_numpy(~np.isnan(f)).float()[None, None]
    y = torch.from_numpy(np.nan_to_num((f - 280) / 5, nan=0.0)).float()[None, None] * known
    method = model.pipe.method()
    denoiser = model.pipe.denoiser.told(known, y)
    levels = method.walk.levels(denoiser.schedule)
    context = Context(denoiser, Known(known), y, Noise([6]), levels)  # sample 1 uses seed + 1
    *_, last = sample(method, method.walk.times(denoiser.schedule), begin(context, y.shape[1:]), context)
    wanted = last.x[0, 0].numpy() * 5 + 280
    hole = np.isnan(f)
    assert np.allclose(made.samples[1, 0, ..., 0][hole], wanted[hole], atol=1e-3)
    assert np.array_equal(made.samples[:, 0, ..., 0][:, ~hole], np.stack([f[~hole]] * 2))  # to the bit
    assert (record["nfe"], record["samples"], record["units"]) == (3, 2, "K")
    assert record["known_fraction"] == pytest.approx((~hole).mean())


def test_mean_and_spread_are_those_of_the_samples_and_zero_spread_where_known(model):
    f = field()
    made, _ = model(given(f), samples=5)
    assert np.allclose(made.mean, np.mean(made.samples, 0), atol=1e-3)
    assert np.allclose(made.std, np.std(made.samples, 0, ddof=1), atol=1e-3)
    assert (made.std[0, ..., 0] > 0).tolist() == np.isnan(f).tolist()
    one, record = model(given(f), samples=1, guidance=0.0)
    assert not one.std.any()
    assert any(text.startswith("std is 0 everywhere") for text in record["notes"])
    assert (record["told"], record["hole_fraction"]) == (False, pytest.approx(np.isnan(f).mean()))


def test_a_field_does_not_depend_on_its_neighbours_nor_a_sample_on_how_many_there_are(model):
    f = [field(seed=i) for i in range(3)]
    together, _ = model(given(*f), samples=22)  # more than are sampled at once
    alone, _ = model(given(f[0]), samples=2)
    assert np.array_equal(together.samples[:2, :1], alone.samples)
    other, _ = model(given(f[0], f[1] + 1, f[2]), samples=2)
    assert np.array_equal(other.samples[:, [0, 2]], together.samples[:2, [0, 2]])
    assert not np.array_equal(together.samples[0, 1], together.samples[1, 1])


def test_guidance_at_its_ends_is_the_told_and_the_untold_network(model):
    f = field()
    told, one = (model(given(f), samples=1, **w) for w in ({}, {"guidance": 1.0}))
    free, none = model(given(f), samples=1, guidance=0.0), model(given(np.where(np.isnan(f), f, 280 + 3)), samples=1, guidance=0.0)
    twice = model(given(f), samples=1, guidance=2.0)
    hole = np.isnan(f)
    assert np.array_equal(told[0].samples, one[0].samples)
    assert np.array_equal(free[0].samples[0, 0, ..., 0][hole], none[0].samples[0, 0, ..., 0][hole])  # what is known is not looked at
    assert [record["nfe"] for _, record in (told, free, twice)] == [3, 3, 6]
    for a, b in ((told, free), (told, twice), (free, twice)):
        assert np.abs(a[0].samples - b[0].samples)[0, 0, ..., 0][hole].max() > 1e-2


@pytest.mark.parametrize("method", [DDNM(walk=Walk(3, "trailing")), RePaint(walk=Walk(3)), Plain(eta=1.0, walk=Walk(3))])
def test_methods_that_project_work_on_top_of_the_told_network(model, method):
    f = field()
    made, record = model(given(f), method, samples=2)
    assert np.isfinite(made.samples).all()
    assert np.array_equal(made.mean[0, ..., 0][~np.isnan(f)], f[~np.isnan(f)])
    assert record["method"]["class"] == type(method).__name__


def test_sizes_between_the_networks_steps_are_enlarged_by_what_is_not_known_and_cut_again(model):
    assert model.network.multiple == 2
    f = field(15, 13)
    made, _ = model(given(f), samples=2)
    assert made.samples.shape == (2, 1, 15, 13, 1)
    padded, _ = model(given(np.pad(f, ((0, 1), (0, 1)), constant_values=np.nan)), samples=2)
    assert np.array_equal(made.samples, padded.samples[:, :, :15, :13])


@pytest.fixture(scope="module")
def measuring(tmp_path_factory) -> Reconstructor:
    """Told two channels of another kind: an average, and a flag."""
    units = Units((280.0,), (5.0,), (280.0, 0.0), (5.0, 1.0), "K")
    made = tiny.field_folder(tmp_path_factory.mktemp("models") / "cond", cond_channels=2, condition="measurements", units=units)
    return Reconstructor.from_pretrained(str(made), "cpu", "float32")


def test_other_measurements_are_told_whole_and_only_a_mask_makes_values_known(measuring, tmp_path):
    rng = np.random.default_rng(0)
    cond = np.stack([rng.normal(280, 5, (2, 16, 16)), rng.integers(0, 2, (2, 16, 16))], 3)
    np.savez(tmp_path / "a.npz", cond=cond)
    free = read(tmp_path / "a.npz", measuring.config)
    assert not free.known.any()
    one, _ = measuring(free, samples=2)
    other, _ = measuring(replace(free, cond=np.where(np.arange(16)[:, None, None] < 8, cond, cond + 3)), samples=2)
    assert one.samples.shape == (2, 2, 16, 16, 1)
    assert np.abs(one.samples - other.samples).max() > 1e-2
    mask = np.ones((16, 16), bool)
    mask[4, 5] = False
    np.savez(tmp_path / "b.npz", cond=cond, mask=mask)
    told = read(tmp_path / "b.npz", measuring.config)
    made, _ = measuring(told, samples=2)
    assert np.array_equal(made.samples[:, :, 4, 5, 0], np.stack([cond[:, 4, 5, 0].astype(np.float32)] * 2))
    with pytest.raises(BadInput, match="need multiples of 2 on each side"):
        measuring(replace(free, cond=cond[:, :15], values=cond[:, :15, :, :1], known=free.known[:, :15]))


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("shape", [(16, 16), (3, 16, 16), (3, 16, 16, 1)])
def test_arrays_come_back_with_the_axes_they_had(model, tmp_path, shape):
    values = np.stack([field(seed=i) for i in range(3)]).reshape(-1)[: np.prod(shape)].reshape(shape)
    np.save(tmp_path / "f.npy", values)
    found = read(tmp_path / "f.npy", model.config)
    made, _ = model(found, samples=2)
    assert found.shaped(made.mean).shape == shape
    assert found.shaped(made.samples).shape == (2, *shape)
    assert np.array_equal(found.shaped(made.mean)[~np.isnan(values)], values[~np.isnan(values)])


def test_a_mask_an_array_of_what_is_known_and_nan_say_the_same(model, tmp_path):
    f, full = field(), np.random.default_rng(9).normal(280, 5, (16, 16)).astype(np.float32)
    hole, values = np.isnan(f), np.where(np.isnan(f), full, f)
    np.save(tmp_path / "f.npy", f)
    np.save(tmp_path / "v.npy", values)
    np.save(tmp_path / "m.npy", hole)
    np.save(tmp_path / "k.npy", (~hole).astype(np.uint8))
    wanted, _ = model(read(tmp_path / "f.npy", model.config), samples=2)
    for found in (
        read(tmp_path / "v.npy", model.config, mask=tmp_path / "m.npy"),
        read(tmp_path / "v.npy", model.config, known=tmp_path / "k.npy"),
        read(save(tmp_path / "a.npz", values=values, mask=hole), model.config),
        read(save(tmp_path / "b.npz", cond=values[None, ..., None], known=~hole), model.config),
    ):
        made, _ = model(found, samples=2)
        assert np.array_equal(made.samples, wanted.samples)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"values": np.zeros((16, 16))}, "nothing is missing; write NaN"),
        ({"values": np.zeros((2, 2, 2, 2, 1))}, "has shape (2, 2, 2, 2, 1); this model takes (H, W), (H, W, 1), (N, H, W) or (N, H, W, 1)"),
        ({"values": np.zeros((1, 16, 16, 2))}, "this model takes (H, W), (H, W, 1), (N, H, W) or (N, H, W, 1)"),
        ({"values": np.full((16, 16), np.inf)}, "holds inf (item 0, row 0, column 0, channel 0)"),
        ({"other": np.zeros((16, 16))}, "holds no values.npy"),
        ({"cond": np.zeros((16, 16))}, "holds no values.npy"),
        ({"values": np.zeros((16, 16)), "mask": np.zeros((8, 8), bool)}, "the array mask has shape (8, 8)"),
        ({"values": np.zeros((16, 16)), "mask": np.full((16, 16), 2)}, "other values than True and False"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_in_one_line(model, tmp_path, arrays, says):
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput) as error:
        read(path, model.config)
    assert says in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_mask_that_does_not_fit_is_named_and_not_the_array(model, tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((16, 16)))
    np.save(tmp_path / "m.npy", np.zeros((8, 8), bool))
    with pytest.raises(BadInput, match=r"m\.npy: the array mask has shape \(8, 8\)"):
        read(tmp_path / "f.npy", model.config, tmp_path / "m.npy")


def test_more_refusals_and_notes(model, tmp_path):
    with pytest.raises(BadInput, match="takes up to 32 on a side, so cut them"):
        model(given(field(40, 16)))
    with pytest.raises(UsageError, match="two masks"):
        read(tmp_path / "x.npy", model.config, tmp_path / "m.npy", tmp_path / "k.npy")
    with pytest.raises(OverLimit):
        read(save(tmp_path / "a.npz", values=field()), model.config, limits=Limits(max_bytes=100))
    with pytest.raises(UsageError, match="guidance = -1"):
        model(given(field()), guidance=-1)
    np.save(tmp_path / "n.npy", np.full((16, 16), np.nan))
    assert "nothing is known of 1 of 1 fields" in read(tmp_path / "n.npy", model.config).notes[0]
    _, record = model(given(np.where(np.isnan(field()), np.nan, field() - 273.15)), samples=1)  # Celsius
    assert "standard deviations from the mean of what the model was trained on; are its units (K) meant?" in record["notes"][0]


def test_models_of_pictures_and_of_fields_are_told_apart(folder, tmp_path):
    with pytest.raises(UsageError, match="is a model of pictures, not of fields"):
        Reconstructor.from_pretrained(str(tiny.folder(tmp_path / "photos")), "cpu")
    pipe = Inpainter.from_pretrained(str(folder), "cpu")
    picture, mask = np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), bool)
    with pytest.raises(UsageError, match="makes 1-channel arrays, not pictures"):
        pipe(picture, mask)
    units = Units((0.0,) * 3, (1.0,) * 3, (0.0,) * 3, (1.0,) * 3)
    three = tiny.field_folder(tmp_path / "three", channels=3, cond_channels=3, units=units)
    with pytest.raises(UsageError, match="inpaintkit science fill takes it"):
        Inpainter.from_pretrained(str(three), "cpu")(picture, mask)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Inpainter:
    """A conditional network of pictures."""
    method = {"name": "plain", "walk": {"steps": 2, "spacing": "trailing"}}
    made = tiny.field_folder(
        tmp_path_factory.mktemp("models") / "rgb", channels=3, cond_channels=3, units=None, clamp=True, default_method=method
    )
    return Inpainter.from_pretrained(str(made), "cpu", "float32")


def filled(pipe: Inpainter, method=None, **options):
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    hole = np.zeros((20, 24), bool)
    hole[6:14, 8:17] = True
    result = pipe(picture, hole, method, options=Options(feather=0, **options))
    assert np.array_equal(result.images[0][~hole], picture[~hole])
    return result.images[0][hole], result.record


def test_pictures_are_filled_by_a_conditional_network_with_guidance(pictures):
    (plain, record), (one, _), (free, _), (more, twice) = (filled(pictures, guidance=w) for w in (None, 1.0, 0.0, 4.0))
    assert np.array_equal(plain, one)
    assert record["told"]
    assert twice["nfe"] == 2 * record["nfe"]
    assert not np.array_equal(plain, free)
    assert not np.array_equal(plain, more)


def test_guidance_tells_the_network_with_any_method(pictures, tmp_path):
    method = DDNM(walk=Walk(2, "trailing"))
    assert filled(pictures, method)[1]["told"] is False
    told, record = filled(pictures, method, guidance=1.0)
    assert record["told"] is True
    assert np.array_equal(told, filled(pictures, method, tell_network=True)[0])


def test_a_nine_channel_network_is_guided_too_and_an_unconditional_one_refused(tmp_path):
    pipe = Inpainter.from_pretrained(str(tiny.folder(tmp_path / "nine")), "cpu", "float32")
    method = Plain(walk=Walk(2, "trailing"))
    plain, record = filled(pipe, method)
    more, twice = filled(pipe, method, guidance=2.0)
    assert twice["nfe"] == 2 * record["nfe"]
    assert not np.array_equal(plain, more)
    free = Inpainter.from_pretrained(str(tiny.folder(tmp_path / "free", tiny.network(None))), "cpu", "float32")
    with pytest.raises(UsageError, match="cannot be guided"):
        filled(free, method, guidance=2.0)


def test_fields_of_more_channels_than_were_measured_are_made_from_the_measurements_alone(tmp_path):
    units = Units((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
    made = tiny.field_folder(tmp_path / "model", channels=3, cond_channels=2, condition="measurements", units=units)
    model = Reconstructor.from_pretrained(str(made), "cpu", "float32")
    cond = np.random.default_rng(0).standard_normal((2, 16, 16, 2)).astype(np.float32)
    measured = read(save(tmp_path / "measured.npz", cond=cond), model.config)
    assert not measured.known.any()
    found, _ = model(measured, samples=2)
    assert found.samples.shape == (2, 2, 16, 16, 3)
    assert np.isfinite(found.samples).all()
