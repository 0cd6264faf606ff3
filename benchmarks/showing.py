"""What showing costs: core-seconds for a video, and the share of wall time that videos add to `its predict`.

`python benchmarks/showing.py`, with the embedded pack. Runs with and without videos take turns, so that what else the
machine does falls on both.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

from main_job import PREDICT, ROOT, measure

from its.commands.video import write_video_of
from its.outputs.stored import samples_of

SAMPLES = 5
TURNS = 3


def predict(output: str, *arguments: str) -> float:
    """Seconds of a whole process that makes `SAMPLES` samples."""
    seeds = f"{{start: 1, count: {SAMPLES}}}"
    return measure([*PREDICT, "--data.seeds", seeds, "--data.batch_size", "1", "--output", output, *arguments])[0]


def main() -> None:
    plain, shown, cores = [], [], []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            plain.append(predict(one, "--no-metadata"))
            shown.append(predict(other, "--save", "[video]"))
            for sample in samples_of(Path(other)):
                begin = time.process_time()
                write_video_of(sample, metadata=True)
                cores.append(time.process_time() - begin)
    median = statistics.median
    results = {
        "a video, core-seconds": round(median(cores), 3),
        "its predict without videos, s": plain,
        "its predict with videos, s": shown,
        "share of wall time": round(median(shown) / median(plain) - 1, 4),
        "samples": SAMPLES,
        "machine": f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
    }
    print(json.dumps(results, indent=2))
    (ROOT / "benchmarks" / "results" / "showing.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
