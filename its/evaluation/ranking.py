"""Best of N: the samples of each prompt pair in order, and the best of them marked. Nothing is deleted."""

from __future__ import annotations

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
    """Successive halving: which samples of a prompt pair go on, by the scores of what they seem to become.

    Attributes:
        at: shares of the reverse process at which they are looked at, rising.
        leave: share of them that goes on each time; never fewer than are kept in the end.
    """

    at: list[float] = field(default_factory=lambda: [1 / 3])
    leave: float = 0.5

    def __post_init__(self) -> None:
        if not self.at or sorted(set(self.at)) != self.at or not 0 < self.at[0] <= self.at[-1] < 1:
            raise UserError(f"keep: prune.at is {self.at}; expected shares of the process above 0 and below 1, rising")
        if not 0 < self.leave < 1:
            raise UserError(f"keep: prune.leave is {self.leave}; expected a share above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What to keep of the samples of each prompt pair.

    The rule: by each criterion, samples are ranked from 1, equal scores sharing the mean of their ranks, and missing
    ones coming last. The mean over the criteria decides; then the worse of a sample's ranks; then the sum of its
    scores; then the lower seed. A sample without any score is never kept.

    Attributes:
        best: how many.
        by: criteria: `visual` or `audio`, which is every scorer that judges it, or a scorer's name.
        prune: whether samples that look bad early are stopped; null for none.
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
        """Whether each criterion has somebody who judges it.

        Raises:
            UserError: one has nobody.
        """
        self.criteria(scorers)

    def criteria(self, scorers: Sequence[Scorer]) -> list[str]:
        """Names of the scorers that rank, in order.

        Raises:
            UserError: a criterion has nobody who judges it.
        """
        known = {type(scorer).__name__: scorer.modality for scorer in scorers}
        found: list[str] = []
        for key in self.by:
            mine = [name for name, judges in known.items() if key in (name, judges)]
            if not mine:
                offered = [*known, *dict.fromkeys(known.values())]
                raise UserError(
                    f"keep: by names {key!r}, which no scorer judges; there are {', '.join(offered)}."
                    f"{nearest(key, offered)}"
                )
            found += mine
        return list(dict.fromkeys(found))


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A sample's place among those of its prompts.

    Attributes:
        found: the sample.
        rank: from 1.
        ranks: by each criterion.
        kept: whether it is one of the best.
    """

    found: StoredSample
    rank: int
    ranks: Mapping[str, float]
    kept: bool


def ranked(samples: Sequence[StoredSample], criteria: Sequence[str], best: int) -> list[Ranked]:
    """Samples of one prompt pair, in order."""
    scores = {name: [score_of(found, name) for found in samples] for name in criteria}
    ranks = {name: ranks_of(column) for name, column in scores.items()}
    order = best_first(scores, [(found.record.get("seed", 0), found.folder.name) for found in samples])
    return [
        Ranked(
            found=samples[index],
            rank=rank,
            ranks={name: ranks[name][index] for name in criteria},
            kept=rank <= best and any(column[index] is not None for column in scores.values()),
        )
        for rank, index in enumerate(order, start=1)
    ]


def best_first(scores: Mapping[str, Sequence[float | None]], last_resort: Sequence[Any]) -> list[int]:
    """Indices of samples by the rule of `Keep`, from their scores by criterion.

    Args:
        scores: by criterion, of each sample.
        last_resort: what decides between samples that are equal in everything, the lower first.
    """
    ranks = {name: ranks_of(column) for name, column in scores.items()}

    def place(index: int) -> tuple[Any, ...]:
        own = [column[index] for column in ranks.values()]
        said = [column[index] for column in scores.values() if column[index] is not None]
        return not said, sum(own) / len(own), max(own), -sum(s for s in said if s is not None), last_resort[index]

    return sorted(range(len(last_resort)), key=place)


def ranks_of(scores: Sequence[float | None]) -> list[float]:
    """Ranks from 1, the highest score first; equal scores share the mean of their ranks; None comes last."""
    values = [-1.0 if score is None else score for score in scores]  # scores lie in [0, 1]
    return [sum(other > value for other in values) + (1 + values.count(value)) / 2 for value in values]


def rank_run(samples: Sequence[StoredSample], run: Path, keep: Keep, scorers: Sequence[Scorer]) -> list[Ranked]:
    """Rank a run's samples for each prompt pair; mark them in their records, and write RUN/ranking.csv.

    Raises:
        UserError: a criterion has nobody who judges it, or a file can't be written.
    """
    criteria = keep.criteria(scorers)
    pairs: dict[str, list[StoredSample]] = {}
    for found in samples:
        pairs.setdefault(prompts_of(found), []).append(found)
    placed = [one for some in pairs.values() for one in ranked(some, criteria, keep.best)]
    for one in placed:
        update_record(one.found.folder, {"rank": one.rank, "kept": one.kept, "ranked_by": criteria})
    _write(placed, criteria, run)
    kept = sum(one.kept for one in placed)
    logger.info(
        f"kept the best {kept} of {len(placed)} samples of {len(pairs)} prompt pairs by {', '.join(criteria)}: "
        f"{run / CSV}; nothing was deleted",
    )
    return placed


def _write(placed: Sequence[Ranked], criteria: Sequence[str], run: Path) -> None:
    rows: list[list[Any]] = [[*MARK.split(","), *(f"{name}{kind}" for name in criteria for kind in ("", ".rank"))]]
    for one in placed:
        said = [value for name in criteria for value in (score_of(one.found, name), one.ranks[name])]
        own = [prompts_of(one.found), one.rank, str(one.kept).lower(), one.found.folder.name]
        rows.append([*own, one.found.record["seed"], *said])
    write_marked(run / CSV, comma_separated(rows), MARK)
