"""Read files that data names: regular files alone, up to a size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LARGEST_TEXT = 16 * 2**20
"""Bytes of a text file, unless its reader sets another limit."""

_USUAL = 2**16
"""Bytes that most files have less than: memory for the largest ones is not asked for at once."""


def user_path(text: str) -> Path:
    """A path that a person wrote, with `~`, `$NAME` and `${NAME}` expanded as a shell does.

    Unknown users and variables are kept as they are.
    """
    return Path(os.path.expanduser(os.path.expandvars(text)))


def read_limited(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """Content of a regular file. Devices and pipes, which may have no end, are neither opened nor waited for.

    Args:
        path: of the file; symbolic links are followed.
        largest: bytes that it may have.

    Raises:
        OSError: it can't be read, is no regular file, or is too large; `strerror` is the reason in words.
    """
    check_regular(path)  # opening some devices has effects
    with open(path, "rb", opener=_open_at_once) as file:
        _check_regular(os.fstat(file.fileno()), path)  # the name may be another file's by now
        content = file.read(_USUAL)
        if len(content) == _USUAL:
            content += file.read(max(largest + 1 - _USUAL, 0))
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes, which is the limit here", str(path))
    return content


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Content of a regular file of UTF-8, with or without a byte order mark; as `read_limited`.

    Raises:
        OSError: as `read_limited`.
        UnicodeDecodeError: it is no UTF-8.
    """
    return read_limited(path, largest).decode("utf-8-sig")


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file, which can be opened without waiting.

    Raises:
        OSError: it does not; `strerror` is the reason in words.
    """
    try:
        found = os.stat(path)
    except ValueError as error:  # the path holds a null character, or no text
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    _check_regular(found, path)


def _check_regular(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, no regular file", str(path))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # which Windows lacks
