"""What `its predict` does with scores: its keys `scorers` and `keep`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its.evaluation.choosing import DEFAULT, chosen, found
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
    """Scorers, and the use of their scores.

    Attributes:
        scorers: found; they are prepared before the first sample is made.
        keep: what to keep of each prompt pair; None to score only.
    """

    scorers: Sequence[Scorer]
    keep: Keep | None

    @property
    def prunes(self) -> bool:
        """Whether samples are stopped early."""
        return self.keep is not None and self.keep.prune is not None

    def prune(self, method: Method, *, batch_size: int) -> None:
        """Let the method stop samples early, if `keep.prune` is set.

        Raises:
            UserError: it can't.
        """
        if self.keep is not None and self.keep.prune is not None:
            prunable = check_prunes(method)
            method.run_batch = PruningRunner(prunable, self.keep, self.scorers, batch_size)

    def judge(self, run: Path, names: Collection[str], *, device: str) -> None:
        """Score and rank those samples of a run that are whole.

        Raises:
            UserError: as `evaluate`.
        """
        records = {name: read_record(run / "samples" / name) or {} for name in names}
        if not any(record.get("status") == "ok" for record in records.values()):
            return
        samples = evaluate(
            self.scorers, [sample for sample in stored_samples(run, list(names)) if sample.whole], device=device
        )
        write_csv(run)
        if self.keep is not None:
            rank_run(samples, run, self.keep, self.scorers)
        counts = [record["evaluations"] for record in records.values() if "evaluations" in record]
        made, whole = (sum(count.get(key, 0) for count in counts) for key in ("made", "whole"))
        if made and whole:
            stopped = sum(record.get("status") == "stopped" for record in records.values())
            logger.info(
                f"{stopped} of {len(names)} samples were stopped early: {made} of {whole} evaluations of networks "
                f"were made, {1 - made / whole:.0%} were spared",
            )


def run_scorer_of(scorers: Sequence[Any], keep: Keep | None, *, fallback: str | None) -> RunScorer | None:
    """What the keys ask for, with the scorers' weights found; None if they ask for nothing.

    Args:
        scorers: names, or mappings of `class_path` and `init_args`; the paper's if there are none, but a `keep`.
        keep: the key `keep`.
        fallback: whose scorers to take where these can't be had; None for an error.

    Raises:
        UserError: there is no such scorer, it can't be had, or nobody judges what `keep` goes by.
    """
    if not scorers and keep is None:
        return None
    asked = found(chosen(scorers or DEFAULT), fallback=fallback)
    if keep is not None:
        keep.check(asked)
    return RunScorer(scorers=asked, keep=keep)
