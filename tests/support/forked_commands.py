"""Run commands in forked processes, which saves the seconds of their imports."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


class Forks:
    """Client of `forks.py`: starts a command in a process for each set of environment variables."""

    def __init__(self, folder):
        self.log = folder / "log"
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("forks.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

        assert self._server.stdout.readline() == "0\n"

    def _ask(self, **job):
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(self, arguments, *environments, program="its", cwd=None):
        """Start an `its` command, a module (`program="-m"`) or a script (`program="script"`); return process ids."""
        self.log.unlink(missing_ok=True)
        job = {"program": program, "cwd": str(cwd or Path.cwd()), "log": str(self.log)}
        return [self._ask(start=[*map(str, arguments)], env=env, **job) for env in environments or [{}]]

    def wait(self, pids):
        return [self._ask(wait=pid) for pid in pids]

    def run(self, arguments, *environments, **options):
        """Run a command as `start` does, require success, and return its output."""
        statuses = self.wait(self.start(arguments, *environments, **options))
        printed = self.log.read_text()
        assert set(statuses) == {0}, printed
        return printed

    def kill(self, pids, when):
        """Kill the process groups as soon as `when()` holds; return the exit statuses."""
        while not when() and any(self.running(pid) for pid in pids):
            time.sleep(0.002)
        for pid in pids:
            os.killpg(pid, signal.SIGKILL)
        return self.wait(pids)

    def close(self):
        self._server.stdin.close()
        self._server.wait(30)

    @staticmethod
    def running(pid):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()

    @staticmethod
    def port():
        with socket.create_server(("127.0.0.1", 0)) as free:
            return str(free.getsockname()[1])

    def ranks(self, size):
        """Return the environment of each process of torchrun."""
        port = self.port()
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size), "TORCHELASTIC_RUN_ID": "x"}
        common |= {"LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0"}
        return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]

    def tasks(self, size):
        """Return the environment of each srun task of a job with one task for each node."""
        common = {"SLURM_JOB_ID": "4321", "SLURM_JOB_NAME": "its", "SLURM_NTASKS": str(size), "SLURM_NNODES": str(size)}
        common |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": self.port()}
        common["SLURM_STEP_NUM_TASKS"] = str(size)
        return [{**common, "SLURM_PROCID": str(n), "SLURM_NODEID": str(n), "SLURM_LOCALID": "0"} for n in range(size)]


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()
