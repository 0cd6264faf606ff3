"""Guards against symbolic links in folders of unknown origin, such as a received run directory."""

from __future__ import annotations

from pathlib import Path

from its.errors import UserError
from its.media.limited import check_regular


def contained(root: Path, path: Path) -> Path:
    """Check that no component of a path below a folder is a symbolic link, and return the path.

    Args:
        root: a folder that the user named; it may be a symbolic link itself.
        path: a path below `root`; need not exist.

    Raises:
        UserError: a component below `root` is a symbolic link.
    """
    here = root
    for part in path.relative_to(root).parts:
        here /= part
        if here.is_symlink():
            raise UserError(f"{here} is a symbolic link, which is not followed below {root}: put the file itself there")
    return path


def is_own_file(path: Path) -> bool:
    """Return whether a path is a regular file and no symbolic link. `contained` checks the folders above it."""
    try:
        check_regular(path, follow_links=False)
    except OSError:
        return False
    return True
