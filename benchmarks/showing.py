"""Measure the cost of videos and metadata in `its predict` with the embedded pack: `python benchmarks/showing.py`.

Runs with and without them alternate. Core-seconds are reliable on most machines, wall time only on an idle one.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

from main_job import PREDICT, ROOT, measure

from its.runs.reader import read_runs
from its.runs.stored_video import write_video_of

SAMPLES = 4


def predict(output: str, *arguments: str) -> tuple[float, float]:
    """Measure wall seconds and core-seconds of a process that makes `SAMPLES` samples."""
    seeds = f"{{start: 1, count: {SAMPLES}}}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, _ = measure([*PREDICT, "--data.seeds", seeds, "--data.batch_size", "1", "--output", output, *arguments])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    plain, shown, cores = [], [], []  # runs without and with videos and metadata; core-seconds of each video
    for _ in range(options.turns):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            plain.append(predict(one, "--no-metadata"))
            shown.append(predict(other, "--save", "[video]"))
            for sample in read_runs([Path(other)])[0].samples:
                begin = time.process_time()
                write_video_of(sample, metadata=True)
                cores.append(time.process_time() - begin)
    median = statistics.median
    runs = {"without": plain, "with": shown}
    results: dict[str, object] = {"a video, core-seconds": round(median(cores), 3)}
    for number, unit in enumerate(("wall seconds", "core-seconds")):
        taken = {name: [round(run[number], 1) for run in of] for name, of in runs.items()}
        added = median(taken["with"]) / median(taken["without"]) - 1
        results[f"its predict, {unit}"] = {**taken, "added": round(added, 4)}
    results |= {
        "samples": SAMPLES,
        "turns": options.turns,
        "machine": f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
    }
    print(json.dumps(results, indent=2))
    (ROOT / "benchmarks" / "results" / "showing.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
