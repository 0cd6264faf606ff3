"""Means and intervals, compared with their formulas."""

import math
import statistics

import numpy as np
import pytest

from its.evaluation.statistics import estimate


def test_mean_and_the_papers_interval():
    scores = [0.1, 0.4, 0.25, 0.3]
    found = estimate(scores, ["a", "a", "b", "b"])
    assert found.mean == pytest.approx(sum(scores) / 4)
    assert found.interval == pytest.approx(1.96 * statistics.pstdev(scores) / math.sqrt(4))
    assert (found.n, found.prompts) == (4, 2)


def test_nothing_scored_has_no_mean():
    assert estimate([], []) is None


def test_one_prompt_has_no_bootstrap_over_prompts():
    found = estimate([0.1, 0.9], ["a", "a"])
    assert (found.low, found.high) == (None, None)


def test_bootstrap_of_two_prompts_has_three_outcomes():
    # All draws of two prompts: both a (1/4), both b (1/4), one of each (1/2). So the percentiles are the extremes.
    found = estimate([0.2, 0.2, 0.8, 0.8], ["a", "a", "b", "b"])
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.8))


def test_bootstrap_over_prompts_is_wider_where_samples_of_a_prompt_agree():
    rng = np.random.default_rng(1)
    levels = rng.uniform(0.2, 0.4, 100)
    scores = np.repeat(levels, 10)
    found = estimate(scores.tolist(), [str(i) for i in range(100) for _ in range(10)])
    # the right interval is that of 100 prompts, sqrt(10) times that of 1000 samples
    expected = 1.96 * levels.std() / 10
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.05)
    assert found.interval == pytest.approx(expected / math.sqrt(10))


def test_bootstrap_is_the_same_each_time():
    scores, prompts = [0.1, 0.5, 0.7], ["a", "b", "c"]
    assert estimate(scores, prompts) == estimate(scores, prompts)
