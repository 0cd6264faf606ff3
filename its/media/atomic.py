"""Write files atomically. All files of run directories are written with these functions."""

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
except ImportError:  # Windows: partial files are not locked, and `remove_partials` keeps them
    fcntl = None  # type: ignore[assignment]


class NotWritten(OSError, UserError):
    """Raised if a file can't be written, for example because the disk is full or the folder is read-only."""

    def __init__(self, number: int | None, reason: str | None, path: str) -> None:
        OSError.__init__(self, number, reason, path)

    def __str__(self) -> str:
        return f"{self.filename} can't be written: {self.strerror}"


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically. Raises `NotWritten` if it can't be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises `NotWritten` if it can't be written."""
    with atomic(path) as partial:
        partial.write_bytes(content)


def make_folder(path: Path) -> None:
    """Make a folder and the folders above it. Existing folders are kept.

    Raises:
        NotWritten: the folder can't be made.
    """
    with _name_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Create a temporary file beside `path`, which replaces `path` when the block ends without an error.

    The temporary file has a random name that begins with a dot, and is created exclusively: symbolic links are not
    followed, and processes that write the same `path` do not interfere. Its mode honours the umask. It is removed
    after an error. Its content is synchronised before the renaming: after a power failure, `path` is the old file or
    the complete new one. After `synchronise_folder`, it is the new one.

    Raises:
        NotWritten: the temporary file can't be created, written or renamed.
    """
    with _name_errors(path):
        partial, descriptor = _create(path)
        try:
            yield partial
            os.fsync(descriptor)
            if fcntl is None:
                os.close(descriptor)  # Windows can't rename open files
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            if fcntl is not None:
                os.close(descriptor)


def synchronise_folder(folder: Path) -> None:
    """Synchronise a folder's renamings with the disk, if the file system supports it.

    Raises:
        NotWritten: the disk fails.
    """
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    with _name_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by some network file systems
                raise
        finally:
            os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Remove the temporary files of `atomic` that killed processes left.

    Files that another process is writing are locked and kept. On a file system without locks, all are kept.
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
def _name_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(error.errno, error.strerror or str(error), str(path)) from error


def _create(path: Path) -> tuple[Path, int]:
    """Create a temporary file beside `path`. Its descriptor holds a lock until it is closed."""
    while True:
        partial = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.partial")
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        if _lock(descriptor) is not False and partial.exists():  # otherwise another process has just removed it
            return partial, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file. True if locked, False if another process holds the lock, None if locks are not supported."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
