"""`its gallery`: the page that shows runs, made anew or for several runs side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from its.output import say
from its.report.gallery import write_gallery


def main(arguments: Sequence[str]) -> int:
    """Write the page; 0.

    Raises:
        UserError: a folder is no run, or the page can't be written; nothing was changed.
    """
    options = _parser().parse_args(arguments)
    alone = len(options.runs) == 1
    page, runs = write_gallery(options.runs, options.output or (options.runs[0] if alone else Path("gallery")))
    damaged = [
        f"{run.name}: {found.folder.name}: {'; '.join(found.damage)}"
        for run in runs
        for found in run.samples
        if found.damage
    ]
    for line in damaged:
        say(f"its: {line}")
    count = sum(len(run.samples) for run in runs)
    say(f"its: {count} samples of {len(runs)} run{'' if alone else 's'} are shown by {page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="its gallery",
        description="Write a page that shows and plays the samples of runs. It needs no network and no server: open "
        "it in a browser. its predict writes it for its own run.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that its predict wrote")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where index.html goes (default: the run's folder; for several runs: gallery)",
    )
    return parser
