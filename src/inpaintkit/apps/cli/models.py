"""`inpaintkit models`: what is there, and whether it is whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from inpaintkit.apps.cli.parsing import Command, parse
from inpaintkit.models import catalog


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """The bundled models, one per line."""


@dataclass(frozen=True, kw_only=True)
class Info(Command):
    """What a model is: network, schedule, default method, checksum, model card."""

    name: tyro.conf.Positional[str]
    """A bundled model, a model folder, or a hub id."""


@dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Read a model completely and strictly: configuration, every tensor's name, shape and values, checksum if bundled."""

    path: tyro.conf.Positional[str]
    """A model folder, a bundled model, or a hub id."""


Models = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Check, tyro.conf.subcommand("check")]
)


def run(argv: Sequence[str]) -> None:
    args = parse(Models, argv, "inpaintkit models")
    if isinstance(args, List):
        for name, about in catalog.MODELS.items():
            there = "" if (catalog.ASSETS / name).is_dir() else " (not in this installation)"
            print(f"{name:<12} {about}{there}")
    elif isinstance(args, Info):
        _info(args.name)
    else:
        model = catalog.load(args.path)
        count = sum(p.numel() for p in model.network.parameters())
        print(f"{args.path}: complete; {count:,} parameters, all finite; sha256 {model.sha256}")


def _info(name: str) -> None:
    model = catalog.load(name)
    config = model.network.config
    told = "no" if config.condition is None else f"yes ({', '.join(config.condition.order)}; {config.condition.fill} inside the hole)"
    rows = {
        "model": name,
        "folder": catalog.locate(name),
        "sha256": model.sha256,
        "parameters": f"{sum(p.numel() for p in model.network.parameters()):,}",
        "predicts": config.prediction,
        "told the hole": told,
        "trained at": f"{config.size} px; run in windows up to {config.largest} px",
        "noise levels": f"{model.schedule.T}, {model.schedule.config.get('beta_schedule', 'its own betas')}",
        "default method": " ".join(str(v) if k == "name" else f"{k}={v}" for k, v in config.default_method.items()),
    }
    for key, value in rows.items():
        print(f"{key:<15} {value}")
    card = catalog.locate(name) / "README.md"
    if card.is_file():
        with card.open(encoding="utf-8", errors="replace") as file:
            print("\n" + file.read(1 << 16).strip())
