"""Model folders: written and read back exactly, readable by diffusers, and refused with one line when they are not what they say."""

import json
import pickle
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

import tiny
from inpaintkit.core.errors import BadInput, UsageError
from inpaintkit.core.schedule import SCHEDULES, cosine
from inpaintkit.data.images import Picture, to_picture
from inpaintkit.methods import METHODS
from inpaintkit.models import catalog
from inpaintkit.models.checkpoints import WEIGHTS, load_folder
from inpaintkit.models.unet import Condition, NetworkConfig
from inpaintkit.models.weights import sha256
from inpaintkit.pipeline.fill import Inpainter


@pytest.fixture
def folder(tmp_path):
    return tiny.folder(tmp_path / "model")


def edited(path: Path, drop: tuple[str, ...] = (), **values) -> None:
    """The JSON file with some values changed."""
    path.write_text(json.dumps({k: v for k, v in (json.loads(path.read_text()) | values).items() if k not in drop}))


def reweighted(folder: Path, change) -> None:
    """The weights file with its dict of tensors changed in place by `change`."""
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / "unet" / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / "unet" / WEIGHTS)


def half() -> tuple[Picture, np.ndarray]:
    return to_picture(np.zeros((16, 16, 3), np.float32))[0], np.eye(16, dtype=bool)


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as error:
        catalog.load(str(folder))
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(str(folder))
    assert error.value.exit_code == 3
    return line


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_a_saved_folder_comes_back_to_the_bit(tmp_path, schedule):
    made = tiny.network(Condition(("mask", "x_t", "colors"), 1, "known", "pushpull"), prediction="v", patch=2, clamp=False, size=48)
    folder = tiny.folder(tmp_path / "m", made, SCHEDULES[schedule](200))
    network, back, digest = load_folder(folder)
    assert network.config == made.config
    assert torch.equal(back.alpha_bar, SCHEDULES[schedule](200).alpha_bar)
    assert digest == sha256(folder / "unet" / WEIGHTS)
    weights = network.state_dict()
    assert weights.keys() == made.state_dict().keys()
    assert all(torch.equal(weights[key], value) for key, value in made.state_dict().items())
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_a_network_computes_the_same_bits_after_loading(tmp_path):
    made = tiny.network()
    args = torch.ones(1, 3, 16, 16), torch.tensor([7]), torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16)
    for dtype in (torch.float32, torch.bfloat16):  # laid out differently in the file
        made = made.to(dtype).float()
        assert torch.equal(load_folder(tiny.folder(tmp_path / str(dtype), made, dtype=dtype))[0](*args), made(*args))


def test_bfloat16_weights_are_read_as_float32(tmp_path):
    made = tiny.network()
    network, _, _ = load_folder(tiny.folder(tmp_path / "m", made, dtype=torch.bfloat16))
    for key, value in made.state_dict().items():
        assert torch.equal(network.state_dict()[key], value.bfloat16().float())
        assert network.state_dict()[key].dtype == torch.float32


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_diffusers_own_classes_read_the_folder(tmp_path, schedule):
    made = tiny.network(prediction="v", clamp=False)
    folder = tiny.folder(tmp_path / "m", made, SCHEDULES[schedule](1000))
    theirs = UNet2DModel.from_pretrained(folder, subfolder="unet")
    x, time_ = torch.randn(1, 9, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([7])
    assert all(torch.equal(theirs.state_dict()[key], value) for key, value in made.unet.state_dict().items())
    with torch.no_grad():  # their weights lie unaligned in memory, which costs the last bits
        assert (theirs(x, time_).sample - made.unet(x, time_).sample).abs().max() < 1e-5
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    assert (scheduler.config.prediction_type, scheduler.config.clip_sample) == ("v_prediction", False)
    ours = SCHEDULES[schedule](1000).alpha_bar[1:]  # they multiply 1000 float32 numbers, each rounded twice
    assert ((scheduler.alphas_cumprod - ours) / ours).abs().max() < 2000 * 2.0**-24


def test_a_plain_diffusers_folder_loads_as_an_unconditional_network(tmp_path):
    model = catalog.load(str(tiny.foreign(tmp_path / "ddpm", sample_size=32)))
    assert model.network.config.condition is None
    assert (model.network.config.prediction, model.network.config.size, model.network.config.clamp) == ("eps", 32, True)
    theirs = DDPMScheduler(num_train_timesteps=1000).alphas_cumprod
    assert ((model.schedule.alpha_bar[1:] - theirs) / theirs).abs().max() < 2000 * 2.0**-24


def test_a_folder_with_the_attention_names_of_2022_loads_as_diffusers_reads_it(tmp_path):
    folder = tiny.foreign(tmp_path / "ddpm")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for key, tensor in load_file(folder / WEIGHTS).items():
        for new, old in names.items():
            key = key.replace(f".{new}.", f".{old}.")
        tensors[key] = tensor
    assert any(".query." in key for key in tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    theirs = UNet2DModel.from_pretrained(folder).state_dict()
    ours = load_folder(folder)[0].unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_size_that_is_no_multiple_of_64_gives_a_window_the_network_can_take(tmp_path):
    network, _, _ = load_folder(tiny.foreign(tmp_path / "ddpm", sample_size=[100, 100]))
    assert (network.config.size, network.config.largest) == (100, 128)


def test_missing_weights_are_named(folder):
    (folder / "unet" / WEIGHTS).unlink()
    assert f"{WEIGHTS}: no such file; the folder is incomplete" in refusal(folder)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", WEIGHTS])
def test_a_pickle_is_refused_and_nothing_in_it_runs(folder, tmp_path, name):
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / name).write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    line = refusal(folder)
    assert "is a pickle and can hold code" in line or "not a complete safetensors file" in line
    assert not (tmp_path / "executed").exists()
    pickle.loads((folder / "unet" / name).read_bytes())
    assert (tmp_path / "executed").exists()  # it was a real one


def clear(tensors, key, value):
    tensors[key].view(-1)[3] = value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("conv_in.weight"), "1 tensors missing, 0 unexpected (missing conv_in.weight)"),
        (lambda t: t.update({"../../etc/passwd": torch.zeros(1)}), "0 tensors missing, 1 unexpected (unexpected ../../etc/passwd)"),
        (
            lambda t: t.update({"conv_in.weight": torch.zeros(16, 9, 5, 5)}),
            "conv_in.weight has shape (16, 9, 5, 5), config.json asks for (16, 9, 3, 3)",
        ),
        (lambda t: clear(t, "conv_out.weight", float("nan")), "conv_out.weight holds NaN or infinity"),
        (lambda t: clear(t, "conv_out.weight", float("inf")), "conv_out.weight holds NaN or infinity"),
        (lambda t: t.update({"conv_out.bias": torch.full((3,), 1e300, dtype=torch.float64)}), "conv_out.bias holds NaN or infinity"),
        (
            lambda t: t.update({"conv_out.bias": torch.zeros(3, dtype=torch.int32)}),
            "conv_out.bias is I32; floating-point weights are needed",
        ),
        (lambda t: t.update({"conv_out.bias": torch.zeros(3, dtype=torch.float8_e4m3fn)}), "conv_out.bias is F8_E4M3; floating-point"),
    ],
)
def test_weights_that_are_not_the_config_s_are_refused(folder, change, says):
    reweighted(folder, change)
    assert says in refusal(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_weights_file_is_refused(folder, keep):
    path = folder / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{WEIGHTS}: not a complete safetensors file" in refusal(folder)


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1, 2]", b'"x"', b"\xff\xfe\x00", b"[" * 100_000, b" " * ((1 << 20) + 1)])
@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json", "inpaintkit.json"])
def test_garbage_instead_of_json_is_refused(folder, name, garbage):
    (folder / name).write_bytes(garbage)
    assert refusal(folder).startswith(f"{folder / name}: ")


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("unet/config.json", {"depth": 3}, "UNet2DModel has no setting 'depth'"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel; only UNet2DModel networks can be read"),
        ("unet/config.json", {"_class_name": ["UNet2DModel"]}, "only UNet2DModel networks can be read"),
        ("unet/config.json", {"in_channels": 3}, "in_channels = 3, inpaintkit.json asks for 9"),
        ("unet/config.json", {"out_channels": 4}, "out_channels = 4, its pictures need 3, or 6 with a learned spread"),
        ("unet/config.json", {"num_class_embeds": 10}, "1 tensors missing, 0 unexpected (missing class_embedding.weight)"),
        ("unet/config.json", {"down_block_types": ["os.system", "DownBlock2D"]}, "no network can be built from it"),
        ("unet/config.json", {"norm_num_groups": 7}, "no network can be built from it"),
        ("unet/config.json", {"block_out_channels": "wide"}, "no network can be built from it"),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "epsilon"},
            "inpaintkit.json says the network predicts x0, the scheduler says eps",
        ),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "flow"},
            "prediction_type 'flow' is not known; use epsilon, sample, v_prediction",
        ),
        ("scheduler/scheduler_config.json", {"prediction_type": ["epsilon"]}, "prediction_type ['epsilon'] is not known"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "wavy"}, "beta_schedule 'wavy' is not known"),
        ("inpaintkit.json", {"prediction": "noise"}, "prediction = 'noise': input should be"),
        ("inpaintkit.json", {"predicts": "x0"}, "NetworkConfig has no option 'predicts'"),
        ("inpaintkit.json", {"condition": {"order": ["x_t", "sound"]}}, "condition.order.1 = 'sound'"),
        ("inpaintkit.json", {"condition": None}, "in_channels = 9"),
        ("inpaintkit.json", {"largest": 63}, "largest = 63 in inpaintkit.json must be a multiple of 2"),
        ("inpaintkit.json", {"size": 0}, "size = 0: input should be greater than or equal to 1"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(folder, name, values, says):
    edited(folder / name, **values)
    if values == {"condition": None}:
        edited(folder / name, condition=None)
        edited(folder / "unet" / "config.json", in_channels=9)
        with pytest.raises(BadInput, match="out_channels = 3, its pictures need 9"):
            catalog.load(str(folder))
    else:
        assert says in refusal(folder)


@pytest.mark.parametrize("size", ["large", {"side": 3}, [], -4, 1.5])
def test_a_foreign_size_that_is_no_number_is_refused(tmp_path, size):
    folder = tiny.foreign(tmp_path / "ddpm")
    edited(folder / "config.json", sample_size=size)
    if size == []:
        assert catalog.load(str(folder)).network.config.size == 64  # nothing said
    else:
        assert "size = " in refusal(folder)


@pytest.mark.parametrize(
    "values", [{"layers_per_block": 10**9}, {"block_out_channels": [2**20, 2**20]}, {"block_out_channels": [2**60, 2**62]}]
)
def test_a_config_that_asks_for_a_gigantic_network_costs_nothing(folder, values):
    edited(folder / "unet" / "config.json", **values)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    refusal(folder)
    assert time.perf_counter() - begin < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; one such layer would take terabytes


def test_a_latent_model_is_refused_before_its_network_is_mistaken_for_one_of_pictures(tmp_path):
    folder = tiny.foreign(tmp_path / "ldm")
    (folder / "vqvae").mkdir()
    assert "works on compressed pictures" in refusal(folder)


def test_a_folder_without_a_scheduler_is_refused(folder):
    (folder / "scheduler" / "scheduler_config.json").unlink()
    assert "no scheduler_config.json" in refusal(folder)


def test_an_unknown_name_is_refused_with_the_bundled_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"photo-46: no such model; bundled are photo-64"):
        catalog.load("photo-46")


def test_a_file_instead_of_a_folder_is_refused(folder):
    assert "is a file; give the model folder" in refusal(folder / "unet" / WEIGHTS)


def test_a_path_names_a_folder_as_well_as_text_does(folder):
    assert catalog.load(folder).name == str(folder)


def test_damaged_bundled_weights_are_refused_by_their_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "ASSETS", tmp_path)
    folder = tiny.folder(tmp_path / catalog.DEFAULT)
    (tmp_path / "SHA256.json").write_text(json.dumps({catalog.DEFAULT: sha256(folder / "unet" / WEIGHTS)}))
    assert catalog.load(catalog.DEFAULT).sha256 == sha256(folder / "unet" / WEIGHTS)
    reweighted(folder, lambda tensors: clear(tensors, "conv_in.weight", 0.5))
    with pytest.raises(BadInput, match="bundled weights are damaged"):
        catalog.load(catalog.DEFAULT)


@pytest.mark.parametrize("name", catalog.MODELS)
def test_a_bundled_model_is_whole_and_says_what_it_may_be_used_for(name):
    loaded = catalog.load(name)
    assert loaded.sha256 == json.loads((catalog.ASSETS / "SHA256.json").read_text())[name]
    card = (catalog.ASSETS / name / "README.md").read_text()
    assert all(f"**{part}" in card for part in ("Use", "Training", "Data and terms", "Figures", "Known failures"))
    assert name in (catalog.ASSETS / "LICENSE").read_text()


def test_all_that_is_bundled_is_at_most_32_megabytes():
    assert sum(file.stat().st_size for file in catalog.ASSETS.rglob("*") if file.is_file()) <= 32e6


def test_a_folder_is_written_so_that_an_interrupted_one_is_never_taken_for_whole(tmp_path, monkeypatch):
    from inpaintkit.models import checkpoints

    def fails(tensors):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "weights_bytes", fails)
    with pytest.raises(KeyboardInterrupt):
        tiny.folder(tmp_path / "m")
    assert "no such file; the folder is incomplete" in refusal(tmp_path / "m")


def test_the_config_round_trips_whatever_the_condition(tmp_path):
    for number, condition in enumerate([None, Condition(), Condition(("colors", "mask", "x_t"), 2)]):
        made = tiny.network(condition, spread=True, default_method={"name": "ddim", "walk": {"steps": 7}})
        network, schedule, _ = load_folder(tiny.folder(tmp_path / str(number), made, cosine(50)))
        assert network.config == made.config
        assert isinstance(network.config, NetworkConfig)
        assert schedule.T == 50


def test_weights_with_one_bit_changed_are_refused_by_the_checksum_in_their_file(folder):
    """Still a safetensors file, of the right shapes, finite: only the sum tells."""
    assert catalog.load(str(folder)).network is not None
    weights = folder / "unet" / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    weights.write_bytes(data)
    assert "damaged (the checksum of its values differs from the one in it)" in refusal(folder)


def test_a_network_that_overflows_is_the_models_fault_not_ours(folder):
    """Damaged or foreign weights may be finite and still too large."""
    reweighted(folder, lambda tensors: tensors["conv_out.weight"].fill_(3e38))
    with pytest.raises(BadInput, match=r"model: NaN or infinity came of .*its weights are damaged"):
        Inpainter.from_pretrained(str(folder), dtype="float32").fill(*half(), METHODS["plain"])
