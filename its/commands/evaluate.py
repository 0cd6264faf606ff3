"""The command `its evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from its.commands.table import TableFormat
from its.output import say

logger = logging.getLogger(__name__)


def evaluate(
    runs: list[Path],
    *,
    scorers: Sequence[str] = ("CLIPScorer", "CLAPScorer"),
    set: Sequence[str] = (),
    fallback: str | None = None,
    device: str = "auto",
    trust: Sequence[str] = (),
    best: int | None = None,
    rank_by: Sequence[str] = ("visual", "audio"),
    table: TableFormat = "md",
    by: Sequence[str] = ("run", "method"),
) -> int:
    """Score how well pictures and sounds match their prompts, by CLIP, CLAP or other scorers.

    Scores are written to each sample.json and to RUN/scores.csv. Samples that have a score are not scored again.

    Args:
        runs: run directories of its predict.
        scorers: registered scorers, or a pack's: mini is the embedded judge, which is neither CLIP nor CLAP.
        set: arguments of scorers as NAME.ARGUMENT=VALUE, such as CLIPScorer.weights=FOLDER.
        fallback: pack whose scorers are used if weights of the others are missing, such as mini.
        device: device of the scorers, such as cpu or cuda:1; auto is a GPU if available.
        trust: additional modules to import.
        best: rank the samples of each prompt pair, and mark this many of the best.
        rank_by: criteria of the ranking: visual, audio, or names of scorers.
        table: format of the table.
        by: a row for each run, method, prompt, prompt.NAME, seed, or setting such as guidance_scale.visual.

    Raises:
        UserError: an option, a run directory or a file in it is invalid, or weights of a scorer are missing.
    """
    from its import registry
    from its.evaluation.choosing import build_scorers, find_weights
    from its.evaluation.ranking import Keep, rank_run
    from its.evaluation.scoring import CSV, check_csv, write_csv
    from its.evaluation.scoring import evaluate as score
    from its.evaluation.tables import FORMATS, tabulate
    from its.runs.reader import complete_samples
    from its.weights import prepare

    registry.load_plugins()
    registry.load_modules(trust)
    keep = None if best is None else Keep(best=best, by=list(rank_by))
    samples = complete_samples(runs)
    for run in runs:
        check_csv(run)
    selected = find_weights(build_scorers(scorers, set), fallback=fallback)
    if keep is not None:
        keep.check(selected)
    prepare(selected)
    samples = score(selected, samples, device=device)
    for run in runs:
        of_run = [sample for sample in samples if sample.run == run]
        write_csv(run)
        logger.info(f"scores of {len(of_run)} samples are in {run / CSV}")
        if keep is not None:
            rank_run(of_run, run, keep, selected)
    say(FORMATS[table](tabulate(samples, by)))
    return 0
