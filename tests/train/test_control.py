"""Training of the conditional network: the condition is dropped now and then, the loss is that of its equation, arrays come with
their masks, scales and units, and a few steps teach it to use what it is told."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import checked
from inpaintkit.models import control_folders
from inpaintkit.models.control import ControlConfig, ControlNetwork
from inpaintkit.models.unet import NetworkConfig
from inpaintkit.train.fields import ArrayData, ArraySource
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import Recipe
from inpaintkit.train.sources import ArrayBatch
from inpaintkit.train.tasks.control import Control
from inpaintkit.train.tasks.damage import Damage
from inpaintkit.train.tasks.denoise import Denoise
from inpaintkit.train.tasks.gan import Gan

TINY = ControlConfig(widths=(8, 16), blocks=1, head_width=8, largest=32)
TASK = Control(network=TINY)
PICTURES = {"pictures": 3, "digest": "x"}


def example(rng: np.random.Generator, channels: int = 3, side: int = 8) -> dict[str, np.ndarray]:
    x0 = rng.uniform(-1, 1, (channels, side, side)).astype(np.float32)
    return {"x0": x0, "known": (rng.random((1, side, side)) < 0.3).astype(np.float32)}


def batch(task: Control, count: int = 6, **other) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    items = [task.item(example(rng, **other), rng) for _ in range(count)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class Oracle(nn.Module):
    """Says what it was given to say."""

    def __init__(self, says):
        super().__init__()
        self.says = says

    def forward(self, x_t, time, known, cond, given):
        return self.says(x_t, time)


def test_an_item_tells_the_known_values_or_now_and_then_nothing():
    rng = np.random.default_rng(0)
    given = example(rng)
    items = [TASK.item(given, rng) for _ in range(1000)]
    dropped = np.mean([float(item["given"]) == 0 for item in items])
    assert abs(dropped - TASK.drop) < 4 * np.sqrt(TASK.drop * (1 - TASK.drop) / 1000)
    levels = [int(item["t"]) for item in items]
    assert min(levels) >= 1
    assert max(levels) <= TASK.T
    assert max(levels) - min(levels) > 0.9 * TASK.T
    assert torch.equal(items[0]["cond"], torch.from_numpy(given["x0"] * given["known"]))
    one, two = (TASK.item(given, np.random.default_rng(3)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("weighting", ["plain", "min-snr"])
@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_the_loss_is_zero_for_the_truth_and_its_weight_is_that_of_the_equation(prediction, weighting):
    task = replace(TASK, network=replace(TINY, prediction=prediction), weighting=weighting)
    b = batch(task, 1) | {"t": torch.tensor([300])}
    x0, eps, bar = b["x0"], b["noise"], float(task.levels.alpha_bar[300])
    truth = {"x0": x0, "eps": eps, "v": bar**0.5 * eps - (1 - bar) ** 0.5 * x0}[prediction]
    seen = {}

    def says(x_t, time):
        seen.update(x_t=x_t, time=time)
        return truth

    assert task.loss("network", {"network": Oracle(says)}, b)[0] < 1e-9
    assert torch.allclose(seen["x_t"], bar**0.5 * x0 + (1 - bar) ** 0.5 * eps, atol=1e-5)
    assert seen["time"].tolist() == [299]  # networks count from 0
    off, snr = task.loss("network", {"network": Oracle(lambda *_: truth + 0.5)}, b)[0], bar / (1 - bar)
    of_x0 = {"x0": 1.0, "eps": 1 / snr, "v": 1 - bar}[prediction]  # (error of x0 / error of the output)^2
    wanted = 1.0 if weighting == "plain" else min(snr, 5.0) * of_x0
    assert off.item() == pytest.approx(0.25 * wanted, rel=1e-4)


def test_known_values_weigh_less_only_where_they_are_told():
    task = replace(TASK, known_weight=0.0)
    b = batch(task, 2)
    wrong = {
        "network": Oracle(lambda x_t, time: task.levels.target("v", b["x0"], b["noise"], b["t"]) + b["known"])
    }  # wrong by 1 on known values only
    assert task.loss("network", wrong, b | {"given": torch.ones(2)})[0] < 1e-9
    assert task.loss("network", wrong, b | {"given": torch.zeros(2)})[0].item() == pytest.approx(float(b["known"].mean()), rel=1e-4)


def test_the_validation_error_is_that_of_the_mean_of_what_fits():
    free, b = replace(TASK, network=replace(TINY, clamp=False)), batch(TASK, 4)
    levels = TASK.levels
    flat = {"network": Oracle(lambda x_t, time: levels.a(TASK.T) * b["noise"] - levels.sigma(TASK.T) * (b["x0"] + 0.5))}
    figures = free.validate(flat, b)
    assert list(figures) == ["loss", "rmse"]
    assert float(figures["rmse"]) == pytest.approx(0.5, rel=1e-3)
    bounded = ((b["x0"] + 0.5).clamp(-1, 1) - b["x0"]).square() * (1 - b["known"])
    wanted = (bounded.sum() / ((1 - b["known"]).sum() * 3)).sqrt()
    assert float(TASK.validate(flat, b)["rmse"]) == pytest.approx(float(wanted), rel=1e-3)


def test_the_task_takes_channels_scale_and_units_from_arrays_and_nothing_from_pictures(fields):
    about = fields.open().about()
    made = TASK.fitted(about).network
    assert (made.channels, made.cond_channels, made.clamp, made.size) == (1, 1, False, 16)
    assert made.units is not None
    assert (made.units.mean, made.units.cond_mean, made.units.name) == ((10.0,), (10.0,), "K")
    told = replace(TASK, network=replace(TINY, condition="measurements")).fitted(about).network
    assert (told.cond_channels, told.units.cond_mean, told.units.cond_std) == (2, (10.0, 0.0), (2.0, 1.0))
    assert TASK.fitted(PICTURES) == TASK
    with pytest.raises(UsageError, match=r"arrays need data.kind = 'arrays'"):
        replace(TASK, network=replace(TINY, condition="measurements")).fitted(PICTURES)


def test_samples_are_the_same_every_time_and_export_gives_the_network_back(tmp_path):
    network = TASK.build(0)["network"]
    b = batch(TASK, 2)
    shown = TASK.samples({"network": network.eval()}, b)
    assert shown.shape == (2, 3, 8, 24)
    assert torch.equal(shown, TASK.samples({"network": network}, b))
    assert torch.equal(shown[..., :8], b["x0"])
    TASK.export(tmp_path / "made", {"network": network}, "card")
    again, schedule, _ = control_folders.load(tmp_path / "made")
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())
    assert torch.equal(schedule.alpha_bar, TASK.levels.alpha_bar)
    other = TASK.build(1)["network"].state_dict()
    assert not torch.equal(other["conv_in.weight"], network.state_dict()["conv_in.weight"])
    assert torch.equal(TASK.build(0)["network"].state_dict()["conv_in.weight"], network.state_dict()["conv_in.weight"])


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> ArrayData:
    """200 fields of 12 x 16 points, each of one value but for a little noise, 3 points of each known; mean 10 K, std 2 K."""
    folder, rng = tmp_path_factory.mktemp("data") / "fields", np.random.default_rng(0)
    folder.mkdir()
    target = (10 + 2 * rng.standard_normal((200, 1, 1, 1)) + 0.1 * rng.standard_normal((200, 12, 16, 1))).astype(np.float32)
    hole = np.ones((200, 12, 16), bool)
    for i in range(200):
        hole[i].flat[rng.choice(192, 3, replace=False)] = False
    np.save(folder / "target.npy", target)
    np.save(folder / "mask.npy", hole)
    np.save(folder / "cond.npy", np.concatenate([np.where(hole[..., None], 10, target), ~hole[..., None]], 3).astype(np.float32))
    about = {"units": "K", "mean": 10.0, "std": 2.0, "cond": {"mean": [10.0, 0.0], "std": [2.0, 1.0]}}
    (folder / "fields.json").write_text(json.dumps(about))
    return ArrayData(kind="arrays", path=folder.name, batches=(ArrayBatch(items=8),), root=str(folder.parent))


def drawn(source: ArraySource, split: str = "train", seed: int = 0, batch: int = 0) -> dict[str, np.ndarray]:
    return source.draw(np.random.default_rng(seed), batch, split)


def test_arrays_are_drawn_scaled_with_their_own_mask_by_split(fields):
    source = fields.open()
    counts = [source.count(split) for split in ("train", "validation", "test")]
    assert sum(counts) == 200
    assert counts[0] > counts[1] > counts[2] > 0
    found = drawn(source)
    assert {name: part.shape for name, part in found.items()} == {"x0": (1, 12, 16), "cond": (2, 12, 16), "known": (1, 12, 16)}
    assert all(part.dtype == np.float32 for part in found.values())
    assert found["known"].sum() == 3
    assert np.array_equal(found["cond"][1], found["known"][0])
    assert np.allclose(found["cond"][0], found["x0"][0] * found["known"][0], atol=1e-6)
    pool = np.stack([drawn(source, seed=i)["x0"] for i in range(100)])
    assert abs(pool.mean()) < 0.5
    assert 0.6 < pool.std() < 1.4
    held = {drawn(source, "validation", i)["x0"].tobytes() for i in range(100)}
    assert not held & {part.tobytes() for part in pool}


def test_points_crops_and_turns_are_drawn_anew_for_training_only(fields):
    source = replace(fields, points=(0.1, 0.2), turn=True, batches=(ArrayBatch(items=1), ArrayBatch(items=1, size=8))).open()
    shares = [drawn(source, seed=i)["known"].mean() for i in range(50)]
    assert min(shares) >= 19 / 192  # 10 % of 192 points, rounded
    assert max(shares) <= 39 / 192
    assert max(shares) - min(shares) > 0.05
    assert drawn(source, batch=1)["x0"].shape == drawn(source, batch=1)["known"].shape == (1, 8, 8)
    assert drawn(source, "validation")["known"].sum() == 3
    assert drawn(source, "validation")["x0"].shape == (1, 12, 16)
    assert all(np.array_equal(a, b) for a, b in zip(drawn(source).values(), drawn(source).values(), strict=True))


@pytest.mark.parametrize(("size", "ways"), [(None, 4), (8, 8)])
def test_fields_whose_sides_differ_are_turned_by_half_turns_only(fields, size, ways):
    """So that all items of a batch have one shape; squares are turned by quarters too."""
    data = replace(fields, batches=(ArrayBatch(items=1, size=size),))
    plain, turned = data.open(), replace(data, turn=True).open()
    seen = set()
    for seed in range(60):
        field, known, made = drawn(plain, seed=seed)["x0"], drawn(plain, seed=seed)["known"], drawn(turned, seed=seed)
        assert made["x0"].shape == field.shape
        every = [(q, m) for q in range(0, 4, 2 if size is None else 1) for m in (False, True)]
        matches = [(q, m) for q, m in every if np.array_equal(made["x0"], np.rot90(field[:, :, ::-1] if m else field, q, (1, 2)))]
        (way,) = matches
        assert np.array_equal(made["known"], np.rot90(known[:, :, ::-1] if way[1] else known, way[0], (1, 2)))
        seen.add(way)
    assert len(seen) == ways


@pytest.mark.parametrize("name", ["target", "cond", "mask"])
def test_another_array_is_noticed_when_a_run_is_resumed(fields, tmp_path, name):
    shutil.copytree(Path(fields.root) / fields.path, tmp_path / fields.path)
    there = replace(fields, root=str(tmp_path))
    assert there.open().about() == fields.open().about()
    array = np.load(tmp_path / fields.path / f"{name}.npy")
    if name == "mask":
        array[3].flat[np.argmin(array[3])] = True  # one point fewer is known
    else:
        array[(3, *np.argwhere(np.load(tmp_path / fields.path / "mask.npy")[3])[0], 0)] += 1
    np.save(tmp_path / fields.path / f"{name}.npy", array)
    assert there.open().about() != fields.open().about()


def test_a_network_that_would_be_told_nothing_is_refused(fields, tmp_path):
    shutil.copytree(Path(fields.root) / fields.path, tmp_path / fields.path)
    measuring = replace(TASK, network=replace(TINY, condition="measurements"))
    (tmp_path / fields.path / "mask.npy").unlink()
    bare = replace(fields, root=str(tmp_path))
    with pytest.raises(UsageError, match=r"data.points: the data have no mask, so no value is known"):
        TASK.fitted(bare.open().about())
    redrawn = replace(bare, points=(0.1, 0.2)).open().about()
    assert TASK.fitted(redrawn).network.channels == 1
    assert measuring.fitted(bare.open().about()).network.cond_channels == 2
    with pytest.raises(UsageError, match=r"data.points: are for task.network.condition = 'values'"):
        measuring.fitted(redrawn)


@pytest.mark.parametrize("task", [Denoise(network=NetworkConfig()), Damage(), Gan(network=NetworkConfig(prediction="x0"))])
def test_tasks_of_pictures_refuse_arrays(fields, task):
    assert task.fitted(PICTURES) == task
    with pytest.raises(UsageError, match=r"data.kind = 'arrays': only a task of kind 'control' learns from arrays"):
        task.fitted(fields.open().about())


def test_sides_that_do_not_fit_the_network_are_refused_before_training(fields, tmp_path):
    deep = Control(network=replace(TINY, widths=(8, 16, 16, 16)))
    with pytest.raises(UsageError, match=r"data.batches.0: items of 12 x 16; task needs multiples of 8: give such a size"):
        Trainer(Recipe(name="t", task=deep, data=fields, steps=1), tmp_path, "cpu")
    Trainer(Recipe(name="t", task=deep, data=replace(fields, batches=(ArrayBatch(items=1, size=8),)), steps=1), tmp_path, "cpu")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"snr_clip": (5.0, 1.0)}, "task.snr_clip = (5, 1): the lower bound comes first"),
        ({"snr_clip": (1.0, 5.0), "weighting": "min-snr", "network": replace(TINY, prediction="eps")}, "unbounded weight"),
        (
            {"network": replace(TINY, default_method={"name": "plian"})},
            "task.network.default_method: 'plian' is not known; name one of plain",
        ),
        (
            {"network": replace(TINY, default_method={"name": "plain", "etaa": 1})},
            "task.network.default_method: Plain has no option 'etaa'",
        ),
        ({"network": replace(TINY, patch=3)}, "task.network.largest = 32 must be a multiple of 6, the network's step; give another one"),
        ({"T": 10}, "task.network.default_method: steps = 20: the schedule has only 10 levels"),
    ],
)
def test_a_task_that_cannot_be_is_refused_when_it_is_built(change, says):
    with pytest.raises(UsageError) as error:
        replace(TASK, **change).build(0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_fields_larger_than_the_network_may_take_are_refused_before_training(fields, tmp_path):
    """What is trained can be run: `science fill` refuses fields above `largest`."""
    small = Control(network=replace(TINY, largest=8))
    with pytest.raises(UsageError, match=r"task.network.largest = 8 is below size = 16, that of the fields"):
        Trainer(Recipe(name="t", task=small, data=fields, steps=1), tmp_path, "cpu")


def test_there_is_no_error_of_x0_from_pure_noise_where_eps_is_predicted():
    task = replace(TASK, network=replace(TINY, prediction="eps"))
    assert list(task.validate({"network": task.build(0)["network"]}, batch(task, 2))) == ["loss"]


def test_pictures_for_the_log_take_no_more_moves_than_there_are_levels():
    task = replace(TASK, T=5, network=replace(TINY, default_method={"name": "plain", "walk": {"steps": 5}}))
    assert torch.isfinite(task.samples(task.build(0), batch(task, 2)).detach()).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"points": (0.3, 0.1)}, "the smaller share comes first"),
        ({"points": (0.0, 0.1)}, "greater than 0"),
        ({"batches": (ArrayBatch(items=1, size=13),)}, "size = 13, but the fields have 12 x 16 positions"),
        ({"batches": (ArrayBatch(items=1, share=0),)}, "must not all be 0"),
        ({"split": (0.5, 0.1, 0.1)}, "sum to 1"),
    ],
)
def test_array_data_that_cannot_be_are_refused_in_one_line(fields, change, says):
    with pytest.raises(UsageError) as error:
        checked(ArrayData, replace(fields, **change)).open()
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_few_steps_teach_the_network_to_use_what_it_is_told():
    task = Control(network=ControlConfig(channels=1, cond_channels=1, widths=(16,), blocks=1, head_width=8, clamp=False))
    networks = task.build(0)
    optimizer = torch.optim.AdamW(networks["network"].parameters(), 1e-2)

    def items(step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(step)
        fields = np.broadcast_to(rng.standard_normal((32, 1, 1, 1), np.float32), (32, 1, 4, 4))  # each of one value
        parts = [task.item({"x0": x0, "known": (rng.random((1, 4, 4)) < 0.5).astype(np.float32)}, rng) for x0 in fields]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    for step in range(100):
        optimizer.zero_grad()
        task.loss("network", networks, items(step))[0].backward()
        optimizer.step()
    network, last = networks["network"].eval(), items(1000)
    assert isinstance(network, ControlNetwork)
    with torch.no_grad():
        told = float(task.validate({"network": network}, last)["rmse"])
        network.without = frozenset({"values"})
        untold = float(task.validate({"network": network}, last)["rmse"])
    assert told < 0.5  # a field differs by about 1 from the mean of all, which is the best that can be said of it untold
    assert untold > 1.5 * told


def test_a_run_on_arrays_resumes_to_the_bit(fields, tmp_path):
    network = replace(TINY, dropout=0.1)
    recipe = Recipe(name="t", task=Control(network=network), data=fields, steps=4, warmup=0, precision="float32", save_minutes=1000)

    def trained(out: Path, steps: int) -> Trainer:
        trainer = Trainer(recipe, out, "cpu")
        trainer.resume()
        for _ in itertools.islice(trainer.run(), steps):
            pass
        return trainer

    straight = trained(tmp_path / "a", 4)
    trained(tmp_path / "b", 2).save()
    resumed = trained(tmp_path / "b", 2)
    assert (straight.step, resumed.step) == (4, 4)
    assert straight.networks["network"].config.units.name == "K"
    other = resumed.networks["network"].state_dict()
    assert all(torch.equal(value, other[key]) for key, value in straight.networks["network"].state_dict().items())
    assert set(straight.validate(straight.averaged())) == {"loss", "rmse"}
