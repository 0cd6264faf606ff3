"""The command `its table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from its.output import say

TableFormat = Literal["md", "csv", "latex"]


def table(runs: list[Path], *, table: TableFormat = "md", by: Sequence[str] = ("run", "method")) -> int:
    """Print a table of the scores of runs.

    Args:
        runs: run directories of its predict.
        table: format of the table.
        by: a row for each run, method, prompt, prompt.NAME, seed, or setting such as guidance_scale.visual.

    Raises:
        UserError: a folder is not a run directory, no sample has a score, or no sample has a key of `by`.
    """
    from its import registry
    from its.evaluation.tables import FORMATS, tabulate
    from its.runs.reader import complete_samples

    registry.load_plugins()
    say(FORMATS[table](tabulate(complete_samples(runs), by)))
    return 0
