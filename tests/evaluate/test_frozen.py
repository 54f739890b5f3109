"""Mask sets on disk: what they hold, that they are the same every time, and that a change is noticed."""

import json

import numpy as np
import pytest
from PIL import Image

from inpaintkit.core.errors import BadInput, NotWritable, UsageError
from inpaintkit.data.mask_sets import content
from inpaintkit.data.splits import split_of
from inpaintkit.evaluate import frozen
from inpaintkit.evaluate.frozen import BUCKETS, FAMILIES, freeze, kinds, read

NAMES = ["a", "abbey/b", "c"]


def test_a_set_is_read_as_it_was_written_and_is_the_same_again(tmp_path):
    digest = freeze(tmp_path / "one", ["lama", "centre-box"], (48, 32), NAMES)
    found = read(tmp_path / "one")
    assert (found.size, found.digest) == ((48, 32), digest)
    assert {kind: list(holes) for kind, holes in found.holes.items()} == dict.fromkeys(("thin", "medium", "thick", "centre-box"), NAMES)
    assert freeze(tmp_path / "two", ["lama", "centre-box"], (48, 32), NAMES) == digest
    assert freeze(tmp_path / "three", ["lama", "centre-box"], (48, 32), NAMES, seed=1) != digest
    saved = np.asarray(Image.open(tmp_path / "one" / "thin" / "abbey" / "b.png"))
    assert set(np.unique(saved)) == {0, 255}
    np.testing.assert_array_equal(saved == 255, found.holes["thin"]["abbey/b"])


def test_every_family(tmp_path):
    buckets = {name: BUCKETS[name] for name in ("coverage-05-10", "coverage-25-30", "coverage-55-60")}  # the others take long
    freeze(tmp_path / "set", ["repaint", "lama", *buckets, "other"], (32, 32), ["a"])
    holes = read(tmp_path / "set").holes
    assert list(holes) == [*FAMILIES["repaint"], *FAMILIES["lama"], *buckets, *FAMILIES["other"]]
    assert len(FAMILIES["coverage"]) == 11
    for name, (low, high) in buckets.items():
        assert all(low - 1e-3 <= hole.mean() <= high + 1e-3 for hole in holes[name].values()), name
    shares = {kind: float(next(iter(found.values())).mean()) for kind, found in holes.items()}
    for kind, share in {"super-resolve": 3 / 4, "altern-lines": 1 / 2, "right-half": 1 / 2, "expand": 15 / 16, "centre-box": 1 / 4}.items():
        assert shares[kind] == share
    for kind in ("thin", "thick", "text", "scratches", "sparse", *buckets):
        assert split_of(content(holes[kind]["a"])) == "test", kind


def test_a_longer_set_begins_with_the_shorter_one(tmp_path):
    names = list("abcde")
    for count in (2, 5):
        freeze(tmp_path / str(count), ["thick"], (32, 32), names[:count])
    short, long = (read(tmp_path / str(count)).holes["thick"] for count in (2, 5))
    assert (list(short), list(long)) == (names[:2], names)
    assert all((short[name] == long[name]).all() for name in short)
    assert len({hole.tobytes() for hole in long.values()}) == 5


def test_what_was_changed_is_refused(tmp_path):
    freeze(tmp_path / "set", ["thin"], (32, 32), ["a", "b"])
    path = tmp_path / "set" / "thin" / "a.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)
    with pytest.raises(BadInput, match=r"thin/a.png: is not the mask of the set's list"):
        read(tmp_path / "set")
    path.unlink()
    with pytest.raises(BadInput, match=r"a\.png"):
        read(tmp_path / "set")
    listing = tmp_path / "set" / frozen.LIST
    about = json.loads(listing.read_text())
    about["masks"]["thin"].pop("a")
    listing.write_text(json.dumps(about))
    with pytest.raises(BadInput, match="was changed"):
        read(tmp_path / "set")
    listing.write_text(json.dumps({**about, "format": 7}))
    with pytest.raises(BadInput, match="format 7, not 1"):
        read(tmp_path / "set")
    for broken in ("[]", "{", '{"format": 1}'):
        listing.write_text(broken)
        with pytest.raises(BadInput, match="is no list of masks"):
            read(tmp_path / "set")
    listing.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "set")


def test_refusals(tmp_path):
    with pytest.raises(UsageError, match=r"thim: no such kind or family of masks; did you mean 'thin'\?"):
        kinds(["thim"])
    assert kinds(["lama", "thin", "half"]) == ["thin", "medium", "thick", "half"]
    with pytest.raises(BadInput, match="half: none of"):
        freeze(tmp_path / "set", ["half"], (32, 32), [str(i) for i in range(9)])
    assert not (tmp_path / "set").exists()
    (tmp_path / "set").mkdir()
    with pytest.raises(NotWritable):
        freeze(tmp_path / "set", ["thin"], (32, 32), ["a"])
