"""What enters a mask-conditioned network, as its config says, and the push-pull extension of known colours."""

import itertools
import runpy
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import tiny
from inpaintkit.core.errors import UsageError
from inpaintkit.core.settings import checked, dumped
from inpaintkit.methods import METHODS
from inpaintkit.models.unet import Condition, Network, NetworkConfig, channels, multiple, pushpull, started

RECIPES = Path(__file__).parents[2] / "recipes"


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def holes(*shape: int, share: float = 0.5, seed: int = 7) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


@pytest.mark.parametrize("order", list(itertools.permutations(("x_t", "mask", "colors"))))
@pytest.mark.parametrize(("mask_channels", "mask_one", "fill"), [(1, "hole", "zero"), (3, "known", "pushpull")])
def test_channel_order_polarity_and_fill_follow_the_config(order, mask_channels, mask_one, fill):
    network = tiny.network(Condition(order, mask_channels, mask_one, fill))
    entered = []
    network.unet.register_forward_pre_hook(lambda module, args: entered.append(args))
    x_t, picture, known = normal(2, 3, 8, 8), normal(2, 3, 8, 8, seed=1), holes(2, 1, 8, 8)
    network(x_t, torch.tensor([3, 3]), known, picture)
    mask = known if mask_one == "known" else 1 - known
    colors = picture * known if fill == "zero" else pushpull(picture, known)
    parts = {"x_t": x_t, "mask": torch.cat([mask] * mask_channels, 1), "colors": colors}
    assert torch.equal(entered[0][0], torch.cat([parts[name] for name in order], 1))
    assert entered[0][1].tolist() == [3, 3]


@pytest.mark.parametrize("patch", [2, 4])
def test_space_to_depth_shows_the_network_patches_as_channels_and_gives_pixels_back(patch):
    network = tiny.network(patch=patch)
    entered, left = [], []
    network.unet.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    network.unet.register_forward_hook(lambda module, args, out: left.append(out.sample))
    x_t, known = normal(1, 3, 16, 24), holes(1, 1, 16, 24)
    out = network(x_t, torch.tensor([3]), known, x_t)
    assert entered[0].shape == (1, 9 * patch**2, 16 // patch, 24 // patch)
    assert torch.equal(F.pixel_shuffle(entered[0], patch)[:, :3], x_t)
    assert torch.equal(out, F.pixel_shuffle(left[0], patch))
    assert multiple(network) == 2 * patch
    assert channels(network) == 3


def test_a_network_without_a_condition_sees_the_noisy_picture_only():
    network = tiny.network(None)
    x_t = normal(1, 3, 8, 8)
    out = network(x_t, torch.tensor([3]), holes(1, 1, 8, 8), normal(1, 3, 8, 8, seed=1))
    assert torch.equal(out, network.unet(x_t, torch.tensor([3])).sample)


def test_a_config_made_in_python_is_as_complete_as_one_read_from_a_file():
    assert dumped(NetworkConfig()) == dumped(checked(NetworkConfig, {}))
    assert NetworkConfig().default_method["name"] in METHODS


@given(st.integers(1, 33), st.integers(1, 33), st.floats(0, 1), st.integers(0, 1000))
def test_pushpull_keeps_known_values_and_stays_between_their_extremes(height, width, share, seed):
    picture, known = normal(1, 3, height, width, seed=seed), holes(1, 1, height, width, share=share, seed=seed)
    out = pushpull(picture, known)
    kept = known.expand_as(picture) > 0
    assert out.shape == picture.shape
    assert torch.equal(out[kept], picture[kept])
    if kept.any():  # means and bilinear weights are convex; each of the few levels rounds a little
        assert out.max() <= picture[kept].max() + 1e-5
        assert out.min() >= picture[kept].min() - 1e-5
    else:
        assert (out == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (16, 16), (17, 64)])
def test_pushpull_extends_a_constant_by_itself(size):
    known = torch.zeros(1, 1, *size)
    known[..., 0, 0] = 1
    picture = torch.where(known > 0, 0.3, float("nan")).expand(1, 3, *size)
    assert (pushpull(picture, known) - 0.3).abs().max() < 1e-6  # seven levels of float32 rounding


def test_pushpull_carries_near_colours_further_than_far_ones():
    known = torch.zeros(1, 1, 16, 16)
    known[..., 0], known[..., -1] = 1, 1
    picture = torch.zeros(1, 1, 16, 16)
    picture[..., -1] = 1
    row = pushpull(picture, known)[0, 0, 8]
    assert (row.diff() >= -1e-6).all()
    assert row[2] < 0.2
    assert row[-3] > 0.8


def nine_from_seven(stem: Tensor, area: int) -> Tensor:
    x_t, mask, colors = stem.split([3 * area, area, 3 * area], 1)
    return torch.cat([x_t, mask / 3, mask / 3, mask / 3, colors], 1)


@pytest.mark.parametrize("patch", [1, 2])
def test_a_seven_channel_network_becomes_the_same_nine_channel_one(patch):
    seven = tiny.network(Condition(mask_channels=1), patch=patch).double()
    nine = tiny.network(Condition(mask_channels=3), patch=patch).double()
    weights = seven.unet.state_dict()
    nine.unet.load_state_dict(weights | {"conv_in.weight": nine_from_seven(weights["conv_in.weight"], patch**2)})
    x_t, known = normal(2, 3, 16, 16).double(), holes(2, 1, 16, 16).double()
    args = x_t, torch.tensor([5, 900]), known, x_t
    assert (seven(*args) - nine(*args)).abs().max() < 1e-12


@torch.no_grad()
def both(network: Network, other: Network, share: float, seed: int) -> tuple[Tensor, Tensor]:
    args = normal(2, 3, 16, 16, seed=seed), torch.tensor([5, 900]), holes(2, 1, 16, 16, share=share), normal(2, 3, 16, 16, seed=seed + 1)
    return network(*args), other(*args)


def close(new: Tensor, old: Tensor) -> bool:
    """Equal but for the order in which a convolution adds its inputs, of which the new ones are zeros."""
    return bool((new - old).abs().max() <= 2e-6 * old.abs().max())


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("order", list(itertools.permutations(("x_t", "mask", "colors"))))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_started_from_three_channels_a_nine_channel_network_computes_the_same_for_any_hole(patch, order, share):
    three = tiny.network(None, patch=patch)
    nine = started(tiny.network(Condition(order), patch=patch, seed=1), three)
    assert close(*both(nine, three, share, seed=int(10 * share)))
    if order[0] == "x_t":  # as published: zeros added behind change no bit
        assert torch.equal(*both(nine, three, share, seed=int(10 * share)))


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("order", list(itertools.permutations(("x_t", "mask", "colors"))))
def test_with_whole_numbers_which_add_up_exactly_in_any_order_they_are_equal_to_the_bit(patch, order):
    three = tiny.network(None, patch=patch)
    for parameter in three.unet.conv_in.parameters():
        parameter.mul_(100).round_()
        assert parameter.abs().sum() > 0
    nine = started(tiny.network(Condition(order), patch=patch, seed=1), three)
    args = normal(2, 3, 16, 16).mul(3).round(), torch.tensor([5, 900]), holes(2, 1, 16, 16), normal(2, 3, 16, 16, seed=1)
    with torch.no_grad():
        assert torch.equal(nine(*args), three(*args))


def test_the_new_inputs_of_a_started_network_reach_its_output_once_they_are_trained():
    three = tiny.network(None, patch=2)
    nine = started(tiny.network(patch=2), three)
    with torch.no_grad():
        nine.unet.conv_in.weight[:, 12:] += 0.1
    new, old = both(nine, three, 0.5, 0)
    assert not torch.allclose(new, old, atol=1e-3)


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_comparison_tells_the_order_of_cells_and_channels(wrong):
    """Copied to the first inputs of each part, or channel by channel within a cell, the patches would be scrambled."""
    three = tiny.network(None, patch=2)
    nine = started(tiny.network(Condition(("mask", "x_t", "colors")), patch=2), three)
    weight, stem = torch.zeros_like(nine.unet.conv_in.weight), three.unet.conv_in.weight
    weight[:, [slice(0, 12), [12 + 3 * (i % 4) + i // 4 for i in range(12)]][wrong]] = stem
    nine.unet.conv_in.weight = torch.nn.Parameter(weight)
    new, old = both(nine, three, 0.5, 0)
    assert not torch.allclose(new, old, atol=1e-3)


def test_starting_copies_and_leaves_the_other_network_alone():
    three = tiny.network(None)
    before = {key: tensor.clone() for key, tensor in three.state_dict().items()}
    nine = started(tiny.network(), three)
    with torch.no_grad():
        for parameter in nine.parameters():
            parameter += 1
    assert all(torch.equal(tensor, before[key]) for key, tensor in three.state_dict().items())


@pytest.mark.parametrize("patch", [1, 2])
def test_a_learned_spread_is_left_out_or_begins_half_way(patch):
    with_spread, without = tiny.network(None, spread=True, patch=patch), tiny.network(None, patch=patch)
    new, old = both(started(tiny.network(patch=patch, seed=1), with_spread), with_spread, 0.5, 0)
    assert new.shape[1] == 3
    assert close(new, old[:, :3])
    new, old = both(started(tiny.network(spread=True, patch=patch, seed=1), without), without, 0.5, 0)
    assert close(new[:, :3], old)
    assert (new[:, 3:] == 0).all()
    new, old = both(started(tiny.network(spread=True, patch=patch, seed=1), with_spread), with_spread, 0.5, 0)
    assert torch.equal(new, old)


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ({"patch": 2}, {}, "network.patch = 1, this one 2; give task.network.patch as it has it"),
        ({"prediction": "v"}, {}, "network.prediction = x0, this one v"),
        ({}, {"unet_other": {"attention_head_dim": 4}}, "unet.attention_head_dim = 4, this one 8"),
        ({}, {"unet_other": {"norm_num_groups": 8}}, "unet.norm_num_groups = 8, this one 4"),
        ({}, {"unet_other": {"block_out_channels": [16, 64]}}, r"unet.block_out_channels = .16, 64., this one .16, 32."),
        ({}, {"heads": 2}, "network.heads = 2, this one None"),
        ({}, {"condition": Condition(mask_one="known")}, "network.condition.mask_one = known, this one hole"),
        ({"condition": None}, {"condition": Condition()}, "is told colors, this one is not; add it to task.network.condition"),
        ({"condition": Condition(mask_channels=1)}, {"condition": Condition()}, "is told mask, this one is not"),
    ],
)
def test_a_start_that_would_compute_something_else_is_refused(mine, theirs, says):
    with pytest.raises(UsageError, match=says):
        started(tiny.network(**({"condition": Condition()} | mine)), tiny.network(**({"condition": None} | theirs)))


@pytest.mark.slow
def test_the_pilot_recipe_writes_that_network(tmp_path, monkeypatch):
    from diffusers import UNet2DModel
    from safetensors.torch import save_file

    from inpaintkit.models.checkpoints import load_folder
    from inpaintkit.train.recipes import read

    recipe = read(RECIPES / "photo-64.toml")
    pilot = UNet2DModel(**(recipe.task.unet | {"in_channels": 28}))
    save_file({key: tensor.contiguous() for key, tensor in pilot.state_dict().items()}, tmp_path / "pilot.safetensors")
    monkeypatch.setattr(sys, "argv", ["pilot.py", str(tmp_path / "pilot.safetensors"), str(tmp_path / "out")])
    runpy.run_path(str(RECIPES / "pilot.py"))
    nine, _, _ = load_folder(tmp_path / "out")
    seven = Network(pilot, NetworkConfig(prediction="x0", patch=2, condition=Condition(mask_channels=1, fill="pushpull"))).eval()
    args = normal(1, 3, 32, 32), torch.tensor([700]), holes(1, 1, 32, 32), normal(1, 3, 32, 32, seed=1)
    with torch.no_grad():
        found, wanted = nine(*args), seven(*args)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()  # float32, some forty layers
