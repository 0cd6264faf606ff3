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
        scorers: scorers with located weights, which are downloaded before the first sample is made.
        keep: rule of ranking; None to score only.
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
        """Score and rank the complete samples of a run, and log the computations saved by early stopping.

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
        made, total = (sum(count.get(key, 0) for count in counts) for key in ("made", "whole"))
        if made and total:
            stopped = sum(record.get("status") == "stopped" for record in records.values())
            logger.info(
                f"{stopped} of {len(names)} samples were stopped early: {made} of {total} network evaluations were "
                f"made, which saved {1 - made / total:.0%}"
            )


def make_run_scorer(scorers: Sequence[Any], keep: Keep | None, *, fallback: str | None) -> RunScorer | None:
    """Create the scorers and find their weights; None if neither scorers nor `keep` are given.

    Args:
        scorers: names, or mappings of `class_path` and `init_args`. If only `keep` is given, the paper's are used.
        keep: value of the key `keep`.
        fallback: pack whose scorers are used if weights are missing; None to raise an error.

    Raises:
        UserError: a scorer is unknown, its weights are missing, or a criterion of `keep` has no scorer.
    """
    if not scorers and keep is None:
        return None
    selected = find_weights(build_scorers(scorers or DEFAULT), fallback=fallback)
    if keep is not None:
        keep.check(selected)
    return RunScorer(scorers=selected, keep=keep)
