"""`its evaluate`: gives the samples of runs their scores, ranks them if that is wanted, and shows a table."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from its import registry
from its.commands.table import add_table
from its.evaluation.choosing import DEFAULT, chosen, found
from its.evaluation.ranking import Keep, rank_run
from its.evaluation.scoring import CSV, check_csv, evaluate, write_csv
from its.evaluation.tables import FORMATS, tabulate
from its.output import say
from its.runs.reader import whole_samples
from its.weights import prepare

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0.

    Raises:
        UserError: the command line, a run folder or a file in it is wrong, or a scorer can't be had.
    """
    options = _parser().parse_args(arguments)
    registry.load_plugins()
    registry.load_modules(options.trust)
    keep = None if options.best is None else Keep(best=options.best, by=options.rank_by)
    samples = whole_samples(options.runs)
    for run in options.runs:
        check_csv(run)
    scorers = found(chosen(options.scorers, options.set), fallback=options.fallback)
    if keep is not None:
        keep.check(scorers)
    prepare(scorers)
    samples = evaluate(scorers, samples, device=options.device)
    for run in options.runs:
        mine = [found for found in samples if found.run == run]
        write_csv(run)
        logger.info(f"scores of {len(mine)} samples are in {run / CSV}")
        if keep is not None:
            rank_run(mine, run, keep, scorers)
    say(FORMATS[options.table](tabulate(samples, options.by)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="its evaluate",
        description="Score samples: how well the picture fits its prompt, and the sound its. Scores go into each "
        "sample.json and into RUN/scores.csv; what is scored already is not scored again.",
        allow_abbrev=False,
    )
    add_table(parser)
    add_scorers(parser)
    parser.add_argument("--best", type=int, metavar="N", help="rank the samples of each prompt pair and mark the best")
    parser.add_argument(
        "--rank_by", nargs="+", default=["visual", "audio"], metavar="KEY", help="visual, audio, or a scorer's name"
    )
    return parser


def add_scorers(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who scores."""
    parser.add_argument(
        "--scorers",
        nargs="+",
        default=list(DEFAULT),
        metavar="NAME",
        help="registered scorers, or a pack's: mini asks the embedded judge, which is neither CLIP nor CLAP "
        f"(default: {' '.join(DEFAULT)})",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME.ARGUMENT=VALUE",
        help="an argument of a scorer, such as CLIPScorer.weights=FOLDER",
    )
    parser.add_argument("--fallback", metavar="PACK", help="whose scorers to take where the others can't be had: mini")
    parser.add_argument("--device", default="auto", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help="import this module too")
