"""Write generated files that later runs overwrite. A mark near the beginning distinguishes them from other files."""

from __future__ import annotations

from pathlib import Path

from its.errors import UserError
from its.media.atomic import make_folder, write_text
from its.media.limited import open_regular, reason

WITHIN = 2000
"""Number of bytes at the beginning of a file in which the mark is searched."""


def check_marked(path: Path, mark: str) -> None:
    """Check that a path does not exist or is a regular file with the mark.

    Raises:
        UserError: it is a file without the mark, is not a regular file, or can't be read.
    """
    try:
        with open_regular(path, follow_links=False) as file:
            if mark.encode() in file.read(WITHIN):
                return
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        raise UserError(f"{path} can't be written: {reason(error)}") from None
    except OSError:  # a folder, symbolic link, device or pipe
        pass
    raise UserError(f"{path} exists and was not written by `its`: move it away, or choose another folder")


def write_marked(path: Path, text: str, mark: str) -> None:
    """Write a text that contains a mark, and make the folders above it.

    Raises:
        NotWritten: the file can't be written.
        UserError: the path exists without the mark.
    """
    check_marked(path, mark)
    make_folder(path.parent)
    write_text(path, text)
