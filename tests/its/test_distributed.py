"""Several processes, and processes that are killed: at the end every sample is there once and is what it should be."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

COMMON = ["--save=[latents]", "--data.batch_size=1"]


def command(config, output, *arguments):
    return [sys.executable, "-m", "its", "predict", f"--config={config}", f"--output={output}", *COMMON, *arguments]


def run(*words, **environment):
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def latents(output):
    folders = sorted((Path(output) / "samples").iterdir())
    assert all(json.loads((f / "sample.json").read_text())["status"] == "ok" for f in folders)
    return {f.name: load_file(f / "latents.safetensors")["latents"] for f in folders}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name] / one[name].std(), other[name] / one[name].std(), rtol=0, atol=1e-5)


@pytest.fixture
def whole(config, tmp_path):
    """An undisturbed run of three rows in one process."""
    run(*command(config, tmp_path / "whole", "--data.seeds=[1,2,3]"))
    return latents(tmp_path / "whole")


def test_two_processes_and_two_nodes_make_what_one_process_makes(config, tmp_path, whole):
    out = run(*command(config, tmp_path / "two", "--data.seeds=[1,2,3]", "--trainer.devices=2"))
    assert out.count("its: 3 of 3 images that sound") == 1  # rank 0 alone reports
    assert_same(whole, latents(tmp_path / "two"))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # A node each, as torchrun or SLURM would start them; the fourth row's rank has nothing else to do.
    arguments = command(config, tmp_path / "nodes", "--data.seeds=[1,2,3]", "--trainer.num_nodes=2")
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}",
             "--master-addr=127.0.0.1", f"--master-port={port}", "-m", *arguments[2:], "--trainer.devices=1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    ends = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert_same(whole, latents(tmp_path / "nodes"))


def test_fewer_rows_than_processes(config, tmp_path):
    run(*command(config, tmp_path / "one", "--data.seeds=[1]", "--trainer.devices=2"))
    assert len(latents(tmp_path / "one")) == 1


def test_a_killed_run_goes_on_where_it_stopped(config, tmp_path, whole):
    output = tmp_path / "killed"
    slow = command(config, output, "--data.seeds=[1,2,3]")
    for already in (1, 2):
        process = subprocess.Popen([str(w) for w in slow], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list(output.glob("samples/*/sample.json"))) < already and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(*slow)
    assert_same(whole, latents(output))
    leftovers = [path.name for path in output.rglob("*.partial")]
    assert leftovers == []
