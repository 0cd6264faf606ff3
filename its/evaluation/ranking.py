"""Best of N: rank the samples of each prompt pair, and mark the best ones. Samples are not deleted."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from its.errors import UserError, nearest
from its.evaluation.scoring import score_of
from its.evaluation.tables import prompts_of
from its.interfaces import Scorer
from its.media.marked import write_marked
from its.output import comma_separated
from its.runs.reader import StoredSample
from its.runs.records import update_record

logger = logging.getLogger(__name__)

CSV = "ranking.csv"
MARK = "prompts,rank,kept,id,seed"


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Successive halving: stop the samples of a prompt pair whose predicted results have the lowest scores.

    Attributes:
        at: fractions of the reverse process at which samples are scored, in ascending order.
        leave: fraction of the samples that continue each time; never fewer than `Keep.best` samples.
    """

    at: list[float] = field(default_factory=lambda: [1 / 3])
    leave: float = 0.5

    def __post_init__(self) -> None:
        if not self.at or sorted(set(self.at)) != self.at or not 0 < self.at[0] <= self.at[-1] < 1:
            raise UserError(f"keep: prune.at is {self.at}; expected ascending fractions above 0 and below 1")
        if not 0 < self.leave < 1:
            raise UserError(f"keep: prune.leave is {self.leave}; expected a fraction above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Rule of ranking: criteria, and number of samples of each prompt pair to keep.

    Each criterion ranks the samples from 1. Equal scores share the mean of their ranks; missing scores rank last.
    Samples are ordered by the mean of their ranks, then by their worst rank, the sum of their scores (higher first)
    and the seed (lower first). Samples without any score are never kept.

    Attributes:
        best: number of samples to keep.
        by: criteria: names of scorers, or `visual` or `audio` for all scorers of this modality.
        prune: settings of early stopping; None to complete all samples.
    """

    best: int
    by: list[str] = field(default_factory=lambda: ["visual", "audio"])
    prune: Prune | None = None

    def __post_init__(self) -> None:
        if self.best < 1:
            raise UserError(f"keep: best is {self.best}; expected 1 or more")
        if not self.by:
            raise UserError("keep: by is empty; expected visual, audio, or names of scorers")

    def check(self, scorers: Sequence[Scorer]) -> None:
        """Check that each criterion has a scorer.

        Raises:
            UserError: a criterion has no scorer.
        """
        self.criteria(scorers)

    def criteria(self, scorers: Sequence[Scorer]) -> list[str]:
        """Return the names of the scorers to rank by.

        Raises:
            UserError: a criterion has no scorer.
        """
        modalities = {type(scorer).__name__: scorer.modality for scorer in scorers}
        names: list[str] = []
        for key in self.by:
            matching = [name for name, modality in modalities.items() if key in (name, modality)]
            if not matching:
                known = [*modalities, *dict.fromkeys(modalities.values())]
                raise UserError(
                    f"keep: by contains {key!r}, which has no scorer; expected some of {', '.join(known)}."
                    f"{nearest(key, known)}"
                )
            names += matching
        return list(dict.fromkeys(names))


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Sample with its rank among the samples of a prompt pair.

    Attributes:
        sample: the sample.
        rank: overall rank, from 1.
        ranks: rank by criterion.
        kept: whether the sample is one of the best.
    """

    sample: StoredSample
    rank: int
    ranks: Mapping[str, float]
    kept: bool


def rank_samples(samples: Sequence[StoredSample], criteria: Sequence[str], best: int) -> list[Ranked]:
    """Sort the samples of one prompt pair by the rule of `Keep`, and mark the best ones as kept."""
    scores = {name: [score_of(sample, name) for sample in samples] for name in criteria}
    ranks = {name: ranks_of(column) for name, column in scores.items()}
    order = best_first(scores, [(sample.record.get("seed", 0), sample.folder.name) for sample in samples])
    return [
        Ranked(
            sample=samples[index],
            rank=rank,
            ranks={name: ranks[name][index] for name in criteria},
            kept=rank <= best and any(column[index] is not None for column in scores.values()),
        )
        for rank, index in enumerate(order, start=1)
    ]


def best_first(scores: Mapping[str, Sequence[float | None]], tie_breakers: Sequence[Any]) -> list[int]:
    """Return the indices of samples, sorted by the rule of `Keep`.

    Args:
        scores: scores of all samples, by criterion.
        tie_breakers: one value for each sample; otherwise equal samples are sorted by it, the lowest first.
    """
    ranks = {name: ranks_of(column) for name, column in scores.items()}

    def sort_key(index: int) -> tuple[Any, ...]:
        row = [column[index] for column in ranks.values()]
        values = [score for column in scores.values() if (score := column[index]) is not None]
        return not values, sum(row) / len(row), max(row), -sum(values), tie_breakers[index]

    return sorted(range(len(tie_breakers)), key=sort_key)


def ranks_of(scores: Sequence[float | None]) -> list[float]:
    """Return ranks from 1, the highest score first. Equal scores share the mean of their ranks; None ranks last."""
    values = [-1.0 if score is None else score for score in scores]  # scores lie in [0, 1]
    return [sum(other > value for other in values) + (1 + values.count(value)) / 2 for value in values]


def rank_run(samples: Sequence[StoredSample], run: Path, keep: Keep, scorers: Sequence[Scorer]) -> list[Ranked]:
    """Rank a run's samples, and write the ranks into their records and into RUN/ranking.csv.

    Samples compete with those of the same prompts and the same material of the user.

    Raises:
        UserError: a criterion has no scorer, or a file can't be written.
    """
    criteria = keep.criteria(scorers)
    pairs: dict[str, list[StoredSample]] = {}
    for sample in samples:
        settings = sample.record.get("settings", {})
        own = [settings.get(key) for key in ("start", "keep", "control", "interpolate")]
        pairs.setdefault(f"{prompts_of(sample)} {json.dumps(own)}", []).append(sample)
    ranking = [ranked for group in pairs.values() for ranked in rank_samples(group, criteria, keep.best)]
    rows: list[list[Any]] = [[*MARK.split(","), *(f"{name}{kind}" for name in criteria for kind in ("", ".rank"))]]
    for ranked in ranking:
        sample = ranked.sample
        update_record(sample.folder, {"rank": ranked.rank, "kept": ranked.kept, "ranked_by": criteria})
        values = [value for name in criteria for value in (score_of(sample, name), ranked.ranks[name])]
        kept = str(ranked.kept).lower()
        rows.append([prompts_of(sample), ranked.rank, kept, sample.folder.name, sample.record["seed"], *values])
    write_marked(run / CSV, comma_separated(rows), MARK)
    count = sum(ranked.kept for ranked in ranking)
    logger.info(
        f"kept the best {count} of {len(ranking)} samples of {len(pairs)} prompt pairs by {', '.join(criteria)}: "
        f"{run / CSV}; nothing was deleted"
    )
    return ranking
