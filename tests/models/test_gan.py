"""Generators: a network with a latent, saved, loaded and sampled by the loop; and the discriminator that judges them."""

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tiny
from inpaintkit.core.errors import BadInput
from inpaintkit.core.noise import Noise
from inpaintkit.core.schedule import cosine, from_config, vp
from inpaintkit.methods import METHODS
from inpaintkit.models.checkpoints import MAPPING, load_folder
from inpaintkit.models.denoisers import NetworkDenoiser, Tiled, crops
from inpaintkit.models.gan import Discriminator, judged
from inpaintkit.models.latent import Mapping
from inpaintkit.models.unet import Network
from inpaintkit.pipeline.fill import Inpainter

LATENT = 8


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generator(**config) -> Network:
    made = tiny.network(unet_other={"class_embed_type": "identity"}, latent=LATENT, **config)
    nn.init.normal_(made.mapping.layers[-1].weight, generator=torch.Generator().manual_seed(1))  # z is heard
    return made.requires_grad_(False)


def ask(network: Network, z: Tensor | None) -> Tensor:
    x = normal(2, 3, 16, 16)
    return network(x, torch.tensor([3, 3]), torch.zeros(2, 1, 16, 16), x, z=z)


def test_the_latent_changes_the_picture_and_only_its_own():
    network, z = generator(), normal(2, LATENT)
    out, other = ask(network, z), ask(network, torch.stack([z[0], -z[1]]))
    assert (out[0] - other[0]).abs().max() < 1e-5
    assert (out[1] - other[1]).abs().max() > 1e-2
    assert torch.equal(ask(network, None), ask(network, torch.zeros_like(z)))


def test_the_length_of_the_latent_does_not_count():
    network, z = generator(), normal(2, LATENT)
    assert (ask(network, 3 * z) - ask(network, z)).abs().max() < 1e-5  # 1e-8 under the root is all that tells them apart


def test_a_quiet_latent_leaves_the_network_what_it_was():
    made = generator()
    made.mapping.quieten(0)
    x = normal(2, 3, 16, 16)
    plain = tiny.network()
    plain.unet.load_state_dict(made.unet.state_dict())
    without = plain(x, torch.tensor([3, 3]), torch.zeros(2, 1, 16, 16), x)
    assert torch.equal(ask(made, normal(2, LATENT)), without)
    mapping = Mapping(LATENT, 8)
    before = mapping.layers[-1].weight.clone()
    mapping.quieten(0.5)
    assert torch.equal(mapping.layers[-1].weight, before / 2)


def test_a_saved_generator_comes_back_to_the_bit_and_diffusers_reads_its_unet(tmp_path):
    made, schedule = generator(default_method={"name": "plain", "eta": 1.0, "walk": {"steps": 2, "spacing": "trailing"}}), vp(2)
    folder = tiny.folder(tmp_path / "m", made, schedule)
    network, back, digest = load_folder(folder)
    assert network.config == made.config
    assert torch.equal(back.alpha_bar, schedule.alpha_bar)
    assert network.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(network.state_dict()[key], value) for key, value in made.state_dict().items())
    theirs = UNet2DModel.from_pretrained(folder, subfolder="unet")
    x, z = normal(1, 9, 16, 16), normal(1, LATENT)
    with torch.no_grad():  # their weights lie unaligned in memory, which costs the last bits
        ours = made.unet(x, torch.tensor([1]), class_labels=made.mapping(z)).sample
        assert (theirs(x, torch.tensor([1]), class_labels=made.mapping(z)).sample - ours).abs().max() < 1e-5
    tensors = load_file(folder / MAPPING)
    save_file({key: value + 1 for key, value in tensors.items()}, folder / MAPPING)
    assert load_folder(folder)[2] != digest


def test_a_generator_without_its_latent_is_refused(tmp_path):
    folder = tiny.folder(tmp_path / "m", generator())
    (folder / MAPPING).unlink()
    with pytest.raises(BadInput, match=rf"{MAPPING}: no such file; the folder is incomplete"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("made", "kind", "says"), [(generator, None, "identity, for inpaintkit.json"), (tiny.network, "identity", "only num")]
)
def test_a_config_that_does_not_fit_its_latent_is_refused(tmp_path, made, kind, says):
    folder = tiny.folder(tmp_path / "m", made())
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_embed_type": kind}))
    with pytest.raises(BadInput, match=says):
        load_folder(folder)


def test_the_latent_is_drawn_anew_at_each_call_from_the_noise_of_the_picture():
    network, x = generator(), normal(3, 3, 16, 16)
    denoiser = NetworkDenoiser(network, cosine(), noise=Noise([4, 5, 6]))
    first, second = denoiser(x, 700)[0], denoiser(x, 700)[0]
    assert (first - second).abs().amax((1, 2, 3)).min() > 1e-2
    again = NetworkDenoiser(network, cosine(), noise=Noise([4, 5, 6]))
    assert torch.equal(again(x, 700)[0], first)
    assert torch.equal(again(x, 700)[0], second)
    silent = NetworkDenoiser(network, cosine())
    assert torch.equal(silent(x, 700)[0], silent(x, 700)[0])


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_a_picture_does_not_depend_on_its_batch_mates(micro_batch):
    """The bytes are those of the picture alone at the same micro-batch."""
    network, x = generator(), normal(3, 3, 16, 16)
    together = NetworkDenoiser(network, cosine(), micro_batch, noise=Noise([4, 5, 6]))(x, 700)[0]
    for i, seed in enumerate([4, 5, 6]):
        alone = NetworkDenoiser(network, cosine(), micro_batch, noise=Noise([seed]))(x[i : i + 1], 700)[0]
        assert torch.equal(alone[0], together[i])


def test_the_windows_of_one_picture_share_its_latent():
    network, x = generator(), normal(2, 3, 16, 32)
    corners = [(0, 0), (0, 16)]  # windows side by side: the joint picture is just both
    joint = Tiled(NetworkDenoiser(network, cosine(), noise=Noise([4, 5])), corners, (16, 16), x)(x, 700)[0]
    z = Noise([4, 5]).draw("z", (LATENT,))
    nothing = torch.zeros(4, 1, 16, 16)
    windows = network(crops(x, corners, (16, 16)), torch.full((4,), 699), nothing, torch.zeros(4, 3, 16, 16), z=z.repeat(2, 1))
    assert (joint - torch.cat([windows[:2], windows[2:]], 3)).abs().max() < 1e-5


@pytest.mark.parametrize("method", ["plain", "repaint", "ddnm"])
def test_every_door_samples_a_generator_and_the_seed_decides(tmp_path, method):
    pipe = Inpainter.from_pretrained(str(tiny.folder(tmp_path / "m", generator(), vp(8))), device="cpu", dtype="float32")
    chosen = METHODS[method]
    chosen = type(chosen)(walk=type(chosen.walk)(4))
    image = np.full((16, 16, 3), 90, np.uint8)
    hole = np.zeros((16, 16), bool)
    hole[4:12, 4:12] = True
    first, again, other = (pipe(image, hole, chosen, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.images[0], again.images[0])
    assert (first.images[0][hole] != other.images[0][hole]).any()
    assert np.array_equal(first.images[0][~hole], image[~hole])


def test_the_levels_of_the_paper_are_those_of_its_betas():
    """Xiao et al. 2022: beta_t = 1 - exp(-beta_min / T - (beta_max - beta_min) (2t - 1) / (2 T^2)), 0.1 and 20."""
    for T in (1, 2, 4, 8):
        t = torch.arange(1, T + 1, dtype=torch.float64)
        betas = 1 - torch.exp(-0.1 / T - 0.5 * (20 - 0.1) * (2 * t - 1) / T**2)
        assert torch.allclose(vp(T).alpha_bar[1:], torch.cumprod(1 - betas, 0), rtol=1e-12, atol=0)
        assert torch.equal(from_config(json.loads(json.dumps(vp(T).config))).alpha_bar, vp(T).alpha_bar)


@pytest.mark.parametrize(("t", "s"), [(1000, 750), (500, 250), (7, 6), (250, 0), (1, 0)])
def test_the_posterior_is_the_one_of_ddpm(t, s):
    """Ho et al. 2020, eq. 6 and 7, with the beta of the gap."""
    bars = cosine().alpha_bar
    beta = float(1 - bars[t] / bars[s])
    of_x0, of_x_t, sigma = cosine().posterior(t, s)
    assert of_x0 == pytest.approx(float(bars[s].sqrt()) * beta / float(1 - bars[t]), rel=1e-6)
    assert of_x_t == pytest.approx(float((bars[t] / bars[s]).sqrt() * (1 - bars[s]) / (1 - bars[t])), rel=1e-6, abs=1e-12)
    assert sigma**2 == pytest.approx(float((1 - bars[s]) / (1 - bars[t])) * beta, rel=1e-6, abs=1e-12)


def judge(conditioned: bool = True, seed: int = 0, T: int = 4) -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Discriminator(T, 3, conditioned, patch=2, widths=(8, 16, 16))


def test_the_discriminator_judges_cells_and_hears_everything_it_is_told():
    x_s, x_t, picture, known = normal(2, 3, 16, 16), normal(2, 3, 16, 16, seed=1), normal(2, 3, 16, 16, seed=2), torch.ones(2, 1, 16, 16)
    known[:, :, :8] = 0
    given = {"x_s": x_s, "x_t": x_t, "t": torch.tensor([1, 4]), "known": known, "picture": picture}
    net = judge()
    scores, found = net(**given)
    assert scores.shape == (2, 1, 4, 4)
    assert [tuple(f.shape[1:]) for f in found] == [(16, 4, 4), (16, 4, 4)]
    changes = {"x_s": x_s + 1, "x_t": x_t + 1, "t": torch.tensor([2, 3]), "known": 1 - known, "picture": picture + known}
    for name, value in changes.items():
        assert (net(**given | {name: value})[0] - scores).abs().max() > 1e-4, name
    hidden = picture + 100 * (1 - known)  # what it is not to know
    assert torch.equal(net(**given | {"picture": hidden})[0], scores)
    free = judge(conditioned=False)
    assert torch.equal(free(**given | {"known": 1 - known, "picture": hidden})[0], free(**given)[0])


def test_pictures_are_judged_alone_but_for_their_group():
    x, t, known = normal(4, 3, 16, 16), torch.tensor([1, 2, 3, 4]), torch.zeros(4, 1, 16, 16)
    other = torch.cat([x[:3], -x[3:]])
    net = judge()
    for group, touched in ((1, [3]), (2, [2, 3]), (4, [0, 1, 2, 3])):
        change = (net(x, x, t, known, x, group)[0] - net(other, x, t, known, x, group)[0]).abs().amax((1, 2, 3))
        assert [i for i in range(4) if change[i] > 1e-5] == touched


def test_equal_pictures_give_a_finite_slope():
    """The standard deviation of equal pictures is 0, where the square root has no slope."""
    x = torch.zeros(4, 3, 16, 16, requires_grad=True)
    judge()(x, x, torch.ones(4, dtype=torch.long), torch.zeros(4, 1, 16, 16), x, 4)[0].sum().backward()
    assert torch.isfinite(x.grad).all()


def test_only_cells_with_a_hole_count():
    known = torch.ones(3, 1, 16, 16)
    known[0, :, 5, 9] = 0
    known[1] = 0
    weight = judged(known, 4)
    assert weight[0].nonzero().tolist() == [[0, 1, 2]]
    assert (weight[1] == 1 / 16).all()
    assert weight.sum((1, 2, 3)).tolist() == [1, 1, 0]
