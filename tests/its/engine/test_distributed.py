"""Several processes, some of them killed: at the end, every sample is complete, unique and correct."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import soundfile
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import LightningEnvironment
from safetensors.torch import load_file

from its.cli import main
from its.diffusion import noise
from its.engine.distributed import with_cluster_environment
from its.errors import UserError
from its.methods.base import Method

COMMON = ["--save=[latents]", "--data.batch_size=2"]
SEEDS = "--data.seeds=[1,2,3,4,5]"
JOB = {"SLURM_JOB_ID": "4321", "SLURM_JOB_NAME": "its", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
"""Variables that a batch script or a notebook in a job of four tasks has."""


def arguments_of(config, output, *arguments):
    return ["predict", f"--config={config}", f"--output={output}", *COMMON, SEEDS, *map(str, arguments)]


def latents(output):
    folders = sorted((Path(output) / "samples").iterdir())
    assert all(json.loads((f / "sample.json").read_text())["status"] == "ok" for f in folders)
    return {f.name: load_file(f / "latents.safetensors")["latents"] for f in folders}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name] / one[name].std(), other[name] / one[name].std(), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def whole(write_config, tmp_path_factory, forks):
    """Latents of an undisturbed run of five rows in one process, and the seconds that it took."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    began = time.monotonic()
    forks.run(arguments_of(config, folder / "whole"))
    return latents(folder / "whole"), time.monotonic() - began


def test_processes_that_the_trainer_is_not_set_for_are_one_message(config, tmp_path, forks):
    """They would each make all samples."""
    assert forks.wait(forks.start(arguments_of(config, tmp_path / "run"), *forks.ranks(2))) == [2, 2]
    (line,) = [line for line in forks.log.read_text().splitlines() if line.startswith("its: ")]
    assert "2 processes" in line
    assert "--trainer.devices 2" in line
    assert not (tmp_path / "run").exists()


def test_two_processes_and_two_nodes_make_the_samples_of_one_process(config, tmp_path, whole, forks):
    # Lightning starts the second process.
    printed = forks.run(["its", *arguments_of(config, tmp_path / "two", "--trainer.devices=2")], program="-m")
    assert printed.count("5 of 5 images that sound") == 1  # rank 0 alone reports
    assert_same(whole[0], latents(tmp_path / "two"))

    # A node each, as torchrun or SLURM would start them; five rows in batches of two make uneven last batches.
    arguments = arguments_of(config, tmp_path / "nodes", "--trainer.num_nodes=2", "--trainer.devices=1")
    launch = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={forks.port()}"]
    nodes = [{"PET_NODE_RANK": str(rank)} for rank in range(2)]  # torchrun's --node-rank
    forks.run(["torch.distributed.run", *launch, "-m", "its", *arguments], *nodes, program="-m")
    assert_same(whole[0], latents(tmp_path / "nodes"))


def test_tasks_of_slurm_share_the_rows(config, tmp_path, whole, forks):
    arguments = arguments_of(config, tmp_path / "slurm", "--trainer.num_nodes=2", "--trainer.devices=1")
    assert forks.run(arguments, *forks.tasks(2)).count("5 of 5 images that sound") == 1
    assert_same(whole[0], latents(tmp_path / "slurm"))


def test_a_process_of_a_job_that_srun_did_not_start_is_alone(monkeypatch):
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    (environment,) = with_cluster_environment(None, 1)
    assert isinstance(environment, LightningEnvironment)
    with pytest.raises(UserError, match="trainer.num_nodes is 2, but srun did not start this process"):
        with_cluster_environment(None, 2)


def test_tasks_of_srun_are_ranks_that_requeue_nothing(monkeypatch):
    for name, value in (JOB | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}).items():
        monkeypatch.setenv(name, value)
    (environment,) = with_cluster_environment([], 1)
    assert (environment.world_size(), environment.auto_requeue) == (4, False)
    assert with_cluster_environment([environment], 1) == [environment]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")  # torchrun in a job
    assert with_cluster_environment(None, 2) == []


def test_fewer_rows_than_processes(config, tmp_path, forks):
    forks.run(arguments_of(config, tmp_path / "one", "--data.seeds=[1]", "--trainer.devices=2"), *forks.ranks(2))
    assert len(latents(tmp_path / "one")) == 1


def test_ranks_start_from_the_same_noise_and_meet_at_the_ends_alone(config, tmp_path, monkeypatch, forks):
    """The loop's calls of torch.distributed and their order, in a process group of one process."""
    events, drawn = [], []
    for name in ("barrier", "all_reduce", "all_gather", "all_gather_object", "broadcast", "broadcast_object_list"):
        real = getattr(dist, name)
        monkeypatch.setattr(dist, name, lambda *a, _n=name, _r=real, **k: (events.append(_n), _r(*a, **k))[1])
    step = Method.predict_step
    draw = noise.initial_noise
    monkeypatch.setattr(
        Method,
        "predict_step",
        lambda *a, **k: (events.append("step"), step(*a, **k), events.append("step"))[1],
    )
    monkeypatch.setattr("its.methods.start.initial_noise", lambda *a, **k: (drawn.append(draw(*a, **k)), drawn[-1])[1])
    for key, value in forks.ranks(1)[0].items():
        monkeypatch.setenv(key, value)
    try:
        assert main(arguments_of(config, tmp_path / "group", "--trainer.strategy=ddp", "--trainer.devices=1")) == 0
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    assert "barrier" in events  # Lightning's, before the loop
    first, last = events.index("step"), len(events) - 1 - events[::-1].index("step")
    assert set(events[first:last]) == {"step"}
    expected = [torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(1, 6)]
    torch.testing.assert_close(torch.cat(drawn), torch.cat(expected), rtol=0, atol=0)


@pytest.mark.parametrize("processes", [1, 2])
def test_after_repeated_kills_every_sample_is_complete_and_unique(config, tmp_path, whole, forks, processes):
    made, seconds = whole
    output, moments = tmp_path / "killed", random.Random()
    arguments = arguments_of(config, output, "--data.batch_size=1", f"--trainer.devices={processes}")
    killed = 0
    for attempt in range(5):
        began, moment = time.monotonic(), moments.uniform(0, 1.3) * seconds
        there = len(list(output.glob("samples/*/sample.json")))

        def when(began=began, moment=moment, first=attempt == 0, there=there):
            if first:  # surely in the midst of it
                return len(list(output.glob("samples/*/sample.json"))) > there
            return time.monotonic() - began > moment

        environments = forks.ranks(processes) if processes > 1 else [{}]
        killed += -signal.SIGKILL in forks.kill(forks.start(arguments, *environments), when)
        for record in output.glob("samples/*/sample.json"):  # what says that it is whole is whole
            assert json.loads(record.read_text())["status"] == "ok"
            assert soundfile.info(record.with_name("audio.wav")).frames > 0
            load_file(record.with_name("latents.safetensors"))
    assert killed > 0
    forks.run(arguments, *(forks.ranks(processes) if processes > 1 else [{}]))
    assert_same(made, latents(output))
    assert list(output.rglob("*.partial")) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_ends_after_the_batch(config, tmp_path, forks, whole, name):
    output = tmp_path / "told"
    arguments = arguments_of(config, output, "--data.batch_size=1")
    (pid,) = forks.start(arguments, JOB, cwd=tmp_path)
    while not list(output.glob("samples/*/sample.json")) and forks.running(pid):
        time.sleep(0.001)
    os.kill(pid, getattr(signal, name))
    assert forks.wait([pid]) == [1]
    assert list(tmp_path.rglob("*.ckpt")) == []
    printed = forks.log.read_text()
    assert f"its: stopped: {name}; the same command resumes the run" in printed
    assert "are missing: run the same command again" in printed.splitlines()[-1]
    forks.run(arguments)
    assert_same(whole[0], latents(output))
