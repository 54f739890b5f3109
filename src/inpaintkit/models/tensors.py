"""Tensors out of one file of unknown origin: safetensors, or what `torch.save` writes, told apart by their content.

A pickle is only ever read with `weights_only=True`, which calls no function the file names; there is no second attempt.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from inpaintkit.core.errors import BadInput

FLOATS = ("F16", "BF16", "F32", "F64")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COUNTER = "num_batches_tracked"
"""How the names of batch norm's counters end; they are whole numbers that only training reads, and older files have none."""


def read_tensors(path: Path, leave_out: str | None = None) -> dict[str, Tensor]:
    """Name -> tensor on the CPU, as stored (memory-mapped where the format allows it): dense, floating-point, values unchecked.

    Entries whose names end in `leave_out` are not looked at. Raises `BadInput`, one line, for any other file or content.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8:
        return _safetensors(path, leave_out)
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return _pickle(path, head[:1] == b"P", leave_out)
    raise BadInput(f"{path}: neither a safetensors file nor one that torch.save wrote; name one of these, or download it again")


def _safetensors(path: Path, leave_out: str | None) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if not _left_out(key, leave_out)]  # noqa: SIM118 (not a dict)
            for key in keys:
                if (kind := file.get_slice(key).get_dtype()) not in FLOATS:
                    raise BadInput(f"{path}: {key[:80]} is {kind}; floating-point weights are needed")
            return {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path}: not a complete safetensors file ({error}); get it again") from None


def _pickle(path: Path, zipped: bool, leave_out: str | None) -> dict[str, Tensor]:
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise BadInput(f"{path}: a compressed archive, which torch.save never writes; unpack it first")
        mapped = zipped and path.suffix != ".safetensors"  # torch takes that suffix, but not content, at its word
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # a foreign pickle makes the reader raise whatever its parts raise
        raise BadInput(f"{path}: {_reason(str(error))}") from None
    if not isinstance(loaded, Mapping):
        raise BadInput(f"{path}: holds a {type(loaded).__name__}, not the named tensors of a network (a state dict)")
    loaded = {key: tensor for key, tensor in loaded.items() if not _left_out(key, leave_out)}
    for key, tensor in loaded.items():
        if fault := _fault(key, tensor):
            raise BadInput(f"{path}: {str(key)[:80]} {fault}")
    return {key: tensor.detach() for key, tensor in loaded.items()}


def _left_out(key: object, ending: str | None) -> bool:
    return ending is not None and isinstance(key, str) and key.endswith(ending)


def _reason(error: str) -> str:
    if found := re.search(r"GLOBAL (\S{1,80}) was not an allowed", error):
        return f"holds {found[1]} beside tensors, which can run code, so it is not read; save the network's state dict alone"
    first = (error.splitlines() or ["unreadable"])[0][:120]
    return f"torch cannot read it without running code from it ({first}); get it again, or save the network's state dict alone"


def _fault(key: object, tensor: object) -> str | None:
    """Why an entry cannot be a weight, or None."""
    if not isinstance(key, str) or not isinstance(tensor, Tensor):
        return f"is a {type(tensor).__name__}, not a tensor; the state dict of the network alone is needed"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return "is not a dense tensor; only dense ones can be weights"
    if tensor.dtype not in DTYPES:
        return f"is {str(tensor.dtype).removeprefix('torch.')}; floating-point weights are needed"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "claims more numbers than the file holds; only dense tensors can be weights"
    return None


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight, batch norm's counters left out."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)}


def fit(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights whose names and shapes are exactly those of the network. Raises `BadInput`."""
    given, needed = shapes(tensors), shapes(network.state_dict())
    if given != needed:
        wrong = next(iter(sorted(needed.items() ^ given.items())))[0]
        raise BadInput(f"{path}: holds other weights than expected (first at {wrong}); get the file again")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise BadInput(f"{path}: holds NaN or infinity; get the file again")
    network.load_state_dict({key: tensors[key].float() for key in needed}, strict=False)
