"""Run a command in a separate process, and record its samples, its memory and the GPU's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environment import ROOT

INTERVAL = 0.01


@dataclass(kw_only=True)
class Finished:
    """Result of a finished process."""

    status: int = 0
    seconds: float = 0.0
    timed_out: bool = False
    samples: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # seconds to completion, and record
    host_bytes: int = 0  # peak memory
    gpu_mib: int | None = None  # largest sampled memory use of the GPU, by all processes
    last_line: str = ""  # on stderr


def run(
    command: Sequence[str], output: Path | None = None, *, timeout: float | None = None, gpu: bool = False
) -> Finished:
    """Run a command in the checkout and wait for its end.

    After `timeout` seconds it is killed with its children. Samples are read from the run directory `output`. With `gpu`
    the GPU's memory in use is sampled once a second.
    """
    done = Finished()
    with tempfile.TemporaryFile() as errors:
        begin, started = time.perf_counter(), time.time()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        over = threading.Event()
        if gpu:
            threading.Thread(target=_watch_gpu, args=(done, over), daemon=True).start()
        try:
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                time.sleep(INTERVAL)
                if timeout is not None and not done.timed_out and time.perf_counter() - begin > timeout:
                    done.timed_out = True
                    os.killpg(process.pid, signal.SIGKILL)
        except BaseException:  # Ctrl-C, SIGTERM
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            over.set()
        done.seconds = time.perf_counter() - begin
        done.status = process.returncode = os.waitstatus_to_exitcode(ended[1])
        done.host_bytes = ended[2].ru_maxrss * 1024
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        done.last_line = lines[-1][:300] if lines else ""
    records = sorted(output.glob("samples/*/sample.json"), key=_time) if output is not None else []
    done.samples = [(_time(path) - started, json.loads(path.read_text(encoding="utf-8"))) for path in records]
    return done


def _time(path: Path) -> float:
    """Return the time when a record, the last file of its sample, was written."""
    return path.stat().st_mtime


def _watch_gpu(done: Finished, over: threading.Event) -> None:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    while not over.wait(1.0):
        try:
            printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
            done.gpu_mib = max(done.gpu_mib or 0, *(int(line) for line in printed.split()))
        except (OSError, subprocess.SubprocessError, ValueError):
            return
