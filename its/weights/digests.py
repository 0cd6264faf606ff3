"""Compute sha256 digests of weights, cached in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from its import user_cache

MIN_CACHED_BYTES = 64 * 2**20
"""Minimum bytes of a file with a cached digest; smaller files are read each time."""
MIN_AGE = 60.0
"""Minimum seconds since a file's last change before its digest is cached, since file system clocks are coarse."""


def file_digest(path: Path) -> str:
    """Return the sha256 of a file as hex digits.

    The cache key consists of path, size, inode and times. The inode change time can't be set back, so replaced content
    is read again even if size and modification time are equal.
    """
    status = os.stat(path)
    identity = None
    if status.st_size >= MIN_CACHED_BYTES and time.time() - max(status.st_ctime, status.st_mtime) > MIN_AGE:
        identity = (os.path.realpath(path), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        digest = user_cache.read("digests", identity)
        if digest is not None and len(digest) == 64:  # otherwise damaged
            return digest
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    after = os.stat(path)
    if identity is not None and (after.st_mtime_ns, after.st_ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns):
        user_cache.write("digests", identity, digest)
    return digest
