"""Weights & Biases, offline: what an agent would run, and what it leaves on the disk."""

import itertools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from its.cli import main

SWEEP = Path(__file__).parents[2] / "configs" / "sweeps" / "guidance.yaml"
KEY = "0123456789abcdef0123456789abcdef01234567"


def agent_command(sweep, point):
    """The command that wandb's agent makes of a sweep file and a point."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {key: {"value": value} for key, value in point.items()}})
    macros |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    command = create_sweep_command(list(sweep["command"]))
    return list(itertools.chain(*(macros.get(str(word).strip("${}"), [word]) for word in command)))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_the_command_of_a_sweep_runs_offline_and_leaves_no_key(config, offline):
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    sweep = load_sweep_config(str(SWEEP))
    points = [dict(zip(sweep["parameters"], values, strict=True)) for values in ((5.0, 7.5, 0.8), (5.0, 10.0, 1.0))]
    assert all(value in sweep["parameters"][key]["values"] for point in points for key, value in point.items())
    for point in points:
        command = agent_command(sweep, point)
        assert command[:3] == ["/usr/bin/env", "its", "predict"], shlex.join(command)
        words = [str(config) if word == "configs/castle_bell.yaml" else word for word in command[2:]]
        assert main([*words, "--model.steps=1", "--data.seeds=[1]"]) == 0
        wandb.teardown()  # as the end of a process does
    records = list((offline / "runs/sweep_guidance/samples").iterdir())
    assert len(records) == 2  # both points, in one folder
    runs = list(offline.rglob("run-*.wandb"))
    assert len(runs) == 2
    assert any(b"samples_per_second" in run.read_bytes() for run in runs)
    for path in offline.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_rank_0_alone_keeps_a_run(config, offline):
    command = [sys.executable, "-m", "its", "predict", f"--config={config}", "--trainer.devices=2"]
    command += ["--trainer.logger=WandbLogger", "--model.steps=1", "--data.batch_size=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(offline.rglob("run-*.wandb"))) == 1
