"""The loop: it learns, a resumed run is the uninterrupted one to the bit, and nothing but seed, step and item decides what is drawn."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.data.splits import split_of
from inpaintkit.models.checkpoints import load_folder
from inpaintkit.train import state as states
from inpaintkit.train.draws import Draws, batches
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import Recipe
from inpaintkit.train.sources import Batch, Folder
from inpaintkit.train.task import Task
from train.runs import RECIPE, everything, on, pictures, same, tasked


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Recipe:
    return on(pictures(tmp_path_factory.mktemp("data")))


def run(recipe: Recipe, out: Path, steps: int) -> Trainer:
    """A trainer, resumed where possible, after so many more steps."""
    trainer = Trainer(recipe, out)
    assert trainer.resume() == []
    list(itertools.islice(trainer.run(), steps))
    return trainer


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(recipe, tmp_path, dropout):
    recipe = tasked(recipe, dropout=dropout)
    straight = run(recipe, tmp_path / "straight", 6)
    half = run(recipe, tmp_path / "resumed", 3)
    half.save()
    torch.manual_seed(123)  # whatever else the process draws
    resumed = run(recipe, tmp_path / "resumed", 3)
    assert (resumed.step, resumed.items) == (straight.step, straight.items)
    assert resumed.step == 6
    assert same(everything(resumed), everything(straight))
    assert not same(everything(resumed), everything(half))


def test_restored_moments_lie_in_memory_like_their_parameters(recipe, tmp_path):
    """torch's fused optimiser on a CPU reads them in the parameters' order, whatever theirs is, and says nothing."""

    def last(out: Path) -> Trainer:
        trainer = Trainer(recipe, out)
        trainer.networks["network"].to(memory_format=torch.channels_last)
        return trainer

    straight = last(tmp_path)
    list(itertools.islice(straight.run(), 1))
    straight.save()
    list(itertools.islice(straight.run(), 1))
    resumed = last(tmp_path)
    assert resumed.resume() == []
    kernels = [p for p in resumed.trained["network"] if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert not any(kernel.is_contiguous() for kernel in kernels)
    moments = resumed.optimizers["network"].state
    assert all(moments[k]["exp_avg"].stride() == moments[k]["exp_avg_sq"].stride() == k.stride() for k in kernels)
    list(itertools.islice(resumed.run(), 1))
    assert same(everything(resumed), everything(straight))


def test_saving_and_looking_at_the_average_do_not_change_the_run(recipe, tmp_path):
    quiet, watched = run(recipe, tmp_path / "a", 2), Trainer(recipe, tmp_path / "b")
    for report in itertools.islice(watched.run(), 2):
        watched.save()
        networks = watched.averaged()
        figures = watched.validate(networks)
        assert {"loss_16", "loss_32"} <= figures.keys()
        assert figures == watched.validate(networks)
        watched.samples(networks, 1)
        assert report.step == watched.step
    assert same(everything(quiet), everything(watched))


def test_workers_and_accumulation_give_the_same_run(recipe, tmp_path):
    plain = everything(run(recipe, tmp_path / "a", 2))
    assert same(plain, everything(run(replace(recipe, workers=2), tmp_path / "b", 2)))
    pieces = everything(run(replace(recipe, accumulate=2), tmp_path / "c", 2))
    # a sum of the same terms in another order: float32's 2^-24 relative, of gradients clipped to norm 1; Adam divides by their size,
    # so a step of lr = 2e-4 is off by that share of itself, and by a good part of itself only where the gradient is next to nothing
    off = torch.cat([(plain[key] - pieces[key]).flatten() for key in plain if ".net." in key]).abs()
    assert off.max() < 2 * 2e-4
    assert off.mean() < 1e-3 * 2e-4
    gradients = [key for key in plain if "exp_avg" in key and "sq" not in key]
    assert max(float((plain[key] - pieces[key]).abs().max()) for key in gradients) < 1e-6
    assert not same(plain, pieces)  # or nothing was accumulated


def test_training_learns_a_picture_by_heart(tmp_path):
    (tmp_path / "photos").mkdir()
    picture = np.zeros((32, 32, 3), np.uint8) + np.array([200, 60, 120], np.uint8)
    Image.fromarray(picture).save(tmp_path / "photos" / "p.png")
    recipe = on(tmp_path, steps=40, lr=5e-3)
    trainer = Trainer(replace(recipe, data=replace(recipe.data, batches=(Batch(size=16, items=4),), split=(1, 0, 0))), tmp_path / "out")
    reports = list(trainer.run())
    assert [report.step for report in reports] == list(range(1, 41))
    assert reports[-1].items == 160
    losses = [report.losses["network"] for report in reports]
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) / 4
    assert trainer.validate(trainer.averaged()) == {}  # nothing is held out
    assert trainer.samples(trainer.averaged()) is None


def test_every_draw_depends_on_seed_split_step_and_item_only(recipe, tmp_path):
    trainer = Trainer(recipe, tmp_path)
    train, held = (Draws(recipe, trainer.source, split) for split in ("train", "validation"))
    first = train.item(5, 0, 0)
    torch.manual_seed(9)
    np.random.seed(9)
    assert same(first, train.item(5, 0, 0))
    other_seed = Draws(replace(recipe, seed=1), trainer.source, "train")
    for other in (train.item(5, 1, 0), train.item(6, 0, 0), held.item(5, 0, 0), other_seed.item(5, 0, 0)):
        assert not torch.equal(first["noise"], other["noise"])
        assert not torch.equal(first["x0"], other["x0"])
    assert first["x0"].shape == (3, 16, 16)
    assert train.item(5, 0, 1)["x0"].shape == (3, 32, 32)
    assert same(trainer.held_out([0, 1]), trainer.held_out([0, 1]))


def test_batches_are_made_as_they_are_needed_and_parts_make_up_the_whole(recipe, tmp_path):
    source = Trainer(recipe, tmp_path).source
    endless = replace(recipe, steps=10**12)
    for step in (0, 7):
        whole = next(batches(endless, source, step, 0, 1))
        halves = [next(batches(endless, source, step, part, 2)) for part in range(2)]
        assert same(whole, {name: torch.cat([half[name] for half in halves]) for name in whole})
    kinds = [len(batch["x0"]) for batch in itertools.islice(batches(endless, source, 0, 0, 1), 40)]
    assert 0.4 < kinds.count(4) / 40 < 0.9  # two thirds; 40 draws have a standard deviation of 0.075


def test_the_average_follows_its_formula(recipe, tmp_path):
    recipe = replace(recipe, ema=0.25)
    trainer = Trainer(recipe, tmp_path)
    average = trainer.averages["network"]
    wanted = {key: value.double() for key, value in average.items()}
    for step, _ in enumerate(itertools.islice(trainer.run(), 5), 1):
        decay = min(recipe.ema, (1 + step) / (10 + step))
        wanted = {key: decay * wanted[key] + (1 - decay) * v.double() for key, v in trainer.networks["network"].state_dict().items()}
    assert (1 + 1) / (10 + 1) < recipe.ema < (1 + 5) / (10 + 5)  # both branches
    averaged = trainer.averaged()["network"].state_dict()
    for key, value in wanted.items():
        assert (average[key] - value).abs().max() < 5 * 2.0**-22 * max(1, float(value.abs().max()))  # five float32 steps
        assert torch.equal(averaged[key], average[key])
    assert not torch.equal(averaged["unet.conv_in.weight"], trainer.networks["network"].state_dict()["unet.conv_in.weight"])


def test_the_rate_warms_up_stays_and_falls_to_zero(recipe, tmp_path):
    trainer = Trainer(replace(recipe, steps=100, warmup=9, decay=0.5, lr=1.0), tmp_path)
    rates = []
    for trainer.step in range(101):
        rates.append(trainer.rate())
    assert rates[:9] == pytest.approx([(step + 1) / 10 for step in range(9)])
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[50:] == pytest.approx([(100 - step) / 50 for step in range(50, 101)])


def test_a_report_says_what_the_step_was_made_with(recipe, tmp_path):
    trainer = Trainer(replace(recipe, warmup=1), tmp_path)
    reports = list(itertools.islice(trainer.run(), 3))
    assert [report.rate for report in reports] == pytest.approx([1e-4, 2e-4, 2e-4])
    assert all(report.norm > 0 and report.seconds > 0 and not report.asked for report in reports)
    trainer.asks.add("save")
    assert next(trainer.run()).asked == {"save"}
    assert not next(trainer.run()).asked


def test_a_run_may_be_prolonged(recipe, tmp_path):
    run(recipe, tmp_path, 2).save()
    longer = Trainer(replace(recipe, steps=5, decay=0.5), tmp_path)
    assert longer.resume() == []
    assert [report.step for report in longer.run()] == [3, 4, 5]


def test_the_average_is_exported_as_a_model_folder(recipe, tmp_path):
    trainer = run(recipe, tmp_path / "run", 2)
    trainer.task.export(tmp_path / "model", trainer.averaged(), "card")
    network, schedule, _ = load_folder(tmp_path / "model")
    assert all(torch.equal(network.state_dict()[k], v) for k, v in trainer.averages["network"].items())
    assert torch.equal(schedule.alpha_bar, trainer.task.levels.alpha_bar)


def test_making_and_running_a_trainer_leaves_the_global_generator_alone(recipe, tmp_path):
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    run(tasked(recipe, dropout=0.1), tmp_path, 1).averaged()
    assert torch.equal(torch.rand(3), wanted)


def test_bfloat16_is_another_arithmetic_on_the_same_float32_weights(recipe, tmp_path):
    exact, fast = (run(replace(recipe, precision=p), tmp_path / p, 1) for p in ("float32", "bfloat16"))
    assert all(v.dtype == torch.float32 for v in everything(fast).values())
    assert not same(everything(exact), everything(fast))


@dataclass(frozen=True)
class Duel(Task):
    """Two networks that are trained in turn, a third that is only read, and a layer that takes no part."""

    kind: Literal["duel"] = "duel"
    roles = ("critic", "network")

    def build(self, seed: int) -> dict[str, nn.Module]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks = {role: nn.Conv2d(3, 3, 1) for role in ("network", "critic", "teacher")}
            networks["network"].idle = nn.Linear(2, 2)
        return networks

    def item(self, example: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"x": torch.from_numpy(example["x0"].copy())}

    def loss(self, role: str, networks: Mapping[str, nn.Module], batch: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
        made = networks["network"](batch["x"])
        told = networks["critic"](made if role == "network" else made.detach())
        assert [networks[name].weight.requires_grad for name in ("network", "critic")] == [role == "network", role == "critic"]
        assert not networks["teacher"].training
        return (told - networks["teacher"](batch["x"]).detach()).square().mean(), {f"{role}_mean": told.mean()}

    def adam(self, role: str) -> dict[str, Any]:
        return {"betas": (0.0, 0.9)} if role == "critic" else {}

    def rate(self, role: str, name: str) -> float:
        return 2.0 if role == "critic" else 1.0

    def export(self, folder: Path, networks: Mapping[str, nn.Module], card: str) -> None:
        raise NotImplementedError


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # no recipe has this task
def test_networks_are_trained_in_turn_each_with_its_own_optimiser(recipe, tmp_path):
    trainer = Trainer(replace(recipe, task=Duel()), tmp_path)
    before = everything(trainer)
    report = next(trainer.run())
    assert list(report.losses) == ["critic", "network", "critic_mean", "network_mean"]
    after = everything(trainer)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key for key in moved if ".net." in key} == {f"{role}.net.{part}" for role in Duel.roles for part in ("weight", "bias")}
    assert {key.split(".")[0] for key in moved if ".ema." in key} == {"network"}
    step = {role: (after[f"{role}.net.weight"] - before[f"{role}.net.weight"]).abs().max().item() for role in Duel.roles}
    assert step == {"network": pytest.approx(2e-4, rel=1e-3), "critic": pytest.approx(4e-4, rel=1e-3)}  # Adam's first step is its rate
    trainer.save()
    again = Trainer(replace(recipe, task=Duel()), tmp_path)
    again.resume()
    assert same(everything(again), after)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sources": (Folder("nothing-*"),)}, "nothing-*: nothing there; say where the pictures are with --set data.root=DIR"),
        ({"batches": (Batch(size=16, items=1, smallest=41),)}, "smallest = 41: none of the"),
        ({"split": (0.0, 1.0, 0.0)}, "is left to train on; add pictures or change data.split"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(recipe, tmp_path, change, says):
    with pytest.raises(BadInput) as error:
        Trainer(replace(recipe, data=replace(recipe.data, **change)), tmp_path)
    assert says in str(error.value)


def test_a_kind_of_batch_that_held_out_pictures_are_too_small_for_is_not_validated(tmp_path):
    recipe = on(pictures(tmp_path), data=replace(RECIPE.data, batches=(Batch(size=16, items=2), Batch(size=32, items=2, smallest=64))))
    large = (np.random.default_rng(i).integers(0, 256, (80, 80, 3), np.uint8) for i in itertools.count())
    Image.fromarray(next(p for p in large if split_of(p.tobytes(), recipe.data.split) == "train")).save(tmp_path / "photos" / "large.png")
    trainer = Trainer(recipe, tmp_path / "out")
    assert trainer.source.count("validation") > 0
    assert {name.rpartition("_")[2] for name in trainer.validate(trainer.averaged())} == {"16"}


def test_figures_of_two_kinds_of_batch_of_one_size_stand_apart(tmp_path):
    kinds = (Batch(size=16, items=2), Batch(size=16, items=2, smallest=20), Batch(size=32, items=2))
    trainer = Trainer(on(pictures(tmp_path), data=replace(RECIPE.data, batches=kinds)), tmp_path / "out")
    figures = trainer.validate(trainer.averaged())
    assert [name for name in figures if name.startswith("loss_")] == ["loss_kind_0", "loss_kind_1", "loss_32"]


@pytest.mark.parametrize(("accumulate", "says"), [(4, "items = 2: must be a multiple of processes (1) times accumulate (4)")])
def test_batches_that_cannot_be_parted_evenly_are_refused(recipe, tmp_path, accumulate, says):
    with pytest.raises(UsageError) as error:
        Trainer(replace(recipe, accumulate=accumulate), tmp_path)
    assert says in str(error.value)


def test_a_device_that_is_not_there_is_refused(recipe, tmp_path):
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(UsageError, match=f"device '{absent}' is not available here; use cpu or auto"):
        Trainer(recipe, tmp_path, absent)


def test_other_conditions_are_told_when_a_run_is_resumed(recipe, tmp_path):
    place = run(recipe, tmp_path, 1).save()
    about = (place / states.ABOUT).read_text().replace('"threads": 1', '"threads": 3')
    (place / states.ABOUT).write_text(about)
    sums = [f"{states.sha256(place / name)}  {name}\n" for name in (states.STATE, states.ABOUT)]
    (place / states.SUMS).write_text("".join(sums))
    (warning,) = Trainer(recipe, tmp_path).resume()
    assert "threads = 3 there, 1 now); the run goes on, but not bit for bit" in warning
