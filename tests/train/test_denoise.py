"""The denoising task: what its loss is, what each part of it teaches, and how a run starts, adapts and is exported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from inpaintkit.core.errors import BadInput, InpaintError, UsageError
from inpaintkit.core.schedule import named
from inpaintkit.core.settings import checked
from inpaintkit.models import catalog
from inpaintkit.models.lora import Adapted, LoRA
from inpaintkit.models.unet import Condition, NetworkConfig, has_spread, settings
from inpaintkit.train.recipes import read
from inpaintkit.train.tasks.denoise import Denoise

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
MINE = [path for path in RECIPES if read(path).task.kind == "denoise"]
CONFIG = NetworkConfig(prediction="x0", size=16, largest=64, default_method={"name": "plain"})
TOLD = replace(CONFIG, condition=Condition())
SLOW = pytest.mark.slow
KINDS = pytest.mark.parametrize("kind", ["x0", "eps", "v"])


def task(network: NetworkConfig = TOLD, **other) -> Denoise:
    return checked(Denoise, {"unet": tiny.UNET, "network": network} | other)


def example(seed: int = 0, hole: float = 0.5, size: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x0 = (rng.integers(0, 256, (3, size, size)) / 127.5 - 1).astype(np.float32)
    return {"x0": x0, "known": (rng.random((1, size, size)) >= hole).astype(np.float32)}


def batch(made: Denoise, count: int = 4, hole: float = 0.5, t: list[int] | None = None) -> dict[str, Tensor]:
    items = [made.item(example(i, hole), np.random.default_rng(i)) for i in range(count)]
    stacked = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    return stacked | ({} if t is None else {"t": torch.tensor(t)})


class Says(nn.Module):
    """A network that says what it is given to say, and keeps how it was asked."""

    def __init__(self, out: Tensor):
        super().__init__()
        self.out = nn.Parameter(out)

    def forward(self, *asked: Tensor) -> Tensor:
        self.asked = asked
        return self.out


def truth(made: Denoise, b: dict[str, Tensor]) -> Tensor:
    """What a perfect network says, in float64 and each picture for itself."""
    bars = made.levels.alpha_bar[b["t"]][:, None, None, None]
    x0, eps = b["x0"].double(), b["noise"].double()
    return {"x0": x0, "eps": eps, "v": bars.sqrt() * eps - (1 - bars).sqrt() * x0}[made.network.prediction].float()


@KINDS
@pytest.mark.parametrize("weighting", ["plain", "min-snr"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "scaled_linear"])
def test_the_loss_is_zero_for_the_truth_only(kind, weighting, schedule):
    made = task(replace(TOLD, prediction=kind), weighting=weighting, schedule=schedule)
    b = batch(made, t=[1, 30, 500, 1000])
    right = truth(made, b)
    assert made.loss("network", {"network": Says(right)}, b)[0] < 1e-9
    assert made.loss("network", {"network": Says(right + 0.1)}, b)[0] > 1e-6


def test_the_network_is_asked_with_the_noisy_picture_and_its_own_index():
    made = task()
    b = batch(made, t=[1, 30, 500, 1000])
    network = Says(b["x0"])
    made.loss("network", {"network": network}, b)
    x_t, index, known, picture = network.asked
    bars = made.levels.alpha_bar[b["t"]][:, None, None, None]
    assert torch.allclose(x_t.double(), bars.sqrt() * b["x0"] + (1 - bars).sqrt() * b["noise"], atol=1e-6)
    assert index.tolist() == [0, 29, 499, 999]
    assert known is b["known"]
    assert picture is b["x0"]


@pytest.mark.parametrize("clip", [(0.0, 5.0), (0.2, 5.0)])
def test_the_same_error_of_x0_costs_the_same_whatever_is_predicted(clip):
    """The identities of the weights: a network that is wrong by d in x0 is wrong by -a d / sigma in eps, and by -d / sigma in v."""
    losses = {}
    for kind, factor in (("x0", lambda a, s: 1.0), ("eps", lambda a, s: -a / s), ("v", lambda a, s: -1 / s)):
        if kind == "eps" and clip[0]:
            continue
        made = task(replace(TOLD, prediction=kind), snr_clip=clip)
        b = batch(made, t=[2, 300, 700, 950])
        a, s = (getattr(made.levels, name)(b["t"]) for name in ("a", "sigma"))
        losses[kind] = made.loss("network", {"network": Says(truth(made, b) + 0.1 * factor(a, s))}, b)[0].item()
    snr = [float(bar / (1 - bar)) for bar in named("cosine", 1000).alpha_bar[[2, 300, 700, 950]]]
    wanted = 0.01 * np.mean([min(max(value, clip[0]), clip[1]) for value in snr])
    for kind, found in losses.items():
        assert found == pytest.approx(wanted, rel=1e-4), kind


def test_plain_weighting_is_the_squared_error_of_what_is_predicted():
    made = task(replace(TOLD, prediction="eps"), weighting="plain")
    b = batch(made)
    assert made.loss("network", {"network": Says(truth(made, b) + 0.1)}, b)[0].item() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("known_weight", [1.0, 0.1, 0.0])
def test_errors_on_known_pixels_count_by_their_weight(known_weight):
    made = task(known_weight=known_weight, weighting="plain")
    b = batch(made)
    hole = (1 - b["known"]).mean().item()
    assert made.loss("network", {"network": Says(b["x0"] + 0.1 * (1 - b["known"]))}, b)[0].item() == pytest.approx(0.01 * hole, rel=1e-4)
    there = made.loss("network", {"network": Says(b["x0"] + 0.1 * b["known"])}, b)[0].item()
    assert there == pytest.approx(0.01 * known_weight * (1 - hole), rel=1e-4, abs=1e-12)


def test_every_level_is_drawn_and_none_outside_the_schedule():
    made = task(T=5)
    assert {int(made.item(example(), np.random.default_rng(i))["t"]) for i in range(200)} == {1, 2, 3, 4, 5}


def test_an_item_is_a_function_of_its_generator():
    made = task()
    one, same, other = (made.item(example(), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["noise"], other["noise"])


@KINDS
def test_the_bound_teaches_the_spread_alone_and_the_simple_loss_the_mean_alone(kind):
    made = task(replace(CONFIG, prediction=kind), learned_variance=True)
    b = batch(made, t=[1, 2, 300, 1000])
    rng = torch.Generator().manual_seed(0)
    says = Says(torch.cat([truth(made, b) + 0.05, torch.rand((4, 3, 16, 16), generator=rng)], 1))
    _, parts = made.loss("network", {"network": says}, b)
    parts["bound"].backward()
    assert (says.out.grad[:, :3] == 0).all()
    assert (says.out.grad[:, 3:] != 0).flatten(1).any(1).all()  # at every level, the first one too
    says.out.grad = None
    made.loss("network", {"network": says}, b)[1]["simple"].backward()
    assert (says.out.grad[:, 3:] == 0).all()
    assert (says.out.grad[:, :3] != 0).any()


def test_the_hybrid_loss_is_the_simple_one_and_a_thousandth_of_the_bound():
    made = task(CONFIG, learned_variance=True)
    b = batch(made)
    loss, parts = made.loss("network", {"network": Says(torch.cat([b["x0"] + 0.1, b["x0"]], 1))}, b)
    assert loss.item() == pytest.approx(parts["simple"].item() + 0.001 * parts["bound"].item(), rel=1e-6)
    plain = replace(made, learned_variance=False)
    assert parts["simple"].item() == plain.loss("network", {"network": Says(b["x0"] + 0.1)}, b)[0].item()


def test_the_bound_finds_the_variance_of_the_posterior_when_the_mean_is_right():
    """With the true x0 the divergence is zero at spread -1, and grows away from it."""
    made = task(CONFIG, learned_variance=True)
    b = batch(made, t=[2, 50, 300, 900])
    found = [
        made.loss("network", {"network": Says(torch.cat([b["x0"], torch.full_like(b["x0"], s)], 1))}, b)[1]["bound"] for s in (-1, 0, 1)
    ]
    assert abs(found[0]) < 1e-3 * found[1]
    assert found[0] < found[1] < found[2]


def test_a_told_network_learns_a_variance_too():
    made = task(learned_variance=True)
    network = made.build(0)["network"]
    loss, parts = made.loss("network", {"network": network}, batch(made))
    loss.backward()
    assert torch.isfinite(loss)
    assert (network.unet.conv_out.weight.grad.flatten(1).abs().sum(1) > 0).all()
    assert parts.keys() == {"simple", "bound"}


def test_channels_follow_from_the_network_and_a_contradiction_is_refused():
    assert settings(task(replace(TOLD, patch=2), learned_variance=True).build(0)["network"])["in_channels"] == 36
    assert settings(task(replace(TOLD, patch=2), learned_variance=True).build(0)["network"])["out_channels"] == 24
    assert settings(task(CONFIG).build(0)["network"])["in_channels"] == 3
    assert settings(task(CONFIG, unet=tiny.UNET | {"in_channels": 2}).build(0)["network"])["out_channels"] == 2  # fields
    with pytest.raises(UsageError, match=r"task\.unet\.in_channels = 3: task\.network makes it 9; leave it out"):
        task(unet=tiny.UNET | {"in_channels": 3}).build(0)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"network": replace(TOLD, prediction="eps"), "snr_clip": (0.2, 5.0)}, "task.snr_clip: a floor gives eps"),
        ({"learned_variance": True, "T": 1}, "task.learned_variance"),
        ({"learned_variance": True, "network": replace(CONFIG, clamp=False)}, "task.learned_variance"),
        ({"lora": LoRA()}, "task.lora: adapts a model; name it with task.start"),
        ({"unet": tiny.UNET | {"layers": 2}}, "task.unet.layers: UNet2DModel has no such setting; there are sample_size, in_channels"),
        ({"network": replace(TOLD, latent=8)}, "task.network.latent: only a generator"),
        ({"unet": tiny.UNET | {"num_class_embeds": 5}}, "task.unet: makes a network that wants a class for each picture"),
        ({"start": "no-such-model"}, "no-such-model: no such model"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(other, says):
    with pytest.raises(InpaintError) as error:
        task(**other).build(0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_goes_on_from_a_model_and_takes_its_architecture(tmp_path):
    folder = tiny.folder(tmp_path / "three", tiny.network(None, prediction="eps"))
    made = task(replace(TOLD, prediction="eps"), unet={}, start=str(folder))
    network = made.build(0)["network"]
    known, x = torch.ones(1, 1, 16, 16), torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(x, torch.tensor([7]), known, x), catalog.load(folder).unet(x, torch.tensor([7]), known, x))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_start_in_diffusers_own_layout_loses_its_learned_variance_or_keeps_it(tmp_path):
    folder = tiny.foreign(tmp_path / "foreign", outputs=6)
    for keeps in (False, True):
        made = task(replace(TOLD, prediction="eps"), unet={}, start=str(folder), schedule="linear", learned_variance=keeps)
        assert has_spread(made.build(0)["network"]) == keeps


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"schedule": "cosine"}, "trained at other noise levels (beta_schedule = linear, num_train_timesteps = 1000"),
        ({"network": TOLD}, "network.prediction = eps, this one x0; give task.network.prediction as it has it"),
        ({"unet": {"norm_num_groups": 8}}, "unet.norm_num_groups = 4, this one 8"),
        ({"lora": LoRA(train_input=False)}, "task.lora.train_input = false: the inputs that were added"),
        ({"lora": LoRA(), "learned_variance": True}, "set task.learned_variance = false"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(tmp_path, other, says):
    folder = tiny.foreign(tmp_path / "foreign")
    values = {"network": replace(TOLD, prediction="eps"), "unet": {}, "start": str(folder), "schedule": "linear"} | other
    with pytest.raises(UsageError) as error:
        task(**values).build(0)
    assert says in str(error.value)


def test_a_class_conditional_start_is_refused(tmp_path):
    folder = tiny.foreign(tmp_path / "foreign", num_class_embeds=5)
    with pytest.raises(UsageError, match="wants a class for each picture"):
        task(replace(CONFIG, prediction="eps"), unet={}, start=str(folder), schedule="linear").build(0)


def learn(made: Denoise, network: nn.Module, count: int, lr: float = 3e-3) -> None:
    """Steps on one picture of 8 x 8 pixels."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=lr)
    for step in range(count):
        items = [made.item(example(size=8), np.random.default_rng([step, i])) for i in range(8)]
        loss, _ = made.loss("network", {"network": network}, {name: torch.stack([item[name] for item in items]) for name in items[0]})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def figures(made: Denoise, network: nn.Module) -> dict[str, float]:
    """On that picture, with the same noise and levels every time."""
    items = [made.item(example(size=8), np.random.default_rng([9, i])) for i in range(16)]
    b = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    found = made.validate({"network": network}, b) | made.loss("network", {"network": network}, b)[1]
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize(
    ("kind", "learned_variance"),
    [("x0", False), pytest.param("v", False, marks=SLOW), pytest.param("eps", False, marks=SLOW), ("eps", True)],
)
def test_a_few_steps_learn_one_picture_by_heart(kind, learned_variance):
    made = task(replace(CONFIG, prediction=kind), learned_variance=learned_variance)
    network = made.build(0)["network"]
    before = figures(made, network)
    learn(made, network, 60)
    after = figures(made, network)
    assert after["x0_error"] < 0.6 * before["x0_error"]
    assert after["loss"] < 0.6 * before["loss"]
    if learned_variance:
        assert after["bound"] < 0.6 * before["bound"]


@pytest.mark.parametrize("train_input", [pytest.param(None, marks=SLOW), True])
def test_an_adapter_learns_while_its_base_stays_and_is_exported_and_merged(tmp_path, train_input):
    folder = tiny.folder(tmp_path / "base", tiny.network())
    wanted = LoRA(rank=4, targets=("to_q", "to_v", "conv1", "conv2"), train_input=train_input, merge=True)
    made = task(unet={}, start=str(folder), lora=wanted)
    network = made.build(0)["network"]
    assert isinstance(network, Adapted)
    frozen = {name: p.detach().clone() for name, p in network.named_parameters() if name not in network.trained}
    before = figures(made, network)
    learn(made, network, 30, lr=1e-2)
    assert figures(made, network)["loss"] < 0.8 * before["loss"]
    assert all(torch.equal(dict(network.named_parameters())[name], p) for name, p in frozen.items())
    made.export(tmp_path / "adapter", {"network": network.eval()}, "card\n")
    b = batch(made)
    args = b["x0"], b["t"] - 1, b["known"], b["x0"]
    with torch.no_grad():
        for place in (tmp_path / "adapter", tmp_path / "adapter" / "merged"):
            assert (catalog.load(place).unet(*args) - network(*args)).abs().max() <= 1e-5
    assert (tmp_path / "adapter" / "README.md").read_text() == "card\n"


def test_the_input_convolution_is_trained_when_inputs_were_added_and_else_when_asked_for(tmp_path):
    three, nine = tiny.folder(tmp_path / "three", tiny.network(None)), tiny.folder(tmp_path / "nine")
    trained = {}
    for start, asked in ((three, None), (nine, None), (nine, True), (nine, False)):
        network = task(unet={}, start=str(start), lora=LoRA(train_input=asked)).build(0)["network"]
        trained[start.name, asked] = "unet.conv_in.weight" in network.trained
    assert trained == {("three", None): True, ("nine", None): False, ("nine", True): True, ("nine", False): False}


def test_an_adapter_is_trained_on_as_it_is_or_in_full_from_the_merged_one(tmp_path):
    made = task(unet={}, start=str(tiny.folder(tmp_path / "base")), lora=LoRA())
    networks = made.build(0)
    learn(made, networks["network"], 3, lr=1e-2)
    made.export(tmp_path / "adapter", networks, "card\n")
    again, b = replace(made, start=str(tmp_path / "adapter")), batch(made)
    args = b["x0"], b["t"] - 1, b["known"], b["x0"]
    with torch.no_grad():
        wanted = networks["network"](*args)
        for goes_on in (again, task(unet={}, start=str(tmp_path / "adapter"))):
            assert (goes_on.build(0)["network"](*args) - wanted).abs().max() <= 1e-5
    with pytest.raises(UsageError, match="is trained on as it is; give that, or merge it"):
        replace(again, lora=LoRA(rank=3)).build(0)


def test_a_learned_variance_is_exported_so_that_diffusers_knows(tmp_path):
    from diffusers import DDPMPipeline, DDPMScheduler

    made = task(replace(CONFIG, prediction="eps"), learned_variance=True)
    made.export(tmp_path / "model", made.build(0), "card\n")
    assert has_spread(catalog.load(tmp_path / "model").unet)
    pipe = DDPMPipeline.from_pretrained(tmp_path / "model")
    assert (type(pipe.scheduler), pipe.scheduler.config.variance_type) == (DDPMScheduler, "learned_range")
    pipe.set_progress_bar_config(disable=True)
    assert pipe(num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("network", [TOLD, CONFIG], ids=["told", "unconditional"])
@KINDS
def test_figures_and_pictures_of_a_run_are_functions_of_the_held_out_items(network, kind):
    made = task(replace(network, prediction=kind))
    networks, b = {"network": made.build(0)["network"].eval()}, batch(made, 2)
    with torch.no_grad():
        found, again = (made.validate(networks, b) for _ in range(2))
        pictures, same = (made.samples(networks, b) for _ in range(2))
    assert list(found) == ["loss", "x0_error"]
    assert found == again
    assert torch.equal(pictures, same)
    assert pictures.shape == (2, 3, 16, 48 if network.condition else 16)
    assert pictures.abs().max() <= 1
    if network.condition:
        fill = pictures[..., 16:32]
        assert torch.equal(fill * b["known"], b["x0"] * b["known"])


@KINDS
@pytest.mark.parametrize("schedule", ["linear", "cosine", "scaled_linear"])
def test_the_error_of_x0_compares_runs_of_any_prediction_and_schedule(kind, schedule):
    """Zeros as x0, said in each way, are the same network: they must get the same figure, in the hole only."""
    made = task(replace(CONFIG, prediction=kind), schedule=schedule)
    b = batch(made)

    class Grey(nn.Module):
        def forward(self, x_t: Tensor, time: Tensor, known: Tensor, picture: Tensor) -> Tensor:
            sigma = made.levels.sigma(time + 1)
            return {"x0": 0 * x_t, "eps": x_t / sigma, "v": made.levels.a(time + 1) * x_t / sigma}[kind]

    hole = (1 - b["known"]).expand_as(b["x0"]) > 0
    assert made.validate({"network": Grey()}, b)["x0_error"].item() == pytest.approx(b["x0"][hole].square().mean().item(), rel=1e-4)


def test_the_adapter_recipe_trains_at_most_a_twentieth_of_what_full_fine_tuning_does():
    less = ["task.lora.rank=8", "task.lora.alpha=16"]  # as its first lines say
    recipes = (read(RECIPES[0].parent / f"{name}.toml", sets) for name, sets in (("face-64-full", []), ("face-64", less)))
    full, small = (recipe.task.build(0)["network"] for recipe in recipes)
    whole, part = (sum(p.numel() for p in network.parameters() if p.requires_grad) for network in (full, small))
    assert whole == 11_014_156
    assert 0.04 < part / whole <= 0.05


@pytest.mark.parametrize("schedule", ["linear", "cosine", "scaled_linear"])
def test_the_schedules_recipe_differs_in_the_schedule_alone(schedule):
    path = RECIPES[0].parent / "schedules.toml"
    recipe = read(path, [f"task.schedule={schedule}"])
    assert recipe.task.schedule == schedule
    assert replace(recipe, task=replace(recipe.task, schedule="cosine")) == read(path, ["task.schedule=cosine"])
    assert recipe.task.network.condition is None
    assert recipe.steps * recipe.data.batches[0].items >= 100_000


def test_a_damaged_start_is_refused(tmp_path):
    folder = tiny.folder(tmp_path / "base")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadInput, match="not a complete safetensors file"):
        task(unet={}, start=str(folder)).build(0)
