"""A file is the old one or the whole new one, whatever happens in between."""

import errno
import os
import stat
from unittest import mock

import pytest

from inpaintkit.core.errors import NotWritable
from inpaintkit.core.files import refuse_existing, write_bytes, writing


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photo.png"


def names(path):
    return sorted(p.name for p in path.parent.iterdir())


def test_a_file_appears_with_all_its_bytes_and_nothing_beside_it(path):
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path) == ["photo.png"]


def test_a_file_is_replaced_whole(path):
    path.write_bytes(b"a long old content")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path) == ["photo.png"]


def test_until_the_block_ends_a_reader_sees_the_old_file(path):
    path.write_bytes(b"old")
    with writing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [b"old", None])
def test_an_interruption_leaves_the_old_file_or_none_and_no_part(path, interruption, old):
    if old is not None:
        path.write_bytes(old)

    def killed():
        with writing(path) as file:
            file.write(b"half of the new")
            raise interruption

    with pytest.raises(interruption):
        killed()
    assert names(path) == (["photo.png"] if old else [])
    assert old is None or path.read_bytes() == old


def test_an_interruption_between_the_last_write_and_the_rename_leaves_the_old_file(path):
    path.write_bytes(b"old")
    with mock.patch("os.replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(path) == ["photo.png"]


def test_a_full_disk_is_a_refusal_in_one_line_and_leaves_the_old_file(path):
    path.write_bytes(b"old")
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        mock.patch("os.fsync", side_effect=full),
        pytest.raises(NotWritable, match=r"No space left on device: 3 bytes are needed, [\d,]+ are free; make room"),
    ):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(path) == ["photo.png"]


def test_the_bytes_are_on_disk_before_the_name_and_the_folder_after(path):
    done, fsync, replace = [], os.fsync, os.replace

    def note_fsync(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(*names):
        done.append("rename")
        replace(*names)

    with mock.patch("os.fsync", note_fsync), mock.patch("os.replace", note_replace):
        write_bytes(path, b"new")
    assert done == ["file", "rename", "folder"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(NotWritable, match="No such file or directory; choose a folder that can be written"):
        write_bytes(tmp_path / "missing" / "photo.png", b"new")


def test_a_file_in_the_place_of_the_folder_is_refused(path):
    path.write_bytes(b"old")
    with pytest.raises(NotWritable, match="choose a folder that can be written"):
        write_bytes(path / "photo.png", b"new")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_without_permission_is_refused(path):
    path.parent.chmod(0o500)
    try:
        with pytest.raises(NotWritable, match="Permission denied"):
            write_bytes(path, b"new")
    finally:
        path.parent.chmod(0o700)


def test_a_system_that_denies_the_folder_is_a_refusal(path):
    denied = PermissionError(errno.EACCES, "Permission denied")
    with mock.patch("tempfile.mkstemp", side_effect=denied), pytest.raises(NotWritable, match=r"photo\.png: Permission denied"):
        write_bytes(path, b"new")
    assert names(path) == []


def test_a_folder_is_not_a_name_for_a_file(tmp_path):
    with pytest.raises(NotWritable):
        write_bytes(tmp_path, b"new")
    assert list(tmp_path.parent.glob(".*.part")) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_has_the_permissions_of_any_new_file(path, umask):
    before = os.umask(umask)
    try:
        write_bytes(path, b"new")
        assert os.umask(umask) == umask  # asking for the mask did not change it
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_an_existing_file_is_refused_unless_it_may_be_replaced(path):
    refuse_existing(path, overwrite=False)
    path.write_bytes(b"old")
    with pytest.raises(NotWritable, match=r"photo\.png: exists already; pass --overwrite or another output name"):
        refuse_existing(path, overwrite=False)
    refuse_existing(path, overwrite=True)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_or_a_file_in_a_missing_folder_is_refused_before_any_work(tmp_path, overwrite):
    with pytest.raises(NotWritable, match="is a folder; name a file"):
        refuse_existing(tmp_path, overwrite)
    with pytest.raises(NotWritable, match="does not exist; create it first"):
        refuse_existing(tmp_path / "missing" / "photo.png", overwrite)
