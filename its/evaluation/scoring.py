"""Asks scorers about the samples of runs, and writes down what they say."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from its.errors import UserError
from its.interfaces import Scorer
from its.media.marked import check_marked, write_marked
from its.output import comma_separated
from its.runs.reader import StoredSample, read_run
from its.runs.records import update_record
from its.runs.sample_media import load_scorer_input

logger = logging.getLogger(__name__)

TOGETHER = 16
"""Samples that are read and scored before their records are written."""
CSV = "scores.csv"
MARK = "id,seed,"


def identity(scorer: Scorer) -> dict[str, Any]:
    """What a score depends on besides the sample: settings and weights. Scores of equal identity are comparable."""
    described = scorer.describe(defining=True)
    settings = {key: value for key, value in described.items() if key != "class"}
    return {"weights": scorer.provenance(), **({"settings": settings} if settings else {})}


def is_scored(found: StoredSample, name: str, asked: Mapping[str, Any]) -> bool:
    """Whether a sample has been scored by this scorer with these weights, prompt included."""
    entry = found.part("scores").get(name)
    return isinstance(entry, Mapping) and {key: entry.get(key) for key in asked} == dict(asked)


def evaluate(scorers: Sequence[Scorer], samples: Sequence[StoredSample], *, device: str = "auto") -> list[StoredSample]:
    """Score what isn't scored yet, and keep each score in its sample's record as soon as it is there.

    Args:
        scorers: prepared.
        samples: of any runs.
        device: such as `cpu` or `cuda:1`; `auto` takes a GPU where there is one.

    Returns:
        The samples with their records as they are now.

    Raises:
        UserError: a file can't be read, a record can't be written, or a scorer says what no scorer may say.
    """
    by_folder = {found.folder: found for found in samples}
    where = _device(device)
    wanted = [(scorer, type(scorer).__name__, identity(scorer)) for scorer in scorers]
    for found in samples:
        if not all(is_scored(found, name, asked) for _, name, asked in wanted):
            load_scorer_input(found, "visual")  # all files are looked at before anything is changed
    for scorer, name, asked in wanted:
        todo = [found for found in by_folder.values() if not is_scored(found, name, asked)]
        if not todo:
            continue
        scorer.load()
        scorer.to(where).eval().requires_grad_(False)
        begin = time.perf_counter()
        for first in range(0, len(todo), TOGETHER):
            for found in _score(scorer, todo[first : first + TOGETHER], {"judges": scorer.modality, **asked}):
                by_folder[found.folder] = found
        rate = len(todo) / (time.perf_counter() - begin)
        logger.info(f"{name} scored {len(todo)} samples on {where}, {rate:.3g} a second")
        scorer.to("cpu")
    return list(by_folder.values())


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"device is {name!r}, which can't be used here: {reason}") from None
    return device


def _score(scorer: Scorer, some: Sequence[StoredSample], entry: Mapping[str, Any]) -> list[StoredSample]:
    """Score some samples and write it down. One without a prompt is not asked about, and has no score."""
    name, numbers = type(scorer).__name__, dict.fromkeys(found.folder for found in some)
    asked = [found for found in some if found.prompt(scorer.modality).strip()]
    with torch.inference_mode():
        said = scorer.score([load_scorer_input(found, scorer.modality) for found in asked])
    for found, score in zip(asked, said, strict=True):
        if score is not None and not (math.isfinite(score) and -1e-6 <= score <= 1 + 1e-6):
            raise UserError(f"{name} scored {found.folder} {score}; expected a number in [0, 1], or nothing")
        numbers[found.folder] = score
    changes = {found.folder: {"scores": {name: {"score": numbers[found.folder], **entry}}} for found in some}
    return [replace(found, record=update_record(found.folder, changes[found.folder])) for found in some]


def score_of(found: StoredSample, name: str) -> float | None:
    """What a scorer gave a sample; None if it gave none."""
    entry = found.part("scores").get(name)
    value = entry.get("score") if isinstance(entry, Mapping) else entry
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def check_csv(run: Path) -> None:
    """Check that RUN/scores.csv may be written, before hours of scoring.

    Raises:
        UserError: a file of another origin is there.
    """
    check_marked(run / CSV, MARK)


def write_csv(run: Path) -> None:
    """Write RUN/scores.csv anew from the run directory: a row for each whole sample, a column for each scorer.

    What has no score is empty.

    Raises:
        UserError: the directory can't be read, the file can't be written, or a file of another origin is there.
    """
    mine = [sample for sample in read_run(run).samples if sample.whole]
    prompts = list(dict.fromkeys(name for found in mine for name in found.record["prompts"]))
    scorers = sorted({name for found in mine for name in found.part("scores")})
    rows: list[list[Any]] = [["id", "seed", *(f"prompt.{name}" for name in prompts), *scorers]]
    for found in mine:
        said = [score_of(found, name) for name in scorers]
        worded = [found.record["prompts"].get(name) for name in prompts]
        rows.append([found.folder.name, found.record["seed"], *worded, *said])
    write_marked(run / CSV, comma_separated(rows), MARK)
