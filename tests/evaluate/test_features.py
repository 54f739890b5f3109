"""The networks of the metrics: their graphs are those of the field's packages, and their weights come from files.

`networks.json` holds what independent packages make of the weights and pictures of `seeded.py`: torchvision 0.29.2 (AlexNet, VGG,
both SqueezeNets), lpips 0.1.4, torch-fidelity 0.4.0 (Inception), and a MobileNetV2 written apart from this one. None of them
can be installed beside this one's torch, so the numbers are kept.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from evaluate.seeded import picture, seeded, summary
from inpaintkit.core.errors import BadInput
from inpaintkit.evaluate import features
from inpaintkit.evaluate.extractors import EXTRACTORS, load, squeezenet1_0
from inpaintkit.evaluate.inception import Inception, clean
from inpaintkit.models.backbones import mobilenet_v2
from inpaintkit.models.tensors import read_tensors, shapes

GIVEN = json.loads((Path(__file__).parent / "networks.json").read_text())
MAKE = {**features.BACKBONES, "squeezenet1_0": squeezenet1_0, "mobilenet_v2": mobilenet_v2, "inception": Inception}


def files(folder: Path, name: str) -> torch.nn.Module:
    """The trunk of an LPIPS as the public file holds it, in float32; returns it."""
    trunk = seeded(features.BACKBONES[name]()).float()
    torch.save({**trunk.state_dict(), "classifier.1.weight": torch.zeros(2, 2)}, folder / features.WEIGHTS[name].file)
    return trunk


@pytest.mark.parametrize("name", MAKE)
def test_names_shapes_and_numbers_of_weights_are_the_public_ones(name):
    with torch.device("meta"):
        state = shapes(MAKE[name]().state_dict())
    assert len(state) == GIVEN[name]["tensors"]
    assert sum(int(np.prod(shape)) for key, shape in state.items() if "running" not in key) == GIVEN[name]["parameters"]
    lines = "\n".join(f"{key} {shape}" for key, shape in sorted(state.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == GIVEN[name]["keys"]


@pytest.mark.parametrize("name", features.BACKBONES)
def test_lpips_agrees_with_its_package(name, tmp_path):
    """Float64, so only the order of sums differs. The heads are the public ones, which torchmetrics brings."""
    network = features.LPIPS(seeded(features.BACKBONES[name]())).double()
    heads = read_tensors(features.heads_file(name, tmp_path))
    network.heads.load_state_dict({f"{i}.weight": heads[f"lin{i}.model.1.weight"].double() for i in range(len(network.heads))})
    a, b = picture(GIVEN[name]["size"], 0), picture(GIVEN[name]["size"], 1)
    maps = network.net((a - network.shift) / network.scale)
    for got, expected in zip(maps, GIVEN[name]["maps"], strict=True):
        assert summary(got) == pytest.approx(expected, rel=1e-6)  # lpips keeps shift and scale in float32
    with torch.no_grad():
        assert features.distance(network(a, b)).item() == pytest.approx(GIVEN[name]["lpips"], rel=1e-6)
        assert features.distance(network(a, a)).item() == 0


def test_inception_agrees_with_torch_fidelity():
    """Their features are rounded to float32."""
    network, size = seeded(Inception()), GIVEN["inception"]["size"]
    bytes_ = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, size, size), dtype=np.uint8))
    with torch.no_grad():
        assert summary(network((bytes_.double() - 128) / 128)) == pytest.approx(GIVEN["inception"]["features"], rel=1e-6)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_extractors_agree_with_other_implementations(name):
    extract = EXTRACTORS[name]()
    seeded(extract.maps)
    extract.shift, extract.scale = (torch.tensor(list(v), dtype=torch.float64)[:, None, None] for v in CONSTANTS[name])
    maps, pooled = extract(picture(GIVEN[name]["size"]))
    for got, expected in zip(maps, GIVEN[name]["maps"], strict=True):
        assert summary(got) == pytest.approx(expected, rel=1e-9)
    if "features" in GIVEN[name]:
        assert summary(pooled) == pytest.approx(GIVEN[name]["features"], rel=1e-9)


CONSTANTS = {"mobilenet_v2": ((0.5,) * 3, (0.5,) * 3), "squeezenet1_0": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


def test_a_region_counts_the_cells_it_touches():
    maps = [torch.arange(4.0).reshape(1, 1, 2, 2), torch.tensor([[[[8.0]]]])]
    region = torch.zeros(1, 1, 4, 4)
    region[0, 0, 3, 3] = 1
    assert features.distance(maps).item() == 1.5 + 8
    assert features.distance(maps, region).item() == 3 + 8
    assert features.distance(maps, 0 * region).isnan()


def test_every_network_takes_the_smallest_picture():
    x = torch.zeros(1, 3, features.SMALLEST, features.SMALLEST)
    assert len(features.LPIPS(features.alex())(x, x)) == 5
    assert len(features.LPIPS(features.squeeze())(x, x)) == 7
    assert all(len(EXTRACTORS[name]()(x)[0]) == 5 for name in ("mobilenet_v2", "squeezenet1_0", "alexnet"))


def test_lpips_is_read_from_a_folder(tmp_path, monkeypatch):
    trunk = files(tmp_path, "alex")
    monkeypatch.setenv("INPAINTKIT_WEIGHTS", str(tmp_path))
    network = features.lpips("alex")
    assert torch.equal(network.net.features[0].weight, trunk.features[0].weight)
    heads = read_tensors(features.heads_file("alex"))
    assert torch.equal(network.heads[4].weight, heads["lin4.model.1.weight"])
    torch.save({key: 2 * tensor for key, tensor in heads.items()}, tmp_path / "alex.pth")  # one's own file goes first
    assert torch.equal(features.lpips("alex").heads[4].weight, 2 * heads["lin4.model.1.weight"])


@pytest.mark.parametrize("name", ["alex", "vgg", "squeeze", "inception"])
def test_missing_weights_name_the_file_and_where_it_is_looked_for(name, tmp_path):
    weights = features.WEIGHTS[name]
    with pytest.raises(BadInput) as refusal:
        features.inception(tmp_path) if name == "inception" else features.lpips(name, tmp_path)
    assert str(tmp_path / weights.file) in str(refusal.value)
    assert weights.url + weights.file in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_other_and_broken_weights_are_refused(tmp_path):
    trunk = files(tmp_path, "alex").state_dict()
    path = tmp_path / features.WEIGHTS["alex"].file
    torch.save({**trunk, "features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(BadInput, match=r"other weights than expected \(first at features.0.weight\)"):
        features.lpips("alex", tmp_path)
    torch.save({**trunk, "features.0.bias": torch.full((64,), torch.nan)}, path)
    with pytest.raises(BadInput, match="NaN or infinity"):
        features.lpips("alex", tmp_path)


def test_inception_is_read_without_its_classifier_and_counters(tmp_path):
    state = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in Inception().state_dict().items()}
    assert any(key.endswith("num_batches_tracked") for key in state)
    torch.save({**state, "fc.weight": torch.zeros(3, 3)}, tmp_path / features.WEIGHTS["inception"].file)
    network = features.inception(tmp_path)
    assert torch.equal(network.Mixed_7c.branch1x1.conv.weight, state["Mixed_7c.branch1x1.conv.weight"].float())
    assert not network.training


def test_the_resize_does_not_alias():
    """torch's own antialiased bicubic in float64 agrees but for Pillow's rounding to float32; without antialiasing it is far off."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, (3, 512, 640)).astype(np.float32))
    reference = F.interpolate(x[None].double(), (299, 299), mode="bicubic", antialias=True, align_corners=False)[0].clamp(-1, 1)
    aliased = F.interpolate(x[None].double(), (299, 299), mode="bicubic", align_corners=False)[0].clamp(-1, 1)
    assert (clean(x) - reference).abs().max() < 1e-6
    assert (aliased - reference).abs().max() > 0.5


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
def test_a_file_of_features_is_recognised_by_its_weights(name, tmp_path):
    state = {key: tensor.half() for key, tensor in MAKE[name]().state_dict().items()}
    save_file({**state, "classifier.weight": torch.zeros(5, 5)}, tmp_path / "mine.safetensors")
    found = load(tmp_path / "mine.safetensors")
    assert (found.name, found.network, len(found.sha256)) == ("mine", name, 64)
    assert torch.equal(found.extract.maps.state_dict()["features.0.weight" if name != "mobilenet_v2" else "features.0.conv.weight"],
                       state["features.0.weight" if name != "mobilenet_v2" else "features.0.conv.weight"].float())  # fmt: skip
    state.popitem()
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(BadInput, match="of no network known here"):
        load(tmp_path / "cut.safetensors")
    with pytest.raises(BadInput, match="no such file"):
        load(tmp_path / "none.safetensors")
