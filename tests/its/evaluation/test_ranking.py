"""The rule of best of N, in examples."""

import csv
import importlib.util
from pathlib import Path

import pytest

from its.errors import UserError
from its.evaluation.ranking import Keep, rank_run, rank_samples, ranks_of
from its.runs.reader import StoredSample, complete_samples
from its_plugins.mini.judge import MiniPictureJudge, MiniSoundJudge

_spec = importlib.util.spec_from_file_location("ranking_runs", Path(__file__).with_name("conftest.py"))
_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_runs)
SCORERS = [MiniPictureJudge(), MiniSoundJudge()]
NAMES = ["MiniPictureJudge", "MiniSoundJudge"]


def samples_of(*scores):
    return [
        StoredSample(
            run=Path("run"),
            folder=Path(f"run/samples/{seed}"),
            record={"seed": seed, "scores": {n: {"score": s} for n, s in zip(NAMES, pair, strict=True)}},
        )
        for seed, pair in enumerate(scores)
    ]


def order(*scores, best=1):
    placed = rank_samples(samples_of(*scores), NAMES, best)
    return [one.sample.record["seed"] for one in placed], [one.kept for one in placed]


def test_equal_scores_share_the_mean_of_their_ranks_and_missing_ones_come_last():
    assert ranks_of([0.5, 0.9, 0.5, None, 0.1]) == [2.5, 1.0, 2.5, 5.0, 4.0]
    assert ranks_of([None, None, 0.0]) == [2.5, 2.5, 1.0]


def test_a_joint_rank_is_the_mean_of_both():
    # ranks: (1, 4), (2, 2), (3, 1), (4, 3)
    assert order((0.9, 0.1), (0.8, 0.6), (0.2, 0.9), (0.1, 0.5))[0] == [1, 2, 0, 3]


def test_ties_go_to_the_better_of_the_worse_ranks_then_to_the_scores_then_to_the_seed():
    # ranks (1, 3) and (2, 2) have one mean; the second has no bad rank
    assert order((0.9, 0.1), (0.8, 0.6), (0.2, 0.9))[0][0] == 1
    # ranks (1, 2) and (2, 1): the same worse rank, so the higher sum
    assert order((0.51, 0.1), (0.5, 0.9))[0] == [1, 0]
    assert order((0.5, 0.5), (0.5, 0.5))[0] == [0, 1]


def test_samples_without_a_score_are_last_and_never_kept():
    assert order((None, None), (0.1, None), best=3) == ([1, 0], [True, False])


def test_a_run_is_marked_for_each_pair_and_nothing_is_deleted(tmp_path, capsys):
    run = tmp_path / "run"
    for pair, picture in ((_runs.PAIRS[0], 0.2), (_runs.PAIRS[1], 0.9)):
        for seed in (1, 2, 3):
            scores = {NAMES[0]: {"score": picture + seed / 100}, NAMES[1]: {"score": 0.5}}
            _runs.write_sample(run, seed, pair, scores=scores)
    rank_run(complete_samples([run]), run, Keep(best=1), SCORERS)
    records = [_runs.record_of(folder) for folder in sorted((run / "samples").iterdir())]
    assert [record["rank"] for record in records] == [3, 2, 1] * 2
    assert [record["kept"] for record in records] == [False, False, True] * 2
    assert all(record["ranked_by"] == NAMES for record in records)
    rows = list(csv.DictReader((run / "ranking.csv").open(encoding="utf-8")))
    assert [(row["rank"], row["kept"], row["seed"]) for row in rows[:3]] == [
        ("1", "true", "3"), ("2", "false", "2"), ("3", "false", "1"),
    ]  # fmt: skip
    assert rows[0]["MiniSoundJudge.rank"] == "2.0"
    assert "kept the best 2 of 6 samples of 2 prompt pairs" in capsys.readouterr().err


def test_criteria_are_roles_or_scorers():
    assert Keep(best=1).criteria(SCORERS) == NAMES
    assert Keep(best=1, by=["MiniSoundJudge"]).criteria(SCORERS) == ["MiniSoundJudge"]
    with pytest.raises(UserError, match="by contains 'visaul', which has no scorer.*Did you mean visual"):
        Keep(best=1, by=["visaul"]).criteria(SCORERS)
    with pytest.raises(UserError, match="best is 0; expected 1 or more"):
        Keep(best=0)
