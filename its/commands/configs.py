"""`its configs`: list the packaged configs, or copy one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from its.errors import UserError
from its.media.packaged import copy_packaged, packaged_files, summary
from its.output import say

USAGE = "its configs, or: its configs cp NAME FILE"


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0.

    Raises:
        UserError: the command line is wrong, or the file can't be copied.
    """
    if {"-h", "--help"} & set(arguments):
        say(f"usage: {USAGE}\n\nList the configs that --config takes by name, or copy one to change it.")
        return 0
    if not arguments:
        _list()
        return 0
    if len(arguments) != 3 or arguments[0] != "cp":
        raise UserError(f"got: its configs {' '.join(arguments)}; expected: {USAGE}")
    copy_packaged(arguments[1], Path(arguments[2]))
    say(arguments[2])
    return 0


def _list() -> None:
    names = {name: name.removesuffix(".yaml") for name in packaged_files()}
    width = max(map(len, names.values()))
    for name, path in packaged_files().items():
        say(f"{names[name]:{width}}  {summary(path)}")
