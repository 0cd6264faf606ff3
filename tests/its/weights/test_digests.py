"""Tests of cached digests: they belong to the current content."""

import hashlib
import os

import pytest

from its.weights import digests


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """List of files read; all files count as large and settled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "MIN_CACHED_BYTES", 1)
    monkeypatch.setattr(digests, "MIN_AGE", -1.0)
    real, seen = hashlib.file_digest, []

    def counted(file, name):
        seen.append(file.name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return seen


def sha(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once(reads, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert [digests.file_digest(path) for _ in range(3)] == [sha(b"one")] * 3
    assert len(reads) == 1


def test_content_that_was_exchanged_is_seen_though_size_and_time_are_the_same(reads, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = os.stat(path)
    assert digests.file_digest(path) == sha(b"one")
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert digests.file_digest(path) == sha(b"two")
    other = tmp_path / "other"
    other.write_bytes(b"six")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    assert digests.file_digest(path) == sha(b"six")


def test_a_file_that_has_just_changed_is_not_remembered(reads, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "MIN_AGE", 60.0)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert [digests.file_digest(path) for _ in range(2)] == [sha(b"one")] * 2
    assert len(reads) == 2
    assert not (tmp_path / "cache").exists()


def test_small_files_leave_no_trace(reads, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "MIN_CACHED_BYTES", 4)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert digests.file_digest(path) == sha(b"one")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_memory_and_one_that_cant_be_written_change_nothing(reads, tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    digests.file_digest(path)
    (kept,) = (tmp_path / "cache" / "its" / "digests").iterdir()
    kept.write_text("nonsense")
    assert digests.file_digest(path) == sha(b"one")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert digests.file_digest(path) == sha(b"one")
