"""Weights & Biases offline: the command of a sweep's agent, and the files that it writes."""

import itertools
import math
import shlex
from pathlib import Path

import pytest

from its.report.wandb_log import joint_score, summary_of
from its.runs.reader import stored_samples

SWEEPS = Path(__file__).parents[3] / "configs" / "sweeps"
SWEEP = SWEEPS / "guidance.yaml"
KEY = "0123456789abcdef0123456789abcdef01234567"


def agent_command(sweep, point):
    """Return the command that wandb's agent makes from a sweep file and a point."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {key: {"value": value} for key, value in point.items()}})
    macros |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    command = create_sweep_command(list(sweep["command"]))
    return list(itertools.chain(*(macros.get(str(word).strip("${}"), [word]) for word in command)))


ENVIRONMENT = {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "WANDB_SILENT": "true"}


@pytest.mark.slow
def test_the_command_of_a_sweep_runs_offline_and_leaves_no_key(config, tmp_path, forks):
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    sweep = load_sweep_config(str(SWEEP))
    points = [dict(zip(sweep["parameters"], values, strict=True)) for values in ((5.0, 7.5, 0.8), (5.0, 10.0, 1.0))]
    assert all(value in sweep["parameters"][key]["values"] for point in points for key, value in point.items())
    where = ["--trainer.logger.save_dir", tmp_path, "--output", tmp_path / "run", "--model.steps=1", "--data.seeds=[1]"]
    for point in points:
        command = agent_command(sweep, point)
        assert command[:3] == ["/usr/bin/env", "its", "predict"], shlex.join(command)
        words = [config if word == "castle_bell" else word for word in command[2:]]
        forks.run([str(word) for word in (*words, *where)], ENVIRONMENT)
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2  # both points, in one folder
    runs = list(tmp_path.rglob("run-*.wandb"))
    assert len(runs) == 2
    for run in runs:
        assert b"samples_per_second" in run.read_bytes()
        assert b"guidance_scale" in run.read_bytes()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_bayes_sweep_gets_its_metric(config, tmp_path, forks):
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    sweep = load_sweep_config(str(SWEEPS / "bayes.yaml"))
    assert (sweep["method"], sweep["metric"]) == ("bayes", {"name": "scores/joint", "goal": "maximize"})
    point = {key: parameter["min"] for key, parameter in sweep["parameters"].items()}
    replaced = {"castle_bell": config, "[CLIPScorer, CLAPScorer]": "[mini]"}
    words = [replaced.get(word, word) for word in agent_command(sweep, point)[2:]]
    where = [
        "--trainer.logger.save_dir",
        tmp_path,
        "--output",
        tmp_path / "run",
        "--model.steps=1",
        "--data.seeds=[1, 2]",
    ]
    forks.run([str(word) for word in (*words, *where)], ENVIRONMENT)
    (run,) = tmp_path.rglob("run-*.wandb")
    assert sweep["metric"]["name"].encode() in run.read_bytes()


def scored(visual=None, audio=None):
    scores = {"Eye": {"score": visual, "judges": "visual"}, "Ear": {"score": audio, "judges": "audio"}}
    return {name: entry for name, entry in scores.items() if entry["score"] is not None}


@pytest.mark.parametrize(
    ("scores", "joint"),
    [
        (scored(0.9, 0.4), 0.6),
        (scored(0.5, 0.0), 0.0),
        (scored(0.5), None),
        (scored(audio=0.5), None),
        ({}, None),
        ({**scored(0.9, 0.4), "denoising_error": {"visual": 3.0}}, 0.6),
        ({**scored(0.8, 0.4), "Other": {"score": 1.0, "judges": "visual"}}, math.sqrt(0.9 * 0.4)),
    ],
)
def test_the_joint_score_is_high_if_both_are(scores, joint):
    assert joint_score(scores) == (None if joint is None else pytest.approx(joint))


def test_a_summary_has_means_over_whole_samples(add):
    folders = [add(seed=seed, scores=scores) for seed, scores in enumerate((scored(0.9, 0.4), scored(0.9, 0.9), {}))]
    summary = summary_of(stored_samples(folders[0].parents[1], [folder.name for folder in folders]))
    assert (summary["samples"], summary["failed"]) == (3, 0)
    assert summary["scores/joint"] == pytest.approx((0.6 + 0.9) / 2)
    assert summary["scores/Eye.score"] == pytest.approx(0.9)
