"""Score and rank the samples of a run, for the keys `scorers` and `keep` of `its predict`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its.evaluation.choosing import DEFAULT, build_scorers, find_weights
from its.evaluation.pruning import PruningRunner, check_prunes
from its.evaluation.ranking import Keep, rank_run
from its.evaluation.scoring import evaluate, write_csv
from its.interfaces import Scorer
from its.methods.base import Method
from its.runs.reader import stored_samples
from its.runs.records import read_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunScorer:
    """Scores the samples of a run, and keeps or stops samples by their scores.

    Attributes:
        scorers: whose weights were found. They are downloaded before the first sample is made.
        keep: which samples of each prompt pair to keep; None to score only.
    """

    scorers: Sequence[Scorer]
    keep: Keep | None

    @property
    def prunes(self) -> bool:
        """Whether samples are stopped early."""
        return self.keep is not None and self.keep.prune is not None

    def prune(self, method: Method, *, batch_size: int) -> None:
        """Make the method stop samples early, if `keep.prune` is set.

        Raises:
            UserError: the method does not support it.
        """
        if self.keep is not None and self.keep.prune is not None:
            prunable = check_prunes(method)
            method.run_batch = PruningRunner(prunable, self.keep, self.scorers, batch_size)

    def score(self, run: Path, names: Collection[str], *, device: str) -> None:
        """Score and rank the complete samples of a run, and log how much early stopping saved.

        Raises:
            UserError: as `evaluate`.
        """
        records = {name: read_record(run / "samples" / name) or {} for name in names}
        if not any(record.get("status") == "ok" for record in records.values()):
            return
        samples = evaluate(
            self.scorers, [sample for sample in stored_samples(run, list(names)) if sample.complete], device=device
        )
        write_csv(run)
        if self.keep is not None:
            rank_run(samples, run, self.keep, self.scorers)
        counts = [record["evaluations"] for record in records.values() if "evaluations" in record]
        made, whole = (sum(count.get(key, 0) for count in counts) for key in ("made", "whole"))
        if made and whole:
            stopped = sum(record.get("status") == "stopped" for record in records.values())
            logger.info(
                f"{stopped} of {len(names)} samples were stopped early: {made} of {whole} network evaluations were "
                f"made, which saved {1 - made / whole:.0%}"
            )


def make_run_scorer(scorers: Sequence[Any], keep: Keep | None, *, fallback: str | None) -> RunScorer | None:
    """Create the scorers and find their weights; None if neither scorers nor `keep` are given.

    Args:
        scorers: names, or mappings of `class_path` and `init_args`. If only `keep` is given, the paper's are used.
        keep: the key `keep`.
        fallback: pack whose scorers are used if weights are missing; None for an error.

    Raises:
        UserError: a scorer is unknown, its weights are missing, or no scorer gives a criterion of `keep`.
    """
    if not scorers and keep is None:
        return None
    asked = find_weights(build_scorers(scorers or DEFAULT), fallback=fallback)
    if keep is not None:
        keep.check(asked)
    return RunScorer(scorers=asked, keep=keep)
