"""Measure `its predict` with the embedded pack on this machine: `python benchmarks/main_job.py`.

Complete processes are measured from outside: wall time (median of the runs) and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from environment import ROOT
from processes import run

PREDICT = ["predict", "--config", "configs/castle_bell.yaml", "--config", "configs/models/mini.yaml"]
MANY = 5


def measure(arguments: list[str]) -> tuple[float, float]:
    """Run an `its` command; return its seconds and its peak memory in MiB."""
    done = run([sys.executable, "-m", "its", *arguments])
    if done.status:
        raise SystemExit(f"its {' '.join(arguments)} failed: {done.last_line}")
    return done.seconds, done.host_bytes / 2**20


def predict(count: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as output:
        seeds = f"{{start: 1, count: {count}}}"
        return measure([*PREDICT, "--data.seeds", seeds, "--data.batch_size", "1", "--output", output])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "main_job.json")
    options = parser.parse_args()
    measure(["--help"])  # warms up the file cache
    helps = [measure(["--help"])[0] for _ in range(options.runs)]
    ones = [predict(1) for _ in range(options.runs)]
    many = predict(MANY)
    one = statistics.median(seconds for seconds, _ in ones)
    pack = sum(path.stat().st_size for path in (ROOT / "plugins/mini/weights").rglob("*") if path.is_file())
    results = {
        "its --help, s": statistics.median(helps),
        "one sample from start to end, s": one,
        "each further sample, s": (many[0] - one) / (MANY - 1),
        "peak memory, MiB": max(many[1], *(memory for _, memory in ones)),
        "embedded pack, MB": pack / 1e6,
    }
    record = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "lightning")},
        "runs": options.runs,
        "results": {name: round(value, 3) for name, value in results.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
