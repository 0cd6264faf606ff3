"""`its log RUN...`: uploads runs to Weights & Biases, or writes what can be uploaded later."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from its.errors import UserError
from its.output import say
from its.report.wandb_log import log_samples, plain
from its.runs.reader import read_runs
from its.runs.resume import load_config


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0.

    Raises:
        UserError: a folder is no run, or W&B can't begin.
    """
    parser = argparse.ArgumentParser(
        prog="its log",
        description="Log runs to Weights & Biases: config, a table of the samples with picture, sound and video, "
        "scores, summary. Offline, `wandb sync` uploads what is written here.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder that its predict wrote")
    parser.add_argument("--project", default="its", help="(its)")
    parser.add_argument("--entity", help="user or team")
    parser.add_argument("--name", help="of the W&B run; by default the folder's")
    parser.add_argument("--mode", choices=("online", "offline", "disabled"), help="by default what WANDB_MODE says")
    parser.add_argument("--dir", type=Path, default=Path(), help="where wandb keeps its files (here)")
    options = parser.parse_args(arguments)
    found = {run.folder: (run.samples, load_config(run.folder)) for run in read_runs(options.runs)}
    import wandb
    from wandb.errors import Error

    for run, (samples, config) in found.items():
        try:
            logged = wandb.init(
                project=options.project,
                entity=options.entity,
                name=options.name or run.resolve().name,
                mode=options.mode,
                dir=str(options.dir),
                config=config,
                job_type="log",
            )
        except Error as error:
            raise UserError(plain(error)) from None
        with logged:
            log_samples(logged, samples)
        say(f"its: logged {len(samples)} samples of {run}")
    return 0
