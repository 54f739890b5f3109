"""The conditional network: what it is told matters, "nothing told" differs from anything that can be told, guidance is exact at
its ends, and its folders are read strictly."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.schedule import cosine
from inpaintkit.core.settings import checked
from inpaintkit.models import catalog, control_folders
from inpaintkit.models.control import Attention, ControlConfig, ControlNetwork, LinearAttention, ResBlock, Units, sinusoids
from inpaintkit.models.denoisers import Calls, NetworkDenoiser
from inpaintkit.models.guided import Guided, guided

SCHEDULE = cosine(100)
CONFIG = ControlConfig(channels=2, cond_channels=2, widths=(8, 16), blocks=1, head_width=8, size=16, largest=32, clamp=False)


def awake(config: ControlConfig = CONFIG) -> ControlNetwork:
    return tiny.control(**vars(config))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, COND = noise(2, 2, 16, 16), noise(2, 2, 16, 16, seed=2)
KNOWN = (noise(2, 1, 16, 16, seed=3) > 1).float()
TIME, GIVEN = torch.tensor([3, 50]), torch.ones(2)


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, condition="measurements"), replace(CONFIG, patch=2)])
def test_every_input_reaches_the_output(config):
    network = awake(config)
    whole = network(X, TIME, KNOWN, COND, GIVEN)
    assert whole.shape == X.shape
    for other in (
        network(X + 0.1, TIME, KNOWN, COND, GIVEN),
        network(X, TIME + 1, KNOWN, COND, GIVEN),
        network(X, TIME, 1 - KNOWN, COND, GIVEN),
        network(X, TIME, KNOWN, COND + 0.1, GIVEN),
        network(X, TIME, KNOWN, COND, 1 - GIVEN),
    ):
        assert (other - whole).abs().max() > 1e-3


def test_told_nothing_is_told_neither_grey_nor_that_nothing_is_known():
    network, zero = awake(), torch.zeros_like
    nothing = network(X, TIME, zero(KNOWN), zero(COND), zero(GIVEN))
    nowhere = network(X, TIME, zero(KNOWN), zero(COND), GIVEN)
    grey = network(X, TIME, torch.ones_like(KNOWN), zero(COND), GIVEN)
    for one, other in ((nothing, nowhere), (nothing, grey), (nowhere, grey)):
        assert (one - other).abs().max() > 1e-3
    assert torch.equal(network(X, TIME, KNOWN, COND, zero(GIVEN)), nothing)  # what is not told is not looked at


def test_the_features_enter_a_new_network_through_zeros():
    torch.manual_seed(0)
    network = ControlNetwork(CONFIG)
    for module in network.modules():  # what else begins at zero
        if isinstance(module, ResBlock):
            nn.init.normal_(module.conv_2.weight)
    nn.init.normal_(network.conv_out.weight)
    assert not torch.equal(network(X, TIME, KNOWN, COND, GIVEN), network(X, TIME, 1 - KNOWN, -COND, 1 - GIVEN))  # by cross-attention
    network.without = frozenset({"cross"})
    assert torch.equal(network(X, TIME, KNOWN, COND, GIVEN), network(X, TIME, 1 - KNOWN, -COND, 1 - GIVEN))


@pytest.mark.parametrize("part", ControlNetwork(CONFIG).parts)
def test_every_part_can_be_switched_off_and_on_again(part):
    network = awake()
    whole = network(X, TIME, KNOWN, COND, GIVEN)
    network.without = frozenset({part})
    assert (network(X, TIME, KNOWN, COND, GIVEN) - whole).abs().max() > 1e-4
    network.without = frozenset()
    assert torch.equal(network(X, TIME, KNOWN, COND, GIVEN), whole)


def test_without_all_that_carries_it_the_condition_is_not_seen():
    network = awake()
    network.without = frozenset({"control.0", "control.1", "cross"})
    assert torch.equal(network(X, TIME, KNOWN, COND, GIVEN), network(X, TIME, 1 - KNOWN, -COND, 1 - GIVEN))
    network.without = frozenset({"known", "values"})
    assert torch.equal(network(X, TIME, KNOWN, COND, GIVEN), network(X, TIME, 1 - KNOWN, -COND, GIVEN))


@pytest.mark.parametrize("patch", [1, 2])
def test_any_multiple_of_its_step_is_a_size(patch):
    network = awake(replace(CONFIG, patch=patch))
    step = network.multiple
    assert step == 2 * patch
    for h, w in ((step, step), (3 * step, 5 * step)):
        out = network(noise(1, 2, h, w), TIME[:1], torch.ones(1, 1, h, w), noise(1, 2, h, w), GIVEN[:1])
        assert out.shape == (1, 2, h, w)


def test_linear_attention_is_its_equation():
    torch.manual_seed(0)
    layer = LinearAttention(16, 8)
    nn.init.normal_(layer.out.weight)
    x = noise(2, 16, 3, 5)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).reshape(2, 3, 2, 8, 15).unbind(1)
    read = torch.zeros(2, 2, 8, 15)
    for b in range(2):
        for head in range(2):
            for i in range(15):
                for j in range(15):  # Shen et al. 2021, eq. 3, pair by pair
                    share = torch.softmax(q[b, head, :, i], 0) @ torch.softmax(k[b, head], 1)[:, j]
                    read[b, head, :, i] += share * v[b, head, :, j]
    assert torch.allclose(layer(x), x + layer.out(read.reshape(2, 16, 3, 5)), atol=1e-5)


def test_attention_tells_places_apart():
    torch.manual_seed(0)
    layer = Attention(16, 8)
    nn.init.normal_(layer.out.weight)
    x, memory = noise(1, 16, 4, 4), noise(1, 16, 4, 4, seed=5)
    assert (layer(x, memory) - layer(x, memory.flip(3))).abs().max() > 1e-2
    assert (layer(x, memory) - layer(x, memory.mT)).abs().max() > 1e-2


def test_sinusoids_are_those_of_the_paper():
    found = sinusoids(torch.tensor([0, 7]), 8)
    wanted = [torch.tensor(7.0 / 10_000 ** (i / 4)) for i in range(4)]
    assert torch.equal(found[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert torch.allclose(found[1], torch.stack([*(a.sin() for a in wanted), *(a.cos() for a in wanted)]), atol=1e-6)


def denoiser(**other) -> NetworkDenoiser:
    return NetworkDenoiser(awake(), SCHEDULE, calls=Calls(), **other)


def test_guidance_is_exact_and_costs_one_evaluation_at_its_ends():
    told = denoiser().told(KNOWN, COND)
    for w, alone in ((1.0, told), (0.0, denoiser())):
        ruled = guided(told, w)
        before = told.calls.forward
        x0 = ruled(X, 40)[0]
        assert told.calls.forward - before == len(X)
        assert torch.equal(x0, alone(X, 40)[0])
    assert (told(X, 40)[0] - denoiser()(X, 40)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("w", [0.5, 3.0])
def test_guidance_goes_on_from_the_untold_through_the_told_prediction_in_two_evaluations(w):
    told = denoiser().told(KNOWN, COND)
    ruled = guided(told, w)
    before = told.calls.forward
    x0 = ruled(X, 40)[0]
    assert told.calls.forward - before == 2 * len(X)
    free, one = told.untold()(X, 40)[0], told(X, 40)[0]
    assert torch.allclose(x0, (1 - w) * free + w * one, atol=1e-5)
    assert isinstance(ruled, Guided)


def test_a_denoiser_is_told_what_is_known_and_a_pictures_bytes_do_not_depend_on_its_mates():
    told = denoiser().told(KNOWN, COND + 100 * (1 - KNOWN))  # what lies in the hole is not looked at
    out = awake()(X[:1], torch.tensor([39]), KNOWN[:1], COND[:1] * KNOWN[:1], GIVEN[:1])
    both = told(X, 40)[0]
    assert torch.equal(both[:1], SCHEDULE.x0_from_v(X[:1], out, 40))
    assert torch.equal(both[1:], denoiser().told(KNOWN[1:], COND[1:])(X[1:], 40)[0])


@pytest.fixture
def folder(tmp_path) -> Path:
    units = Units((2.0, 0.0), (0.7, 1.0), (2.0, 0.0), (0.7, 1.0), "K")
    control_folders.save(tmp_path / "made", awake(replace(CONFIG, units=units)), SCHEDULE, "A tiny network.\n")
    return tmp_path / "made"


def test_a_folder_gives_back_the_network(folder):
    model = catalog.load(folder)
    assert isinstance(model.network, ControlNetwork)
    assert model.network.config.units.name == "K"
    assert torch.equal(model.schedule.alpha_bar, SCHEDULE.alpha_bar)
    assert torch.equal(model.network(X, TIME, KNOWN, COND, GIVEN), awake()(X, TIME, KNOWN, COND, GIVEN))
    with pytest.raises(UsageError, match="a conditional network with a control encoder"):
        _ = model.unet


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"widths": [8, 16, 16]}, "weights and config are of different models"),
        ({"widths": [8, 24]}, "they are of different models"),
        ({"widths": []}, "widths"),
        ({"layers": 3}, "has no option 'layers'"),
        ({"prediction": "eps"}, "says the network predicts eps, the scheduler says v"),
        ({"largest": 33}, "largest = 33 must be a multiple of 2"),
        ({"units": {"mean": [0], "std": [1], "cond_mean": [0], "cond_std": [1]}}, "units.mean has 1 numbers for 2 channels"),
        ({"units": {"mean": [0, 0], "std": [1, 0], "cond_mean": [0, 0], "cond_std": [1, 1]}}, "greater than 0"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused_in_one_line(folder, change, says):
    path = folder / "inpaintkit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput) as error:
        catalog.load(folder)
    assert says in str(error.value)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_a_huge_network_is_refused_before_it_takes_memory(folder):
    path = folder / "inpaintkit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"widths": [4096] * 8, "blocks": 8, "largest": 128}))
    with pytest.raises(BadInput, match="different models"):
        catalog.load(folder)


@pytest.mark.parametrize("bad", [{"widths": (12, 16)}, {"widths": (8,) * 9}, {"patch": 0}, {"blocks": 9}, {"channels": 0}])
def test_a_network_out_of_bounds_cannot_be_described(bad):
    with pytest.raises(UsageError):
        checked(ControlConfig, bad)
