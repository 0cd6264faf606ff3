"""`its table`: the scores that samples have, in a table. Nothing is loaded or changed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from its import registry
from its.evaluation.tables import FORMATS, tabulate
from its.output import say
from its.runs.reader import whole_samples


def main(arguments: Sequence[str]) -> int:
    """Print the table; 0.

    Raises:
        UserError: a folder is no run, there are no scores, or nothing can be told apart by a key.
    """
    parser = argparse.ArgumentParser(
        prog="its table", description="A table of the scores that the samples of runs have.", allow_abbrev=False
    )
    add_table(parser)
    options = parser.parse_args(arguments)
    registry.load_plugins()
    say(FORMATS[options.table](tabulate(whole_samples(options.runs), options.by)))
    return 0


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is shown, and how."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder that its predict wrote")
    parser.add_argument("--table", choices=FORMATS, default="md", help="how the table is written (default: md)")
    parser.add_argument(
        "--by",
        nargs="+",
        default=["run", "method"],
        metavar="KEY",
        help="a row for each run, method, prompt, prompt.NAME, seed, or setting such as guidance_scale.visual "
        "(default: run method)",
    )
