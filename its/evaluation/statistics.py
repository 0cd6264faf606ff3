"""Means and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
AT_ONCE = 2**20
"""Drawn prompts that are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over samples.

    Attributes:
        mean: of the scores.
        interval: half of the paper's 95 % interval, 1.96 std / sqrt(n), std being that of the n scores themselves
            (divided by n, as in the authors' program). It takes samples of one prompt for independent.
        low, high: 95 % interval of a bootstrap over prompts, which doesn't; None where there is one prompt alone.
        n: how many samples have a score.
        prompts: how many prompt pairs they are of.
    """

    mean: float
    interval: float
    low: float | None
    high: float | None
    n: int
    prompts: int


def estimate(scores: Sequence[float], prompts: Sequence[str]) -> Estimate | None:
    """Scores, each with the prompts of its sample -> their mean and intervals; None of no scores."""
    if not scores:
        return None
    values = np.asarray(scores, dtype=np.float64)
    by_prompt: dict[str, list[float]] = {}
    for score, prompt in zip(scores, prompts, strict=True):
        by_prompt.setdefault(prompt, []).append(score)
    low, high = _bootstrap(by_prompt)
    return Estimate(
        mean=float(values.mean()),
        interval=float(1.96 * values.std() / np.sqrt(len(values))),
        low=low,
        high=high,
        n=len(values),
        prompts=len(by_prompt),
    )


def _bootstrap(by_prompt: Mapping[str, Sequence[float]]) -> tuple[float | None, float | None]:
    """Percentiles of the mean when prompts are drawn with replacement, each with all of its samples.

    The same prompts give the same interval: the generator is seeded.
    """
    if len(by_prompt) < 2:
        return None, None
    sums = np.array([sum(scores) for scores in by_prompt.values()])
    counts = np.array([len(scores) for scores in by_prompt.values()])
    generator, means = np.random.default_rng(0), np.empty(RESAMPLES)
    rows = max(1, AT_ONCE // len(sums))
    for first in range(0, RESAMPLES, rows):
        part = means[first : first + rows]
        drawn = generator.integers(len(sums), size=(len(part), len(sums)))
        part[:] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
