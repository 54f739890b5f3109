"""`inpaintkit models`: what is there, whether it is whole, and folders out of checkpoints from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.models import catalog, damage
from inpaintkit.models.control import ControlConfig
from inpaintkit.models.unet import NetworkConfig, classes


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """The bundled models, one per line."""


@dataclass(frozen=True, kw_only=True)
class Info(Command):
    """What a model is: network, schedule, default method, checksum, model card."""

    name: tyro.conf.Positional[str]
    """A bundled model, a model folder, a hub id, or a published file."""


@dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Read a model completely and strictly: configuration, every tensor's name, shape and values, checksum if bundled."""

    path: tyro.conf.Positional[str]
    """A model folder, a bundled model, or a hub id."""


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Make a model folder of a checkpoint of guided-diffusion or improved-diffusion, or of a hub id.

    What the weights cannot say about the network is known for the published files by their names; for any other file
    give --config.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A .pt file with torch.save's state dict, a .safetensors file with the same keys, a model folder, or a hub id."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The folder to be made; it must not exist yet."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")] = None
    """JSON object with guided-diffusion's argument names: image_size, num_head_channels (or num_heads),
    use_new_attention_order, noise_schedule, diffusion_steps; the others are compared with the weights."""


Models = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
)


def run(argv: Sequence[str]) -> None:
    args = parse(Models, argv, "inpaintkit models")
    if isinstance(args, List):
        for name, about in (catalog.MODELS | catalog.DETECTORS).items():
            there = "" if (catalog.ASSETS / name).is_dir() else " (not in this installation)"
            print(f"{name:<12} {about}{there}")
    elif isinstance(args, Info):
        _info(args.name)
    elif isinstance(args, Convert):
        catalog.convert(args.source, args.folder, args.config)
        print(args.folder)
    else:
        model = damage.load(args.path) if damage.is_detector(args.path) else catalog.load(args.path)
        count = sum(p.numel() for p in model.network.parameters())
        print(f"{args.path}: complete; {count:,} parameters, all finite; sha256 {model.sha256}")


def _told(config: NetworkConfig | ControlConfig) -> str:
    if isinstance(config, ControlConfig):
        units = f" of fields in {config.units.name or 'their units'}" if config.units else ""
        return f"by a control encoder: {config.condition}, {config.cond_channels} channels{units}"
    return f"{', '.join(config.condition.order)}; {config.condition.fill} inside the hole" if config.condition else ""


def _info(name: str) -> None:
    if damage.is_detector(name):
        _show(_detector(damage.load(name)), name)
        return
    model = catalog.load(name)
    config = model.network.config
    told = "no" if config.condition is None else f"yes ({_told(config)})"
    rows: dict[str, object] = {
        "model": name,
        "folder": catalog.locate(name),
        "sha256": model.sha256,
        **({"adapts": model.base} if model.base else {}),
        "parameters": f"{sum(p.numel() for p in model.network.parameters()):,}",
        "predicts": config.prediction,
        "told the hole": told,
        "trained at": f"{config.size} px; run in windows up to {config.largest} px",
        "classes": classes(model.network) or "none",
        "noise levels": f"{model.schedule.T}, {model.schedule.config.get('beta_schedule', 'its own betas')}",
        "default method": " ".join(str(v) if k == "name" else f"{k}={v}" for k, v in config.default_method.items()),
    }
    _show(rows, name)


def _detector(detector: damage.Detector) -> dict[str, object]:
    config = detector.network.config
    return {
        "model": detector.name,
        "folder": catalog.locate(detector.name),
        "sha256": detector.sha256,
        "parameters": f"{sum(p.numel() for p in detector.network.parameters()):,}",
        "finds": f"damage, where its likelihood is above {config.threshold:g}",
    }


def _show(rows: dict[str, object], name: str) -> None:
    for key, value in rows.items():
        print(f"{key:<15} {value}")
    card = catalog.locate(name) / "README.md"
    if card.is_file():
        with card.open(encoding="utf-8", errors="replace") as file:
            print("\n" + file.read(1 << 16).strip())
