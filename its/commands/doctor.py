"""`its doctor`: checks the installation, and says what to do about each thing that isn't right."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from its.commands import checkup
from its.commands.checkup import Finding
from its.output import say

SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 when `its predict` can run here, 1 when something is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="its doctor", description="Check this installation. Exit status 0 when all is well, 1 when it isn't."
    )
    parser.add_argument(
        "--config",
        action="append",
        type=Path,
        metavar="FILE",
        help="look for its weights (those of all components)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), help="where runs will go (runs)")
    options = parser.parse_args(arguments)
    wrong = 0
    for finding in _findings(options.config or [], options.output):
        say(f"{SIGNS[finding.level]} {finding.what}{f': {finding.remedy}' if finding.remedy else ''}")
        wrong += finding.level == "wrong"
    say(f"its: {wrong} things are wrong" if wrong else "its: all is well")
    return 1 if wrong else 0


def _findings(configs: Sequence[Path], output: Path) -> Iterator[Finding]:
    """The quick ones first."""
    yield from checkup.versions()
    yield from checkup.disk(output)
    yield from checkup.wandb_login()
    yield from checkup.video()
    yield from checkup.network()
    yield from checkup.weights(configs)
    yield from checkup.devices()
    yield from checkup.plugins()
