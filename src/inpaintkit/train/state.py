"""Resumable training state: complete or absent, checked by sum, the newest whole one is used."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.core.files import write_bytes
from inpaintkit.models.checkpoints import sha256


def write(folder: Path, step: int, tensors: dict[str, Tensor], about: dict[str, Any], keep: int = 2) -> Path:
    """Write `folder/step-N`; its manifest, with the checksum, comes last. Keeps the `keep` newest."""
    place = folder / f"step-{step:07d}"
    place.mkdir(parents=True, exist_ok=True)
    write_bytes(place / "state.safetensors", save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))
    manifest = {"step": step, "sha256": sha256(place / "state.safetensors"), **about}
    write_bytes(place / "manifest.json", json.dumps(manifest, indent=1).encode())
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return place


def newest(folder: Path) -> tuple[tuple[dict[str, Tensor], dict[str, Any]] | None, list[str]]:
    """(tensors, manifest) of the newest complete state, if there is one, and warnings about damaged ones passed over."""
    warnings: list[str] = []
    for place in sorted(folder.glob("step-*"), reverse=True):
        try:
            manifest = json.loads((place / "manifest.json").read_text())
            if manifest["sha256"] != sha256(place / "state.safetensors"):
                raise ValueError("its checksum differs")
            return (load_file(place / "state.safetensors"), manifest), warnings
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.append(f"{place}: damaged or incomplete ({error}); passed over")
    return None, warnings


def refuse_other(manifest: dict[str, Any], about: dict[str, Any], folder: Path) -> None:
    """Raise `BadInput` listing the differences when the state belongs to another recipe or data set."""
    different = list(_differences(manifest, json.loads(json.dumps(about))))
    if different:
        listed = "; ".join(different)
        raise BadInput(f"{folder}: made by another run ({listed[:400]}); give another --out")


def _differences(there: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """One line for each value of `now` that is another one there, nested ones by their path."""
    for key, value in now.items():
        other = there.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differences(other, dict.fromkeys(other) | value, f"{prefix}{key}.")
        elif value != other:
            yield f"{prefix}{key} = {str(other)[:80]} there, {str(value)[:80]} now"


def flat_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of an Adam-like optimiser as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"opt.{index}.{key}": torch.as_tensor(value) for index, moments in state.items() for key, value in moments.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state = optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("opt."):
            _, index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
