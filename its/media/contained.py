"""Files below a folder that somebody else may have filled, such as a received run: no link leads out of it."""

from __future__ import annotations

from pathlib import Path

from its.errors import UserError


def contained(root: Path, path: Path) -> Path:
    """Check a path below a folder before it is read, written or copied.

    Args:
        root: the folder, which the user named; it may be a symbolic link itself.
        path: below it; need not exist.

    Returns:
        The path.

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
    """Whether a path is a regular file and no symbolic link to one. The folders above it are `contained`'s matter."""
    return path.is_file() and not path.is_symlink()
