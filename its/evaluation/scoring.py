"""Score the samples of runs, and write the scores into their records and into `scores.csv`."""

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

CHUNK = 16
"""Number of samples that are read and scored before their records are written."""
CSV = "scores.csv"
MARK = "id,seed,"


def identity_of(scorer: Scorer) -> dict[str, Any]:
    """Return a scorer's settings and weights. Scores are comparable if these are equal."""
    description = scorer.describe(identity_only=True)
    settings = {key: value for key, value in description.items() if key != "class"}
    return {"weights": scorer.provenance(), **({"settings": settings} if settings else {})}


def is_scored(sample: StoredSample, name: str, identity: Mapping[str, Any]) -> bool:
    """Return whether a sample's record has a score of a scorer with these settings and weights."""
    entry = sample.mapping("scores").get(name)
    return isinstance(entry, Mapping) and {key: entry.get(key) for key in identity} == dict(identity)


def evaluate(scorers: Sequence[Scorer], samples: Sequence[StoredSample], *, device: str = "auto") -> list[StoredSample]:
    """Score the samples without a score, and update their records. Return all samples with their updated records.

    Args:
        scorers: prepared scorers.
        samples: samples of any runs.
        device: device of the scorers, for example `cuda:1`; `auto` for a GPU if available.

    Raises:
        UserError: the device can't be used, a file can't be read, a record can't be written, or a score is invalid.
    """
    by_folder = {sample.folder: sample for sample in samples}
    torch_device = _device(device)
    identities = [(scorer, type(scorer).__name__, identity_of(scorer)) for scorer in scorers]
    for sample in samples:
        if not all(is_scored(sample, name, identity) for _, name, identity in identities):
            load_scorer_input(sample, "visual")  # check all files before any record is changed
    for scorer, name, identity in identities:
        todo = [sample for sample in by_folder.values() if not is_scored(sample, name, identity)]
        if not todo:
            continue
        scorer.load()
        scorer.to(torch_device).eval().requires_grad_(False)
        begin = time.perf_counter()
        for first in range(0, len(todo), CHUNK):
            for sample in _score(scorer, todo[first : first + CHUNK], {"judges": scorer.modality, **identity}):
                by_folder[sample.folder] = sample
        rate = len(todo) / (time.perf_counter() - begin)
        logger.info(f"{name} scored {len(todo)} samples on {torch_device}, {rate:.3g} per second")
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


def _score(scorer: Scorer, samples: Sequence[StoredSample], entry: Mapping[str, Any]) -> list[StoredSample]:
    """Score samples and update their records. The score of samples without a prompt is None."""
    name, scores = type(scorer).__name__, dict.fromkeys(sample.folder for sample in samples)
    prompted = [sample for sample in samples if sample.prompt(scorer.modality).strip()]
    with torch.inference_mode():
        results = scorer.score([load_scorer_input(sample, scorer.modality) for sample in prompted])
    for sample, score in zip(prompted, results, strict=True):
        if score is not None and not (math.isfinite(score) and -1e-6 <= score <= 1 + 1e-6):
            raise UserError(f"{name} returned {score} for {sample.folder}; expected a number in [0, 1] or None")
        scores[sample.folder] = score
    changes = {folder: {"scores": {name: {"score": score, **entry}}} for folder, score in scores.items()}
    return [replace(sample, record=update_record(sample.folder, changes[sample.folder])) for sample in samples]


def score_of(sample: StoredSample, name: str) -> float | None:
    """Return a scorer's score of a sample, or None."""
    entry = sample.mapping("scores").get(name)
    value = entry.get("score") if isinstance(entry, Mapping) else entry
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def check_csv(run: Path) -> None:
    """Check that RUN/scores.csv may be written.

    Raises:
        UserError: the file exists and was not written by `its`.
    """
    check_marked(run / CSV, MARK)


def write_csv(run: Path) -> None:
    """Write RUN/scores.csv from the run directory: a row for each complete sample, a column for each scorer.

    Raises:
        UserError: the directory can't be read, or the file can't be written or was not written by `its`.
    """
    samples = [sample for sample in read_run(run).samples if sample.complete]
    experts = list(dict.fromkeys(name for sample in samples for name in sample.record["prompts"]))
    scorers = sorted({name for sample in samples for name in sample.mapping("scores")})
    rows: list[list[Any]] = [["id", "seed", *(f"prompt.{name}" for name in experts), *scorers]]
    for sample in samples:
        prompts = [sample.record["prompts"].get(name) for name in experts]
        scores = [score_of(sample, name) for name in scorers]
        rows.append([sample.folder.name, sample.record["seed"], *prompts, *scores])
    write_marked(run / CSV, comma_separated(rows), MARK)
