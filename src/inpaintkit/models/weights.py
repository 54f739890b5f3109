"""Files of weights: safetensors with the checksum of their own values, read strictly. Nothing in them is ever executed."""

import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from inpaintkit.core.errors import BadInput
from inpaintkit.models.tensors import FLOATS

SUM = "values_sha256"  # in a file's metadata: of all that follows its header
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # attention, in folders written before 2023


def weights_bytes(tensors: dict[str, Tensor]) -> bytes:
    """A safetensors file with the checksum of its own values, which `read_weights` compares."""
    plain = safetensors_bytes(tensors)
    values = memoryview(plain)[(begin := 8 + int.from_bytes(plain[:8], "little")) :]
    about = {"__metadata__": {"format": "pt", SUM: hashlib.sha256(values).hexdigest()}}  # their own writer puts it in any order
    header = json.dumps(about | json.loads(plain[8:begin]), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + values


def read_weights(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a safetensors file as float32, when exactly those expected, with their shapes, finite, and with the checksum
    that the file itself names, if it does."""
    if not path.is_file():
        pickled = sorted(p.name for p in path.parent.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        how = "write it anew with diffusers: UNet2DModel.from_pretrained(FOLDER).save_pretrained(NEW)"
        hint = f"{pickled[0]} is a pickle and can hold code; {how}" if pickled else "the folder is incomplete"
        raise BadInput(f"{path}: no such file; {hint}")
    try:
        with safe_open(path, "pt") as file:
            stored = {_renamed(key): key for key in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {key: tuple(file.get_slice(name).get_shape()) for key, name in stored.items()}
            _compare(path, shapes, {key: tuple(tensor.shape) for key, tensor in expected.items()})
            if (file.metadata() or {}).get(SUM, digest := _values_sha256(path)) != digest:
                raise BadInput(f"{path}: damaged (the checksum of its values differs from the one in it); copy it again, or train it anew")
            for key, name in stored.items():
                if (kind := file.get_slice(name).get_dtype()) not in FLOATS:
                    raise BadInput(f"{path}: {key[:80]} is {kind}; floating-point weights are needed")
            # copied: in the file's memory map they lie unaligned, which changes the last bits of what kernels compute
            tensors = {key: file.get_tensor(name).to(torch.float32, copy=True) for key, name in stored.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path}: not a complete safetensors file ({error}); get it again") from None
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{path}: {key[:80]} holds NaN or infinity; the training that made it failed")
    return tensors


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _values_sha256(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(int.from_bytes(file.read(8), "little"), os.SEEK_CUR)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    missing, surplus = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or surplus:
        example = f"missing {missing[0]}" if missing else f"unexpected {surplus[0][:80]}"
        counts = f"{len(missing)} tensors missing, {len(surplus)} unexpected"
        raise BadInput(f"{path}: does not fit its config.json: {counts} ({example}); weights and config are of different models")
    for key, shape in expected.items():
        if found[key] != shape:
            raise BadInput(f"{path}: {key} has shape {found[key]}, config.json asks for {shape}; they are of different models")


def _renamed(key: str) -> str:
    return re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{RENAMED[m[2]]}.", key)
