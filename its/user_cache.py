"""Small facts that are remembered between runs in the user's cache folder: each a file with one line of text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from its.media.atomic import make_folder, write_text


def remember(kind: str, key: Any, compute: Callable[[], str]) -> str:
    """The remembered text for a key, or the computed one, which is remembered if the folder can be written to.

    Args:
        kind: names a folder.
        key: everything that the text depends on; its `repr` identifies it.
        compute: called where nothing is remembered.
    """
    text = read(kind, key)
    if text is None:
        text = compute()
        write(kind, key, text)
    return text


def read(kind: str, key: Any) -> str | None:
    """The remembered text for a key, or None."""
    try:
        return _path(kind, key).read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: a user without a home
        return None


def write(kind: str, key: Any, text: str) -> None:
    """Remember a text for a key. Without a folder that can be written to, nothing is remembered."""
    try:
        path = _path(kind, key)
        make_folder(path.parent)
        write_text(path, text)
    except (OSError, RuntimeError):
        return


def _path(kind: str, key: Any) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "its" / kind / hashlib.sha256(repr(key).encode()).hexdigest()
