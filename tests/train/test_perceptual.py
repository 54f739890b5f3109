"""A generator without a discriminator: taught by a classifier's features, and by where a fill begins."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from evaluate.seeded import seeded
from inpaintkit.core.errors import InpaintError
from inpaintkit.core.schedule import cosine
from inpaintkit.core.walk import Walk
from inpaintkit.evaluate import extractors
from inpaintkit.models import catalog
from inpaintkit.models.lora import LoRA
from inpaintkit.models.unet import Condition, NetworkConfig
from inpaintkit.pipeline import regions
from inpaintkit.train import perceptual
from inpaintkit.train.begin import Begin
from inpaintkit.train.loop import Trainer
from inpaintkit.train.recipes import placeless
from inpaintkit.train.tasks.gan import Gan
from train.runs import RECIPE, everything, on, pictures, same
from train.test_gan import example, task


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    """A file with weights of MobileNetV2 that mean nothing."""
    path = tmp_path_factory.mktemp("features") / "any.pt"
    torch.save({k: v.float() for k, v in seeded(extractors.EXTRACTORS["mobilenet_v2"]().maps).state_dict().items()}, path)
    return path


def direct(weights: Path, **other) -> Gan:
    given = {"shown": "x0", "T": 1000, "schedule": "cosine", "adversarial_weight": 0.0, "perceptual_weight": 1.0, "x0_weight": 0.5}
    return task(**given | {"walk": Walk(4, "trailing"), "features": weights} | other)


def batch(of: Gan, count: int = 4, size: int = 32) -> dict[str, Tensor]:
    items = [of.item(example(i, size), np.random.default_rng(i)) for i in range(count)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def test_without_an_adversary_one_network_learns_and_the_classifier_is_only_read(features):
    t = direct(features)
    networks, given = t.build(0), batch(t)
    assert t.roles == ("generator",)
    assert sorted(networks) == ["features", "generator"]
    before = {name: value.clone() for name, value in networks["features"].state_dict().items()}
    optimizer = torch.optim.Adam(networks["generator"].parameters(), 3e-3)
    first, parts = t.loss("generator", networks, given)
    assert sorted(parts) == ["known", "perceptual", "x0"]
    assert first.item() == pytest.approx(sum(w * parts[n].item() for n, w in (("x0", 0.5), ("known", 1.0), ("perceptual", 1.0))), rel=1e-6)
    for _ in range(25):
        optimizer.zero_grad()
        loss, parts = t.loss("generator", networks, given)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.9 * first.item()
    assert all(torch.equal(value, before[name]) for name, value in networks["features"].state_dict().items())
    assert all(not p.requires_grad for p in networks["features"].parameters())


def test_the_perceptual_loss_is_the_distance_that_is_measured_and_looks_at_the_hole_alone(features):
    from inpaintkit.evaluate.features import differences, distance

    extract = perceptual.extractor(features)
    rng = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1
    made = torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1
    known = torch.ones(2, 1, 64, 64)
    known[:, :, 8:16, 8:16] = 0
    measured = distance(differences(extract(made)[0], extract(truth)[0]), 1 - known).mean()
    assert perceptual.loss(extract, made, truth, known).item() == pytest.approx(measured.item(), rel=1e-6)
    assert perceptual.loss(extract, truth, truth, known).item() == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert perceptual.loss(extract, made, truth, known).item() == pytest.approx(measured.item(), rel=1e-6)
    first = type(extract)(extract.maps, 1, normalised=False)  # the first map sees few pixels around each of its own
    far = truth.clone()
    far[:, :, 40:, 40:] = made[:, :, 40:, 40:]
    assert perceptual.loss(first, far, truth, known).item() == 0
    assert perceptual.loss(first, far, truth, 1 - known).item() > 0


def test_items_begin_where_fills_do():
    t = task(shown="x0", T=1000, schedule="cosine", walk=Walk(4, "trailing"), begin=Begin(0.3, 0.4, (0.1, 0.2)))
    items = [t.item(example(), np.random.default_rng(i)) for i in range(400)]
    coarse = [int(item["t"]) for item in items if item["coarse"]]
    others = [int(item["t"]) for item in items if not item["coarse"]]
    assert len(coarse) == pytest.approx(160, abs=5 * (400 * 0.4 * 0.6) ** 0.5)
    assert (min(coarse), max(coarse)) == (pytest.approx(100, abs=5), pytest.approx(200, abs=5))
    assert others.count(1000) == pytest.approx(120, abs=5 * (400 * 0.3 * 0.7) ** 0.5)
    assert min(others) < 100
    assert not any(bool(task().item(example(), np.random.default_rng(i))["coarse"]) for i in range(20))


def test_a_coarse_item_holds_the_generators_own_fill_at_half_the_size_and_its_known_pixels_as_they_were():
    t = task(shown="x0", T=1000, schedule="cosine", walk=Walk(4, "trailing"), begin=Begin(coarse=0.5))
    items = [t.item(example(i, 32), np.random.default_rng(i)) for i in range(12)]
    given = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    networks, which = t.build(0), given["coarse"]
    assert 0 < int(which.sum()) < 12
    made = torch.linspace(-0.9, 0.9, 16)[None, None, None].expand(1, 3, 16, 16)
    real, seen = networks["generator"].forward, []

    def forward(x_t, time, known, picture, z=None):
        if x_t.shape[-1] != 16:
            return real(x_t, time, known, picture, z=z)
        seen.append((x_t, time))
        return made.expand(len(x_t), -1, -1, -1)

    networks["generator"].forward = forward
    begun = t.begin.begun(networks["generator"], t.levels, given, given["known"])["x_t"]
    ((noise, time),) = seen
    assert time.tolist() == [999] * int(which.sum())
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    x0, known = given["x0"], given["known"]
    small, where = regions.reduced(x0, known, 2)
    wanted = regions.enlarged(torch.where(where > 0, small, made), (32, 32))
    held = (begun - given["x_t"]) / t.levels.a(given["t"]) + x0
    assert torch.equal(begun[~which], given["x_t"][~which])
    assert torch.equal((begun * known)[which], (given["x_t"] * known)[which])
    assert ((held - wanted) * (1 - known))[which].abs().max() < 1e-4
    assert t.loss("generator", networks, given)[0].isfinite()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"features": None}, "task.perceptual_weight = 1: needs a classifier"),
        ({"perceptual_weight": 0.0}, "counts for nothing without task.perceptual_weight"),
        ({"features": None, "perceptual_weight": 0.0, "x0_weight": 0.0}, "nothing teaches the hole"),
        ({"feature_weight": 10.0}, "task.feature_weight = 10: without an adversary"),
        ({"shown": "step", "begin": Begin(coarse=0.5)}, 'task.begin: only with task.shown = "x0"'),
        ({"begin": Begin(0.6, 0.5)}, r"task.begin.coarse = 0.5: with task.begin.top = 0.6 more than 1"),
        ({"begin": Begin(coarse_levels=(0.3, 0.1))}, "task.begin.coarse_levels = .* the lower one comes first"),
        ({"features": Path("there-is-none.pt")}, "task.features: there-is-none.pt: no such file"),
    ],
)
def test_what_does_not_go_together_is_refused(features, other, says):
    with pytest.raises(InpaintError, match=says):
        direct(features, **other).build(0)


def test_pictures_too_small_for_a_classifier_or_for_half_the_size_are_refused_before_training(features):
    t = direct(features)
    networks = t.build(0)
    t.check(networks, [(4, 32, 32)], 1)
    with pytest.raises(InpaintError, match="classifiers need pictures of 32 x 32"):
        t.check(networks, [(4, 32, 32), (4, 16, 16)], 1)
    half = replace(t, begin=Begin(coarse=0.5))
    assert half.multiple(networks) == 2 * t.multiple(networks)


def test_a_recipe_names_the_classifiers_file_and_not_where_it_lies(features):
    recipe = placeless(replace(RECIPE, task=direct(features)))
    assert recipe["task"]["features"] == "any.pt"


def test_held_out_figures_begin_with_the_perceptual_distance(features):
    t = direct(features)
    networks, given = t.build(0), batch(t, 2)
    with torch.no_grad():
        assert list(t.validate(networks, given)) == ["perceptual", "energy", "error"]


@pytest.mark.parametrize("role", ["discriminator", "generator"])
@pytest.mark.parametrize("conditioned", [True, False])
def test_with_an_adversary_too_and_in_bfloat16_every_weight_has_a_gradient(features, role, conditioned):
    t = replace(direct(features, adversarial_weight=1.0, feature_weight=1.0, begin=Begin(coarse=0.6)), network=task(conditioned).network)
    networks = t.build(0)
    assert t.roles == ("discriminator", "generator")
    for name, network in networks.items():
        network.requires_grad_(name == role)
    given = batch(t)
    assert given["coarse"].any()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = t.loss(role, networks, given)
    loss.backward()
    for key, parameter in networks[role].named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key


def test_a_run_goes_on_to_the_bit_and_not_with_another_classifier_of_the_same_name(tmp_path, features):
    recipe = on(pictures(tmp_path), task=direct(features, begin=Begin(0.2, 0.4)), steps=4, decay=0.0)
    recipe = replace(recipe, data=replace(recipe.data, batches=(replace(recipe.data.batches[0], size=32, items=4),)))
    whole = Trainer(recipe, tmp_path / "whole", "cpu")
    for _ in whole.run():
        pass
    first = Trainer(recipe, tmp_path / "parts", "cpu")
    for report in first.run():
        if report.step == 2:
            first.save()
            break
    again = Trainer(recipe, tmp_path / "parts", "cpu")
    assert again.resume() == []
    for _ in again.run():
        pass
    assert same(everything(again), everything(whole))
    other = tmp_path / "other" / features.name
    other.parent.mkdir()
    torch.save({k: v * 0.9 for k, v in torch.load(features).items()}, other)
    moved = tmp_path / "moved" / features.name
    moved.parent.mkdir()
    moved.write_bytes(features.read_bytes())
    assert Trainer(replace(recipe, task=replace(recipe.task, features=moved)), tmp_path / "parts", "cpu").resume() == []
    with pytest.raises(InpaintError, match="networks that are only read"):
        Trainer(replace(recipe, task=replace(recipe.task, features=other)), tmp_path / "parts", "cpu").resume()


@pytest.mark.parametrize("more", [{"learned_variance": True}, {"unet": {"dropout": 0.3}}])
def test_an_adapter_that_differs_in_more_than_inputs_is_refused_as_its_base_is(tmp_path, features, more):
    from inpaintkit.train.tasks.denoise import Denoise

    config = NetworkConfig(prediction="x0", size=16, largest=64, condition=Condition())
    spread = more.get("learned_variance", False)
    base = tiny.folder(tmp_path / "base", tiny.network(Condition(), spread=spread), cosine(1000))
    adapter = Denoise(config, start=str(base), lora=LoRA(2, 4.0), learned_variance=spread)
    adapter.export(tmp_path / "one", adapter.build(0), "card\n")
    for start in (base, tmp_path / "one"):
        t = direct(features, start=str(start), lora=LoRA(2, 4.0), network=config, unet=more.get("unet", {}))
        with pytest.raises(InpaintError, match=r"has another (out_channels|dropout), and an adapter changes the inputs alone"):
            t.build(0)


def test_an_adapter_is_trained_on(tmp_path, features):
    """As an adapter of the same base, from the values it had; exported, it is read like any other."""
    config = NetworkConfig(prediction="x0", size=16, largest=64, condition=Condition())
    base = tiny.folder(tmp_path / "base", tiny.network(Condition()), cosine(1000))
    wanted = LoRA(2, 4.0, train_input=True)
    t = direct(features, start=str(base), lora=wanted, network=config, unet={})
    first = t.build(0)["generator"]
    with torch.no_grad():
        for name, parameter in first.named_parameters():
            if name in first.trained:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.1)
    t.export(tmp_path / "one", {"generator": first}, "card\n")
    again = replace(t, start=str(tmp_path / "one"))
    second, given = again.build(1)["generator"], batch(t, 2)
    args = given["x_t"], given["t"] - 1, given["known"], given["x0"]
    assert {n: p.tolist() for n, p in second.named_parameters()} == {n: p.tolist() for n, p in first.named_parameters()}
    assert second.trained == first.trained
    again.export(tmp_path / "two", {"generator": second.eval()}, "card\n")
    with torch.no_grad():
        assert torch.allclose(catalog.load(tmp_path / "two").unet(*args), first.eval()(*args), atol=1e-5)
    assert catalog.load(tmp_path / "two").base == str(base)
    with pytest.raises(InpaintError, match=r"task.lora.rank: the adapter .* has 2, and is trained on as it is"):
        replace(again, lora=replace(wanted, rank=4)).build(0)
    with pytest.raises(InpaintError, match=r"task.network.condition: the adapter .* has another one"):
        replace(again, network=replace(config, condition=Condition(order=("mask", "x_t", "colors")))).build(0)
