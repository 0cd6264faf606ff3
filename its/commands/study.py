"""`its study`: a page that asks people which of two runs' samples they find better."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from its.errors import UserError
from its.output import say
from its.report.study import write_study


def main(arguments: Sequence[str]) -> int:
    """Write the page; 0.

    Raises:
        UserError: a folder is no run, the runs share no prompts, or the page can't be written; nothing was changed.
    """
    options = _parser().parse_args(arguments)
    if len(options.runs) < 2:
        raise UserError(f"its study got one run, {options.runs[0]}; expected two or more, to compare the first with")
    if options.samples < 1 or options.catch < 0:
        raise UserError(f"--samples is {options.samples} and --catch {options.catch}; expected 1 or more and 0 or more")
    page, data = write_study(
        options.runs, options.output, roles=tuple(options.prompts), samples=options.samples, catch=options.catch
    )
    for name in data["runs"][1:]:
        count = sum(side["run"] == name for pair in data["pairs"] for side in pair["other"][:1])
        say(f"its: {data['runs'][0]} against {name}: {count} pairs of prompts")
    if not options.catch:
        say("its: without catch trials, random answers can't be detected")
    say(f"its: the study is {page}: give people its folder; its study-results counts what they send back")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="its study",
        description="Write a page for a study of two-alternative forced choice: samples of the first run against "
        "those of each other one, for the same prompts. It needs no network and no server, and saves the answers "
        "as a file.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders that its predict wrote, ours first")
    parser.add_argument("--output", type=Path, default=Path("study"), metavar="FOLDER", help="default: study")
    parser.add_argument(
        "--prompts",
        nargs=2,
        default=["visual", "audio"],
        metavar=("PICTURE", "SOUND"),
        help="names of the prompts of the picture and of the sound (default: visual audio)",
    )
    parser.add_argument(
        "--samples", type=int, default=2, help="of each run and pair of prompts, the best ranked first (default: 2)"
    )
    parser.add_argument("--catch", type=int, default=2, help="trials with noise on one side (default: 2)")
    return parser
