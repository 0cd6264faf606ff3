"""Refuse symbolic links in folders of unknown origin, for example in a downloaded run directory."""

from __future__ import annotations

from pathlib import Path

from its.errors import UserError
from its.media.limited import check_regular


def contained(root: Path, path: Path) -> Path:
    """Check that no component of a path below a folder is a symbolic link, and return the path.

    Args:
        root: folder given by the user; it may be a symbolic link itself.
        path: path below `root`; it need not exist.

    Raises:
        UserError: a component below `root` is a symbolic link.
    """
    prefix = root
    for name in path.relative_to(root).parts:
        prefix /= name
        if prefix.is_symlink():
            raise UserError(f"{prefix} is a symbolic link, which is not followed below {root}: replace it by a copy")
    return path


def is_own_file(path: Path) -> bool:
    """Return whether a path is a regular file and not a symbolic link. `contained` checks the folders above it."""
    try:
        check_regular(path, follow_links=False)
    except OSError:
        return False
    return True
