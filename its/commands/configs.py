"""The command `its configs`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from its.errors import UserError
from its.output import say


def configs(action: Literal["cp"] | None = None, name: str | None = None, file: Path | None = None) -> int:
    """List the configs that come with its, or copy one.

    `--config` takes them by name. To change one, copy it: its configs cp NAME FILE.

    Args:
        action: copy a config; without it, all are listed.
        name: name of the config to copy.
        file: path of the copy.

    Raises:
        UserError: the command line is incomplete, or the file can't be copied.
    """
    from its.media.packaged import copy_packaged, packaged_files, summary

    if action is None:
        names = {path: key.removesuffix(".yaml") for key, path in packaged_files().items()}
        width = max(map(len, names.values()))
        for path, key in names.items():
            say(f"{key:{width}}  {summary(path)}")
        return 0
    if name is None or file is None:
        raise UserError("its configs cp expects two values: its configs cp NAME FILE")
    copy_packaged(name, file)
    say(file)
    return 0
