"""The GAN's task: what an item holds, what each network learns from, and how the generator is judged and exported."""

import copy
import itertools
import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from inpaintkit.core.errors import InpaintError, UsageError
from inpaintkit.core.schedule import cosine
from inpaintkit.core.walk import Walk
from inpaintkit.models import catalog
from inpaintkit.models.denoisers import NetworkDenoiser
from inpaintkit.models.lora import LoRA
from inpaintkit.models.unet import Condition, NetworkConfig
from inpaintkit.pipeline.fill import Inpainter
from inpaintkit.train.draws import stacked
from inpaintkit.train.loop import Trainer
from inpaintkit.train.tasks.gan import Gan, Judge
from train.runs import everything, on, pictures, same

SMALL = Judge(widths=(8, 16, 16))
RECIPES = Path(__file__).parents[2] / "recipes"


def task(conditioned: bool = True, **other) -> Gan:
    config = NetworkConfig(prediction="x0", size=16, largest=64, latent=8, condition=Condition() if conditioned else None)
    values = {"unet": tiny.UNET, "network": config, "judge": SMALL}
    return Gan(**values | other)


def example(seed: int = 0, size: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    known = np.ones((1, size, size), np.float32)
    known[:, 4:12, 4:12] = 0
    return {"x0": rng.uniform(-1, 1, (3, size, size)).astype(np.float32), "known": known}


def batch(of: Gan, count: int = 4, first: int = 0) -> dict[str, Tensor]:
    items = [of.item(example(i), np.random.default_rng(i)) for i in range(first, first + count)]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def learn(of: Gan, networks: dict[str, nn.Module], role: str, given: dict[str, Tensor], steps: int, lr: float) -> list[float]:
    for name, network in networks.items():
        network.requires_grad_(name == role)
    optimizer = torch.optim.Adam(networks[role].parameters(), lr, (0.5, 0.9))
    losses = []
    for _ in range(steps):
        loss, _ = of.loss(role, networks, given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_an_item_is_a_step_of_the_walk(steps):
    """x_t has the moments of level t, and x_s, drawn from the posterior of the true x0, those of level s."""
    t = task(T=1000, schedule="cosine", walk=Walk(steps, "trailing"))
    levels, seen = t.walk.levels(t.levels), set()
    for i in range(60):
        item = t.item(example(), np.random.default_rng(i))
        seen.add(int(item["t"]))
        s = levels[levels.index(int(item["t"])) - 1]
        assert item["step"].tolist() == pytest.approx(t.levels.posterior(int(item["t"]), s), rel=1e-6, abs=1e-9)
        noise = (item["x_t"] - t.levels.a(int(item["t"])) * item["x0"]) / t.levels.sigma(int(item["t"]))
        assert abs(float(noise.mean())) < 5 / math.sqrt(768)
        assert abs(float(noise.std()) - 1) < 5 / math.sqrt(2 * 768)
        a, b, sigma = item["step"].tolist()
        gain, width = a + b * t.levels.a(int(item["t"])), math.hypot(b * t.levels.sigma(int(item["t"])), sigma)
        assert (gain, width) == pytest.approx((t.levels.a(s), t.levels.sigma(s)), abs=1e-5)
        for drawn in item["noise"]:
            assert abs(float(drawn.std()) - 1) < 5 / math.sqrt(2 * 768)
    assert seen == set(levels[1:])


def test_an_item_is_a_function_of_its_generator_alone():
    one, same, other = (task().item(example(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["z"], other["z"])
    assert not torch.equal(one["z"][0], one["z"][1])
    assert not torch.equal(one["noise"][0], one["noise"][1])


@pytest.mark.parametrize("role", ["discriminator", "generator"])
@pytest.mark.parametrize("conditioned", [True, False])
def test_a_loss_reaches_every_weight_of_its_network_and_none_of_the_other(role, conditioned):
    t = task(conditioned, x0_weight=0.1, feature_weight=1.0)
    networks, given = t.build(0), batch(task(conditioned))
    for name, network in networks.items():
        network.requires_grad_(name == role)
    loss, parts = t.loss(role, networks, given)
    loss.backward()
    for name, network in networks.items():
        for key, parameter in network.named_parameters():
            assert (parameter.grad is not None and bool(parameter.grad.any())) == (name == role), key
    assert all(torch.isfinite(value) for value in (loss, *parts.values()))
    again, _ = t.loss(role, networks, given)
    assert torch.equal(again, loss)  # nothing random in it


@pytest.mark.parametrize("role", ["discriminator", "generator"])
def test_the_parts_of_a_batch_have_the_mean_loss_of_the_whole(role):
    """So two processes, or accumulated pieces, learn what one does, when their parts hold whole groups."""
    t = task(x0_weight=0.1, feature_weight=1.0, judge=replace(SMALL, r1_every=2, group=2))
    networks, given = t.build(0), batch(t, 8)
    halves = [{name: value[i : i + 4] for name, value in given.items()} for i in (0, 4)]
    whole, *parts = (t.loss(role, networks, piece)[0].item() for piece in (given, *halves))
    assert sum(parts) / 2 == pytest.approx(whole, rel=1e-5)
    assert abs(parts[0] - whole) > 1e-4


@pytest.mark.parametrize(
    ("judge", "items", "accumulate", "wanted"),
    [
        ({"group": 2, "r1_every": 2}, 8, 2, None),
        ({"group": 4, "r1_every": 2}, 8, 2, None),
        ({"group": 4, "r1_every": 2}, 8, 4, 16),
        ({"group": 2, "r1_every": 8}, 8, 2, 16),
        ({"group": 2, "r1_every": 8, "r1": 0.0}, 8, 2, None),
        ({"group": 4, "r1_every": 8}, 6, 1, None),
    ],
)
def test_pieces_that_would_part_a_group_are_refused(judge, items, accumulate, wanted):
    t = task(judge=replace(SMALL, **judge))
    networks = t.build(0)
    if wanted is None:
        t.check(networks, [(items, 16, 16)], accumulate)
        return
    with pytest.raises(UsageError, match=rf"gives the same step only with a multiple of {wanted} items; change items or accumulate"):
        t.check(networks, [(items, 16, 16)], accumulate)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"unet": tiny.UNET | {"in_channels": 5}}, "task.unet.in_channels = 5: task.network makes it 9; leave it out"),
        ({"unet": tiny.UNET | {"out_channels": 7}}, "task.unet.out_channels = 7: task.network makes it 3; leave it out"),
        ({"network": replace(task().network, default_method={"name": "plain"})}, "task.network.default_method: a generator is run by its"),
        ({"network": replace(task().network, latent=0), "unet": tiny.UNET | {"num_class_embeds": 5}}, "wants a class for each picture"),
    ],
)
def test_what_would_be_overridden_or_could_not_be_run_is_refused(other, says):
    with pytest.raises(UsageError) as error:
        task(**other).build(0)
    assert says in str(error.value)


def test_sides_that_do_not_fit_either_network_are_refused():
    networks = task(judge=replace(SMALL, widths=(8,) * 7)).build(0)
    assert task().multiple(networks) == 32  # five blocks halve; the generator needs multiples of 2
    with pytest.raises(UsageError, match=r"data.batches.1: items of 16 x 16; task needs multiples of 32: give such a size"):
        task().check(networks, [(4, 32, 32), (4, 16, 16)], 1)
    with pytest.raises(UsageError, match="items of 17 x 17; task needs multiples of 2"):
        task().check(task().build(0), [(4, 17, 17)], 1)


def test_the_discriminator_learns_to_tell_and_the_generator_to_pass():
    t = task(known_weight=0.0)
    networks, given = t.build(0), batch(t, 8)
    told = learn(t, networks, "discriminator", given, 40, 2e-3)
    assert told[0] == pytest.approx(2 * math.log(2), abs=1.0)
    assert told[-1] < 0.5 * told[0]
    passed = learn(t, networks, "generator", given, 30, 2e-3)
    assert passed[-1] < 0.5 * passed[0]


def test_what_is_known_is_not_judged():
    """The loss of neither network, but for the error on known pixels, depends on what the generator says there."""
    t = task(known_weight=0.0)
    networks, given = t.build(0), batch(t)
    networks["generator"].requires_grad_(False)
    found = []
    networks["generator"].register_forward_hook(lambda module, args, out: found.append(out.requires_grad_()) or out)
    loss, _ = t.loss("generator", networks, given)
    (slope,) = torch.autograd.grad(loss, found[0])
    assert slope[:, :, 4:12, 4:12].abs().amin((1, 2, 3)).max() > 0
    assert not (slope * given["known"]).any()
    assert task(known_weight=2.0).loss("generator", networks, given)[0] > loss


def test_r1_is_the_squared_slope_in_the_real_step():
    """Against a difference quotient along the slope itself."""
    t = task(judge=replace(SMALL, r1_every=1))
    networks, given = t.build(0), batch(t)
    net = networks["discriminator"].double().requires_grad_(False)
    given = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}
    a, b, sigma = given["step"][:, :, None, None, None].unbind(1)
    real = a * given["x0"] + b * given["x_t"] + sigma * given["noise"][:, 0]
    found = t.judge.slope(networks["discriminator"], real, given, given["known"], torch.full((4, 1, 8, 8), 1 / 64)).item()

    def score(x: Tensor) -> Tensor:
        return net(x, given["x_t"], given["t"], given["known"], given["x0"])[0].mean((1, 2, 3))

    x = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(score(x).sum(), x)
    length = slope.square().sum((1, 2, 3)).sqrt()
    small = 1e-4 * slope / length[:, None, None, None]
    assert found == pytest.approx(float(((score(real + small) - score(real - small)) / 2e-4).square().mean()), rel=1e-3)


def test_every_so_many_th_picture_is_penalised_the_same_ones_in_parts_of_a_batch():
    """So processes that share a batch, and accumulated pieces, penalise what one process does."""
    t, all_of_it = task(judge=replace(SMALL, r1_every=2)), task(judge=replace(SMALL, r1_every=1))
    networks, given = t.build(0), batch(t)

    def slope(of: Gan, items: list[int]) -> float:
        some = {name: value[items] for name, value in given.items()}
        return of.judge.slope(networks["discriminator"], some["x0"], some, some["known"], torch.full((len(items), 1, 8, 8), 1 / 64)).item()

    assert slope(t, [0, 1, 2, 3]) == pytest.approx(slope(all_of_it, [0, 2]), rel=1e-5)
    assert slope(t, [0, 1, 2, 3]) == pytest.approx((slope(t, [0, 1]) + slope(t, [2, 3])) / 2, rel=1e-5)
    assert slope(t, [0, 1, 2, 3]) != pytest.approx(slope(all_of_it, [0, 1, 2, 3]), rel=1e-3)


def energy(of: Gan, given: dict[str, Tensor], fills: tuple[Tensor, Tensor]) -> float:
    """The figure of two given fills, each one value per picture."""

    class Fixed(Gan):
        def _fills(self, networks, batch, variant=0):
            return fills[variant][:, None, None, None].expand_as(batch["x0"])

    return float(Fixed(**vars(of)).validate({}, given)["energy"])


def test_the_energy_score_finds_out_blur_and_sameness():
    """Of a hole that is black or white with equal chance, the true distribution scores better than grey and than black alone."""
    t = task()
    given = batch(t, 64)
    given["x0"] = torch.where(torch.arange(64)[:, None, None, None] % 2 > 0, 1.0, -1.0).expand(64, 3, 16, 16).contiguous()
    coins = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (2, 64)) * 2.0 - 1).float()
    # E|X - y| - E|X - X'| / 2: true 1 - 0.5, grey 1 - 0, black 1 - 0; the coins of 64 pictures are off by 3 x 0.5 / 8 at most
    assert energy(t, given, (coins[0], coins[1])) == pytest.approx(0.5, abs=0.19)
    assert energy(t, given, (torch.zeros(64),) * 2) == energy(t, given, (-torch.ones(64),) * 2) == 1


def test_held_out_figures_and_samples_come_from_the_walk_and_repeat():
    t = task()
    networks, given = t.build(0), batch(t, 2)
    nn.init.normal_(networks["generator"].mapping.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        figures, again = t.validate(networks, given), t.validate(networks, given)
        shown = t.samples(networks, given)
    assert figures.keys() == {"energy", "error"}
    assert figures["energy"] == again["energy"] < figures["error"]
    assert shown.shape == (2, 3, 16, 64)
    known, one, other, truth = shown.chunk(4, 3)
    assert torch.equal(truth, given["x0"])
    for fill in (one, other):
        assert torch.equal(fill * given["known"], known)
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize("steps", [1, 2])
def test_the_exported_folder_fills_by_the_walk_it_was_trained_for(tmp_path, steps):
    t = task(schedule="vp", T=steps, walk=Walk(steps, "trailing"))
    t.export(tmp_path / "m", t.build(0), "card\n")
    pipe = Inpainter.from_pretrained(str(tmp_path / "m"), device="cpu", dtype="float32")
    assert pipe.method() == t.method
    image, hole = np.full((16, 16, 3), 90, np.uint8), np.zeros((16, 16), bool)
    hole[4:12, 4:12] = True
    result = pipe(image, hole, seed=1)
    assert (result.record["nfe"], result.record["told"]) == (steps, True)
    assert np.array_equal(result.images[0][~hole], image[~hole])
    assert (result.images[0][hole] != pipe(image, hole, seed=2).images[0][hole]).any()


def test_it_starts_as_exactly_the_denoiser_it_is_started_from(tmp_path):
    folder = tiny.folder(tmp_path / "m", tiny.network(seed=5), cosine(1000))
    t = task(start=str(folder), schedule="cosine", T=1000)
    generator, old = t.build(0)["generator"], catalog.load(folder).network
    x, time, known, z = torch.randn(2, 3, 16, 16), torch.tensor([999, 249]), torch.zeros(2, 1, 16, 16), torch.randn(2, 8)
    assert torch.equal(generator(x, time, known, x, z=z), old(x, time, known, x))
    stirred = task(start=str(folder), schedule="cosine", T=1000, stir=0.5).build(0)["generator"]
    assert not torch.equal(stirred(x, time, known, x, z=z), old(x, time, known, x))
    t.export(tmp_path / "g", {"generator": stirred}, "card\n")
    again = task(start=str(tmp_path / "g"), unet={}, schedule="cosine", T=1000).build(1)["generator"]
    assert torch.equal(again(x, time, known, x, z=z), stirred(x, time, known, x, z=z))
    with pytest.raises(UsageError, match="was trained at other noise levels"):
        task(start=str(folder)).build(0)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"start": "photo-64", "schedule": "linear", "T": 1000}, "was trained at other noise levels"),
        ({"unet": tiny.UNET | {"wavy": 1}}, "task.unet.wavy: UNet2DModel has no such setting"),
        ({"walk": Walk(5)}, "steps = 5"),
        ({"walk": Walk(4, jump_length=2, jump_n_sample=2)}, "without jumps"),
        ({"walk": Walk(2, start=0.5)}, "without jumps"),
        ({"network": NetworkConfig(prediction="eps", latent=8)}, "a generator makes x0"),
        ({"lora": LoRA()}, "task.lora: adapts task.start and has no latent"),
        ({"lora": LoRA(), "start": "photo-64", "schedule": "cosine", "T": 1000}, "task.lora: adapts task.start and has no latent"),
    ],
)
def test_what_no_generator_can_do_is_refused(other, says):
    with pytest.raises(InpaintError, match=says):
        task(**other).build(0)


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path):
    recipe = on(pictures(tmp_path / "data"), task=task())

    def run(out: Path, steps: int) -> Trainer:
        trainer = Trainer(recipe, out, "cpu")
        trainer.resume()
        assert all(math.isfinite(value) for report in itertools.islice(trainer.run(), steps) for value in report.losses.values())
        return trainer

    straight = run(tmp_path / "straight", 4)
    half = run(tmp_path / "resumed", 2)
    half.save()
    resumed = run(tmp_path / "resumed", 2)
    assert resumed.step == 4
    assert same(everything(resumed), everything(straight))
    for role in recipe.task.roles:
        before, after = everything(half), everything(straight)
        assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(f"{role}.net."))
    assert {"energy_16", "error_16", "energy_32", "error_32"} == straight.validate(straight.averaged()).keys()
    shown = straight.samples(straight.averaged(), 2)
    assert shown is not None
    assert shown.shape == (2, 3, 16, 64)


def test_the_scores_of_a_generator_tell_the_latent_from_the_noise():
    """recipes/score_gan.py on a generator that does not hear its latent, and on one that does."""
    script = runpy.run_path(str(RECIPES / "score_gan.py"))
    t = task(schedule="vp", T=4)
    generator = t.build(0)["generator"].eval().requires_grad_(False)
    drawn = [example(i) for i in range(2)]
    examples = [(torch.from_numpy(d["x0"])[None], torch.from_numpy(d["known"])[None]) for d in drawn]
    model = catalog.Model("made", generator, t.levels, "")
    pipe = Inpainter(model, NetworkDenoiser(generator, t.levels), torch.device("cpu"), torch.float32)
    generator.mapping.quieten(0)
    quiet = script["score"](pipe, examples, 2)
    nn.init.normal_(generator.mapping.layers[-1].weight, generator=torch.Generator().manual_seed(1))
    heard = script["score"](pipe, examples, 2)
    assert max(quiet["spread by z"]) == 0 < min(heard["spread by z"])
    assert quiet["psnr"] == quiet["psnr, z = 0"]
    assert min(quiet["spread"]) > 0  # of the noise
    assert all(mean > one - 1 for mean, one in zip(quiet["psnr of mean"], quiet["psnr"], strict=True))
    truth = examples[0][0]
    assert script["psnr"](torch.full_like(truth, 2 / 255), examples[0][1]) == pytest.approx(20 * math.log10(255), abs=1e-3)


def coin(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A grey picture whose hole is bright or dark with equal chance, whatever is around it."""
    x0, known = np.full((3, 8, 8), rng.uniform(-0.5, 0.5), np.float32), np.ones((1, 8, 8), np.float32)
    x0[:, 2:6, 2:6], known[:, 2:6, 2:6] = rng.choice([-0.8, 0.8]), 0
    return {"x0": x0, "known": known}


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 4])
def test_it_learns_both_sides_of_a_coin_where_a_mean_would_be_grey(steps):
    """By the adversarial loss alone. The energy score is 0.8 for grey, for always bright and for always dark, 0.4 for the truth."""
    plain = {"block_out_channels": [16, 16], "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    judge = Judge(widths=(16, 32, 32), r1=0.05, r1_every=4)
    unet = tiny.UNET | plain | {"resnet_time_scale_shift": "scale_shift"}
    t = task(unet=unet, T=steps, walk=Walk(steps, "trailing"), judge=judge)
    networks = t.build(0)
    average = copy.deepcopy(networks["generator"])

    def drawn(step: int, count: int) -> dict[str, Tensor]:
        rngs = [np.random.default_rng([step, i]) for i in range(count)]
        return stacked([t.item(coin(rng), rng) for rng in rngs])

    optimizers = {role: torch.optim.Adam(networks[role].parameters(), 1e-3, (0.5, 0.9)) for role in t.roles}
    for step in range(450):
        given = drawn(step, 16)
        for role in t.roles:
            for name, network in networks.items():
                network.requires_grad_(name == role)
            loss, _ = t.loss(role, networks, given)
            optimizers[role].zero_grad()
            loss.backward()
            optimizers[role].step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.state_dict().values()), list(networks["generator"].state_dict().values()), 0.03)
    with torch.no_grad():
        held_out, made = drawn(10**6, 64), {"generator": average}
        sides = t._fills(made, held_out)[:, :, 2:6, 2:6].mean((1, 2, 3))
        assert float(t.validate(made, held_out)["energy"]) < 0.65
    assert 0.2 < float((sides > 0).float().mean()) < 0.8
    assert float(sides.abs().mean()) == pytest.approx(0.8, abs=0.2)


def test_an_adapter_of_what_could_not_be_loaded_again_is_refused_before_training(tmp_path):
    base = tiny.folder(tmp_path / "base", tiny.network(Condition(), latent=8, unet_other={"class_embed_type": "identity"}), cosine(1000))
    config = NetworkConfig(prediction="x0", size=16, condition=Condition())
    with pytest.raises(UsageError, match="has another class_embed_type, and an adapter changes the inputs alone"):
        Gan(start=str(base), lora=LoRA(2, 4.0), schedule="cosine", T=1000, network=config, judge=SMALL).build(0)


def test_the_discriminator_may_see_x0_itself_from_any_level():
    t = task(shown="x0", T=1000, schedule="cosine", walk=Walk(4, "trailing"))
    items = [t.item(example(), np.random.default_rng(i)) for i in range(40)]
    assert {tuple(item["step"].tolist()) for item in items} == {(1.0, 0.0, 0.0)}
    seen = sorted(int(item["t"]) for item in items)
    assert len(set(seen)) > 30
    assert seen[0] < 150
    assert seen[-1] > 850
    networks, given = t.build(0), batch(t)
    assert t.loss("discriminator", networks, given)[0].isfinite()
    networks["generator"].forward = lambda *args, **told: given["x0"]  # a generator that knows the truth is beyond doubt
    assert t.loss("generator", networks, given)[1]["x0"].item() == 0
    _, parts = t.loss("discriminator", networks, given)
    assert parts["d_real"].item() == pytest.approx(parts["d_fake"].item(), abs=1e-6)


def test_without_a_latent_it_still_trains():
    t = task(network=NetworkConfig(prediction="x0", condition=Condition()))
    networks, given = t.build(0), batch(t)
    assert all(torch.isfinite(t.loss(role, networks, given)[0]) for role in t.roles)
    assert given["z"].shape == (4, 2, 0)


def test_a_generator_that_is_an_adapter_learns_while_its_base_stays_and_is_exported_with_its_walk(tmp_path):
    config = NetworkConfig(prediction="x0", size=16, largest=64, condition=Condition())
    base = tiny.folder(tmp_path / "base", tiny.network(Condition()), cosine(1000))
    t = Gan(start=str(base), lora=LoRA(2, 4.0), schedule="cosine", T=1000, network=config, judge=SMALL)
    networks, given = t.build(0), batch(t)
    generator, start = networks["generator"], catalog.load(base).unet
    with torch.no_grad():
        args = given["x_t"], given["t"] - 1, given["known"], given["x0"]
        before = start(*args)
        assert torch.allclose(generator(*args), before, atol=1e-5)
    parameters = [p for name, p in generator.named_parameters() if name in generator.trained]
    frozen = {name: p.detach().clone() for name, p in generator.named_parameters() if name not in generator.trained}
    optimizer = torch.optim.Adam(parameters, 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        t.loss("generator", networks, given)[0].backward()
        optimizer.step()
    assert all(torch.equal(p, frozen[name]) for name, p in generator.named_parameters() if name in frozen)
    t.export(tmp_path / "few", {"generator": generator.eval()}, "card\n")
    loaded = catalog.load(tmp_path / "few").unet
    assert loaded.config.default_method["walk"]["steps"] == 4
    with torch.no_grad():
        assert torch.allclose(loaded(*args), generator(*args), atol=1e-4)
        assert not torch.allclose(loaded(*args), before, atol=1e-2)
