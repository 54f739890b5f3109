"""The mask predictor: local, independent of tiling, saved and read strictly, small enough to bundle."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.models import catalog, damage
from inpaintkit.models.backbones import mobilenet_v2
from inpaintkit.models.damage import CONFIG, WEIGHTS, DetectorConfig, build

TINY = DetectorConfig(widths=(8, 12), reach=32)


def awake(config: DetectorConfig = TINY, seed: int = 0) -> damage.DamageNet:
    """A network whose every number matters: biases, and the statistics of the norms, are drawn too."""
    network = build(config, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if "bias" in name or "running" in name:
            tensor.copy_(tensor + torch.rand(tensor.shape, generator=generator) * 0.2)
    return network.eval().requires_grad_(False)


def picture(h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def detector(network: damage.DamageNet) -> damage.Detector:
    return damage.Detector("tiny", network, "")


def likelihood(network: damage.DamageNet, x: torch.Tensor, side: int) -> np.ndarray:
    return detector(network).likelihood(lambda x0, y0, x1, y1: x[:, :, y0:y1, x0:x1], (x.shape[3], x.shape[2]), side)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (7, 5), (1, 1), (1, 90)])
def test_any_size_gives_one_logit_for_each_pixel(size):
    out = awake()(picture(*size))
    assert out.shape == (1, 1, *size)
    assert torch.isfinite(out).all()


def test_the_whole_default_network_has_a_small_file(tmp_path):
    network = build(DetectorConfig(), 0)
    assert 8e5 < sum(p.numel() for p in network.parameters()) < 1e6
    damage.save_folder(tmp_path / "d", network, "card")
    assert (tmp_path / "d" / WEIGHTS).stat().st_size < 2e6


def test_a_classifiers_weights_become_its_contracting_half(tmp_path):
    classifier = mobilenet_v2().state_dict()
    save_file(classifier | {"classifier.weight": torch.zeros(3, 1280)}, tmp_path / "net.safetensors")
    network = build(DetectorConfig(widths=(8, 12, 16)), 0)
    network.start_from(tmp_path / "net.safetensors")
    trunk = network.trunk.state_dict()
    assert trunk.keys() == {name.removeprefix("features.") for name in classifier if int(name.split(".")[1]) <= 3}
    assert all(torch.equal(value, classifier[f"features.{name}"]) for name, value in trunk.items())
    assert not any(
        torch.equal(value, build(DetectorConfig(widths=(8, 12, 16)), 0).trunk.state_dict()[name]) for name, value in trunk.items()
    )
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="holds no MobileNetV2 of this form; its batch norms must be folded"):
        network.start_from(tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="no such file"):
        network.start_from(tmp_path / "none.safetensors")


def test_every_map_of_the_classifier_is_looked_at():
    network, x = awake(DetectorConfig(widths=(8, 12, 16, 16, 16))), picture(64, 64)
    before = network(x)
    for skip in network.skips:
        changed = skip[0].weight.clone()
        skip[0].weight.zero_()
        assert (network(x) - before).abs().max() > 1e-4
        skip[0].weight.copy_(changed)
    assert torch.equal(network(x), before)


def test_the_same_seed_builds_the_same_network_and_leaves_the_generator_alone():
    before = torch.random.get_rng_state()
    one, two, other = build(TINY, 1).state_dict(), build(TINY, 1).state_dict(), build(TINY, 2).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(before, torch.random.get_rng_state())


def test_tiles_give_what_one_piece_gives():
    """Within `reach` lies all a pixel depends on: 9 px of roughness, 6 px of 3x3 convolutions at full size, 8 at half of it."""
    network, x = awake(), picture(150, 190)
    whole = torch.sigmoid(network(x))[0, 0].numpy()
    assert np.abs(likelihood(network, x, 32) - whole).max() < 1e-5
    assert np.abs(likelihood(network, x, 512) - whole).max() < 1e-6
    assert whole.std() > 1e-3


def test_tiles_that_saw_too_little_would_be_noticed():
    config = DetectorConfig(widths=(8, 12, 16, 16), reach=16)
    network, x = awake(config), picture(150, 190)
    whole = torch.sigmoid(network(x))[0, 0].numpy()
    assert np.abs(likelihood(network, x, 32) - whole).max() > 1e-5


def test_a_pixel_far_away_changes_nothing():
    network, x = awake(), picture(96, 96)
    changed = x.clone()
    changed[:, :, :8, :8] *= -1
    difference = (network(x) - network(changed))[0, 0].abs()
    assert difference[:8, :8].max() > 1e-4
    assert difference[64:, 64:].max() == 0


def test_a_coarser_look_finds_what_is_larger_than_a_tile_of_training():
    """With `coarsest` the likelihood is the larger of both looks, each at its own resolution."""
    network, x = awake(), picture(64, 80)
    fine = likelihood(network, x, 512)
    small = torch.nn.functional.avg_pool2d(x, 2)
    coarse = torch.nn.functional.interpolate(torch.sigmoid(network(small)), (64, 80), mode="bilinear")[0, 0].numpy()
    network.config = DetectorConfig(widths=(8, 12), reach=32, coarsest=2)
    assert np.abs(likelihood(network, x, 512) - np.maximum(fine, coarse)).max() < 1e-6
    odd = picture(65, 83)
    assert likelihood(network, odd, 512).shape == (65, 83)


def test_paint_blur_and_noise_differ_in_roughness():
    """(log of the mean square difference + 1e-5) / 4 + 1.5, of white noise: its variance times 1 - 1/9, over 9 pixels."""
    flat, noise = torch.full((1, 3, 40, 40), 0.3), torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.3
    assert damage.cues(flat).shape == (1, damage.CUES, 40, 40)
    assert torch.allclose(damage.cues(flat)[:, :2], torch.tensor(np.log(1e-5) / 4 + 1.5).float(), atol=1e-3)
    inside = damage.cues(noise)[:, 1, 9:-9, 9:-9]
    assert inside.mean().item() == pytest.approx(np.log(0.09 * 8 / 9) / 4 + 1.5, abs=0.02)
    blurred = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    assert damage.cues(blurred)[:, 1, 9:-9, 9:-9].max() < inside.min() - 0.3


def test_thin_lines_stand_out_and_broad_ones_do_not():
    """Channels 2 to 5: bright and dark ones, under 3 and under 7 pixels; they count twice."""
    picture = torch.zeros(1, 3, 40, 60)
    picture[:, 1, :, 10], picture[:, :, :, 20:25], picture[:, 2, :, 40], picture[:, :, :, 50:] = 0.5, 0.3, -0.4, 0.9
    lines = damage.cues(picture)[0, 2:6, 20]
    expected = torch.zeros(4, 60)
    expected[0, 10] = expected[2, 10] = 1
    expected[2, 20:25] = 0.6
    expected[1, 40] = expected[3, 40] = 0.8
    assert torch.allclose(lines, expected, atol=1e-6)
    spread = damage.cues(picture)[0, 6, 20]
    assert spread[9:12].tolist() == pytest.approx([1 / 3] * 3)
    assert spread[14] == 0


def test_norms_take_batch_statistics_in_training_only():
    network, x = awake(), picture(32, 32)
    before = network.state_dict()["fine.0.1.running_mean"].clone()
    network(x)
    assert torch.equal(network.state_dict()["fine.0.1.running_mean"], before)
    shifted = network.train()(x * 0.5)
    assert not torch.equal(network.state_dict()["fine.0.1.running_mean"], before)
    assert not torch.allclose(shifted, network.eval()(x * 0.5))
    assert all(value.is_floating_point() for value in network.state_dict().values())


@pytest.fixture
def folder(tmp_path):
    damage.save_folder(tmp_path / "d", awake(), "A tiny detector.\n", torch.float32)
    return tmp_path / "d"


def test_a_saved_detector_comes_back_to_the_bit(folder):
    loaded = damage.load(str(folder))
    for key, value in awake().state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)
    assert loaded.network.config == TINY
    assert torch.equal(loaded.network(picture(20, 20)), awake()(picture(20, 20)))
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert damage.is_detector(str(folder))


def edited(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: edited(f / CONFIG, widths=[8, 16]), "config.json asks for"),
        (lambda f: edited(f / CONFIG, width=[8, 12]), "no option 'width'"),
        (lambda f: edited(f / CONFIG, widths=[8, 10**9]), "widths"),
        (lambda f: edited(f / CONFIG, threshold=2), "threshold"),
        (lambda f: (f / CONFIG).write_text("{"), "not valid JSON"),
        (lambda f: (f / CONFIG).unlink(), "is no detector of damage"),
        (lambda f: (f / WEIGHTS).unlink(), "no such file"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "not a complete safetensors file"),
        (lambda f: save_file({k: v * float("nan") for k, v in load_file(f / WEIGHTS).items()}, f / WEIGHTS), "NaN"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(folder, break_it, said):
    break_it(folder)
    with pytest.raises(BadInput, match=said) as error:
        damage.load(str(folder))
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_detector_is_no_model_that_fills(folder):
    with pytest.raises(BadInput, match="--detector"):
        catalog.load(str(folder))
    with pytest.raises(UsageError, match="--detector"):
        catalog.load("damage")
    with pytest.raises(BadInput, match="is no detector"):
        damage.load("photo-64")


def test_a_bundled_name_that_is_not_installed_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "ASSETS", tmp_path)
    with pytest.raises(BadInput, match=r"inpaintkit train recipes/damage.toml.*--detector"):
        damage.load()


def test_bundled_weights_are_compared_with_their_checksum(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(catalog, "ASSETS", folder.parent)
    folder.rename(folder.parent / "damage")
    (folder.parent / "SHA256.json").write_text(json.dumps({"damage": damage.load(str(folder.parent / "damage")).sha256}))
    assert damage.load().name == "damage"
    (folder.parent / "SHA256.json").write_text('{"damage": "0"}')
    with pytest.raises(BadInput, match="checksum differs"):
        damage.load()
