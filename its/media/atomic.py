"""Write a file as a whole or not at all. All files of run directories are written by these functions."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from its.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: partial files are not locked, and never removed as left over
    fcntl = None  # type: ignore[assignment]


class NotWritten(OSError, UserError):
    """A file can't be written: the disk is full, the folder is read-only or the like."""

    def __init__(self, number: int | None, reason: str | None, path: str) -> None:
        OSError.__init__(self, number, reason, path)

    def __str__(self) -> str:
        return f"{self.filename} can't be written: {self.strerror}"


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8, as `atomic`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, as `atomic`."""
    with atomic(path) as partial:
        partial.write_bytes(content)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        NotWritten: it can't be made.
    """
    with _naming(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Create an empty file beside `path` to write to; it replaces `path` when the block ends without an error.

    The file gets a random name, which begins with a dot, and is created exclusively: symbolic links are not followed,
    and processes that write the same file do not mix. Its mode honours the umask. It is removed after an error. Its
    content is on the disk before it is renamed: after a power failure, `path` is the old file or the whole new one.
    That it is the new one is sure after `synchronise_folder`.

    Raises:
        NotWritten: the file can't be created, written or renamed.
    """
    with _naming(path):
        partial, descriptor = _create(path)
        try:
            yield partial
            os.fsync(descriptor)
            if fcntl is None:
                os.close(descriptor)  # open files can't be renamed there
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            if fcntl is not None:
                os.close(descriptor)


def synchronise_folder(folder: Path) -> None:
    """Make the renames in a folder outlast a power failure, where the system can.

    Raises:
        NotWritten: the disk fails.
    """
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    with _naming(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems don't have this
                raise
        finally:
            os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left of files that they wrote with `atomic`.

    Files that are being written stay, and so do all of them where the file system has no locks to tell the two apart.
    """
    for partial in folder.glob(".*.partial"):
        with suppress(OSError):
            descriptor = os.open(partial, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if _lock(descriptor):
                    partial.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(error.errno, error.strerror or str(error), str(path)) from error


def _create(path: Path) -> tuple[Path, int]:
    """A new file beside `path` and its descriptor, which holds a lock until it is closed."""
    while True:
        partial = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.partial")
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        if _lock(descriptor) is not False and partial.exists():  # else `remove_partials` of another process was faster
            return partial, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file: True if it is locked now, False if another process has it, None if there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
