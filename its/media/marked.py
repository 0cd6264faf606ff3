"""Files that are generated again over an earlier one, which has to be ours: they begin with a mark."""

from __future__ import annotations

import os
from pathlib import Path

from its.errors import UserError
from its.media.atomic import make_folder, write_text
from its.media.contained import is_own_file

WITHIN = 2000
"""Bytes from the beginning of a file that hold its mark."""


def check_marked(path: Path, mark: str) -> None:
    """Check that nothing is at a path but a regular file with a mark.

    Raises:
        UserError: something else is there.
    """
    if not os.path.lexists(path):
        return
    try:
        ours = is_own_file(path) and mark.encode() in path.open("rb").read(WITHIN)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}") from None
    if not ours:
        raise UserError(f"{path} is there already, and was not written by its: move it away, or choose another folder")


def write_marked(path: Path, text: str, mark: str) -> None:
    """Write a file whose text begins with a mark, with the folders above it.

    Raises:
        NotWritten: it can't be written.
        UserError: a file without the mark is there.
    """
    check_marked(path, mark)
    make_folder(path.parent)
    write_text(path, text)
