"""Start a sample from a picture or a sound of the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from its.media.atomic import make_folder, write_bytes
from its.media.decode import MOST_BYTES, naming, open_picture
from its.media.limited import read_limited

INPUTS = "inputs"
"""Folder of a run directory with the user's own files that its samples start from."""


def start_of(picture: Path, *, strength: float) -> dict[str, Any]:
    """Return the value of the row key `start` for a picture.

    Args:
        picture: file of the picture.
        strength: fraction of the reverse process to run, in (0, 1]; at 1, nothing of the picture remains.
    """
    return {"image": str(picture), "strength": strength}


def with_start(row: Mapping[str, Any], start: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add `start` to a row of prompts; without one, the row stays as it is."""
    return {**row} if start is None else {**row, "start": dict(start)}


def keep_input(picture: Path, run: Path) -> Path:
    """Copy an uploaded picture into a run directory, named by its content, so that `its rerun` finds it.

    Raises:
        UserError: the file is no picture, or can't be written.
    """
    with naming(picture):
        content = read_limited(picture, MOST_BYTES)
        kind = (open_picture(content).format or picture.suffix.lstrip(".")).lower()
    path = (run / INPUTS / f"{hashlib.sha256(content).hexdigest()[:16]}.{kind}").absolute()
    make_folder(path.parent)
    write_bytes(path, content)
    return path
