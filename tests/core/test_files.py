from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from afina.core import files
from afina.core.errors import ResourceError


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    files.write_atomic(path, "ñandú")
    assert path.read_bytes() == "ñandú".encode()
    assert [file.name for file in path.parent.iterdir()] == ["c.txt"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.txt"
    files.write_atomic(path, "old")

    def no_room(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(ResourceError, match=r"the disk is full: .*kept\.txt could not be written, .* are free"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_as_it_went(tmp_path: Path) -> None:
    value = {"z": [1, 2.5, None], "a": "¿qué?"}
    files.write_json(tmp_path / "v.json", value)
    assert files.read_json(tmp_path / "v.json") == value
    assert "¿qué?" in (tmp_path / "v.json").read_text(encoding="utf-8")


def test_the_fingerprint_of_a_file_is_its_sha256_however_long_it_is(tmp_path: Path) -> None:
    data = os.urandom(files._READ_BYTES + 3)
    (tmp_path / "long").write_bytes(data)
    assert files.sha256_of(tmp_path / "long") == hashlib.sha256(data).hexdigest()
    assert files.sha256_of_text("é") == hashlib.sha256("é".encode()).hexdigest()


def test_room_on_the_disk_is_checked_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "new"
    files.require_disk(folder, 1, "the model")
    with pytest.raises(ResourceError, match=r"the model needs 1048576 GiB on the disk of .*are free") as caught:
        files.require_disk(folder, 2**50, "the model")
    assert "--runs" in caught.value.fix
    assert not folder.exists()
