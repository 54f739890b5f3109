"""Arrays in .npy and .npz files: the header is compared with the file before anything is allocated, nothing is unpickled."""

import io
import zipfile
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from inpaintkit.core.errors import BadInput, OverLimit
from inpaintkit.data.decoding import DAMAGE, one_line, printable
from inpaintkit.data.picture import Limits


def npy_header(file: BinaryIO, size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, is Fortran order, dtype) of a .npy file of `size` bytes; `file` is left where the values begin.

    Nothing is allocated. Raises `BadInput`: another or damaged format, objects (they execute code), structures, text,
    complex numbers, or a header that declares another size than the file has.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f".npy version {version}")
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = parse(file, max_header_size=10_000)
    except DAMAGE as error:
        raise BadInput(f"{name}: not a .npy file, or damaged ({one_line(error)}); save it again with numpy.save") from None
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadInput(f"{name}: holds {dtype} values; save bool, integer or float numbers")
    needed, there = prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=1) < 0 or needed != there:
        raise BadInput(f"{name}: its header declares {needed:,} bytes of values and the file holds {there:,}; save it again")
    if not needed:
        raise BadInput(f"{name}: holds no values (shape {shape}); save at least one item")
    return shape, fortran, dtype


def read_npy_mapped(path: Path) -> NDArray:
    """The array of a .npy file, read-only and memory-mapped. Raises `BadInput` as `npy_header`."""
    name = printable(str(path))
    if not path.is_file():  # a pipe would keep us waiting
        raise BadInput(f"{name}: no such file; check the path")
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = npy_header(file, path.stat().st_size, name)
            return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    except OSError as error:
        raise BadInput(f"{name}: cannot be read ({one_line(error)}); check the path and its permissions") from None


def read_folder(path: Path, names: Sequence[str]) -> dict[str, NDArray]:
    """The arrays NAME.npy of a folder that are there, memory-mapped. Raises `BadInput` as `npy_header`."""
    return {name: read_npy_mapped(path / f"{name}.npy") for name in names if (path / f"{name}.npy").exists()}


def read_npz(path: Path, names: Sequence[str], limits: Limits) -> dict[str, NDArray]:
    """The arrays of these names that an .npz file holds, read-only, in memory; other members are not touched.

    Raises `BadInput` as `npy_header`, and `OverLimit` when they take more than `limits.max_bytes` together.
    """
    name = printable(str(path))
    if not path.is_file():
        raise BadInput(f"{name}: no such folder or .npz file; check the path")
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename: m for m in archive.infolist() if m.filename in [f"{n}.npy" for n in names]}
            if (total := sum(member.file_size for member in members.values())) > limits.max_bytes:
                cause = f"its arrays take {total:,} bytes, more than the limit of {limits.max_bytes:,}"
                raise OverLimit(f"{name}: {cause}; save them as .npy files in a folder, or pass --max-bytes {total}")
            for key, member in members.items():
                with archive.open(member) as file:  # the header first: a wrong one is refused before the values are unpacked
                    head = io.BytesIO(file.read(12_000))
                shape, fortran, dtype = npy_header(head, member.file_size, f"{name}: {key}")
                data = archive.read(member)
                values = np.frombuffer(data, dtype, offset=head.tell()).reshape(shape, order="F" if fortran else "C")
                found[key.removesuffix(".npy")] = values
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise BadInput(f"{name}: not an .npz file, or damaged ({one_line(error)}); save it again with numpy.savez") from None
    return found
