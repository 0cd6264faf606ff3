"""sha256 of weights, remembered between runs: gigabytes that every process would read again."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from its import user_cache

WORTH_IT = 64 * 2**20
"""Bytes from which on a file's digest is remembered; the embedded pack and smaller files are read each time."""

SETTLED = 60.0
"""Seconds since its last change after which a file counts as settled: clocks of file systems are coarse and shared."""


def file_digest(path: Path) -> str:
    """sha256 of a file's content, as hex digits.

    It is remembered in the user's cache folder under the file's path, size, inode and times. The time of the last
    change of the inode is among them: it can't be set back, so content that was exchanged is read again even where
    size and modification time are those of before.
    """
    status = os.stat(path)
    identity = None
    if status.st_size >= WORTH_IT and time.time() - max(status.st_ctime, status.st_mtime) > SETTLED:
        identity = (os.path.realpath(path), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        digest = user_cache.read("digests", identity)
        if digest is not None and len(digest) == 64:  # else damaged
            return digest
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    after = os.stat(path)
    if identity is not None and (after.st_mtime_ns, after.st_ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns):
        user_cache.write("digests", identity, digest)
    return digest
