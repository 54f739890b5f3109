"""Paired arrays: what is read, in which scale, what stays where, and with which words the rest is refused."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from inpaintkit.core.errors import BadInput, InpaintError, OverLimit
from inpaintkit.data.arrays import Arrays, read
from inpaintkit.data.npy import read_npy_mapped
from inpaintkit.data.picture import Limits
from inpaintkit.data.scale import Scale

N, H, W = 12, 6, 5
SIDECAR = {"units": "K", "mean": 280, "std": 5, "cond": {"mean": [280, 0], "std": [5, 1]}}


def fields(count: int = N, channels: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """target, cond (values where known, else 280; then a flag) and mask of `count` fields."""
    rng = np.random.default_rng(seed)
    target = rng.normal(280, 5, (count, H, W, channels)).astype(np.float32)
    mask = rng.random((count, H, W)) < 0.8
    mask[:, 0, 0], mask[:, 0, 1] = True, False
    cond = np.concatenate([np.where(mask[..., None], 280, target), ~mask[..., None]], -1).astype(np.float32)
    return {"target": target, "cond": cond, "mask": mask}


def folder(path: Path, arrays: dict[str, np.ndarray], sidecar: object = SIDECAR) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array, allow_pickle=True)
    if sidecar is not None:
        (path / "fields.json").write_text(sidecar if isinstance(sidecar, str) else json.dumps(sidecar))
    return path


def npz(path: Path, arrays: dict[str, np.ndarray], sidecar: object = SIDECAR) -> Path:
    np.savez_compressed(path, **arrays)
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def refusal(path: Path, kind: type[InpaintError] = BadInput, **options) -> str:
    with pytest.raises(kind) as error:
        read(path, **options)
    line = str(error.value)
    assert line.startswith(str(path)) or line.startswith(str(path.with_suffix("")))
    assert "\n" not in line
    assert "; " in line  # file: cause; what to do
    return line


@pytest.fixture(params=["folder", "npz", "compressed by columns"])
def arrays(request, tmp_path) -> Arrays:
    if request.param == "folder":
        return read(folder(tmp_path / "f", fields()))
    made = fields() if request.param == "npz" else {k: np.asfortranarray(v) for k, v in fields().items()}
    return read(npz(tmp_path / "f.npz", made))


def test_an_item_is_scaled_channels_first_and_units_bring_it_back(arrays):
    made = fields()
    assert len(arrays) == N
    assert arrays.channels == (1, 2)
    for i in (0, 7):
        target, cond, known = arrays.item(i)
        assert target.dtype == cond.dtype == known.dtype == torch.float32
        assert (target.shape, cond.shape, known.shape) == ((1, H, W), (2, H, W), (1, H, W))
        assert np.allclose(target[0].numpy(), (made["target"][i, ..., 0] - 280) / 5, atol=1e-6)
        assert np.array_equal(known[0].numpy() == 1, ~made["mask"][i])
        assert np.array_equal(cond[1].numpy() == 1, ~made["mask"][i])
        assert torch.equal((cond[:1] * known), (target * known))
        assert np.allclose(arrays.units(target)[0].numpy(), made["target"][i, ..., 0], rtol=1e-6)  # three float32 roundings


def test_a_batch_is_its_items_in_the_order_asked_for(arrays):
    batch = arrays.batch([5, 0, 5])
    for k, i in enumerate((5, 0, 5)):
        for one, many in zip(arrays.item(i), batch, strict=True):
            assert torch.equal(one, many[k])


def test_low_and_high_scale_to_minus_one_and_one_per_channel(tmp_path):
    made = {"target": np.array([[[[0, -10], [100, 10]]]], np.int16), "cond": np.zeros((1, 1, 2, 2), np.float64)}
    got = read(folder(tmp_path, made, {"low": [0, -10], "high": [100, 10]}))
    assert got.item(0)[0].tolist() == [[[-1, 1]], [[-1, 1]]]
    assert torch.equal(got.units(got.item(0)[0]), torch.tensor([[[0.0, 100]], [[-10, 10]]]))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "<i4", "|u1"])
def test_any_kind_of_number_and_byte_order_reads_alike(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 100, (4, H, W)).astype(dtype)
    got = read(folder(tmp_path, {"target": values, "cond": values}, {"mean": 50, "std": 10}))
    assert torch.allclose(got.item(3)[0][0], torch.from_numpy((values[3].astype(np.float32) - 50) / 10))


def test_without_a_mask_nothing_is_known_and_without_a_target_the_known_values_are_all_there_is(tmp_path):
    made = fields()
    unmasked = read(folder(tmp_path / "a", {k: made[k] for k in ("target", "cond")}))
    assert unmasked.item(0)[2].sum() == 0
    sent = read(folder(tmp_path / "b", {k: made[k] for k in ("mask", "cond")}), need_target=False)
    target, _, known = sent.item(2)
    assert torch.equal(target, unmasked.item(2)[0] * known)
    with pytest.raises(BadInput, match="holds no target"):
        sent.split()


def test_a_folder_is_mapped_and_not_read_into_memory(tmp_path):
    got = read(folder(tmp_path, fields()))
    assert isinstance(got.target, np.memmap)
    assert isinstance(got.cond, np.memmap)
    assert not got.target.flags.writeable


def contents(arrays: Arrays) -> set[bytes]:
    return {np.ascontiguousarray(arrays.target[i], "<f4").tobytes() for i in arrays.index}


def test_the_split_shares_all_items_out_and_adding_shuffling_or_another_format_moves_none(tmp_path):
    made = fields(400)
    order = np.random.default_rng(1).permutation(700)
    more = {k: np.concatenate([made[k], v])[order] for k, v in fields(300, seed=1).items()}
    parts = read(folder(tmp_path / "a", made)).split()
    more["target"] = more["target"].astype(">f8")
    later = read(npz(tmp_path / "b.npz", more)).split()
    assert sum(len(p) for p in parts) == 400
    assert sorted(i for p in parts for i in p.index) == list(range(400))
    for share, part, other in zip((0.75, 0.15, 0.10), parts, later, strict=True):
        assert abs(len(part) - 400 * share) < 4 * np.sqrt(400 * share * (1 - share))  # binomial
        assert contents(part) == contents(other) & {t.tobytes() for t in made["target"]}
        assert torch.equal(part.item(1)[0], read(tmp_path / "a").item(int(part.index[1]))[0])


def changed(key: str, value: object) -> dict[str, np.ndarray]:
    return fields() | {key: value(fields()[key]) if callable(value) else value}


def put(index: tuple[int, ...], value: float):
    def at(array: np.ndarray) -> np.ndarray:
        array[index] = value
        return array

    return at


BAD_ARRAYS = {
    "target.npy holds 11 items of 6x5 and cond.npy 12 items of 6x5": changed("target", lambda a: a[:11]),
    "target.npy holds 12 items of 5x6 and cond.npy 12 items of 6x5": changed("target", lambda a: a.transpose(0, 2, 1, 3)),
    "mask.npy holds 12 items of 6x4": changed("mask", lambda a: a[:, :, :4]),
    "target.npy: has shape (12, 30)": changed("target", lambda a: a.reshape(12, 30)),
    "cond.npy: has shape (1, 12, 6, 5, 2)": changed("cond", lambda a: a[None]),
    "mask.npy: has shape (6, 5)": changed("mask", lambda a: a[0]),
    "target.npy: holds nan (item 7, row 2, column 3, channel 0)": changed("target", put((7, 2, 3, 0), np.nan)),
    "cond.npy: holds -inf (item 0, row 0, column 0, channel 1)": changed("cond", put((0, 0, 0, 1), -np.inf)),
    "target.npy: holds 1e+300 (item 3, row 0": changed("target", lambda a: put((3, 0, 0, 0), 1e300)(a.astype(np.float64))),
    "mask.npy: item 4 covers nothing": changed("mask", put((4,), False)),
    "mask.npy: item 5 covers everything": changed("mask", put((5,), True)),
    "mask.npy: item 2 holds 255": changed("mask", lambda a: put((2, 0, 0), 255)(a.astype(np.uint8))),
    "item 0, row 0, column 0 is known by the mask, but cond and target differ": changed("mask", lambda a: ~a),
    "holds complex64 values": changed("target", lambda a: a.astype(np.complex64)),
    "holds <U3 values": changed("cond", np.full((N, H, W), "abc")),
    "holds no values (shape (0, 6, 5))": changed("target", np.zeros((0, H, W))),
    "holds no target.npy": {k: v for k, v in fields().items() if k != "target"},
    "holds no cond.npy": {k: v for k, v in fields().items() if k != "cond"},
}


@pytest.mark.parametrize("form", [folder, npz])
@pytest.mark.parametrize("words", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused_naming_array_and_item(tmp_path, words, form):
    assert words in refusal(form(tmp_path / "f.npz", BAD_ARRAYS[words]))


def test_the_item_is_named_by_its_number_among_all_in_a_later_block_too(tmp_path, monkeypatch):
    monkeypatch.setattr("inpaintkit.data.arrays.BLOCK", 2 * H * W)
    assert "item 7," in refusal(folder(tmp_path / "a", changed("target", put((7, 2, 3, 0), np.nan))))
    assert "item 5 covers everything" in refusal(folder(tmp_path / "b", changed("mask", put((5,), True))))
    wrong = fields()
    wrong["cond"][9][~wrong["mask"][9]] += 1
    assert "item 9," in refusal(folder(tmp_path / "c", wrong))


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/inpaintkit-was-unpickled"),))


@pytest.mark.parametrize("form", [folder, npz])
def test_objects_are_refused_and_never_unpickled(tmp_path, form):
    mark = Path("/tmp/inpaintkit-was-unpickled")
    mark.unlink(missing_ok=True)
    assert "holds object values" in refusal(form(tmp_path / "f.npz", changed("target", np.array([Trap()] * N, object))))
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "target.npy").write_bytes(pickle.dumps(Trap()))
    assert "not a .npy file, or damaged" in refusal(tmp_path / "p")
    assert not mark.exists()


def declaring(shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize("shape", ["(100000, 1000, 1000)", "(12, 6)", "(12, -6, 5)"])
@pytest.mark.parametrize("form", [folder, npz])
def test_a_header_that_declares_another_size_is_refused_before_anything_is_allocated(tmp_path, shape, form):
    path = form(tmp_path / "f.npz", fields())
    if form is folder:
        (path / "target.npy").write_bytes(declaring(shape, b"1234"))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("target.npy", declaring(shape, b"1234"))
    assert "of values and the file holds 4" in refusal(path)


@pytest.mark.parametrize("damage", [b"", b"not an array", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + b" " * 100])
def test_other_files_are_refused(tmp_path, damage):
    path = folder(tmp_path / "f", fields())
    (path / "cond.npy").write_bytes(damage)
    assert "cond.npy: not a .npy file, or damaged" in refusal(path)
    (tmp_path / "x.npz").write_bytes(damage)
    assert "not an .npz file, or damaged" in refusal(tmp_path / "x.npz")


def test_a_truncated_array_or_archive_is_refused(tmp_path):
    path = folder(tmp_path / "f", fields())
    (path / "cond.npy").write_bytes((path / "cond.npy").read_bytes()[:-4])
    assert "declares 2,880 bytes of values and the file holds 2,876" in refusal(path)
    whole = npz(tmp_path / "x.npz", fields())
    data = bytearray(whole.read_bytes())
    data[200] ^= 255  # inside the packed values: the checksum differs
    whole.write_bytes(data)
    assert "not an .npz file, or damaged" in refusal(whole)


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused_from_its_directory(tmp_path):
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((1000, 40, 40)))
    path = npz(tmp_path / "f.npz", fields())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("target.npy", zeros.getvalue())
        archive.writestr("cond.npy", zeros.getvalue())
    assert "take 25,600,256 bytes, more than the limit of 20,000,000" in refusal(path, OverLimit, limits=Limits(max_bytes=20_000_000))


def test_paths_that_hold_no_arrays_are_refused(tmp_path):
    assert "no such folder or .npz file" in refusal(tmp_path / "nowhere")
    assert "holds no target.npy" in refusal(tmp_path)
    (tmp_path / "deep" / "target.npy").mkdir(parents=True)
    assert "target.npy: no such file" in refusal(tmp_path / "deep")
    assert read_npy_mapped(folder(tmp_path / "f", fields()) / "mask.npy").shape == (N, H, W)


BAD_SIDECARS = {
    'perhaps {"mean": [27': None,  # a file that would fit is suggested
    "not a JSON object": "{",
    "no { at its beginning": "[1]",
    "holds no scale for target": {"units": "K"},
    "holds no scale for cond": {"mean": 0, "std": 1, "cond": {}},
    '"cond" is no object': {"mean": 0, "std": 1, "cond": 3},
    '"mean" of target has 2 numbers for 1 channels': SIDECAR | {"mean": [1, 2]},
    '"std" of cond has 1 numbers for 2 channels': SIDECAR | {"cond": {"mean": 0, "std": [1]}},
    '"std" of target must be above 0': SIDECAR | {"std": 0},
    '"high" of cond must be above low': SIDECAR | {"cond": {"low": 1, "high": [2, 1]}},
    "\"mean\" of target holds ['280']": SIDECAR | {"mean": "280"},
    '"std" of target holds [nan]': SIDECAR | {"std": float("nan")},
}


@pytest.mark.parametrize("words", BAD_SIDECARS)
def test_a_sidecar_that_does_not_state_the_scale_is_refused(tmp_path, words):
    line = refusal(folder(tmp_path, fields(), BAD_SIDECARS[words]))
    assert line.startswith(f"{tmp_path}/fields.json: ")
    assert words in line


def test_the_suggested_sidecar_works(tmp_path):
    line = refusal(folder(tmp_path, fields(), None))
    (tmp_path / "fields.json").write_text(line.split("perhaps ")[1])
    values = torch.stack([read(tmp_path).item(i)[0] for i in range(N)])
    assert abs(values.mean()) < 1e-3  # six digits of a mean of 280 are off by 0.0005, a ten-thousandth of the std of 5
    assert abs(values.std() - 1) < 0.01


def test_units_keep_their_place_for_any_leading_axes():
    scale = Scale((1.0, 2.0), (3.0, 4.0))
    samples = torch.zeros(7, 5, 2, 3, 3)
    assert scale.units(samples)[0, 0, :, 0, 0].tolist() == [1, 2]
