"""Measure `its predict --config configs/castle_bell.yaml` from outside: `python benchmarks/plain_command.py`.

Each job is a separate process with weights written by `gpu.py --write-weights FOLDER`, in the page cache. The figures
are the seconds from its start to the first complete sample and to its end, samples per second, memory, and the timings
in the records. Each result is written at once. With `--minutes N` a job is stopped when the time is up.

    python benchmarks/plain_command.py --weights FOLDER --minutes 4
    python benchmarks/plain_command.py --tiny            small models, also without a GPU
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environment
from processes import Finished, run

TINY_COUNT = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """Process to measure."""

    arguments: Sequence[str] | None  # arguments of `its predict`; None for the authors' program
    count: int = 16  # number of samples
    gpu: bool = False  # whether a GPU is required


BEFORE = ("--trainer.precision=32-true", "--model.cuda_graph=false", "--data.batch_size=2")
JOBS = {
    "plain": Job(arguments=()),
    "fast": Job(arguments=("--config", "configs/fast.yaml"), gpu=True),
    "authors' program": Job(arguments=None, count=1),
    "25 steps": Job(arguments=("--config", "configs/fast/dpm25.yaml")),
    "batch 1": Job(arguments=("--data.batch_size=1",), count=8),
    "float32, eager, batch 2": Job(arguments=BEFORE, count=2),
}
"""Jobs by name, in order of importance."""


def main() -> int:
    options = _options()
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # also stops the job
    environment.use_checkout()
    if options.authors is not None:
        authors(options.authors, tiny=options.tiny)
        return 0
    import inputs
    import torch
    from devices import find_device
    from results_file import Results
    from table import FOLDER

    device, failed = find_device(), False
    of_weights: dict[str, Any] = {"dtype": getattr(torch, options.dtype), "tiny": options.tiny}
    with tempfile.TemporaryDirectory(dir=options.runs) as name:
        runs = Path(name)
        weights = options.weights or runs / "weights"
        try:
            if options.weights is None:
                inputs.write(weights, device=device, **of_weights)
            shape = inputs.read(weights, **of_weights).shape
        except ValueError as error:
            print(f"plain_command.py: {error}", file=sys.stderr)
            return 2
        size = sum(len(path.read_bytes()) for path in weights.rglob("*") if path.is_file())
        print(f"{size / 1e9:.1f} GB of weights are in the page cache", flush=True)
        overlay = write_overlay(weights, shape if options.tiny else None, folder=runs)
        out = options.out or (None if options.tiny else FOLDER / "plain_command.json")
        results = Results(out, device=device.torch, settings={"tiny": options.tiny, "dtype": options.dtype})
        for number, name in enumerate(options.jobs or JOBS):
            job, begin = JOBS[name], time.monotonic()
            left = None if end is None else end - begin
            if job.gpu and not device.has_graphs:
                results.add(name, {"exit": "needs a GPU"}, seconds=0.0)
            elif left is not None and left <= 0:
                results.add(name, {"exit": "not begun: the time is up"}, seconds=0.0)
            else:
                print(name, flush=True)
                output, count = runs / f"job{number}", min(job.count, TINY_COUNT) if options.tiny else job.count
                if job.arguments is None:
                    command = [__file__, "--authors", str(weights.resolve()), *(["--tiny"] if options.tiny else [])]
                else:
                    command = ["-m", "its", "predict", "--config=configs/castle_bell.yaml", f"--config={overlay}"]
                    command += [f"--data.seeds={{start: 1, count: {count}}}", *job.arguments, f"--output={output}"]
                done = run([sys.executable, *command], output, timeout=left, gpu=device.has_graphs)
                results.add(name, figures_of(done, job.arguments, count), seconds=time.monotonic() - begin)
                failed |= done.status != 0 and not done.timed_out
    return int(failed)


def figures_of(done: Finished, arguments: Sequence[str] | None, count: int) -> dict[str, Any]:
    """Return the figures of a process with these arguments and number of samples, and the reason for missing ones."""
    from measuring import figure

    figures: dict[str, Any] = {}
    if done.status:
        figures["exit"] = f"stopped after {done.seconds:.0f} s" if done.timed_out else f"failed: {done.last_line}"
    else:
        figures["start to end"] = figure(done.seconds, "s")
        figures["samples/s, start to end"] = figure(count / done.seconds, "")
    if arguments is None:
        return figures | ({} if done.status else {"start to first sample": figure(done.seconds, "s")})
    if done.samples:
        times = [at for at, _ in done.samples]
        figures["samples"] = figure(len(times), "")
        figures["start to first sample"] = figure(times[0], "s")
        first, last = done.samples[0][1], done.samples[-1][1]
        batch = int(first["timings"].get("batch_size", 1))
        if len(times) > batch:  # from the last sample of the first batch to the last sample
            speed = (len(times) - batch) / (times[-1] - times[batch - 1])
            figures["samples/s after the first batch"] = figure(speed, "")
        figures |= {key: str(first["settings"][key]) for key in ("precision", "device")}
        for which, record in (("first", first), ("last", last)):
            figures |= {f"{which} batch: {key}": figure(x, "") for key, x in _flat(record["timings"]).items()}
    figures["peak memory of the host"] = figure(done.host_bytes, "GiB", scale=2.0**-30)
    if done.gpu_mib is not None:
        figures["most memory in use on the GPU, sampled"] = figure(done.gpu_mib / 1024, "GiB")
    return figures


def _flat(timings: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Flatten the numbers of nested mappings; keys are joined by commas."""
    numbers: dict[str, float] = {}
    for key, value in timings.items():
        if isinstance(value, Mapping):
            numbers |= _flat(value, f"{prefix}{key}, ")
        elif isinstance(value, int | float):
            numbers[prefix + key] = value
    return numbers


def authors(weights: Path, *, tiny: bool) -> None:
    """Make one sample with the authors' program."""
    import models
    import torch
    from authors_loop import AuthorsProgram

    gpu, shape = torch.cuda.is_available(), models.TINY if tiny else models.REAL
    program = AuthorsProgram(
        weights,
        canvas=shape.canvas,
        steps=shape.steps,
        device=torch.device("cuda" if gpu else "cpu"),
        dtype=torch.float16 if gpu else torch.float32,
    )
    program.finish(program.latents(1))


def write_overlay(weights: Path, shape: Any, *, folder: Path | None = None) -> Path:
    """Write a config that replaces the weights of another one, and canvas and steps if a `models.Shape` is given."""
    sd, auffusion = ({"init_args": {"weights": str(weights.resolve() / name)}} for name in ("sd", "auffusion"))
    model = {"experts": {"visual": sd, "audio": auffusion}, "vocoder": auffusion, "fallback": None}
    if shape is not None:
        model |= {"canvas": list(shape.canvas), "steps": shape.steps}
    path = (folder or weights) / "overlay.yaml"
    path.write_text(json.dumps({"model": model}), encoding="utf-8")  # JSON is YAML
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", metavar="NAME", choices=JOBS, help=f"of: {'; '.join(JOBS)}")
    parser.add_argument("--minutes", type=float, help="time for all jobs together; no limit by default")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="weights written by gpu.py --write-weights")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16", help="of the weights")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder for temporary run directories")
    parser.add_argument("--tiny", action="store_true", help="use small models, whose figures mean nothing")
    parser.add_argument("--out", type=Path, help="JSON file; the committed one by default, none with --tiny")
    parser.add_argument("--authors", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
