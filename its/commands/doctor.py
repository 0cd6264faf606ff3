"""The command `its doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from its.output import say

SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def doctor(*, config: Sequence[str] = (), output: Path = Path("runs")) -> int:
    """Check this installation and print a remedy for each fault.

    The exit status is 0 if its predict can run, and 1 if something is wrong; notes are not faults.

    Args:
        config: configs, each over the one before, whose weights are checked (default: weights of all components).
        output: folder for runs.

    Raises:
        UserError: a config can't be read.
    """
    from its.engine.diagnostics import diagnose
    from its.media.limited import user_path

    wrong = 0
    for finding in diagnose(list(map(user_path, config)), output):
        say(f"{SIGNS[finding.level]} {finding.what}{f': {finding.remedy}' if finding.remedy else ''}")
        wrong += finding.level == "wrong"
    say(f"{wrong} fault{'s' * (wrong > 1)} found" if wrong else "no faults found")
    return 1 if wrong else 0
