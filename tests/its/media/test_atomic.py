"""Files are written atomically, and never through symbolic links."""

import os
import threading

import pytest

from its.errors import UserError
from its.media.atomic import atomic, make_folder, remove_partials, write_text


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted():
        with atomic(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_links_are_replaced_and_not_followed(tmp_path):
    (tmp_path / "private").write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("a.json", "a.json.partial"):
        (run / name).symlink_to(tmp_path / "private")
    with atomic(run / "a.json") as partial:
        partial.write_text("new")
    assert (tmp_path / "private").read_text() == "secret"
    assert not (run / "a.json").is_symlink()


def test_the_umask_is_honoured(tmp_path):
    before = os.umask(0o077)
    try:
        with atomic(tmp_path / "a") as partial:
            partial.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_writers_of_one_file_do_not_mix(tmp_path):
    def write(letter):
        for _ in range(20):
            with atomic(tmp_path / "a") as partial:
                partial.write_text(letter * 10_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set((tmp_path / "a").read_text())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="no/a can't be written: No such file"), atomic(tmp_path / "no" / "a"):
        pass


def test_partial_files_of_killed_processes_are_removed_and_locked_ones_kept(tmp_path):
    (tmp_path / ".a.0123abcd.partial").touch()
    (tmp_path / ".b.0123abcd.partial").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / ".c.0123abcd.partial")
    with atomic(tmp_path / "a") as partial:
        partial.write_text("x")
        remove_partials(tmp_path)
        assert partial.exists()
        assert not (tmp_path / ".a.0123abcd.partial").exists()
    assert (tmp_path / "a").read_text() == "x"


def test_a_disk_that_fails_leaves_the_old_file_and_is_named(tmp_path, monkeypatch):
    write_text(tmp_path / "a", "old")

    def failing(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(UserError, match="a can't be written: Input/output error"):  # one line, no traceback
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/folder can't be written: Not a directory"):
        make_folder(tmp_path / "file" / "folder")
