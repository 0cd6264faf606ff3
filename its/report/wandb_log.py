"""Log the samples of a run directory to Weights & Biases: a table with media, and a summary.

`its predict` logs them at the end of a run, and `its log` later. `its.engine.progress` logs config and progress. The
API key is handled by wandb alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning.pytorch import Trainer

from its.errors import UserError
from its.media.headers import check_content
from its.runs.reader import Run, StoredSample
from its.runs.records import numbers, seconds_of

logger = logging.getLogger(__name__)

TABLE = "table"

MEDIA = {"spectrogram": "spectrogram.png", "color": "color.png", "sound": "audio.wav", "video": "video.mp4"}
"""Files by their column in the table. Columns are left out if all samples lack the file."""


def runs_of(trainer: Trainer) -> list[Any]:
    """Return the W&B runs of a trainer's loggers; empty on ranks other than 0.

    Raises:
        UserError: W&B can't start.
    """
    if not trainer.is_global_zero or not trainer.loggers:
        return []
    from lightning.pytorch.loggers import WandbLogger

    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    if not loggers:
        return []
    from wandb.errors import Error

    try:
        return [logger.experiment for logger in loggers]
    except Error as error:
        raise UserError(f"trainer.logger: {format_error(error)}") from None
    except TypeError as error:  # unknown argument of wandb.init
        raise UserError(f"trainer.logger: {error}") from None


def log_run(run: Run, config: Mapping[str, Any], *, name: str | None, **settings: Any) -> None:
    """Log a run directory as a new W&B run.

    Args:
        run: run with its samples.
        config: resolved config of the run.
        name: name of the W&B run; by default that of the run directory.
        settings: other arguments of `wandb.init`.

    Raises:
        UserError: W&B can't start.
    """
    import wandb
    from wandb.errors import Error

    try:
        wandb_run = wandb.init(name=name or run.folder.resolve().name, config=dict(config), job_type="log", **settings)
    except Error as error:
        raise UserError(format_error(error)) from None
    with wandb_run:
        log_samples(wandb_run, run.samples)


def format_error(error: Exception) -> str:
    """Format an error of wandb in one line with a remedy."""
    reason = " ".join(str(error).split()).rstrip(".")
    return f"W&B can't start: {reason:.300}. Without a login or a network, use mode offline, and `wandb sync` later"


def log_samples(run: Any, samples: Sequence[StoredSample]) -> None:
    """Log samples to a W&B run: the table, and the summary, which sweeps can optimise.

    Args:
        run: run of `wandb.init`.
        samples: samples of any status.
    """
    complete = [sample for sample in samples if sample.complete]
    if complete:
        run.log({TABLE: table_of(complete)})
    run.summary.update(summary_of(samples))


def table_of(samples: Sequence[StoredSample]) -> Any:
    """Return a `wandb.Table` with a row for each complete sample: id, prompts, seed, media, scores, seconds."""
    import wandb

    kinds = {"spectrogram": wandb.Image, "color": wandb.Image, "sound": wandb.Audio, "video": wandb.Video}
    media = [dict(_media(sample)) for sample in samples]
    media_columns = [column for column in MEDIA if any(column in files for files in media)]
    experts = list(dict.fromkeys(name for sample in samples for name in sample.record["prompts"]))
    scores = [dict(numbers(sample.mapping("scores"))) for sample in samples]
    score_columns = list(dict.fromkeys(name for values in scores for name in values))
    table = wandb.Table(columns=["id", *experts, "seed", *media_columns, *score_columns, "seconds"])
    for sample, files, values in zip(samples, media, scores, strict=True):
        table.add_data(
            sample.folder.name,
            *(sample.record["prompts"].get(name) for name in experts),
            sample.record["seed"],
            *(kinds[column](str(files[column])) if column in files else None for column in media_columns),
            *(values.get(name) for name in score_columns),
            seconds_of(sample.record),
        )
    return table


def _media(sample: StoredSample) -> Iterator[tuple[str, Path]]:
    """Yield columns and files of a sample that may be uploaded: regular files whose content fits their extension."""
    for column, name in MEDIA.items():
        if (path := sample.file(name)) is not None:
            try:
                check_content(path)
                yield column, path
            except (OSError, ValueError) as error:
                logger.warning(f"{path} is not uploaded: {error}")


def summary_of(samples: Sequence[StoredSample]) -> dict[str, float]:
    """Return the summary metrics of a run.

    These are the numbers of samples, the mean seconds per sample, the mean of each score over the samples that have
    it, and `scores/joint`, the mean of `joint_score`.
    """
    complete = [sample.record for sample in samples if sample.complete]
    summary: dict[str, float] = {"samples": len(complete), "failed": len(samples) - len(complete)}
    columns: dict[str, list[float]] = {}
    for record in complete:
        scores = record.get("scores", {})
        metrics = {f"scores/{name}": value for name, value in numbers(scores)}
        for name, value in {
            **metrics,
            "scores/joint": joint_score(scores),
            "seconds_per_sample": seconds_of(record),
        }.items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    return summary | {name: fmean(values) for name, values in columns.items()}


def joint_score(scores: Mapping[str, Any]) -> float | None:
    """Return the geometric mean of a sample's mean picture score and mean sound score, in [0, 1].

    None unless the sample has both. The joint score is high only if both the picture and the sound match their prompts.
    Unlike ranks, it does not depend on other samples, so it is comparable between runs.
    """
    means = []
    for modality in ("visual", "audio"):
        entries = [entry for entry in scores.values() if isinstance(entry, Mapping) and entry.get("judges") == modality]
        values = [value for entry in entries for _, value in numbers({"score": entry.get("score")})]
        if not values:
            return None
        means.append(fmean(values))
    return math.sqrt(max(means[0], 0) * max(means[1], 0))
