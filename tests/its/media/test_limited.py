import errno
import os
import threading

import pytest

from its.media import limited
from its.media.limited import read_limited, read_text, user_path


def test_reads_up_to_the_limit(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"12345")
    assert read_limited(file, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes") as refused:
        read_limited(file, 4)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(file))


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_devices_are_not_read(device):
    with pytest.raises(OSError, match="not a regular file"):
        read_limited(device)


def test_a_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "prompts.jsonl"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        read_limited(pipe)


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(tmp_path, monkeypatch):
    file, pipe = tmp_path / "a.txt", tmp_path / "pipe"
    file.write_text("a")
    os.mkfifo(pipe)
    regular = os.stat(file)
    monkeypatch.setattr(limited.os, "stat", lambda path: regular)

    def read():
        with pytest.raises(OSError, match="not a regular file"):
            read_limited(pipe)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)
    assert not reader.is_alive()


def test_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        read_limited(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_limited(tmp_path / "none")


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 3000])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(OSError, match=r"\w+"):
        read_limited(name)


def test_text_is_utf_8_without_its_mark(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffbéll".encode())
    assert read_text(file) == "béll"
    file.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_text(file)


@pytest.mark.parametrize("text", ["~/a", "$PLACE/a", "${PLACE}/a"])
def test_paths_are_expanded_as_a_shell_does(text, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    assert user_path(text) == tmp_path / "a"


def test_unknown_variables_of_a_path_are_kept(monkeypatch):
    monkeypatch.delenv("PLACE", raising=False)
    assert str(user_path("$PLACE/a$")) == "$PLACE/a$"
