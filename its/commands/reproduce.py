"""The command `its reproduce`."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from its.commands.table import TableFormat
from its.output import say

logger = logging.getLogger(__name__)


def reproduce(
    experiment: Literal["table1", "table3-guidance", "table3-warm-start", "vocoders"],
    *options: str,
    dry_run: bool = False,
    rows: Sequence[str] = (),
    config: Sequence[str] = (),
    output: Path = Path("runs/paper"),
    configs: Path | None = None,
    scorers: Sequence[str] = ("CLIPScorer", "CLAPScorer"),
    set: Sequence[str] = (),
    fallback: str | None = None,
    device: str = "auto",
    trust: Sequence[str] = (),
    table: TableFormat = "md",
) -> int:
    """Run an experiment of the paper, and print its scores beside the paper's.

    The same command resumes a stopped experiment. Other options are passed on to its predict, such as
    --trainer.devices=4. The exit status is 1 if some samples can't be made.

    Args:
        experiment: the experiment.
        options: options of its predict.
        dry_run: only print the commands, the numbers of samples, and an estimate of the time.
        rows: only these runs, by the names of their directories, such as imprint.
        config: configs over the experiment's and below the method's.
        output: folder for the run directories.
        configs: folder of the configs (default: configs in the current folder, or the packaged ones).
        scorers: registered scorers, or a pack's: mini is the embedded judge, which is neither CLIP nor CLAP.
        set: arguments of scorers as NAME.ARGUMENT=VALUE, such as CLIPScorer.weights=FOLDER.
        fallback: pack whose scorers are used if weights of the others are missing, such as mini.
        device: device of the scorers, such as cpu or cuda:1; auto is a GPU if available.
        trust: additional modules to import.
        table: format of the table.

    Raises:
        UserError: an option or a config is invalid, or weights of a scorer are missing; nothing was made.
    """
    from its.evaluation.reproduction import beside_the_paper, describe, plan

    reproduction = plan(experiment, rows=rows, overlays=config, folder=configs, output=output, options=options)
    if dry_run:
        for line in describe(reproduction, scorers):
            say(line)
        return 0

    from its import registry
    from its.commands.predict import main as predict
    from its.evaluation.choosing import build_scorers, find_weights
    from its.evaluation.scoring import evaluate, write_csv
    from its.evaluation.tables import FORMATS
    from its.runs.reader import complete_samples
    from its.weights import prepare

    registry.load_plugins()
    registry.load_modules(trust)
    selected = find_weights(build_scorers(scorers, set), fallback=fallback)
    prepare(selected)  # fails before hours of sampling
    status = 0
    for arguments in reproduction.commands.values():
        logger.info(shlex.join(["its", "predict", *arguments]))
        result = predict(arguments)
        if result == 130:
            raise KeyboardInterrupt
        status |= result
    samples = evaluate(selected, complete_samples(reproduction.runs), device=device)
    for run in reproduction.runs:
        write_csv(run)
    say(FORMATS[table](beside_the_paper(reproduction.rows, samples, output)))
    return status
