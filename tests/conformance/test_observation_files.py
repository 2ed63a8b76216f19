"""Reading small files with few calls."""

import os
from pathlib import Path

import pytest

from pglife_conformance.observation.files import read_whole


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1])
def test_a_file_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert read_whole(str(path)) == path.read_bytes()


def test_reading_begins_at_the_given_offset(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\nnew\n")
    assert read_whole(str(path), 4) == b"new\n"
    assert read_whole(str(path), 99) == b""


@pytest.mark.parametrize("most", [0, 1, 1 << 16, (1 << 16) + 1, 1 << 20])
def test_no_more_is_read_than_was_asked_for(tmp_path: Path, most: int) -> None:
    path = tmp_path / "log"
    content = os.urandom(1 << 17)
    path.write_bytes(content)
    assert read_whole(str(path), 7, most) == content[7 : 7 + most]


def test_what_is_not_there_raises_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        read_whole(str(tmp_path / "missing"))
    with pytest.raises(IsADirectoryError):
        read_whole(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before
