"""Pictures and masks: what is kept, what is refused, and with which words. Every file is made here, on the fly."""

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from inpaintkit.core.errors import BadInput, InpaintError, NotWritable, OverLimit, UsageError
from inpaintkit.data.images import (
    Limits,
    Picture,
    check_hole,
    check_output,
    default_output,
    encode_png,
    from_array,
    known_from_hole,
    mask_from_alpha,
    mask_from_boxes,
    mask_from_color,
    mask_from_nan,
    read_mask,
    read_mask_noted,
    read_picture,
    to_picture,
    write_picture,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CV_ORDER = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tiff_bytes(array: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, **options)
    return out.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npy_declaring(shape: str, descr: str = "'|u1'", data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"", interlace: int = 0) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274], exif[271] = orientation, "maker"
    return exif.tobytes()


def stacked(picture: Picture) -> np.ndarray:
    return picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])


def written(picture: Picture, path: Path, **options) -> Picture:
    write_picture(picture, path, **options)
    return read_picture(path)


T = Image.Transpose
TURNS = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE, 6: T.ROTATE_270, 7: T.TRANSVERSE, 8: T.ROTATE_90}
RGB = Image.fromarray(noise(20, 30, 3))
FILES = {
    "PNG": saved(RGB, "PNG"),
    "PNG 16": encode_png(noise(20, 30, 3, dtype=np.uint16)),
    "JPEG": saved(RGB, "JPEG"),
    "JPEG progressive": saved(RGB, "JPEG", progressive=True),
    "WEBP lossy": saved(RGB, "WEBP"),
    "WEBP lossless": saved(RGB, "WEBP", lossless=True),
    "TIFF": saved(RGB, "TIFF"),
    "TIFF LZW": saved(RGB, "TIFF", compression="tiff_lzw"),
    "TIFF 16": tiff_bytes(noise(20, 30, 3, dtype=np.uint16)),
    "TIFF 16 deflate": tiff_bytes(noise(20, 30, 3, dtype=np.uint16), compression="zlib", predictor=2),
    "BMP": saved(RGB, "BMP"),
    "GIF": saved(RGB.quantize(), "GIF"),
}


# ---- reading: what is kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_is_known_by_its_content_whatever_its_suffix(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.xyz"
    path.write_bytes(FILES[kind])
    picture = read_picture(path)
    assert picture.format == kind.split()[0]
    assert picture.size == (30, 20)
    assert picture.pixels.dtype == (np.uint16 if "16" in kind else np.uint8)
    assert picture.lossy == (kind in ("JPEG", "JPEG progressive", "WEBP lossy", "GIF"))
    assert picture.name == str(path)


@pytest.mark.parametrize("kind", ["PNG", "WEBP lossless", "TIFF", "TIFF LZW", "BMP"])
def test_lossless_kinds_give_the_stored_values(kind: str) -> None:
    assert np.array_equal(read_picture(FILES[kind]).pixels, np.asarray(RGB))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "PNG 16", "JPEG", "WEBP", "TIFF", "TIFF 16"])
def test_a_picture_is_turned_upright_and_says_so_no_more(kind: str, orientation: int, tmp_path: Path) -> None:
    image, exif = Image.fromarray(noise(5, 8)), oriented(orientation)
    expected = np.asarray(Image.open(io.BytesIO(saved(image, "PNG"))).transpose(TURNS[orientation]) if orientation > 1 else image)
    if kind.endswith("16"):
        deep = Picture(np.asarray(image).astype(np.uint16)[:, :, None] * 257, exif=exif)
        path = tmp_path / f"deep.{kind[:3].lower()}"
        write_picture(deep, path)
        data, expected = path.read_bytes(), expected.astype(np.uint16) * 257
    elif kind == "JPEG":
        flat = Image.fromarray(np.kron(np.array([[0, 255]], np.uint8), np.ones((16, 16), np.uint8)))  # exact in JPEG
        data, expected = (
            saved(flat, "JPEG", exif=exif, quality=100),
            np.asarray(flat if orientation == 1 else flat.transpose(TURNS[orientation])),
        )
    else:
        data = saved(image.convert("RGB") if kind == "WEBP" else image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    picture = read_picture(data)
    assert np.array_equal(picture.pixels[:, :, 0], expected)
    kept = Image.Exif()
    kept.load(picture.exif or b"")
    assert 274 not in kept
    assert kept[271] == "maker"


def test_exif_keeps_camera_date_and_place_and_drops_thumbnail_and_maker_notes() -> None:
    exif = Image.Exif()
    exif[272], exif[305] = "model", "software"
    exif[0x8769] = {36867: "2020:01:02 03:04:05", 37500: b"maker note"}
    exif[0x8825] = {1: "N"}
    picture = read_picture(saved(RGB, "JPEG", exif=exif.tobytes()))
    kept = Image.Exif()
    kept.load(picture.exif or b"")
    assert kept[272] == "model"
    assert kept.get_ifd(0x8769) == {36867: "2020:01:02 03:04:05"}
    assert kept.get_ifd(0x8825) == {1: "N"}


def test_a_damaged_exif_block_is_dropped_with_a_note() -> None:
    picture = read_picture(saved(RGB, "JPEG", exif=b"Exif\0\0nonsense"))
    assert picture.exif is None
    assert picture.notes == ("the EXIF block is damaged and was dropped",)


@pytest.mark.parametrize(
    ("mode", "channels", "alpha", "note"),
    [
        ("1", 1, False, "1-bit pixels are used as 8-bit gray"),
        ("L", 1, False, None),
        ("LA", 1, True, None),
        ("RGB", 3, False, None),
        ("RGBA", 3, True, None),
        ("P", 3, False, "palette colours are used as RGB"),
        ("I;16", 1, False, None),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_each_mode_follows_the_documented_rule(kind: str, mode: str, channels: int, alpha: bool, note: str | None) -> None:
    image = (
        Image.fromarray(noise(9, 7, dtype=np.uint16))
        if mode == "I;16"
        else Image.fromarray(noise(9, 7, 3 if mode == "P" else 4)).convert(mode)
    )
    picture = read_picture(saved(image, kind))
    assert picture.pixels.shape == (9, 7, channels)
    assert (picture.alpha is not None) == alpha
    assert picture.notes == ((note,) if note else ())
    shown = image if mode == "I;16" else image.convert({"1": "L", "P": "RGB"}.get(mode, mode))
    assert np.array_equal(stacked(picture).squeeze(), np.asarray(shown))


def test_a_palette_with_transparency_becomes_rgba() -> None:
    image = Image.fromarray(noise(9, 7, 3)).quantize(8)
    picture = read_picture(saved(image, "PNG", transparency=3))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, np.asarray(image) == 3)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_transparent_gray_of_a_png_becomes_alpha_at_every_depth(depth: int) -> None:
    values = np.array([[0, 1, (1 << depth) - 1, 1, 0, 1, 0, 0]])
    if depth == 16:
        raw = b"\0" + values.astype(">u2").tobytes()
    else:
        bits = "".join(f"{value:0{depth}b}" for value in values[0])
        raw = b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    picture = read_picture(png_file(8, 1, depth, 0, raw, png_chunk(b"tRNS", struct.pack(">H", 1))))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, values == 1)
    scale = 1 if depth >= 8 else 255 // ((1 << depth) - 1)
    assert np.array_equal(picture.pixels[:, :, 0], values * scale)


def test_cmyk_without_a_profile_becomes_rgb_by_the_formula_and_says_so() -> None:
    image = Image.fromarray(noise(9, 7, 4), "CMYK")
    picture = read_picture(saved(image, "TIFF"))
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.icc is None
    assert "CMYK" in picture.notes[0]


def cmyk_profile() -> bytes:
    """A small CMYK profile in which all inks are gray: lightness 100 (1 - K)(1 - mean of C, M, Y)."""
    grid = [[255 * (1 - k) * (1 - (c + m + y) / 3), 128, 128] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    ramp, matrix = bytes(range(256)), struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + np.array(grid).round().astype(np.uint8).tobytes() + ramp * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    head = struct.pack(">I4xI4s4s4s12x4s", 144 + len(table), 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    return head.ljust(68, b"\0") + white.ljust(60, b"\0") + tags + table


def test_cmyk_with_a_profile_becomes_srgb_by_it_and_carries_the_profile_of_srgb() -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    picture = read_picture(saved(image, "TIFF", icc_profile=cmyk_profile()))
    gray = round(float(np.interp(2 / 3 * 100, [66, 67], [160.5, 163.1])))  # L* 66.7 in sRGB; by the formula it would be cyan
    assert abs(picture.pixels.astype(int) - gray).max() <= 2
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(picture.icc or b""))).startswith("sRGB")
    assert (picture.icc or b"")[24:36] == bytes(12)  # no date: the same input gives the same bytes
    assert picture.notes == ("CMYK was converted to sRGB by its profile; the output is RGB",)


def test_a_cmyk_picture_never_keeps_a_profile_that_does_not_fit_its_rgb_values() -> None:
    picture = read_picture(saved(Image.new("CMYK", (8, 8), (10, 20, 30, 40)), "JPEG", icc_profile=b"not a profile"))
    assert picture.icc is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_colour_profile_is_read(kind: str) -> None:
    assert read_picture(saved(RGB, kind, icc_profile=SRGB)).icc == SRGB


def test_premultiplied_alpha_is_divided_out_and_noted_unless_opaque() -> None:
    array = np.array([[[100, 50, 0, 128], [100, 50, 0, 255], [0, 0, 0, 0]]], np.uint8)
    picture = read_picture(tiff_bytes(array, photometric="rgb", extrasamples=["assocalpha"]))
    assert picture.pixels[0, 1:].tolist() == [[100, 50, 0], [0, 0, 0]]
    assert abs(picture.pixels[0, 0] - [199.2, 99.6, 0]).max() < 1  # Pillow rounds down
    assert "premultiplied" in picture.notes[0]
    deep = read_picture(tiff_bytes(array.astype(np.uint16) * 257, photometric="rgb", extrasamples=["assocalpha"]))
    assert deep.pixels[0, 0].tolist() == [round(100 / 128 * 65535), round(50 / 128 * 65535), 0]
    assert "premultiplied" in deep.notes[0]
    opaque = read_picture(tiff_bytes(noise(3, 3, 4) | np.uint8([0, 0, 0, 255]), photometric="rgb", extrasamples=["assocalpha"]))
    assert not opaque.notes


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_is_used_and_that_is_noted(kind: str) -> None:
    first, second = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read_picture(saved(first, kind, save_all=True, append_images=[second], **options))
    assert (picture.pixels == (255, 0, 0)).all()
    assert "only" in picture.notes[-1]
    assert "first" in picture.notes[-1]


# ---- 16 bits: never narrowed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("png_filter", ["NONE", "SUB", "UP", "AVG", "PAETH"])
def test_16_bit_png_of_another_writer_is_read_bit_for_bit(channels: int, png_filter: str) -> None:
    array = noise(37, 23, channels, dtype=np.uint16)
    _, data = cv2.imencode(
        ".png", array[:, :, CV_ORDER[channels]], [cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{png_filter}")]
    )
    assert np.array_equal(stacked(read_picture(data.tobytes())), array)


def test_interlaced_16_bit_png_is_read_bit_for_bit() -> None:
    array = noise(11, 13, 3, dtype=np.uint16)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for x, y, dx, dy in passes for row in array[y::dy, x::dx] if row.size)
    assert np.array_equal(read_picture(png_file(13, 11, 16, 2, raw, interlace=1)).pixels, array)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}], ids=["raw", "deflate", "predictor"]
)
@pytest.mark.parametrize(
    "layout", [{"rowsperstrip": 5}, {"tile": (16, 32)}, {"planarconfig": "separate"}], ids=["strips", "tiles", "planes"]
)
def test_16_bit_tiff_of_another_writer_is_read_bit_for_bit(channels: int, order: str, options: dict, layout: dict) -> None:
    array = noise(37, 43, channels, dtype=np.uint16)
    stored = array[:, :, 0] if channels == 1 else array.transpose(2, 0, 1) if "planarconfig" in layout else array
    if channels == 1:
        layout = {key: value for key, value in layout.items() if key != "planarconfig"}
    alpha = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    colour = {"photometric": "rgb" if channels > 2 else "minisblack"}
    data = tiff_bytes(np.ascontiguousarray(stored), byteorder=order, **colour, **alpha, **options, **layout)
    assert np.array_equal(stacked(read_picture(data)), array)


@pytest.mark.parametrize("compression", [cv2.IMWRITE_TIFF_COMPRESSION_LZW, cv2.IMWRITE_TIFF_COMPRESSION_PACKBITS])
def test_16_bit_tiff_with_lzw_or_packbits_needs_no_extra(compression: int) -> None:
    array = noise(37, 43, 3, dtype=np.uint16)
    _, data = cv2.imencode(".tif", array[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert np.array_equal(read_picture(data.tobytes()).pixels, array)


def test_white_is_zero_is_inverted_at_16_bits() -> None:
    array = noise(5, 6, dtype=np.uint16)
    assert np.array_equal(read_picture(tiff_bytes(array, photometric="miniswhite")).pixels[:, :, 0], 65535 - array)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round")


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_our_png_and_tiff_round_trip_and_others_read_them(
    folder: Path, channels: int, width: int, height: int, deep: bool, seed: int
) -> None:
    array = noise(height, width, channels, dtype=np.uint16 if deep else np.uint8, seed=seed) // (seed % 3 + 1)
    picture = from_array(array)
    for suffix in (".png", ".tif"):
        path = folder / f"trip{suffix}"
        write_picture(picture, path, overwrite=True)
        assert np.array_equal(stacked(read_picture(path)), array)
        other = tifffile.imread(path) if suffix == ".tif" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if suffix == ".tif":
            assert np.array_equal(other.reshape(array.shape), array)
        elif channels != 2:  # OpenCV widens gray + alpha to four channels
            assert np.array_equal(other.reshape(array.shape)[:, :, CV_ORDER[channels]], array)


# ---- reading: what is refused ----------------------------------------------------------------------------------------


def refusal(call, *arguments, kind: type[InpaintError] = BadInput, **options) -> str:
    """The message of the refusal, which must be one line "FILE: cause; what to do"."""
    with pytest.raises(InpaintError) as caught:
        call(*arguments, **options)
    assert type(caught.value) is kind, caught.value
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message
    assert not message.startswith("error")
    return message


def bad_files() -> dict[str, tuple[bytes, str]]:
    png, wide = FILES["PNG"], noise(20, 30, 3, dtype=np.uint16)
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 255
    long = png_file(4, 4, 16, 2, bytes(10 * 25))
    return {
        "empty": (b"", "is empty"),
        "text": (b"hello, I am no picture", "holds no picture of a kind read here"),
        "html": (b"<html><img src=x></html>", "holds no picture"),
        "svg": (b"<svg onload='alert(1)'/>", "holds no picture"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "holds no picture"),
        "pdf": (b"%PDF-1.7\n", "holds no picture"),
        "ico": (saved(RGB, "ICO"), "holds no picture"),
        "jpeg 2000": (saved(RGB, "JPEG2000"), "holds no picture"),
        "ppm": (saved(RGB, "PPM"), "holds no picture"),
        "signature alone": (png[:8], "truncated"),
        "one damaged pixel byte": (bytes(damaged), "checksum"),
        "png without its end": (png[:-12], "truncated"),
        "too much 16-bit data": (long, "more pixel data than pixels"),
        "too little 16-bit data": (png_file(4, 4, 16, 2, bytes(99)), "truncated"),
        "unknown row filter": (png_file(1, 1, 16, 0, b"\x09\0\0"), "row filter"),
        "unknown colour type": (png_file(1, 1, 8, 5, bytes(9)), "unknown pixel layout"),
        "no pixels": (png_file(0, 5, 8, 0, b""), "has no pixels"),
        "float tiff": (tiff_bytes(np.zeros((4, 4), np.float32)), "32 bits"),
        "32-bit tiff": (tiff_bytes(np.zeros((4, 4), np.uint32)), "32 bits"),
        "signed tiff": (tiff_bytes(np.zeros((4, 4), np.int16)), "not whole numbers of 16 bits"),
        "16-bit cmyk tiff": (tiff_bytes(noise(4, 4, 4, dtype=np.uint16), photometric="separated"), "neither gray nor RGB"),
        "5-channel tiff": (tiff_bytes(noise(4, 4, 5, dtype=np.uint16), photometric="rgb", planarconfig="contig"), "not alpha"),
        "unnamed fourth channel": (tiff_bytes(noise(4, 4, 4), photometric="rgb", extrasamples=["unspecified"]), "not alpha"),
        "8-bit cmyk with a spot colour": (tiff_bytes(noise(4, 4, 5), photometric="separated", planarconfig="contig"), "not alpha"),
        "Lab tiff": (saved(Image.new("LAB", (4, 4)), "TIFF"), "mode LAB"),
        "damaged lzw": (FILES["TIFF LZW"][:200] + b"\xff" * 300 + FILES["TIFF LZW"][500:], "decoder error"),
        "webp that says it is longer": (FILES["WEBP lossy"][:4] + b"\xff\xff\xff\x00" + FILES["WEBP lossy"][8:], "truncated"),
        "npy of objects": (npy_declaring("(2, 2)", "'|O'", b"x" * 32), "object"),
        "npy that declares 32 GiB": (npy_declaring("(65536, 65536, 8)"), "declares 34,359,738,368 bytes"),
        "npy that is code": (npy_declaring("__import__('os').getpid()"), "truncated, damaged or not supported"),
        "deep png": (encode_png(wide)[:-40], "truncated"),
    }


@pytest.mark.parametrize("case", bad_files())
def test_a_bad_file_is_one_line_with_its_name_and_cause(case: str, tmp_path: Path) -> None:
    data, cause = bad_files()[case]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    message = refusal(read_picture, path)
    assert message.startswith(f"{path}: ")
    assert cause in message
    assert "; " in message


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused_never_filled_up(kind: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # whatever the process has set
    data = FILES[kind]
    refusal(read_picture, data[: int(len(data) * share)])


@given(st.sampled_from(sorted(FILES)), st.data())
def test_whatever_happens_to_the_bytes_the_answer_is_a_picture_or_one_line(kind: str, data: st.DataObject) -> None:
    broken = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, min(len(broken), 400) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = read_picture(bytes(broken), Limits(max_pixels=10_000, max_bytes=1_000_000))
    except InpaintError as error:
        answer = str(error)
    else:
        answer = f"a picture of {picture.size}"
    assert "\n" not in answer


def test_a_damaged_tiff_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    refusal(read_picture, bad_files()["damaged lzw"][0])
    assert capfd.readouterr() == ("", "")


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    assert refusal(read_picture, tmp_path / "none.png").endswith("no such file; check the path")
    assert "is a folder" in refusal(read_picture, tmp_path)
    assert "cannot be read" in refusal(read_picture, "nul\0.png")
    assert "no such file" in refusal(read_picture, "https://example.org/cat.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(read_picture, tmp_path / "pipe.png")


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    assert "a\\nb.png: no such file" in refusal(read_picture, tmp_path / "a\nb.png")


def bombs() -> dict[str, bytes]:
    """Small files that declare 40,000 x 40,000 pixels."""
    gif = bytearray(FILES["GIF"])
    gif[6:10] = struct.pack("<HH", 40_000, 40_000)
    bmp = bytearray(FILES["BMP"])
    bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    jpeg = bytearray(FILES["JPEG"])
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = struct.pack(">HH", 40_000, 40_000)
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (39_999).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", 39) + b"WEBP" + canvas + b"VP8L" + struct.pack("<I", 5) + bytes(9)
    tiff = {bits: tiff_bytes(np.zeros((8, 8, 3), dtype)) for bits, dtype in ((8, np.uint8), (16, np.uint16))}
    wide = {bits: data.replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 40_000)) for bits, data in tiff.items()}
    high = {bits: data.replace(struct.pack("<HHII", 257, 4, 1, 8), struct.pack("<HHII", 257, 4, 1, 40_000)) for bits, data in wide.items()}
    return {
        "PNG": png_file(40_000, 40_000, 8, 2, bytes(1000)),
        "PNG 1 bit": png_file(40_000, 40_000, 1, 0, bytes(1000)),
        "PNG 16": png_file(40_000, 40_000, 16, 6, bytes(1000)),
        "GIF": bytes(gif), "BMP": bytes(bmp), "JPEG": bytes(jpeg), "WEBP": webp, "TIFF": high[8], "TIFF 16": high[16],
    }  # fmt: skip


@pytest.mark.parametrize("kind", bombs())
def test_a_bomb_is_refused_from_its_header_naming_limit_and_option(kind: str) -> None:
    message = refusal(read_picture, bombs()[kind], name="bomb", kind=OverLimit)
    assert message == (
        "bomb: 40000x40000 is 1,600,000,000 pixels, more than the limit of 100,000,000; pass --max-pixels 1600000000 to allow it"
    )


def test_limits_can_be_lowered_and_raised(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(FILES["PNG"])
    assert "--max-pixels 600 " in refusal(read_picture, path, Limits(max_pixels=599), kind=OverLimit)
    assert read_picture(path, Limits(max_pixels=600)).size == (30, 20)
    assert "--max-bytes" in refusal(read_picture, path, Limits(max_bytes=100), kind=OverLimit)
    assert "decodes to" in refusal(read_picture, saved(Image.new("L", (90, 90)), "PNG"), Limits(max_bytes=10_000), kind=OverLimit)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF LZW", "WEBP lossy", "JPEG", "BMP", "TIFF 16"])
def test_a_raised_limit_also_holds_where_pillow_has_a_lower_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_picture(FILES[kind]).size == (30, 20)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_16_bit_pixel_data_beyond_the_header_is_not_unpacked() -> None:
    packed = zlib.compress(bytes(50_000_000))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    assert "more pixel data than pixels" in refusal(read_picture, data)


def test_pictures_are_read_alike_from_several_threads() -> None:
    results: list[bool] = []
    expected = np.asarray(RGB)

    def read() -> None:
        results.extend(np.array_equal(read_picture(FILES[kind]).pixels, expected) for kind in ("PNG", "TIFF LZW", "BMP") * 5)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 60


# ---- samples and tensors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_sample_value_survives_the_way_to_the_network_and_back(dtype: type) -> None:
    top = np.iinfo(dtype).max
    values = np.arange(top + 1).astype(dtype).reshape(16, -1)
    picture = from_array(np.dstack([values, values[::-1], values[:, ::-1]]))
    tensor = picture.tensor()
    assert (tensor.min(), tensor.max(), tensor.dtype) == (-1, 1, torch.float32)
    box = (0, 0, *picture.size)
    assert np.array_equal(picture.pasted(box, tensor, np.ones(values.shape, bool)).pixels, picture.pixels)


def test_gray_is_repeated_for_the_network_and_comes_back_as_luma() -> None:
    picture = from_array(noise(4, 5))
    assert picture.region((1, 1, 4, 3)).shape == (1, 3, 2, 3)
    values = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 5)
    filled = picture.pasted((0, 0, 5, 4), values, np.ones((4, 5), bool))
    assert (filled.pixels == round(255 * 0.299)).all()


def test_a_region_is_that_part_of_the_whole() -> None:
    picture = from_array(noise(12, 9, 3))
    assert torch.equal(picture.region((2, 3, 7, 11)), picture.tensor()[:, :, 3:11, 2:7])


@pytest.mark.parametrize("box", [(-1, 0, 3, 3), (0, 0, 10, 3), (3, 3, 3, 5), (0, 0, 3, 13)])
def test_a_box_outside_the_picture_is_a_fault(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="leaves the picture"):
        from_array(noise(12, 9, 3)).region(box)


@given(st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]), st.sampled_from([1, 2, 3, 4]), st.integers(0, 999))
def test_only_hole_pixels_inside_the_box_change(dtype: type, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.random((9, 11, channels))
    picture = from_array(array.astype(dtype) if dtype in (np.float32, np.float64) else (array * np.iinfo(dtype).max).astype(dtype))
    hole = rng.random((9, 11)) < 0.5
    x0, y0 = rng.integers(0, 5, 2)
    box = (int(x0), int(y0), int(x0) + 5, int(y0) + 4)
    values = torch.from_numpy(rng.normal(size=(1, 3, 4, 5))).float()  # beyond [-1, 1] too
    filled = picture.pasted(box, values, hole)
    inside = np.zeros_like(hole)
    inside[box[1] : box[3], box[0] : box[2]] = hole[box[1] : box[3], box[0] : box[2]]
    assert filled.pixels[~inside].tobytes() == picture.pixels[~inside].tobytes()
    assert filled.pixels.dtype == dtype
    assert filled.pixels.min() >= 0
    if picture.alpha is not None and filled.alpha is not None:
        assert (filled.alpha[inside] == picture.span[1]).all()
        assert filled.alpha[~inside].tobytes() == picture.alpha[~inside].tobytes()
    assert np.array_equal(filled.pixels, picture.pasted(box, values, hole[box[1] : box[3], box[0] : box[2]]).pixels)


def test_the_original_picture_is_left_alone() -> None:
    picture = from_array(noise(4, 4, 4))
    before = picture.pixels.copy()
    picture.pasted((0, 0, 4, 4), torch.zeros(1, 3, 4, 4), np.ones((4, 4), bool))
    assert np.array_equal(picture.pixels, before)


def test_values_that_are_not_finite_are_a_fault_of_ours_and_never_pasted() -> None:
    with pytest.raises(ValueError, match="NaN"):
        from_array(noise(4, 4)).pasted((0, 0, 4, 4), torch.full((1, 3, 4, 4), torch.nan), np.ones((4, 4), bool))


# ---- arrays, tensors and Pillow images: in and out again -------------------------------------------------------------


def sources() -> dict[str, object]:
    unit = np.random.default_rng(0).random((6, 7, 3))
    return {
        "uint8": noise(6, 7, 3), "uint8 gray": noise(6, 7), "uint8 gray 3-D": noise(6, 7, 1), "uint8 RGBA": noise(6, 7, 4),
        "uint16": noise(6, 7, 3, dtype=np.uint16), "big-endian": noise(6, 7, 3, dtype=np.uint16).astype(">u2"),
        "float16": unit.astype(np.float16),
        "float32": unit.astype(np.float32), "float64": unit, "float64 gray": unit[:, :, 0], "reversed view": unit[::-1, ::-1],
        "tensor": torch.from_numpy(unit * 2 - 1).permute(2, 0, 1)[None].float(), "tensor 3-D": torch.from_numpy(unit).permute(2, 0, 1),
        "tensor gray": torch.from_numpy(unit[None, :, :, 0]), "tensor uint8": torch.from_numpy(noise(1, 3, 6, 7)),
        "tensor bfloat16": torch.from_numpy(unit).permute(2, 0, 1).bfloat16(),
        "PIL RGB": Image.fromarray(noise(6, 7, 3)), "PIL gray": Image.fromarray(noise(6, 7)), "PIL RGBA": Image.fromarray(noise(6, 7, 4)),
        "PIL LA": Image.fromarray(noise(6, 7, 4)).convert("LA"), "PIL 16 bit": Image.fromarray(noise(6, 7, dtype=np.uint16)),
    }  # fmt: skip


def plain(source: object) -> np.ndarray:
    return source.double().numpy() if isinstance(source, torch.Tensor) else np.asarray(source)


@pytest.mark.parametrize("kind", sources())
def test_what_goes_in_comes_back_as_the_same_kind_with_its_known_values_untouched(kind: str) -> None:
    source = sources()[kind]
    picture, restore = to_picture(source)
    assert picture.size == (7, 6)
    back = restore(picture.pasted((0, 0, 3, 3), torch.zeros(1, 3, 3, 3), np.eye(3, dtype=bool)))
    assert type(back) is type(source)
    before, after = plain(source), plain(back)
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    if isinstance(source, torch.Tensor) and isinstance(back, torch.Tensor):
        assert back.dtype == source.dtype
        before, after = before.reshape(-1, 6, 7).transpose(1, 2, 0), after.reshape(-1, 6, 7).transpose(1, 2, 0)
    if isinstance(source, Image.Image) and isinstance(back, Image.Image):
        assert back.mode == source.mode
    known = np.ones((6, 7), bool)
    known[:3, :3] = ~np.eye(3, dtype=bool)
    assert np.array_equal(after[known], before[known])
    assert not np.array_equal(after[~known], before[~known])


def test_a_path_comes_back_as_a_pillow_image_with_its_profile(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    RGB.save(path, icc_profile=SRGB)
    picture, restore = to_picture(path)
    assert restore(picture).info["icc_profile"] == SRGB
    path.write_bytes(FILES["PNG 16"])
    picture, restore = to_picture(str(path))
    assert restore(picture).dtype == np.uint16  # Pillow has no such mode


def test_a_pillow_image_keeps_the_size_the_caller_sees() -> None:
    image = Image.open(io.BytesIO(saved(Image.fromarray(noise(5, 8)), "JPEG", exif=oriented(6))))
    assert to_picture(image)[0].size == image.size == (8, 5)


def test_an_unread_16_bit_pillow_image_is_refused_because_pillow_would_narrow_it() -> None:
    for kind in ("PNG 16", "TIFF 16", "TIFF 16 deflate"):
        assert "pass the path" in refusal(to_picture, Image.open(io.BytesIO(FILES[kind])))


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((4, 4), bool), "is a bool array, which is a mask"),
        (np.zeros((4, 4), np.int64), "has dtype int64"),
        (np.zeros((4, 4), complex), "has dtype complex128"),
        (np.zeros((4, 4, 5), np.uint8), "has shape (4, 4, 5)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "has shape (2, 4, 4, 3)"),
        (np.zeros(4, np.uint8), "has shape (4,)"),
        (np.zeros((0, 4), np.uint8), "has no pixels"),
        (np.full((4, 4), 255.0), "has values from 255 to 255; scale floats to 0 ... 1"),
        (np.full((4, 4), -0.1), "has values from -0.1 to -0.1"),
        (np.full((4, 4), np.inf), "has values from inf"),
        (torch.zeros(2, 3, 4, 4), "has shape (2, 3, 4, 4)"),
        (torch.zeros(4, 4, 3), "has shape (4, 4, 3)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "has dtype torch.int64"),
        (torch.full((3, 4, 4), 2.0), "has values from 2 to 2; scale floats to -1 ... 1"),
        ([[1, 2], [3, 4]], "is a list"),
        (Image.new("F", (4, 4)), "mode F"),
        (Image.new("I", (4, 4)), "mode I"),
    ],
)
def test_sources_of_unclear_meaning_are_refused(array: object, cause: str) -> None:
    assert cause in refusal(to_picture, array)


def test_nan_means_missing_and_the_network_sees_gray_there() -> None:
    array = np.full((4, 4, 3), 0.9, np.float32)
    array[1, 2, 0] = np.nan
    picture = from_array(array)
    assert np.argwhere(picture.missing).tolist() == [[1, 2]]
    assert picture.tensor()[0, 0, 1, 2] == 0
    assert np.array_equal(mask_from_nan(array), picture.missing)
    assert np.array_equal(mask_from_nan(picture), picture.missing)
    assert check_hole(picture.missing, "hole", picture) == ()
    assert "NaN in pixels that are not in the hole" in refusal(check_hole, np.eye(4, dtype=bool), "hole", picture)
    assert "cannot be NaN" in refusal(mask_from_nan, np.zeros((4, 4), np.uint8))


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".webp", ".bmp", ".npy", ".PNG"])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3), (6, 7, 2), (6, 7, 4)])
def test_a_lossless_format_gives_back_every_value_or_refuses(suffix: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array, path = noise(*shape), tmp_path / f"out{suffix}"
    if suffix == ".bmp" and shape[-1] in (2, 4):
        assert "cannot hold alpha" in refusal(write_picture, from_array(array), path)
        return
    back = stacked(written(from_array(array), path))
    if suffix == ".webp" and len(shape) == 2:
        back = back[:, :, :1]
    elif suffix == ".webp" and shape[-1] == 2:
        back = back[:, :, 2:]
    assert np.array_equal(back.reshape(shape), array)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_profile_and_exif_are_written(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[0x8769] = "maker", {36867: "2020:01:02 03:04:05"}
    picture = Picture(noise(6, 7, 3), icc=SRGB, exif=exif.tobytes())
    back = written(picture, tmp_path / f"out{suffix}")
    kept = Image.Exif()
    kept.load(back.exif or b"")
    assert back.icc == SRGB
    assert kept[271] == "maker"
    assert kept.get_ifd(0x8769) == {36867: "2020:01:02 03:04:05"}


def test_chunks_that_give_png_numbers_their_meaning_are_carried(tmp_path: Path) -> None:
    gamma, density = png_chunk(b"gAMA", struct.pack(">I", 100_000)), png_chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
    picture = read_picture(png_file(1, 1, 8, 0, b"\0\7", gamma + density))
    write_picture(picture, tmp_path / "a.png")
    assert gamma in (tmp_path / "a.png").read_bytes()
    assert density in (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("picture", "suffix", "cause"),
    [
        (from_array(noise(4, 4, 3, dtype=np.uint16)), ".jpg", "JPEG file cannot hold 16-bit samples; write .png or .tiff"),
        (from_array(noise(4, 4, 3, dtype=np.uint16)), ".webp", "WEBP file cannot hold 16-bit samples"),
        (from_array(noise(4, 4, dtype=np.uint16)), ".bmp", "BMP file cannot hold 16-bit samples"),
        (from_array(noise(4, 4, dtype=np.uint16)), ".gif", "GIF file cannot hold 16-bit samples"),
        (from_array(noise(4, 4, 4)), ".jpg", "JPEG file cannot hold alpha"),
        (from_array(noise(4, 4, 3)), ".gif", "GIF file cannot hold RGB"),
        (Picture(noise(4, 4, 3), icc=SRGB), ".bmp", "cannot hold the colour profile"),
        (from_array(np.zeros((4, 4))), ".png", "PNG file cannot hold float samples; write .npy"),
        (from_array(noise(1, 16384)), ".webp", "at most 16383 pixels a side"),
        (from_array(noise(4, 4)), ".heic", "the suffix '.heic' names no format written here; use one of .png"),
        (from_array(noise(4, 4)), "", "the suffix '(none)' names no format"),
    ],
)
def test_a_format_that_cannot_hold_the_picture_is_refused_and_nothing_is_written(
    picture: Picture, suffix: str, cause: str, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"
    kind = UsageError if "suffix" in cause else BadInput
    assert cause in refusal(write_picture, picture, path, kind=kind)
    assert cause in refusal(check_output, picture, path, kind=kind)
    assert not list(tmp_path.iterdir())


def test_gray_gif_is_exact(tmp_path: Path) -> None:
    array = noise(6, 7)
    assert (written(from_array(array), tmp_path / "a.gif").pixels == array[:, :, None]).all()


def test_an_existing_file_is_kept_unless_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    assert "--overwrite" in refusal(write_picture, from_array(noise(4, 4)), path, kind=NotWritable)
    assert path.read_bytes() == b"old"
    write_picture(from_array(noise(4, 4)), path, overwrite=True)
    assert read_picture(path).size == (4, 4)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    refusal(write_picture, from_array(noise(4, 4)), tmp_path / "none" / "a.png", kind=NotWritable)


def test_losses_beside_the_pixels_are_noted(tmp_path: Path) -> None:
    picture = Picture(noise(6, 7, 3), exif=oriented(1))
    assert write_picture(picture, tmp_path / "a.png") == ()
    assert "JPEG is lossy" in write_picture(picture, tmp_path / "a.jpg")[0]
    assert write_picture(picture, tmp_path / "a.bmp") == ("EXIF was dropped: BMP cannot hold it",)
    refusal(write_picture, picture, tmp_path / "b.jpg", quality=0, kind=UsageError)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("PNG", "a.png", "a.filled.png"),
        ("PNG", "a.PNG", "a.filled.PNG"),
        ("PNG", "a.jpg", "a.filled.png"),
        ("JPEG", "a.jpg", "a.filled.png"),
        ("JPEG", "a.b.jpeg", "a.b.filled.png"),
        ("GIF", "a.gif", "a.filled.png"),
        ("WEBP lossy", "a.webp", "a.filled.png"),
        ("WEBP lossless", "a.webp", "a.filled.webp"),
        ("TIFF 16", "a.tiff", "a.filled.tiff"),
        ("TIFF", "a.tif", "a.filled.tif"),
        ("BMP", "a.bmp", "a.filled.bmp"),
    ],
)
def test_the_default_output_stands_beside_the_input_in_a_format_that_keeps_it(kind: str, name: str, expected: str, tmp_path: Path) -> None:
    picture = read_picture(FILES[kind])
    output = default_output(tmp_path / name, picture)
    assert output == tmp_path / expected
    assert np.array_equal(written(picture, output).pixels, picture.pixels)


# ---- masks -----------------------------------------------------------------------------------------------------------

HOLE = np.zeros((6, 7), bool)
HOLE[1:3, 2:6] = True
WHITE = (HOLE * 255).astype(np.uint8)


def masks() -> dict[str, object]:
    clear = np.zeros((6, 7, 4), np.uint8) + 255
    clear[:, :, 3] = WHITE
    return {
        "png": saved(Image.fromarray(WHITE), "PNG"), "1 bit": saved(Image.fromarray(WHITE).convert("1"), "PNG"),
        "rgb": saved(Image.fromarray(WHITE).convert("RGB"), "PNG"), "palette": saved(Image.fromarray(WHITE).convert("P"), "PNG"),
        "16 bit": encode_png(HOLE.astype(np.uint16) * 65535), "gif": saved(Image.fromarray(WHITE), "GIF"),
        "bmp": saved(Image.fromarray(WHITE), "BMP"),
        "white on clear": encode_png(clear), "npy bool": npy_bytes(HOLE), "npy 0/1": npy_bytes(HOLE.astype(np.int64)),
        "npy 0/255": npy_bytes(WHITE), "npy float": npy_bytes(HOLE * 0.5), "npy Fortran": npy_bytes(np.asfortranarray(HOLE)),
        "npy 3-D": npy_bytes(HOLE[:, :, None]), "npy with an axis in front": npy_bytes(HOLE[None]),
        "npy rgb bool": npy_bytes(np.dstack([HOLE] * 3)),
        "array": HOLE, "array 3-D": HOLE[:, :, None], "array rgb": np.dstack([WHITE] * 3), "PIL": Image.fromarray(WHITE),
        "PIL 1 bit": Image.fromarray(WHITE).convert("1"), "tensor": torch.from_numpy(HOLE)[None, None].float(),
        "tensor bool": torch.from_numpy(HOLE),
    }  # fmt: skip


@pytest.mark.parametrize("kind", masks())
def test_white_one_and_true_are_the_hole_in_every_kind_of_mask(kind: str) -> None:
    source = masks()[kind]
    hole = read_mask(source, (7, 6))
    assert hole.dtype == bool
    assert np.array_equal(hole, HOLE)
    assert np.array_equal(read_mask(source, (7, 6), invert=True), ~HOLE)


def test_a_mask_pixel_is_hole_from_half_of_white() -> None:
    assert read_mask(encode_png(np.array([[0, 127, 128, 255]], np.uint8)), (4, 1)).tolist() == [[False, False, True, True]]
    assert read_mask(encode_png(np.array([[32767, 32768]], np.uint16)), (2, 1)).tolist() == [[False, True]]
    assert read_mask(np.array([[0.49, 0.5]]), (2, 1)).tolist() == [[False, True]]


def test_a_mask_is_turned_upright_as_the_picture_is() -> None:
    data = saved(Image.fromarray(WHITE), "PNG", exif=oriented(6))
    assert np.array_equal(read_mask(data, (6, 7)), np.rot90(HOLE, -1))


def test_a_mask_of_another_size_is_refused_naming_both() -> None:
    message = refusal(read_mask, masks()["png"], (8, 6), name="m.png")
    assert message.startswith("m.png: the mask is 7x6 and the picture is 8x6")
    refusal(read_mask, HOLE.T, (7, 6))


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (encode_png(HOLE.astype(np.uint8)), "holds only 0 and 1 of 255"),
        (npy_bytes(HOLE * np.nan), "holds NaN"),
        (npy_bytes(HOLE * 3.0), "values from 0 to 3"),
        (npy_bytes(HOLE * -1), "values from -1 to 0"),
        (npy_bytes(HOLE * 300), "values from 0 to 300"),
        (npy_bytes(HOLE * 1j), "complex"),
        (npy_bytes(np.zeros((6, 7, 5))), "shape (6, 7, 5)"),
        (npy_bytes(np.zeros(7)), "shape (7,)"),
        (npy_bytes(np.zeros((0, 7))), "shape (0, 7)"),
        (npy_bytes(HOLE)[:-1], "declares 42 bytes of values and the file holds 41"),
        (np.array([["a"]]), "dtype"),
        (b"not a mask", "holds no picture"),
        (FILES["PNG"][:-30], "truncated"),
    ],
)
def test_masks_of_unclear_meaning_are_refused(source: object, cause: str) -> None:
    assert cause in refusal(read_mask, source, (7, 6))


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (encode_png(np.full((6, 7), 100, np.uint8) + WHITE // 2), "of the mask is gray"),
        (saved(Image.fromarray(np.kron(WHITE, np.ones((8, 8), np.uint8))), "JPEG"), "the mask is a lossy JPEG"),
        (saved(Image.new("RGB", (6, 7), "yellow"), "PNG"), "the mask has colours"),
        (encode_png(np.full((6, 7, 4), 255, np.uint8) - np.uint8([0, 0, 0, 9])), "the mask has transparency"),
        (encode_png(WHITE // 3), "no pixel of the mask reaches half of white; the brightest has 33.3% of it"),
    ],
)
def test_what_looks_unintended_in_a_mask_is_noted(data: bytes, note: str) -> None:
    assert any(note in line for line in read_mask_noted(data, read_picture(data).size)[1])


def test_a_plain_mask_has_no_notes() -> None:
    assert read_mask_noted(masks()["png"], (7, 6))[1] == ()


def test_boxes_are_left_top_width_height() -> None:
    assert np.array_equal(mask_from_boxes([(2, 1, 4, 2)], (7, 6)), HOLE)
    assert mask_from_boxes([(0, 0, 1, 1), (6, 5, 1, 1)], (7, 6)).sum() == 2


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 0, 8, 1), (0, 5, 1, 2), (1, 1, 0, 3), (1, 1, 3, -1), (7, 0, 1, 1)])
def test_a_box_that_leaves_the_picture_is_refused(box: tuple[int, int, int, int]) -> None:
    assert "leaves the picture of 7x6" in refusal(mask_from_boxes, [box], (7, 6), kind=UsageError)


def test_the_transparent_part_can_be_the_hole() -> None:
    array = noise(6, 7, 4)
    array[:, :, 3] = np.where(HOLE, 127, 128)
    assert np.array_equal(mask_from_alpha(from_array(array)), HOLE)
    assert "has no alpha channel" in refusal(mask_from_alpha, from_array(array[:, :, :3]))


@pytest.mark.parametrize("scale", [np.uint8(1), np.uint16(257), np.float64(1 / 255), np.float32(1 / 255)])
def test_a_colour_can_be_the_hole_exactly(scale: np.generic) -> None:
    array = np.where(HOLE[:, :, None], np.uint8([255, 0, 127]), np.uint8([255, 0, 128])).astype(scale.dtype) * scale
    assert np.array_equal(mask_from_color(from_array(array), "#ff007f"), HOLE)
    assert np.array_equal(mask_from_color(from_array(array), "FF007F"), HOLE)


@pytest.mark.parametrize("color", ["", "#fff", "#gg0000", "red", "#ff00ff00"])
def test_a_text_that_is_no_colour_is_refused(color: str) -> None:
    assert "write it as #rrggbb" in refusal(mask_from_color, from_array(noise(4, 4, 3)), color, kind=UsageError)


def test_an_empty_hole_is_refused_and_a_full_one_noted() -> None:
    assert "or invert the mask" in refusal(check_hole, np.zeros((4, 4), bool), "m.png")
    assert check_hole(HOLE, "m.png") == ()
    assert "whole picture" in check_hole(np.ones((4, 4), bool), "m.png")[0]
    assert "94% of the picture is hole" in check_hole(np.arange(16).reshape(4, 4) > 0, "m.png")[0]


def test_known_is_one_where_the_hole_is_not() -> None:
    for hole in (HOLE, torch.from_numpy(HOLE)):
        known = known_from_hole(hole)
        assert known.shape == (1, 1, 6, 7)
        assert known.dtype == torch.float32
        assert np.array_equal(known[0, 0].numpy(), 1.0 - HOLE)
    for wrong in (WHITE, HOLE[None]):
        with pytest.raises(ValueError, match="bool"):
            known_from_hole(wrong)
