"""Training: it learns, it resumes to the bit, it never uses a damaged or foreign state, and a failing run keeps the last good one."""

import itertools
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from inpaintkit.core.errors import BadInput
from inpaintkit.core.settings import checked
from inpaintkit.models.checkpoints import load_folder, save_folder
from inpaintkit.models.unet import Condition, NetworkConfig
from inpaintkit.train import state as states
from inpaintkit.train.loop import Trainer, _draw
from inpaintkit.train.recipes import Batch, Recipe, Source

UNET = tiny.UNET | {"in_channels": 9, "out_channels": 3}
RECIPE = Recipe(
    name="tiny",
    unet=UNET,
    network=NetworkConfig(prediction="x0", size=16, largest=64, condition=Condition()),
    sources=(Source("photos"),),
    masks={"box": 1.0, "sparse": 1.0, "all": 0.5},
    batches=(Batch(size=16, items=2), Batch(size=32, items=1, share=0.5)),
    steps=6,
    warmup=0,
    decay=0.0,
    held_out=0.2,
    autocast=False,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    for i in range(12):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)).save(root / "photos" / f"{i:02d}.png")
    return root


def trained(data: Path, out: Path, steps: int, recipe: Recipe = RECIPE) -> Trainer:
    """A trainer, resumed where possible, after so many more steps."""
    trainer = Trainer(recipe, data, out)
    assert trainer.resume() == []
    list(itertools.islice(trainer.run(), steps))
    return trainer


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    return (
        {f"net.{k}": v for k, v in trainer.network.state_dict().items()}
        | {f"ema.{k}": v for k, v in trainer.average.items()}
        | states.flat_optimizer(trainer.optimizer)
    )


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(data, tmp_path, dropout):
    recipe = replace(RECIPE, unet=UNET | {"dropout": dropout})
    straight = trained(data, tmp_path / "straight", 6, recipe)
    half = trained(data, tmp_path / "resumed", 3, recipe)
    half.save()
    torch.manual_seed(123)  # whatever else the process draws
    resumed = trained(data, tmp_path / "resumed", 3, recipe)
    assert (resumed.step, resumed.pictures) == (straight.step, straight.pictures)
    assert resumed.step == 6
    assert same(everything(resumed), everything(straight))
    assert not same(everything(resumed), everything(half))


def test_saving_and_looking_at_the_average_do_not_change_the_run(data, tmp_path):
    quiet, watched = trained(data, tmp_path / "a", 4), Trainer(RECIPE, data, tmp_path / "b")
    for report in itertools.islice(watched.run(), 4):
        watched.save()
        watched.validate(watched.averaged(), pictures=16, size=16)
        assert report.step == watched.step
    assert same(everything(quiet), everything(watched))


def test_training_learns_a_picture_by_heart(tmp_path):
    (tmp_path / "photos").mkdir()
    picture = np.zeros((16, 16, 3), np.uint8) + np.array([200, 60, 120], np.uint8)
    Image.fromarray(np.kron(picture, np.ones((2, 2, 1), np.uint8))).save(tmp_path / "photos" / "p.png")
    recipe = replace(RECIPE, steps=60, lr=3e-3, held_out=0.0, batches=(Batch(size=16, items=4),))
    trainer = Trainer(recipe, tmp_path, tmp_path / "out")
    draws = [_draw(recipe, trainer.train, recipe.batches[0], 10_000 + i) for i in range(8)]

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([trainer.loss(trainer.network, *draw).item() for draw in draws]))

    before = loss()
    reports = list(trainer.run())
    assert [report.step for report in reports] == list(range(1, 61))
    assert loss() < before / 4
    assert np.isnan(trainer.validate(trainer.network))  # nothing is held out


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_the_loss_is_zero_for_the_truth_whatever_is_predicted(data, tmp_path, prediction):
    network = replace(RECIPE.network, prediction=prediction)
    trainer = Trainer(replace(RECIPE, network=network, masks={"box": 1.0}), data, tmp_path)
    x0, known, t, noise = _draw(trainer.recipe, trainer.train, Batch(size=16, items=3), 0)
    t = torch.tensor([1, 300, 700])
    truth = {"x0": x0, "eps": noise, "v": torch.stack([trainer.schedule.v(x0[i], noise[i], int(t[i])) for i in range(3)])}[prediction]
    assert trainer.loss(lambda *args: truth, x0, known, t, noise) < 1e-8
    assert trainer.loss(lambda *args: truth + 0.1, x0, known, t, noise) > 1e-4


def test_known_pixels_weigh_less_and_the_weight_of_a_level_is_its_clipped_snr(data, tmp_path):
    trainer = Trainer(RECIPE, data, tmp_path)
    x0, noise = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    for t in (1, 400, 1000):
        bar = float(trainer.schedule.alpha_bar[t])
        weight = min(max(bar / (1 - bar), RECIPE.snr_clip[0]), RECIPE.snr_clip[1])
        for known, share in ((torch.zeros(1, 1, 16, 16), 1.0), (torch.ones(1, 1, 16, 16), RECIPE.known_weight)):
            loss = trainer.loss(lambda *args: torch.ones(1, 3, 16, 16), x0, known, torch.tensor([t]), noise)
            assert loss.item() == pytest.approx(weight * share, rel=1e-5)


def test_every_draw_depends_on_seed_step_and_item_only(data, tmp_path):
    trainer = Trainer(RECIPE, data, tmp_path)
    batch = Batch(size=16, items=4)
    first = _draw(RECIPE, trainer.train, batch, 5)
    torch.manual_seed(9)
    assert all(torch.equal(a, b) for a, b in zip(first, _draw(RECIPE, trainer.train, batch, 5), strict=True))
    fewer = _draw(RECIPE, trainer.train, replace(batch, items=2), 5)
    assert all(torch.equal(a[:2], b) for a, b in zip(first[:3], fewer[:3], strict=True))
    for other in (_draw(RECIPE, trainer.train, batch, 6), _draw(replace(RECIPE, seed=1), trainer.train, batch, 5)):
        assert not any(torch.equal(first[i], other[i]) for i in (0, 2, 3))  # masks may well both be everything
    x0, known, t, _ = first
    assert x0.shape == (4, 3, 16, 16)
    assert known.shape == (4, 1, 16, 16)
    assert x0.abs().max() <= 1
    assert set(known.unique().tolist()) <= {0.0, 1.0}
    assert ((known == 0).float().mean((1, 2, 3)) > 0.01).all()
    assert ((t >= 1) & (t <= RECIPE.T)).all()


def test_the_average_follows_its_formula(data, tmp_path):
    recipe = replace(RECIPE, ema=0.25)
    trainer = Trainer(recipe, data, tmp_path)
    wanted = {key: value.double() for key, value in trainer.average.items()}
    for step, _ in enumerate(itertools.islice(trainer.run(), 5), 1):
        decay = min(recipe.ema, (1 + step) / (10 + step))
        wanted = {key: decay * wanted[key] + (1 - decay) * value.double() for key, value in trainer.network.state_dict().items()}
    assert (1 + 1) / (10 + 1) < recipe.ema < (1 + 5) / (10 + 5)  # both branches
    averaged = trainer.averaged().state_dict()
    for key, value in wanted.items():
        assert (trainer.average[key] - value).abs().max() < 5 * 2.0**-22 * max(1, float(value.abs().max()))  # five float32 steps
        assert torch.equal(averaged[key], trainer.average[key])
    assert not torch.equal(averaged["unet.conv_in.weight"], trainer.network.state_dict()["unet.conv_in.weight"])


def test_the_rate_warms_up_stays_and_falls_to_zero(data, tmp_path):
    trainer = Trainer(replace(RECIPE, steps=100, warmup=9, decay=0.5, lr=1.0), data, tmp_path)
    rates = []
    for trainer.step in range(101):
        rates.append(trainer.rate())
    assert rates[:9] == pytest.approx([(step + 1) / 10 for step in range(9)])
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[50:] == pytest.approx([(100 - step) / 50 for step in range(50, 101)])


def two_states(data: Path, out: Path) -> tuple[Path, Path]:
    trainer = Trainer(RECIPE, data, out)
    places = [trainer.save() for _ in itertools.islice(trainer.run(), 2)]
    return places[0], places[1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_manifest(place: Path) -> None:
    (place / "manifest.json").unlink()


def flip_a_bit(place: Path) -> None:
    flip(place / "state.safetensors")


def cut_short(place: Path) -> None:
    path = place / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def garble_manifest(place: Path) -> None:
    (place / "manifest.json").write_text("[]")


DAMAGES = [lose_manifest, flip_a_bit, cut_short, garble_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_state_falls_back_to_the_older_one_with_a_warning(data, tmp_path, damage):
    older, newer = two_states(data, tmp_path)
    damage(newer)
    trainer = Trainer(RECIPE, data, tmp_path)
    (warning,) = trainer.resume()
    assert warning.startswith(f"{newer}: damaged or incomplete")
    assert (trainer.step, older.name) == (1, "step-0000001")
    assert same(everything(trainer), everything(trained(data, tmp_path / "again", 1)))


def test_when_every_state_is_damaged_the_run_starts_anew_and_says_so(data, tmp_path):
    for place in two_states(data, tmp_path):
        flip_a_bit(place)
    trainer = Trainer(RECIPE, data, tmp_path)
    assert len(trainer.resume()) == 2
    assert trainer.step == 0


def test_only_the_newest_states_are_kept(data, tmp_path):
    trainer = Trainer(RECIPE, data, tmp_path)
    for _ in itertools.islice(trainer.run(), 4):
        trainer.save()
    assert sorted(place.name for place in tmp_path.iterdir()) == ["step-0000003", "step-0000004"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": 1e-5}, "recipe.lr = 0.0002 there, 1e-05 now"),
        ({"masks": {"box": 1.0}}, "recipe.masks.sparse = 1.0 there, None now"),
        ({"seed": 1}, "(recipe.seed = 0 there, 1 now)"),
    ],
)
def test_a_state_of_another_recipe_is_refused_with_the_differences(data, tmp_path, change, says):
    two_states(data, tmp_path)
    trainer = Trainer(replace(RECIPE, **change), data, tmp_path)
    fresh = everything(trainer)
    with pytest.raises(BadInput) as error:
        trainer.resume()
    assert str(error.value).startswith(f"{tmp_path}: made by another run")
    assert says in str(error.value)
    assert "give another --out" in str(error.value)
    assert trainer.step == 0
    assert same(everything(trainer), fresh)


@pytest.mark.parametrize("made_with", [True, False])
def test_a_setting_that_did_not_exist_when_the_state_was_made_counts_as_its_default(data, tmp_path, made_with):
    place = two_states(data, tmp_path)[1]
    manifest = json.loads((place / "manifest.json").read_text())
    del manifest["recipe"]["known_weight"], manifest["recipe"]["network"]["patch"]
    (place / "manifest.json").write_text(json.dumps(manifest))
    if made_with:
        assert Trainer(RECIPE, data, tmp_path).resume() == []
    else:
        with pytest.raises(BadInput, match=r"recipe.known_weight = 0.1 there, 0.5 now"):
            Trainer(replace(RECIPE, known_weight=0.5), data, tmp_path).resume()


def test_a_state_of_other_data_is_refused(data, tmp_path):
    two_states(data, tmp_path / "out")
    (tmp_path / "photos").mkdir()
    for path in sorted((data / "photos").iterdir())[:6]:
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match="pictures_in_data = "):
        Trainer(RECIPE, tmp_path, tmp_path / "out").resume()


def test_a_run_may_be_prolonged(data, tmp_path):
    two_states(data, tmp_path)
    longer = Trainer(replace(RECIPE, steps=8, decay=0.5), data, tmp_path)
    assert longer.resume() == []
    assert [report.step for report in longer.run()] == [3, 4, 5, 6, 7, 8]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_saved_state(data, tmp_path):
    trainer = Trainer(RECIPE, data, tmp_path)
    run = trainer.run()
    next(run), next(run)
    trainer.save()
    good = everything(trainer)
    good = {key: value.clone() for key, value in good.items()}
    with torch.no_grad():
        trainer.network.unet.conv_out.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(BadInput, match="not finite at step 2"):
        next(run)
    resumed = Trainer(RECIPE, data, tmp_path)
    assert resumed.resume() == []
    assert same(everything(resumed), good)


def test_a_run_starts_from_the_weights_of_a_model_folder(data, tmp_path):
    made = tiny.network(seed=7)
    folder = tiny.folder(tmp_path / "model", made)
    for trainer in (Trainer(RECIPE, data, tmp_path / "a", folder), Trainer(replace(RECIPE, start=str(folder)), data, tmp_path / "b")):
        assert all(torch.equal(trainer.network.unet.state_dict()[k], v) for k, v in made.unet.state_dict().items())


def test_the_average_is_exported_as_a_model_folder(data, tmp_path):
    trainer = trained(data, tmp_path / "run", 2)
    save_folder(tmp_path / "model", trainer.averaged(), trainer.schedule, "card")
    network, schedule, _ = load_folder(tmp_path / "model")
    assert all(torch.equal(network.state_dict()[k], v) for k, v in trainer.average.items())
    assert torch.equal(schedule.alpha_bar, trainer.schedule.alpha_bar)
    assert network.config == RECIPE.network


def test_making_a_trainer_leaves_the_global_generator_alone(data, tmp_path):
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    trained(data, tmp_path, 1).averaged()
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sources": (Source("nothing-*"),)}, "nothing there; give the folder of the training pictures"),
        ({"batches": (Batch(size=16, items=1, smallest=41),)}, "smallest = 41: none of the"),
        ({"held_out": 0.9999}, "are held out; add pictures or lower held_out"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(data, tmp_path, change, says):
    with pytest.raises(BadInput) as error:
        Trainer(replace(RECIPE, **change), data, tmp_path)
    assert says in str(error.value)


def test_a_state_written_by_the_first_version_is_still_read(data, tmp_path):
    """The names in the files of a run that may be going on while this code changes."""
    place = two_states(data, tmp_path)[1]
    tensors, manifest = states.newest(tmp_path)[0]
    assert {name.split(".")[0] for name in tensors} == {"net", "ema", "opt"}
    assert "net.unet.conv_in.weight" in tensors
    assert {name.split(".")[2] for name in tensors if name.startswith("opt.")} == {"step", "exp_avg", "exp_avg_sq"}
    assert manifest.keys() == {"step", "sha256", "recipe", "pictures_in_data", "pictures"}
    assert {file.name for file in place.iterdir()} == {"state.safetensors", "manifest.json"}
    assert manifest["recipe"].keys() == {field.name for field in fields(Recipe) if field.name not in ("steps", "decay")}
    assert checked(Recipe, manifest["recipe"] | {"steps": 6, "decay": 0.0}) == RECIPE
