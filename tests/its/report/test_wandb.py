"""Weights & Biases offline: the command of a sweep's agent, and the files that it writes."""

import itertools
import shlex
from pathlib import Path

SWEEP = Path(__file__).parents[3] / "configs" / "sweeps" / "guidance.yaml"
KEY = "0123456789abcdef0123456789abcdef01234567"


def agent_command(sweep, point):
    """Return the command that wandb's agent makes from a sweep file and a point."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {key: {"value": value} for key, value in point.items()}})
    macros |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    command = create_sweep_command(list(sweep["command"]))
    return list(itertools.chain(*(macros.get(str(word).strip("${}"), [word]) for word in command)))


ENVIRONMENT = {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "WANDB_SILENT": "true"}


def test_the_command_of_a_sweep_runs_offline_and_leaves_no_key(config, tmp_path, forks):
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    sweep = load_sweep_config(str(SWEEP))
    points = [dict(zip(sweep["parameters"], values, strict=True)) for values in ((5.0, 7.5, 0.8), (5.0, 10.0, 1.0))]
    assert all(value in sweep["parameters"][key]["values"] for point in points for key, value in point.items())
    where = ["--trainer.logger.save_dir", tmp_path, "--output", tmp_path / "run", "--model.steps=1", "--data.seeds=[1]"]
    for point in points:
        command = agent_command(sweep, point)
        assert command[:3] == ["/usr/bin/env", "its", "predict"], shlex.join(command)
        words = [config if word == "configs/castle_bell.yaml" else word for word in command[2:]]
        forks.run([str(word) for word in (*words, *where)], ENVIRONMENT)
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2  # both points, in one folder
    runs = list(tmp_path.rglob("run-*.wandb"))
    assert len(runs) == 2
    for run in runs:
        assert b"samples_per_second" in run.read_bytes()
        assert b"guidance_scale" in run.read_bytes()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
