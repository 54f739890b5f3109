"""Loading pictures: layouts of the field, a limit that stays the same, the policy for bad files, orientation and depth, memory."""

import gzip
import io
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaintkit.core import memory
from inpaintkit.core.errors import BadInput, OverLimit, UsageError
from inpaintkit.data.datasets import Pictures, Source, load
from inpaintkit.data.picture import Limits


def noise(seed: int, h: int = 40, w: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def write(path: Path, seed: int = 0, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path, **more)
    return path


def tarred(folder: Path, path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            tar.add(file, str(file.relative_to(folder)))
    return path


def read(*paths: Path, **more) -> Pictures:
    return load([(path, 1.0) for path in paths], {}, **more)


def refusal(kind: type, *args, **more) -> str:
    with pytest.raises(kind) as error:
        read(*args, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_celeba_hq_is_read_flat_and_without_its_label_pictures(tmp_path):
    for i in range(4):
        write(tmp_path / "CelebA-HQ-img" / f"{i}.jpg", i)
        write(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / f"{i:05d}_hair.png", 9)
    (tmp_path / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx")
    for found in (read(tmp_path), read(tarred(tmp_path, tmp_path / "c.tar"))):
        assert found.names == [f"CelebA-HQ-img/{i}.jpg" for i in range(4)]
    assert read(tmp_path / "CelebA-HQ-img").names == [f"{i}.jpg" for i in range(4)]


def test_places365_is_read_by_category_and_not_at_two_sizes(tmp_path):
    for name in ("a/abbey/00000001.jpg", "a/apartment_building/outdoor/00000001.jpg", "z/zen_garden/00000001.jpg"):
        write(tmp_path / "data_256" / name, len(name))
    write(tmp_path / "val_256" / "Places365_val_00000001.jpg")
    assert len(read(tmp_path).images) == 4
    assert read(tmp_path / "data_256").names[1] == "a/apartment_building/outdoor/00000001.jpg"
    write(tmp_path / "data_large" / "a/abbey/00000001.jpg")
    line = refusal(BadInput, tmp_path)
    assert "holds the same pictures twice (data_256 and data_large)" in line
    assert str(tmp_path / "data_large") in line


def test_hidden_files_and_what_macos_adds_are_no_pictures(tmp_path):
    write(tmp_path / "0.jpg")
    for name in ("._0.jpg", ".thumbnails/0.jpg", "__MACOSX/0.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"Mac OS X")
    assert read(tmp_path).names == read(tarred(tmp_path, tmp_path / "c.tar")).names == ["0.jpg"]


def test_a_compressed_webdataset_tar_is_read_and_only_its_pictures(tmp_path):
    for i in range(3):
        write(tmp_path / "f" / f"{i:04d}.jpg", i)
        (tmp_path / "f" / f"{i:04d}.json").write_text("{}")
    assert read(tarred(tmp_path / "f", tmp_path / "s.tar.gz", "w:gz")).names == ["0000.jpg", "0001.jpg", "0002.jpg"]


def test_a_limit_takes_the_same_pictures_spread_over_folders_whatever_else_there_is(tmp_path):
    for i in range(60):
        write(tmp_path / "f" / f"{'abcdef'[i % 6]}" / f"{i:03d}.png", i)
    folder = tmp_path / "f"
    all_names = read(folder).names
    some, fewer = (load([Source(folder, 1.0, limit)], {}).names for limit in (30, 10))
    assert (len(some), len(fewer)) == (30, 10)
    assert set(fewer) < set(some) < set(all_names)
    assert some == [name for name in all_names if name in some]  # in the order they always have
    assert len({name[0] for name in some}) >= 5  # of 6: at random, not in equal parts
    assert load([(tarred(folder, tmp_path / "t.tar"), 1.0, 30)], {}).names == some
    assert load([(folder, 1.0, 1000)], {}).names == all_names
    for i in range(60, 70):
        write(folder / "g" / f"{i:03d}.png", i)
    later = load([(folder, 1.0, 30)], {}).names
    assert {name for name in later if name[0] != "g"} <= set(some)


def test_a_limit_counts_what_can_be_used_and_several_files_as_one_source(tmp_path):
    for i in range(20):
        write(tmp_path / "ab"[i % 2] / f"{i:03d}.png", i)
    small, broken = sorted(tmp_path.rglob("*.png"))[3:5]
    Image.fromarray(noise(0, 8, 8)).save(small)
    broken.write_bytes(b"no picture")
    both = (tmp_path / "a", tmp_path / "b")
    found = load([(both, 1.0, 18)], {}, bad="skip")
    assert (len(found.images), len(found.skipped), found.small) == (18, 1, 1)
    assert len(load([(both, 1.0, 7)], {}, bad="skip").images) == 7
    assert np.allclose(load([(both, 1.0), (tmp_path / "a", 2.0)], {}, bad="skip").weights.sum(), 1)


def test_pictures_of_weight_0_are_not_even_read(tmp_path):
    write(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert load([(tmp_path, 1.0)], {"bad": 0.0}).names == ["good.png"]


def damaged_folder(tmp_path: Path) -> Path:
    for i in range(6):
        write(tmp_path / "f" / f"{i}.png", i)
    (tmp_path / "f" / "1.png").write_bytes(b"")
    cut = tmp_path / "f" / "2.png"
    cut.write_bytes(cut.read_bytes()[:-500])
    (tmp_path / "f" / "3.png").write_bytes(bomb(60_000, 60_000))
    return tmp_path / "f"


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_bad_files_are_refused_or_left_out_and_named_with_causes(tmp_path):
    folder = damaged_folder(tmp_path)
    for source in (folder, tarred(folder, tmp_path / "t.tar")):
        line = refusal(BadInput, source)
        assert line.startswith(
            f"{source}: 1.png: not a readable picture (is empty (0 bytes)); remove it, or leave bad files out with bad = "
        )
        found = read(source, bad="skip")
        assert found.names == ["0.png", "4.png", "5.png"]
        assert [skipped.file for skipped in found.skipped] == [f"{source}: {i}.png" for i in (1, 2, 3)]
        assert "is empty" in found.skipped[0].cause
        assert "truncated" in found.skipped[1].cause
        assert "3,600,000,000 pixels, more than the limit" in found.skipped[2].cause


def test_nothing_left_is_refused_saying_why(tmp_path):
    folder = damaged_folder(tmp_path)
    for i in (0, 4, 5):
        Image.fromarray(noise(0, 8, 8)).save(folder / f"{i}.png")
    assert "no pictures of at least 32 px with a weight above 0 found (3 are smaller, 3 cannot be read)" in refusal(
        BadInput, folder, bad="skip"
    )
    (tmp_path / "shards").mkdir()
    assert "found; check the path" in refusal(BadInput, tmp_path / "shards")
    tarred(folder, tmp_path / "shards" / "0.tar")
    assert refusal(BadInput, tmp_path / "shards").endswith(f"name the tars in it: {tmp_path / 'shards'}/*.tar")


def test_a_tar_cut_short_gives_what_came_before_when_bad_files_are_skipped(tmp_path):
    for i in range(6):
        write(tmp_path / "f" / f"{i}.png", i)
    tar = tarred(tmp_path / "f", tmp_path / "t.tar")
    data = tar.read_bytes()
    tar.write_bytes(data[: len(data) // 2])
    packed = tmp_path / "t.tar.gz"
    packed.write_bytes(gzip.compress(data)[: len(data) // 2])
    for path in (tar, packed):
        assert refusal(BadInput, path).startswith(f"{path}: not a complete tar")
        found = read(path, bad="skip")
        assert 1 <= len(found.images) <= 5
        assert all(np.array_equal(image, noise(i)) for i, image in enumerate(found.images))
        assert "not a complete tar" in found.skipped[0].cause


def test_a_tar_member_larger_than_the_limit_is_not_read(tmp_path):
    write(tmp_path / "f" / "0.png")
    (tmp_path / "f" / "1.png").write_bytes(bytes(100_000))
    tar = tarred(tmp_path / "f", tmp_path / "t.tar")
    found = read(tar, bad="skip", limits=Limits(max_bytes=50_000))
    assert found.names == ["0.png"]
    assert "100,000 bytes, more than the limit of 50,000" in found.skipped[0].cause


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_named_like_a_picture_does_not_stop_the_loading(tmp_path):
    write(tmp_path / "0.png")
    os.mkfifo(tmp_path / "1.png")
    assert "is not a regular file" in read(tmp_path, bad="skip").skipped[0].cause


def test_pictures_are_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees by the camera
    write(tmp_path / "t.png", exif=exif)
    assert np.array_equal(read(tmp_path).images[0], np.rot90(noise(0), -1))


def test_gray_palette_alpha_and_16_bits_become_8_bit_rgb(tmp_path):
    gray = noise(1)[:, :, 0]
    Image.fromarray(gray).save(tmp_path / "0.png")
    Image.fromarray(np.dstack([noise(2), gray])).save(tmp_path / "1.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "2.png")
    Image.fromarray(noise(3)).quantize(16).save(tmp_path / "3.png")
    found = read(tmp_path).images
    assert all((image.dtype, image.shape, image.flags.c_contiguous) == (np.uint8, (40, 48, 3), True) for image in found)
    assert np.array_equal(found[0], np.dstack([gray] * 3))
    assert np.array_equal(found[1], noise(2))
    assert np.array_equal(found[2], found[0])
    assert np.array_equal(found[3], np.asarray(Image.open(tmp_path / "3.png").convert("RGB")))


def test_an_array_that_is_called_a_picture_is_refused(tmp_path):
    np.save(buffer := io.BytesIO(), np.zeros((40, 40)))
    (tmp_path / "0.png").write_bytes(buffer.getvalue())
    assert "holds floats" in refusal(BadInput, tmp_path)


def test_reducing_while_loading_changes_neither_split_nor_small_pictures(tmp_path):
    for i in range(30):
        write(tmp_path / f"{i:02d}.png", i)
    Image.fromarray(noise(99, 33, 50)).save(tmp_path / "99.png")
    whole, reduced = read(tmp_path), read(tmp_path, short_side=36)
    assert {image.shape for image in reduced.images[:30]} == {(36, 43, 3)}
    assert np.array_equal(reduced.images[30], noise(99, 33, 50))
    for split, part in whole.split().items():
        assert part.names == reduced.split()[split].names
    assert whole.fingerprint != reduced.fingerprint


def test_more_pictures_than_memory_are_refused_with_a_way_out(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.png", i)
    assert len(read(tmp_path, memory=3 * 40 * 48 * 3).images) == 3
    line = refusal(OverLimit, tmp_path, memory=2 * 40 * 48 * 3, bad="skip")
    assert line.startswith(f"{tmp_path}: 2.png: with it the pictures take more than 11,520 bytes; set a limit")


def test_memory_is_that_of_the_container_and_shared_by_processes(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    whole = memory.available()
    (tmp_path / "memory.max").write_text("1000000\n")
    monkeypatch.setattr(memory, "CONTAINER", (str(tmp_path / "memory.max"), str(tmp_path / "none")))
    assert memory.available() == 1_000_000 < whole
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory.available() == 250_000
    (tmp_path / "memory.max").write_text("max\n")  # no limit
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert memory.available() >= whole


def test_arguments_out_of_bounds_are_refused(tmp_path):
    write(tmp_path / "0.png")
    with pytest.raises(UsageError, match="limit = 0: takes no picture"):
        load([(tmp_path, 1.0, 0)], {})
    assert "not a policy" in refusal(UsageError, tmp_path, bad="ignore")
    assert "below smallest" in refusal(UsageError, tmp_path, short_side=16)
