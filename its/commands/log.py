"""The command `its log`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from its.output import say


def log(
    runs: list[Path],
    *,
    project: str = "its",
    entity: str | None = None,
    name: str | None = None,
    mode: Literal["online", "offline", "disabled"] | None = None,
    dir: Path = Path(),
) -> int:
    """Log runs to Weights & Biases.

    The log has the config, a summary, and a table with prompts, picture, sound, video and scores of each sample. An
    offline log can be uploaded later with `wandb sync`.

    Args:
        runs: run directories of its predict.
        project: W&B project.
        entity: W&B user or team.
        name: name of the W&B run (default: name of the run directory).
        mode: mode of W&B (default: the value of WANDB_MODE).
        dir: folder for the files of W&B.

    Raises:
        UserError: a folder is not a run directory, or W&B can't start.
    """
    from its.report.wandb_log import log_run
    from its.runs.reader import read_runs
    from its.runs.resume import load_config

    read = [(run, load_config(run.folder)) for run in read_runs(runs)]
    for run, config in read:
        log_run(run, config, project=project, entity=entity, name=name, mode=mode, dir=str(dir))
        say(f"logged {len(run.samples)} samples of {run.folder}")
    return 0
