"""Kill the processes of a run again and again, and check that every sample is made once and is what it should be.

python benchmarks/reliability.py --samples 1000 --processes 2

Makes tiny random weights, one undisturbed run in one process, and one run in several processes, of which a random one
gets SIGKILL at a random time. Then the others are ended, as launchers do, and the same command runs again. After each
kill, all records must be of complete samples. At the end, every file but the records must be equal to that of the
undisturbed run. Writes the figures to results/reliability.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import models
import torch
from environment import ROOT
from plain_command import write_overlay

GRACE = 5.0
"""Seconds between the end of one process and the signal to the others, as launchers have it."""


def environments(processes: int) -> list[dict[str, str]]:
    """The variables that torchrun sets for each process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
    common |= {"TORCHELASTIC_RUN_ID": "reliability", "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def start(command: Sequence[str], processes: int, log: Path) -> list[subprocess.Popen[bytes]]:
    """Start the processes of a run."""
    sets: Sequence[Mapping[str, str]] = environments(processes) if processes > 1 else [{"OMP_NUM_THREADS": "1"}]
    with log.open("ab") as file:
        return [
            subprocess.Popen(command, env={**os.environ, **each}, stdout=file, stderr=file, cwd=ROOT) for each in sets
        ]


def end(running: Sequence[subprocess.Popen[bytes]], *, victim: int | None) -> list[int]:
    """Kill a process, if one is named, and end the others as a launcher does; return all exit statuses."""
    if victim is not None:
        running[victim].send_signal(signal.SIGKILL)
        running[victim].wait()
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(process.poll() is None for process in running):
            time.sleep(0.05)
        for process in running:
            if process.poll() is None:
                process.send_signal(random.choice([signal.SIGTERM, signal.SIGKILL]))
        time.sleep(0.5)
        for process in running:
            if process.poll() is None:
                process.kill()
    return [process.wait() for process in running]


def records(run: Path) -> dict[str, dict[str, Any]]:
    """Records by the id of the sample; each must be whole JSON."""
    return {path.parent.name: json.loads(path.read_text()) for path in run.glob("samples/*/sample.json")}


def digests(run: Path) -> dict[str, str]:
    """Digest of each file but the records, by its path below `samples`; metadata included."""
    files = [path for path in run.glob("samples/*/*") if path.name != "sample.json"]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def incomplete(run: Path) -> list[str]:
    """Ids of samples whose record says that they are complete although a file is missing or empty."""
    names = ("spectrogram.png", "audio.wav", "latents.safetensors")
    return [
        sample
        for sample, record in records(run).items()
        if record["status"] != "ok" or not all((run / "samples" / sample / name).stat().st_size for name in names)
    ]


def measure(folder: Path, *, samples: int, processes: int, kills: int, seed: int) -> dict[str, Any]:
    """Run the experiment; the result is what the results file holds."""
    chance = random.Random(seed)
    models.write(folder, models.TINY, device=torch.device("cpu"), dtype=torch.float32)
    overlay = write_overlay(folder, models.TINY)
    command = [sys.executable, "-m", "its", "predict", "--config", "castle_bell", "--config", str(overlay)]
    command += [f"--data.seeds={{start: 0, count: {samples}}}", "--save=[latents]", "--gallery=false", "--quiet"]
    command += ["--model.fallback=null", "--trainer.accelerator=cpu", "--model.steps=2", "--data.batch_size=1"]
    plain, disturbed = folder / "plain", folder / "disturbed"
    begin = time.monotonic()
    statuses = end(start([*command, f"--output={plain}"], 1, folder / "plain.log"), victim=None)
    undisturbed = time.monotonic() - begin
    if statuses != [0]:
        raise SystemExit((folder / "plain.log").read_text())
    killed, damaged, attempts, progress = 0, [], 0, []
    begin = time.monotonic()
    while True:
        attempts += 1
        before = len(records(disturbed))
        running = start(
            [*command, f"--output={disturbed}", f"--trainer.devices={processes}"], processes, folder / "disturbed.log"
        )
        victim = None
        if killed < kills and before < samples:
            started, delay = time.monotonic(), chance.uniform(0.4, 1.0) * (7 + undisturbed / kills)
            while time.monotonic() - started < delay and any(process.poll() is None for process in running):
                time.sleep(0.01)
            if any(process.poll() is None for process in running):
                victim = chance.randrange(processes)
        statuses = end(running, victim=victim)
        killed += victim is not None
        damaged += incomplete(disturbed)
        progress.append(len(records(disturbed)) - before)
        print(f"attempt {attempts}: {progress[-1]} samples, {statuses}, {sum(progress)} in all", flush=True)
        if victim is None and statuses == [0] * processes:
            break
        if attempts > 5 * kills + 5:
            raise SystemExit((folder / "disturbed.log").read_text()[-4000:])
    expected, made = digests(plain), digests(disturbed)
    for name in sorted(made.keys() ^ expected.keys()):
        print(f"in one of the runs only: {name}", flush=True)
    return {
        "samples": samples,
        "processes": processes,
        "killed by SIGKILL": killed,
        "starts": attempts,
        "starts that a kill ended before the first sample": sum(count == 0 for count in progress[:-1]),
        "seconds undisturbed, one process": round(undisturbed, 1),
        "seconds disturbed": round(time.monotonic() - begin, 1),
        "samples at the end": len(records(disturbed)),
        "records of incomplete samples, after any kill": len(damaged),
        "files that differ from the undisturbed run": sum(
            made.get(name) != digest for name, digest in expected.items()
        ),
        "files that the undisturbed run lacks": len(made.keys() - expected.keys()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "reliability.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(
            Path(name), samples=options.samples, processes=options.processes, kills=options.kills, seed=options.seed
        )
    options.results.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
