"""The command `its predict`."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence

from its import STARTED, registry
from its.config.compose import split_arguments
from its.engine.build import build
from its.engine.run import make
from its.output import visible

NO_METADATA = ("--no-metadata", "--no_metadata")
"""Spellings of `--metadata false` that other commands also accept."""


def main(arguments: Sequence[str]) -> int:
    """Make images that sound from YAML configs.

    Returns:
        Exit status: 0 if all samples were made, 1 if some failed or the run was stopped, 130 after Ctrl-C.

    Raises:
        UserError: the command line, a config or an input is invalid; nothing was made.
    """
    imported = time.perf_counter()
    simplify_warnings()
    files, modules, rest = split_arguments(arguments)
    rest = ["--metadata=false" if argument in NO_METADATA else argument for argument in rest]
    registry.load_plugins()
    registry.load_modules(modules)
    cli = build(files, rest, modules)
    cli.model.startup = {"import": imported - STARTED, "find": time.perf_counter() - imported}
    return make(cli)


def simplify_warnings() -> None:
    """Print each warning in one line, and hide Lightning's hints about settings that are deliberate here."""
    default = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *where: (
        f"its: WARNING: {visible(str(message))}\n" if category is UserWarning else default(message, category, *where)
    )
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for pattern in (".*does not have many workers.*", ".*isinstance.treespec, LeafSpec.*", ".*predict_dataloader.*"):
        warnings.filterwarnings("ignore", message=pattern)
