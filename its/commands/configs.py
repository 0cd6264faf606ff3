"""The command `its configs`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from its.errors import UserError
from its.output import say


def configs(action: Literal["cp"] | None = None, name: str | None = None, file: Path | None = None) -> int:
    """List the packaged configs, or copy one.

    `--config NAME` uses a config from any directory. To change one, copy it: its configs cp NAME FILE.

    Args:
        action: copy a config (default: list all).
        name: name of the config to copy.
        file: path of the copy.

    Raises:
        UserError: the command line is incomplete, or the file can't be copied.
    """
    from its.media.limited import user_path
    from its.media.packaged import copy_packaged, is_config, packaged_files, summary

    if action is None:
        width = max(map(len, packaged_files()))
        others = [name for name in packaged_files() if not is_config(name)]
        for key, path in packaged_files().items():
            if key not in others:
                say(f"{key.removesuffix('.yaml'):{width}}  {summary(path)}")
        say("\nOther files, for --data.prompts, `wandb sweep` and `sbatch`:")
        for key in others:
            say(f"{key:{width}}  {summary(packaged_files()[key])}".rstrip())
        return 0
    if name is None or file is None:
        raise UserError("got no NAME or no FILE; expected: its configs cp NAME FILE")
    target = user_path(str(file))
    copy_packaged(name, target)
    say(target)
    return 0
