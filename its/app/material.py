"""The user's own material in rows of prompts: a picture to start from, and what the row of a made sample has."""

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

KEYS = ("start", "keep", "control", "interpolate")
"""Keys of a row that the form can't show, besides a start from a picture."""


def start_from(picture: Path, run: Path, *, strength: float) -> dict[str, Any]:
    """Return the keys of a row that starts from a picture, which is copied into the run directory for `its rerun`.

    Args:
        picture: uploaded file.
        run: run directory of the samples.
        strength: fraction of the reverse process to run; at 1, nothing of the picture remains.

    Raises:
        UserError: the file is no picture, or can't be written.
    """
    with naming(picture):
        content = read_limited(picture, MOST_BYTES)
        open_picture(content)
    suffix = picture.suffix.lower() if picture.suffix.isascii() and picture.suffix[1:].isalnum() else ".png"
    path = (run / INPUTS / f"{hashlib.sha256(content).hexdigest()[:16]}{suffix}").absolute()
    make_folder(path.parent)
    write_bytes(path, content)
    return {"start": {"image": str(path), "strength": strength}}


def material_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of own material in the row of a made sample."""
    return {key: row[key] for key in KEYS if row.get(key) is not None}
