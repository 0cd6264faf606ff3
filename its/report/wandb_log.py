"""Samples in Weights & Biases: a table with media, and a summary. Config and progress are `its.engine.progress`'s.

The run folder is the truth; what is logged is read from it, at the end of `its predict` or later by `its log`. Media
are uploaded from the files that are there. Keys are wandb's business: none is read, shown or written here.
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
"""Columns of the table, and the files that they show. A file that no sample has gets no column."""


def runs_of(trainer: Trainer) -> list[Any]:
    """The W&B runs that a trainer logs to; none on other ranks than 0, and none where its logger is another.

    Raises:
        UserError: W&B can't begin.
    """
    if not trainer.is_global_zero or not trainer.loggers:
        return []
    from lightning.pytorch.loggers import WandbLogger

    found = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    if not found:
        return []
    from wandb.errors import Error

    try:
        return [logger.experiment for logger in found]
    except Error as error:
        raise UserError(f"trainer.logger: {plain(error)}") from None
    except TypeError as error:  # an argument that wandb.init does not take
        raise UserError(f"trainer.logger: {error}") from None


def log_run(run: Run, config: Mapping[str, Any], *, name: str | None, **settings: Any) -> None:
    """Log a run directory as a new W&B run.

    Args:
        run: made and failed samples.
        config: of the run.
        name: of the W&B run; by default the folder's.
        settings: other arguments of `wandb.init`.

    Raises:
        UserError: W&B can't begin.
    """
    import wandb
    from wandb.errors import Error

    try:
        logged = wandb.init(name=name or run.folder.resolve().name, config=dict(config), job_type="log", **settings)
    except Error as error:
        raise UserError(plain(error)) from None
    with logged:
        log_samples(logged, run.samples)


def plain(error: Exception) -> str:
    """What wandb says of an error, in one line with what to do."""
    said = " ".join(str(error).split()).rstrip(".")
    return f"W&B can't begin: {said:.300}. Without a login or a network: mode offline, and `wandb sync` later"


def log_samples(run: Any, samples: Sequence[StoredSample]) -> None:
    """Log samples of a run folder into a W&B run: the table, and the summary that sweeps look at.

    Args:
        run: what `wandb.init` gave.
        samples: made and failed ones.
    """
    whole = [sample for sample in samples if sample.complete]
    if whole:
        run.log({TABLE: table_of(whole)})
    run.summary.update(summary_of(samples))


def table_of(samples: Sequence[StoredSample]) -> Any:
    """Whole samples -> a `wandb.Table` with a row for each: id, prompts, seed, media, scores, seconds."""
    import wandb

    kinds = {"spectrogram": wandb.Image, "color": wandb.Image, "sound": wandb.Audio, "video": wandb.Video}
    media = {sample.folder: dict(_media(sample)) for sample in samples}
    shown = [column for column in MEDIA if any(column in own for own in media.values())]
    experts = list(dict.fromkeys(name for sample in samples for name in sample.record["prompts"]))
    scores = [dict(numbers(sample.mapping("scores"))) for sample in samples]
    scored = list(dict.fromkeys(name for each in scores for name in each))
    table = wandb.Table(columns=["id", *experts, "seed", *shown, *scored, "seconds"])
    for sample, own in zip(samples, scores, strict=True):
        record, files = sample.record, media[sample.folder]
        table.add_data(
            sample.folder.name,
            *(record["prompts"].get(name) for name in experts),
            record["seed"],
            *(kinds[column](str(files[column])) if column in files else None for column in shown),
            *(own.get(name) for name in scored),
            seconds_of(record),
        )
    return table


def _media(sample: StoredSample) -> Iterator[tuple[str, Path]]:
    """The files of a sample that may be uploaded: regular, and what their endings say."""
    for column, name in MEDIA.items():
        if (path := sample.file(name)) is not None:
            try:
                check_content(path)
                yield column, path
            except (OSError, ValueError) as error:
                logger.warning(f"{path} is not uploaded: {error}")


def summary_of(samples: Sequence[StoredSample]) -> dict[str, float]:
    """Summary metrics of a run, which W&B sweeps can optimise.

    Counts, mean seconds for a sample, the mean of each score over the samples that have it, and `scores/joint`, the
    mean of `joint_score`.
    """
    whole = [sample.record for sample in samples if sample.complete]
    summary: dict[str, float] = {"samples": len(whole), "failed": len(samples) - len(whole)}
    columns: dict[str, list[float]] = {}
    for record in whole:
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
    """Geometric mean of a sample's mean picture score and mean sound score, in [0, 1]; None unless it has both.

    It is comparable between runs, unlike ranks, which depend on the other samples; and it is high only if both the
    picture and the sound fit their prompts.
    """
    means = []
    for modality in ("visual", "audio"):
        entries = [entry for entry in scores.values() if isinstance(entry, Mapping) and entry.get("judges") == modality]
        values = [value for entry in entries for _, value in numbers({"score": entry.get("score")})]
        if not values:
            return None
        means.append(fmean(values))
    return math.sqrt(max(means[0], 0) * max(means[1], 0))
