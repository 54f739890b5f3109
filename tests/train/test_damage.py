"""The task of the mask predictor: its items, its loss, and that it learns to find damage it is not told of."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import checked
from inpaintkit.data.damage import KINDS, SEEN, UNSEEN
from inpaintkit.models import damage as detectors
from inpaintkit.models.backbones import mobilenet_v2
from inpaintkit.models.damage import DetectorConfig
from inpaintkit.models.tensors import fit, read_tensors
from inpaintkit.train import cards
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import Recipe, read
from inpaintkit.train.tasks.damage import SMOOTH, Damage, iou, soft_dice
from train.runs import everything, same

TASK = Damage(network=DetectorConfig(widths=(16, 24)))
RECIPES = Path(__file__).parents[2] / "recipes"


def example(seed: int = 0, size: int = 32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = np.ones((1, size, size), np.float32)
    known[:, 8:20, 4:24] = 0
    return {"x0": np.tanh(rng.standard_normal((3, 1, size)) + rng.standard_normal((3, size, 1))).astype(np.float32), "known": known}


def items(task: Damage, count: int = 24) -> list[dict[str, torch.Tensor]]:
    return [task.item(example(seed), np.random.default_rng(seed)) for seed in range(count)]


def test_an_item_is_a_damaged_picture_and_where_it_is_damaged():
    for item in items(TASK):
        assert item["damaged"].shape == (3, 32, 32)
        assert item["hole"].shape == (1, 32, 32)
        assert item["damaged"].dtype == item["hole"].dtype == torch.float32
        assert item["damaged"].abs().max() <= 1
        assert set(item["hole"].unique().tolist()) <= {0.0, 1.0}


def test_items_depend_on_their_generator_only():
    one, two = (TASK.item(example(), np.random.default_rng(7)) for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["damaged"], TASK.item(example(), np.random.default_rng(8))["damaged"])


def test_the_example_is_left_as_it_was():
    given, copy = example(), example()
    TASK.item(given, np.random.default_rng(0))
    assert all(np.array_equal(given[key], copy[key]) for key in copy)


def test_some_pictures_are_whole_so_that_nothing_is_found_there():
    assert all(item["hole"].max() == 0 for item in items(replace(TASK, clean=1.0)))
    whole = [item["hole"].max() == 0 for item in items(replace(TASK, clean=0.5))]
    assert 3 < sum(whole) < 21  # 12 expected, standard deviation 2.4
    once, often = (np.mean([i["hole"].mean() for i in items(replace(TASK, clean=0.0, more=more))]) for more in (0.0, 0.9))
    assert often > 1.3 * once


ONLY = dict.fromkeys(SEEN, 0.0)


def test_a_share_that_is_named_changes_that_kind_only(monkeypatch):
    asked = []
    for kind in KINDS:
        monkeypatch.setitem(KINDS, kind, lambda *args, kind=kind: asked.append(kind) or (np.zeros((3, 1, 1)), np.zeros((32, 32))))
    items(replace(TASK, clean=0.0), 100)
    assert set(asked) == set(SEEN)
    asked.clear()
    items(replace(TASK, clean=0.0, kinds={"blur": 0.0, "ring": 1.0, "scratch": 9.0}), 100)
    assert set(asked) == {*SEEN, "ring"} - {"blur"}
    assert asked.count("scratch") > 3 * max(asked.count(kind) for kind in {*asked} - {"scratch"}) / 2


def test_the_loss_is_cross_entropy_plus_dice_as_written():
    batch = {"damaged": torch.zeros(2, 3, 8, 8), "hole": (torch.arange(128).reshape(2, 1, 8, 8) % 3 == 0).float()}
    logits = torch.linspace(-3, 3, 128).reshape(2, 1, 8, 8)
    loss, parts = TASK.loss("network", {"network": lambda x: logits}, batch)
    p, g = 1 / (1 + np.exp(-logits.double().numpy())), batch["hole"].double().numpy()
    entropy = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
    s = SMOOTH * 64
    dice = np.mean([1 - (2 * (p[i] * g[i]).sum() + s) / (p[i].sum() + g[i].sum() + s) for i in range(2)])
    assert parts["entropy"].item() == pytest.approx(entropy, abs=1e-6)
    assert parts["dice"].item() == pytest.approx(dice, abs=1e-6)
    assert loss.item() == pytest.approx(entropy + dice, abs=1e-6)
    truth, _ = TASK.loss("network", {"network": lambda x: (batch["hole"] * 2 - 1) * 50}, batch)
    assert 0 <= truth.item() < 1e-6


def test_saying_nothing_where_nothing_is_costs_nothing():
    empty = torch.zeros(1, 1, 16, 16)
    assert soft_dice(empty, empty).item() == 0
    assert soft_dice(torch.full_like(empty, 0.1), empty).item() > 0.9


def test_iou_of_each_picture():
    found, hole = torch.zeros(3, 1, 4, 4, dtype=torch.bool), torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    found[1, 0, :2], hole[1, 0, 1:3] = True, True  # one row of three
    found[2, 0, 0] = True  # nothing is there
    assert iou(found, hole).tolist() == pytest.approx([1, 1 / 3, 0])


def test_the_first_figure_is_one_minus_iou():
    batch = {"damaged": torch.zeros(1, 3, 4, 4), "hole": torch.zeros(1, 1, 4, 4)}
    batch["hole"][..., :2] = 1
    logits = torch.where(torch.arange(4)[:, None] < 2, 1.0, -1.0).expand(4, 4)[None, None]
    figures = TASK.validate({"network": lambda x: logits}, batch)
    assert next(iter(figures)) == "jaccard"
    assert figures["jaccard"].item() == pytest.approx(1 - 4 / 12)
    sheet = TASK.samples({"network": lambda x: logits}, batch)
    assert sheet.shape == (1, 3, 4, 12)
    assert torch.equal(sheet[0, 0, :, 4:8], batch["hole"][0, 0] * 2 - 1)


def test_it_learns_to_find_damage_it_is_not_told_of():
    task = replace(TASK, kinds=ONLY | {"solid": 1.0, "noise": 1.0}, clean=0.2, more=0.0)
    networks = task.build(0)
    adam = torch.optim.Adam(networks["network"].parameters(), 5e-3)

    def batch(first: int) -> dict[str, torch.Tensor]:
        drawn = [task.item(example(first + i), np.random.default_rng(first + i)) for i in range(8)]
        return {key: torch.stack([item[key] for item in drawn]) for key in drawn[0]}

    def figure() -> float:
        held = {"network": copy.deepcopy(networks["network"]).eval()}  # norms take the statistics that were learnt
        with torch.no_grad():
            return float(np.mean([task.validate(held, batch(10**6 + 8 * i))["jaccard"] for i in range(4)]))

    before = figure()
    for step in range(40):
        adam.zero_grad()
        task.loss("network", networks, batch(8 * step))[0].backward()
        adam.step()
    assert before > 0.7
    assert figure() < 0.4


def test_what_is_exported_is_what_blind_loads_and_can_be_gone_on_from(tmp_path):
    networks = TASK.build(3)
    TASK.export(tmp_path / "model", networks, "card")
    loaded = detectors.load(str(tmp_path / "model"))
    for key, value in networks["network"].state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)
    again = replace(TASK, start=str(tmp_path / "model")).build(4)["network"].state_dict()
    assert all(torch.equal(again[key], value) for key, value in loaded.network.state_dict().items())
    with pytest.raises(UsageError, match="other widths"):
        replace(TASK, start=str(tmp_path / "model"), network=DetectorConfig(widths=(16, 32))).build(4)


def test_a_trunk_that_knows_something_is_taken_over_and_learns_slower(tmp_path):
    save_file(mobilenet_v2().state_dict(), tmp_path / "net.safetensors")
    task = replace(TASK, trunk=tmp_path / "net.safetensors")
    given, trunk = mobilenet_v2(), task.build(0)["network"].trunk
    fit(given, read_tensors(task.trunk), task.trunk)
    assert all(torch.equal(a, b) for a, b in zip(trunk.parameters(), given.features[: len(trunk)].parameters(), strict=True))
    assert (task.rate("network", "trunk.0.conv.weight"), task.rate("network", "last.weight")) == (0.25, 1.0)
    assert replace(TASK, start="damage").rate("network", "trunk.0.conv.weight") == 0.25
    assert TASK.rate("network", "trunk.0.conv.weight") == 1.0
    with pytest.raises(UsageError, match=r"task.start and task.trunk.*one of them"):
        replace(task, start="damage").build(0)


def test_the_recipe_holds_out_the_kinds_it_is_measured_on():
    recipe = read(RECIPES / "damage.toml")
    assert isinstance(recipe.task, Damage)
    assert not {kind for kind, share in recipe.task.shares.items() if share} & set(UNSEEN)
    assert recipe.task.clean > 0


@pytest.mark.parametrize(
    ("values", "said"), [({"kinds": {"blurr": 1.0}}, "blurr is not a kind of damage"), ({"kinds": ONLY}, "must not all be 0")]
)
def test_kinds_that_cannot_be_drawn_are_refused(values, said):
    with pytest.raises(UsageError, match=said):
        replace(TASK, **values).build(0)


def test_pieces_of_a_batch_are_refused_because_batch_norm_sees_them_apart():
    networks = TASK.build(0)
    TASK.check(networks, [(8, 32, 32)], 1)
    with pytest.raises(UsageError, match="accumulate"):
        TASK.check(networks, [(8, 32, 32)], 2)
    with pytest.raises(UsageError, match="use one process"):
        TASK.check(networks, [(8, 32, 32)], 1, 2)


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    (tmp_path / "photos").mkdir()
    for i in range(24):
        rng = np.random.default_rng(i)
        pixels = 128 + 60 * rng.standard_normal((1, 40, 3)) + 60 * rng.standard_normal((40, 1, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / f"{i:02d}.png")
    values = {
        "name": "d",
        "task": {"kind": "damage", "network": {"widths": [8, 12]}},
        "data": {
            "kind": "pictures",
            "sources": [{"path": "photos"}],
            "root": str(tmp_path),
            "masks": {"box": 1.0},
            "batches": [{"items": 4, "size": 32}],
        },
        "steps": 4,
        "warmup": 0,
    }
    return checked(Recipe, values)


def test_the_trainer_trains_validates_and_saves_it(recipe, tmp_path):
    (tmp_path / "out").mkdir()
    trainer = Trainer(recipe, tmp_path / "out", device="cpu")
    reports = list(trainer.run())
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert {"entropy", "dice"} <= reports[0].losses.keys()
    figures = trainer.validate(trainer.averaged())
    assert 0 <= figures["jaccard"] <= 1
    trainer.save()
    resumed = Trainer(recipe, tmp_path / "out", device="cpu")
    resumed.resume()
    assert resumed.step == 4
    assert resumed.validate(resumed.averaged()) == figures


def test_a_trunk_learns_at_its_own_rate_and_may_lie_elsewhere_when_the_run_goes_on(recipe, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "moved").mkdir()
    save_file(mobilenet_v2().state_dict(), tmp_path / "net.safetensors")
    recipe = replace(recipe, task=replace(recipe.task, trunk=tmp_path / "net.safetensors"))
    trainer = Trainer(recipe, tmp_path / "out", device="cpu")
    assert [report.step for report in trainer.run()] == [1, 2, 3, 4]
    trunk = {id(parameter) for parameter in trainer.networks["network"].trunk.parameters()}
    slow, usual = sorted(trainer.optimizers["network"].param_groups, key=lambda group: group["factor"])
    assert {id(parameter) for parameter in slow["params"]} == trunk
    assert not {id(parameter) for parameter in usual["params"]} & trunk
    assert (slow["lr"], slow["factor"]) == (0.25 * usual["lr"], 0.25)

    half = Trainer(recipe, tmp_path / "out", device="cpu")
    run = half.run()
    next(run), next(run)
    half.save()
    (tmp_path / "net.safetensors").rename(tmp_path / "moved" / "net.safetensors")
    moved = replace(recipe, task=replace(recipe.task, trunk=tmp_path / "moved" / "net.safetensors"))
    resumed = Trainer(moved, tmp_path / "out", device="cpu")
    resumed.resume()
    assert [report.step for report in resumed.run()] == [3, 4]
    assert same(everything(resumed), everything(trainer))
    card = cards.card(resumed, {}, False)
    assert "net.safetensors" in card
    assert str(tmp_path) not in card
