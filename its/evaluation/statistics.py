"""Estimate means with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CHUNK = 2**20
"""Maximum number of drawn prompts in memory."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Mean over samples, with intervals.

    Attributes:
        mean: mean of the scores.
        interval: half of the paper's 95 % interval, 1.96 std / sqrt(n), with the population standard deviation, as in
            the authors' program. It assumes that samples of one prompt are independent.
        low, high: 95 % interval of a bootstrap over prompts, without that assumption; None for a single prompt.
        n: number of scores.
        prompts: number of prompt pairs.
    """

    mean: float
    interval: float
    low: float | None
    high: float | None
    n: int
    prompts: int


def estimate(scores: Sequence[float], prompts: Sequence[str]) -> Estimate | None:
    """Estimate the mean of scores, given the prompts of each score's sample; None without scores."""
    if not scores:
        return None
    values = np.asarray(scores, dtype=np.float64)
    by_prompt: dict[str, list[float]] = {}
    for score, prompt in zip(scores, prompts, strict=True):
        by_prompt.setdefault(prompt, []).append(score)
    low, high = _bootstrap(by_prompt)
    mean, interval = float(values.mean()), float(1.96 * values.std() / np.sqrt(len(values)))
    return Estimate(mean=mean, interval=interval, low=low, high=high, n=len(values), prompts=len(by_prompt))


def _bootstrap(by_prompt: Mapping[str, Sequence[float]]) -> tuple[float | None, float | None]:
    """Return percentiles of the mean if prompts are drawn with replacement, each with all of its samples.

    The generator is seeded, so equal scores have equal intervals.
    """
    if len(by_prompt) < 2:
        return None, None
    sums = np.array([sum(scores) for scores in by_prompt.values()])
    counts = np.array([len(scores) for scores in by_prompt.values()])
    generator, means = np.random.default_rng(0), np.empty(RESAMPLES)
    rows = max(1, CHUNK // len(sums))
    for first in range(0, RESAMPLES, rows):
        chunk = means[first : first + rows]
        indices = generator.integers(len(sums), size=(len(chunk), len(sums)))
        chunk[:] = sums[indices].sum(1) / counts[indices].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
