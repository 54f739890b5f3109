"""Adapters: exact before training and after merging, as small as they say, and tied to the model they were trained on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import tiny
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.schedule import cosine
from inpaintkit.models import catalog, lora
from inpaintkit.models.checkpoints import load_folder
from inpaintkit.models.lora import Adapted, Adapter, LoRA
from inpaintkit.models.unet import Condition, Network, settings, started
from inpaintkit.models.weights import sha256

ATTENTION = LoRA(rank=2, alpha=3.0)
CONVOLUTIONS = LoRA(rank=2, alpha=3.0, targets=("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"), train_input=True)
KINDS = pytest.mark.parametrize("kind", [ATTENTION, CONVOLUTIONS], ids=["attention", "convolutions"])


@pytest.fixture
def base(tmp_path) -> Path:
    return tiny.folder(tmp_path / "base", tiny.network())


def adapted(base: Path, kind: LoRA = ATTENTION, seed: int = 0) -> Adapted:
    model = catalog.load(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy = started(tiny.network(), model.unet)
        return Adapted(copy, Adapter(str(base), model.sha256, kind, model.unet.config))


def trained(base: Path, kind: LoRA = ATTENTION) -> Adapted:
    """As after training: every number that is trained has moved."""
    network, rng = adapted(base, kind), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=rng)
    return network.eval()


def saved(folder: Path, network: Adapted) -> Path:
    folder.mkdir()
    lora.save(folder, network, cosine(), "An adapter.\n")
    return folder


@torch.no_grad()
def out(network: Network) -> torch.Tensor:
    rng = torch.Generator().manual_seed(5)
    x, picture = torch.randn((2, 2, 3, 16, 16), generator=rng)
    known = (torch.rand((2, 1, 16, 16), generator=rng) > 0.5).float()
    return network(x, torch.tensor([3, 700]), known, picture)


@KINDS
def test_before_training_an_adapted_network_computes_exactly_what_its_base_does(base, kind):
    network = adapted(base, kind).eval()
    assert torch.equal(out(network), out(catalog.load(base).unet))
    assert not torch.equal(out(trained(base, kind)), out(network))


@KINDS
def test_only_the_adapter_is_trained_and_it_reaches_every_layer_it_names(base, kind):
    network = adapted(base, kind)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():  # at zero B, nothing would reach A
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter += torch.randn(parameter.shape, generator=rng)
    x, known = torch.randn((1, 3, 16, 16), generator=rng), torch.ones(1, 1, 16, 16)
    network(x, torch.tensor([3]), known, x).square().sum().backward()
    moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None and parameter.grad.abs().max() > 0}
    assert moved == network.trained
    assert ("unet.conv_in.weight" in moved) == bool(kind.train_input)
    assert any("lora_A" in name for name in moved)


@KINDS
def test_merged_it_is_a_plain_network_that_computes_the_same(base, kind):
    network = trained(base, kind)
    plain = lora.merged(network)
    assert type(plain) is Network
    assert plain.state_dict().keys() == catalog.load(base).unet.state_dict().keys()
    difference = (out(plain) - out(network)).abs().max()
    assert difference <= 1e-5  # float32: (W + s B A) x against W x + s B (A x)
    assert out(plain).abs().max() > 0.1


@KINDS
def test_a_folder_of_it_loads_as_the_merged_network_by_name(base, tmp_path, kind):
    network = trained(base, kind)
    model = catalog.load(saved(tmp_path / "adapter", network))
    assert all(torch.equal(a, b) for a, b in zip(model.unet.parameters(), lora.merged(network).parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert torch.equal(model.schedule.alpha_bar, cosine().alpha_bar)
    assert model.sha256 != catalog.load(base).sha256


@KINDS
def test_a_folder_holds_the_adapter_alone_and_names_its_base(base, tmp_path, kind):
    folder = saved(tmp_path / "adapter", trained(base, kind))
    with safe_open(folder / lora.WEIGHTS, "pt") as file:
        names = set(file.keys())
        numbers = sum(file.get_tensor(name).numel() for name in names)
    inputs = {name for name in names if "conv_in" in name}
    assert all(".lora_A.weight" in name or ".lora_B.weight" in name for name in names - inputs)
    assert len(inputs) == (2 if kind.train_input else 0)
    assert numbers == sum(p.numel() for p in trained(base, kind).parameters() if p.requires_grad)
    assert (folder / lora.WEIGHTS).stat().st_size < 4 * numbers + 200 * len(names)
    said = json.loads((folder / lora.CONFIG).read_text())
    assert (said["base"], said["sha256"]) == (str(base), catalog.load(base).sha256)
    assert (said["lora"]["rank"], said["lora"]["alpha"]) == (2, 3.0)


@KINDS
def test_peft_itself_reads_the_folder_and_computes_the_same(base, tmp_path, kind):
    from diffusers import UNet2DModel
    from peft import PeftModel

    network = trained(base, kind)
    folder = saved(tmp_path / "adapter", network)
    theirs = PeftModel.from_pretrained(UNet2DModel.from_pretrained(base / "unet"), folder).eval()
    x = torch.randn((1, 9, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = network.unet(x, torch.tensor([3])).sample
        assert (theirs(x, torch.tensor([3])).sample - ours).abs().max() <= 1e-6  # the same sums in the same order


def test_the_adapter_of_a_widened_network_loads_onto_the_three_channel_base(tmp_path):
    base = tiny.folder(tmp_path / "base", tiny.network(None, prediction="eps", patch=2))
    model = catalog.load(base)
    wide = tiny.network(Condition(("mask", "x_t", "colors")), prediction="eps", patch=2)
    kind = replace(ATTENTION, train_input=True)
    network = Adapted(started(wide, model.unet), Adapter(str(base), model.sha256, kind, wide.config)).eval()
    with torch.no_grad():
        for name in network.trained:
            network.get_parameter(name).add_(0.1)
    loaded = catalog.load(saved(tmp_path / "adapter", network)).unet
    assert settings(loaded)["in_channels"] == 36
    assert (out(loaded) - out(network)).abs().max() <= 1e-5


def test_a_state_holds_the_adapter_alone_and_comes_back_to_the_bit(base):
    network = trained(base, CONVOLUTIONS)
    state = network.state_dict()
    assert set(state) == network.trained | {"digest"}
    fresh = adapted(base, CONVOLUTIONS, seed=1).eval()
    assert not torch.equal(out(fresh), out(network))
    fresh.load_state_dict(state)
    assert torch.equal(out(fresh), out(network))
    fresh.requires_grad_(False)  # as the averaged copies are
    assert set(fresh.state_dict()) == network.trained | {"digest"}


def test_a_state_is_not_loaded_onto_another_base(base, tmp_path):
    state = trained(base).state_dict()
    other = adapted(tiny.folder(tmp_path / "other", tiny.network(seed=1)))
    with pytest.raises(BadInput, match=f"other: another model than the run began with .sha256 {catalog.load(base).sha256[:12]}"):
        other.load_state_dict(state)


def test_an_adapter_is_refused_when_its_base_has_changed(base, tmp_path):
    folder = saved(tmp_path / "adapter", trained(base))
    tiny.folder(base, tiny.network(seed=1))
    with pytest.raises(BadInput, match=f"^{folder}: fits {base} as it was, not as it is"):
        catalog.load(folder)


def test_an_adapter_whose_base_is_missing_says_which(base, tmp_path):
    folder = saved(tmp_path / "adapter", trained(base))
    base.rename(tmp_path / "moved")
    with pytest.raises(BadInput, match=f"^{folder}: adapts {base}, which is not here; put that model there, or correct `base`"):
        catalog.load(folder)
    said = json.loads((folder / lora.CONFIG).read_text())
    (folder / lora.CONFIG).write_text(json.dumps(said | {"base": str(tmp_path / "moved")}))
    assert catalog.load(folder).unet.config == tiny.network().config


def test_an_adapter_never_makes_us_fetch_its_base(base, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: asked.append(k["local_files_only"]) or real(*a, **k))
    folder = saved(tmp_path / "adapter", trained(base))
    said = json.loads((folder / lora.CONFIG).read_text())
    (folder / lora.CONFIG).write_text(json.dumps(said | {"base": "nobody/has-this-model"}))
    with pytest.raises(BadInput, match="adapts nobody/has-this-model, which is not here"):
        catalog.load(folder)
    assert asked == [True]


def test_an_adapter_of_an_adapter_is_refused(base, tmp_path):
    folder = saved(tmp_path / "adapter", trained(base))
    said = json.loads((folder / lora.CONFIG).read_text())
    (folder / lora.CONFIG).write_text(json.dumps(said | {"base": str(folder)}))
    with pytest.raises(BadInput, match="an adapter itself; merge that with `inpaintkit models convert` first"):
        catalog.load(folder)


def test_a_damaged_bundled_adapter_is_refused_by_its_checksum(base, tmp_path, monkeypatch):
    folder = saved(tmp_path / "faces", trained(base))
    monkeypatch.setattr(catalog, "ASSETS", tmp_path)
    monkeypatch.setitem(catalog.MODELS, "faces", "an adapter")
    (tmp_path / "SHA256.json").write_text(json.dumps({"faces": sha256(folder / lora.WEIGHTS)}))
    assert catalog.load("faces").sha256 == sha256(folder / lora.WEIGHTS)
    (folder / lora.WEIGHTS).write_bytes((folder / lora.WEIGHTS).read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(BadInput, match="bundled weights are damaged"):
        catalog.load("faces")


def test_convert_writes_the_merged_model(base, tmp_path):
    network = trained(base, CONVOLUTIONS)
    catalog.convert(str(saved(tmp_path / "adapter", network)), tmp_path / "merged")
    assert torch.equal(out(load_folder(tmp_path / "merged")[0]), out(lora.merged(network)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rank": 4}, r"lora_A.weight has shape .2, 32., config.json asks for .4, 32."),
        ({"targets": ["to_q"]}, "unexpected"),
        ({"targets": ["to_x"]}, "'to_x' names no linear layer or convolution"),
        ({"train_input": True}, "missing base_model.model.conv_in"),
        ({"ranks": 4}, "no option 'lora.ranks'"),
    ],
)
def test_an_adapter_that_does_not_fit_its_config_is_refused(base, tmp_path, change, says):
    folder = saved(tmp_path / "adapter", trained(base))
    said = json.loads((folder / lora.CONFIG).read_text())
    said["lora"] |= change
    (folder / lora.CONFIG).write_text(json.dumps(said))
    with pytest.raises(BadInput, match=says) as error:
        catalog.load(folder)
    assert str(error.value).startswith(str(folder))


def test_peft_adapters_of_others_are_refused(base, tmp_path):
    folder = saved(tmp_path / "adapter", trained(base))
    (folder / lora.CONFIG).unlink()
    with pytest.raises(BadInput, match=r"an adapter without inpaintkit\.json, which says what it adapts"):
        catalog.load(folder)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (replace(ATTENTION, targets=("to_q", "nothing")), "'nothing' names no linear layer"),
        (replace(ATTENTION, targets=("norm1",)), "'norm1' names no linear layer"),
        (replace(CONVOLUTIONS, targets=("conv_in",)), "conv_in is trained in full already"),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused(base, kind, says):
    with pytest.raises(UsageError, match=says):
        adapted(base, kind)


@pytest.mark.slow
def test_the_bundled_model_is_adapted_with_at_most_a_twentieth_of_its_parameters():
    model = catalog.load("photo-64")
    whole = sum(parameter.numel() for parameter in model.network.parameters())
    wide = LoRA(targets=("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"), train_input=True)
    for kind, share in ((LoRA(), 0.0067), (wide, 0.0487)):
        network = Adapted(model.unet, Adapter("photo-64", model.sha256, kind, model.unet.config))
        count = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        assert count / whole == pytest.approx(share, abs=1e-4)
        model = catalog.load("photo-64")
