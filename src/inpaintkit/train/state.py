"""Resumable training state: complete or absent, checked by sum, the newest whole one is used.

folder/step-N/state.safetensors, about.json (recipe, data, items, machine), SHA256SUMS (of both, written last),
figures.json (validation, once it is known)
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput
from inpaintkit.core.files import room, write_bytes, writing_folder
from inpaintkit.models.weights import sha256

STATE, ABOUT, SUMS, FIGURES = "state.safetensors", "about.json", "SHA256SUMS", "figures.json"


def write(folder: Path, step: int, tensors: dict[str, Tensor], about: dict[str, Any], keep: int = 2, damaged: Sequence[Path] = ()) -> Path:
    """Write `folder/step-N`, then drop those that are `damaged`, and all but the `keep` newest and the best one.

    A complete state of that step is left as it is: the step number says everything. Raises `NotWritable`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"step-{step:07d}"
    if place.exists() and damage(place):
        _remove(place)
    if not place.exists():
        with room(folder, lambda: sum(tensor.nbytes for tensor in tensors.values())), writing_folder(place) as temporary:
            _write_tensors(temporary / STATE, {k: v.detach().cpu().contiguous() for k, v in tensors.items()})
            write_bytes(temporary / ABOUT, json.dumps(about, indent=1).encode())
            shutil.copymode(temporary / ABOUT, temporary / STATE)  # safetensors' is its owner's alone
            sums = "".join(f"{sha256(temporary / name)}  {name}\n" for name in (STATE, ABOUT))
            write_bytes(temporary / SUMS, sums.encode())
    for number, other in numbered(folder):
        if other != place and (number > step or other in damaged):  # passed over when the run was resumed
            _remove(other)
    _prune(folder, keep)
    return place


def judge(place: Path, figures: dict[str, float], keep: int = 2) -> None:
    """Note the validation figures of a state; the first decides which state is best (lower is better)."""
    write_bytes(place / FIGURES, json.dumps(figures).encode())
    _prune(place.parent, keep)


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """The states in a folder, complete or not, by step."""
    places = folder.iterdir() if folder.is_dir() else ()
    return sorted((int(place.name[5:]), place) for place in places if re.fullmatch(r"step-\d+", place.name))


def damage(place: Path) -> str | None:
    """What is wrong with a state, None when it is complete and its sums are right."""
    try:
        lines = (place / SUMS).read_text().splitlines()
        sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
        return next((f"the checksum of {name} differs" for name in (STATE, ABOUT) if sums.get(name) != sha256(place / name)), None)
    except OSError as error:
        return f"{Path(error.filename).name}: {error.strerror}"
    except ValueError:
        return f"{SUMS} cannot be read"


def newest(folder: Path) -> tuple[tuple[int, dict[str, Tensor], dict[str, Any]] | None, dict[Path, str]]:
    """(step, tensors, about) of the newest complete state, if there is one, and newer ones with what is wrong with them. A folder
    that is a state itself is the only one.

    The tensors lie in the file's memory map: copy them. Raises `BadInput` when there are states and all are damaged: to begin anew
    there would remove them.
    """
    damaged: dict[Path, str] = {}
    alone = re.fullmatch(r"step-(\d+)", folder.resolve().name) if (folder / SUMS).exists() else None
    for step, place in [(int(alone[1]), folder)] if alone else reversed(numbered(folder)):
        if not (wrong := damage(place)):
            return (step, load_file(place / STATE), json.loads((place / ABOUT).read_text())), damaged
        damaged[place] = wrong
    for place, wrong in damaged.items():  # the newest
        also, how = ", as all older ones are" if len(damaged) > 1 else "", "put a copy of a state back, or train anew with another --out"
        raise BadInput(f"{place}: damaged or incomplete ({wrong}){also}; {how}")
    return None, {}


def refuse_other(about: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise `BadInput` listing the differences when a state belongs to another recipe or other data."""
    if different := list(differences(about, json.loads(json.dumps(now)))):
        raise BadInput(f"{folder}: made by another run ({'; '.join(different)}); give another --out")


def differences(there: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """One line for each value of `now` that is another one there, nested ones by their path."""
    for key, value in now.items():
        other = there.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from differences(other, dict.fromkeys(other) | value, f"{prefix}{key}.")
        elif value != other:
            yield f"{prefix}{key} = {str(other)[:80]} there, {str(value)[:80]} now"


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of an Adam-like optimiser as named tensors, `INDEX.KEY`."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, values in state.items() for key, value in values.items()}


def restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put copies of the named moments back, laid out in memory as the parameters: torch's fused optimiser takes that for granted."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".")
        parameter = parameters[int(index)]
        like = torch.empty_like(parameter) if tensor.shape == parameter.shape else torch.empty_like(tensor)
        state.setdefault(int(index), {})[key] = like.detach().copy_(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _prune(folder: Path, keep: int) -> None:
    places = [place for _, place in numbered(folder)]
    best = _best(places)
    for old in places[:-keep]:
        if old != best:
            _remove(old)


def _best(places: list[Path]) -> Path | None:
    """The state with the lowest figure."""
    figures: dict[Path, float] = {}
    for place in places:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, StopIteration):
            figures[place] = float(next(iter(json.loads((place / FIGURES).read_text()).values())))
    return min(figures, key=lambda place: figures[place]) if figures else None


def _remove(place: Path) -> None:
    """Renamed first, so that one half removed is never taken for a state."""
    going = place.with_name(f".{place.name}.removing.part")
    os.rename(place, going)
    shutil.rmtree(going)


def digest(network: nn.Module) -> str:
    """Of the weights of a network that is only read: a file of the same name may hold others."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()
