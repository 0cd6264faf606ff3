"""Write a file as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def remove_partials(folder: Path) -> None:
    """Remove what processes that were killed left of files that they wrote with `atomic`.

    Call it where no other process writes to the folder.
    """
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Create an empty file beside `path` to write to; it replaces `path` when the block ends without an error.

    The file gets a random name, which begins with a dot, and is created exclusively: symbolic links are not followed,
    and processes that write the same file do not mix. Its mode honours the umask. It is removed after an error.

    Raises:
        OSError: the folder can't be written to.
    """
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # else a record can come back empty after a power failure
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
