"""Read regular files up to a maximum size, and expand paths given by users."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LARGEST_TEXT = 16 * 2**20
"""Default maximum size of a text file, in bytes."""

_FIRST_READ = 2**16
"""Bytes of the first read, so that small files do not allocate a buffer of the maximum size."""


def user_path(text: str) -> Path:
    """Expand `~`, `$NAME` and `${NAME}` as a shell does. Unknown users and variables are kept."""
    return Path(os.path.expanduser(os.path.expandvars(text)))


@contextmanager
def open_regular(path: Path, *, follow_links: bool = True) -> Iterator[BinaryIO]:
    """Open a regular file for reading. Devices and pipes, which may have no end, are not opened.

    Args:
        path: path of the file.
        follow_links: whether `path` may be a symbolic link.

    Raises:
        OSError: the file can't be opened or is not regular; `strerror` is the reason in words.
    """
    check_regular(path, follow_links=follow_links)  # opening some devices has side effects
    extra = getattr(os, "O_NONBLOCK", 0) | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))  # not on Windows
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | extra)) as file:
        _check_mode(os.fstat(file.fileno()), path)  # the file may have been replaced since the first check
        yield file


def read_limited(path: Path, largest: int = LARGEST_TEXT, *, follow_links: bool = True) -> bytes:
    """Read a regular file of at most `largest` bytes, opened with `open_regular`.

    Raises:
        OSError: the file can't be opened, is not regular or is too large; `strerror` is the reason in words.
    """
    with open_regular(path, follow_links=follow_links) as file:
        content = file.read(_FIRST_READ)
        if len(content) == _FIRST_READ:
            content += file.read(max(largest + 1 - _FIRST_READ, 0))
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes, the maximum", str(path))
    return content


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Read a UTF-8 file, with or without a byte order mark, with `read_limited`.

    Raises:
        OSError: as `read_limited`.
        UnicodeDecodeError: the content is not UTF-8.
    """
    return read_limited(path, largest).decode("utf-8-sig")


def check_regular(path: Path, *, follow_links: bool = True) -> None:
    """Check that a path is a regular file, or, with `follow_links`, a symbolic link to one.

    Raises:
        OSError: it is not; `strerror` is the reason in words.
    """
    try:
        status = os.stat(path) if follow_links else os.lstat(path)
    except ValueError as error:  # the path has a null character or can't be encoded
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    _check_mode(status, path)


def _check_mode(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a symbolic link", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a regular file", str(path))


def reason(error: Exception) -> str:
    """Return an error's reason in words, without number and path, on one line."""
    return " ".join(str((isinstance(error, OSError) and error.strerror) or error).split())
