"""`its study-results`: win rates of what people answered on the page of `its study`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from its.output import say
from its.report.study_results import read_answers, table


def main(arguments: Sequence[str]) -> int:
    """Print the tables.

    Returns:
        0; 1 when no participant is left.

    Raises:
        UserError: a file isn't ours, is of another study, or a participant is there twice.
    """
    parser = argparse.ArgumentParser(
        prog="its study-results",
        description="Win rates of the first run, in per cent, with 95 %% intervals, as in the paper's Table 2. Who "
        "chose noise in a catch trial is left out.",
        allow_abbrev=False,
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files that people saved")
    answers = read_answers(parser.parse_args(arguments).files)
    counted = [a for a in answers if not a.mistakes]
    for out in (a for a in answers if a.mistakes):
        say(f"its: excluded: {out.participant} ({out.file}) chose noise {out.mistakes} times in the catch trials")
    if not any(trial["catch"] for a in answers for trial in a.trials):
        say("its: this study had no catch trials: random answers are counted too")
    if not counted:
        say("its: no participant is left to count")
        return 1
    for other in counted[0].runs[1:]:
        say(f"\n{counted[0].runs[0]} against {other}, {len(counted)} participants: win rate in %\n")
        say(table(counted, other))
    say("\nPairs of prompts: Wilson's interval. Average: of participants, and in brackets 1.96 std / sqrt(n).")
    return 0
