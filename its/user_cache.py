"""Cache short texts in the user's cache folder, one file for each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from its.media.atomic import make_folder, write_text


def remember(kind: str, key: Any, compute: Callable[[], str]) -> str:
    """Return the cached text for a key, or compute and cache it.

    The subfolder is `kind`. The `repr` of `key` must contain everything that the text depends on.
    """
    text = read(kind, key)
    if text is None:
        text = compute()
        write(kind, key, text)
    return text


def read(kind: str, key: Any) -> str | None:
    """Return the cached text for a key, or None."""
    try:
        return _path(kind, key).read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: no home folder
        return None


def write(kind: str, key: Any, text: str) -> None:
    """Cache a text for a key; do nothing if the folder is not writable."""
    with suppress(OSError, RuntimeError):
        path = _path(kind, key)
        make_folder(path.parent)
        write_text(path, text)


def _path(kind: str, key: Any) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "its" / kind / hashlib.sha256(repr(key).encode()).hexdigest()
