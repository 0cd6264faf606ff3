"""Measure `its predict --config configs/castle_bell.yaml` from outside: `python benchmarks/plain_command.py`.

Each job is a process of its own, on weights of `gpu.py --write-weights FOLDER` that are in the page cache. Measured are
the seconds from its start to the first complete sample and to its end, samples a second, memory, and the stages of
the records. Each result is written as soon as it is there. With `--minutes N` a job is stopped when the time is up.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bring
from processes import Finished, run

TINY_COUNT = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """A process to measure.

    Attributes:
        arguments: of `its predict`, besides the config, weights and seeds; None for the authors' program.
        count: samples.
        gpu: whether it needs one.
    """

    arguments: Sequence[str] | None
    count: int = 16
    gpu: bool = False


BEFORE = ("--trainer.precision=32-true", "--model.cuda_graph=false", "--data.batch_size=2")
JOBS = {
    "plain": Job(arguments=()),
    "fast": Job(arguments=("--config", "configs/fast.yaml"), gpu=True),
    "authors' program": Job(arguments=None, count=1),
    "25 steps": Job(arguments=("--config", "configs/fast/dpm25.yaml")),
    "batch 1": Job(arguments=("--data.batch_size=1",), count=8),
    "float32, eager, batch 2": Job(arguments=BEFORE, count=2),
}
"""The most important first."""


def main() -> int:
    options = _options()
    end = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the job is ended too
    bring.project()
    if options.authors is not None:
        authors(options.authors, tiny=options.tiny)
        return 0
    import inputs
    import torch
    from devices import here
    from results_file import Results
    from table import FOLDER

    device, failed = here(), False
    of_weights: dict[str, Any] = {"dtype": getattr(torch, options.dtype), "tiny": options.tiny}
    with tempfile.TemporaryDirectory(dir=options.runs) as name:
        runs = Path(name)
        weights = options.weights or runs / "weights"
        try:
            found = (
                inputs.read(weights, **of_weights)
                if options.weights
                else inputs.write(weights, device=device, **of_weights)
            )
        except ValueError as error:
            print(f"plain_command.py: {error}", file=sys.stderr)
            return 2
        size = sum(len(path.read_bytes()) for path in weights.rglob("*") if path.is_file())
        print(f"{size / 1e9:.1f} GB of weights are in the page cache", flush=True)
        overlay = _overlay(runs, found)
        out = options.out or (None if options.tiny else FOLDER / "plain_command.json")
        results = Results(out, device=device.torch, settings={"tiny": options.tiny, "dtype": options.dtype})
        for number, name in enumerate(options.jobs or JOBS):
            job, begin = JOBS[name], time.monotonic()
            if options.tiny:
                job = replace(job, count=min(job.count, TINY_COUNT))
            left = None if end is None else end - begin
            if job.gpu and not device.has_graphs:
                results.add(name, {"exit": "needs a GPU"}, seconds=0.0)
                continue
            if left is not None and left <= 0:
                results.add(name, {"exit": "not begun: the time is up"}, seconds=0.0)
                continue
            output = runs / f"job{number}"
            print(name, flush=True)
            command = _command(job, weights, overlay, output, tiny=options.tiny)
            done = run(command, output, timeout=left, gpu=device.has_graphs)
            results.add(name, figures_of(done, job), seconds=time.monotonic() - begin)
            failed |= done.status != 0 and not done.timed_out
    return int(failed)


def figures_of(done: Finished, job: Job) -> dict[str, Any]:
    """Figures of a process, and why there are none."""
    from measuring import figure

    found: dict[str, Any] = {}
    if done.status:
        found["exit"] = f"stopped after {done.seconds:.0f} s" if done.timed_out else f"failed: {done.last_line}"
    else:
        found["start to end"] = figure(done.seconds, "s")
        found["samples/s, start to end"] = figure(job.count / done.seconds, "")
    if job.arguments is None:
        return found | ({} if done.status else {"start to first sample": figure(done.seconds, "s")})
    if done.samples:
        times = [at for at, _ in done.samples]
        found["samples"] = figure(len(times), "")
        found["start to first sample"] = figure(times[0], "s")
        first, last = done.samples[0][1], done.samples[-1][1]
        batch = int(first["timings"].get("batch_size", 1))
        if len(times) > batch:  # the last sample of the first batch to the last of all
            found["samples/s after the first batch"] = figure((len(times) - batch) / (times[-1] - times[batch - 1]), "")
        found |= {key: str(first["settings"][key]) for key in ("precision", "device")}
        for which, record in (("first", first), ("last", last)):
            found |= {f"{which} batch: {key}": figure(x, "") for key, x in _flat(record["timings"]).items()}
    found["peak memory of the host"] = figure(done.host_bytes, "GiB", scale=2.0**-30)
    if done.gpu_mib is not None:
        found["most memory in use on the GPU, sampled"] = figure(done.gpu_mib / 1024, "GiB")
    return found


def _flat(timings: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested mappings, by their keys joined."""
    found: dict[str, float] = {}
    for key, value in timings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}, ")
        elif isinstance(value, int | float):
            found[prefix + key] = value
    return found


def _command(job: Job, weights: Path, overlay: Path, output: Path, *, tiny: bool) -> list[str]:
    if job.arguments is None:
        return [sys.executable, __file__, "--authors", str(weights.resolve()), *(["--tiny"] if tiny else [])]
    command = [sys.executable, "-m", "its", "predict", "--config", "configs/castle_bell.yaml"]
    seeds = f"--data.seeds={{start: 1, count: {job.count}}}"
    return [*command, "--config", str(overlay), seeds, *job.arguments, f"--output={output}"]


def authors(weights: Path, *, tiny: bool) -> None:
    """One sample by the authors' program."""
    import models
    import torch
    from authors_loop import AuthorsProgram

    gpu = torch.cuda.is_available()
    program = AuthorsProgram(
        weights,
        canvas=(models.TINY if tiny else models.REAL).canvas,
        steps=10 if tiny else 100,
        device=torch.device("cuda" if gpu else "cpu"),
        dtype=torch.float16 if gpu else torch.float32,
    )
    program.finish(program.latents(1))


def _overlay(folder: Path, inputs: Any) -> Path:
    """A config with the weights in the place of the hub's, and the sizes that go with tiny ones."""
    weights = {name: {"init_args": {"weights": str(inputs.folder.resolve() / name)}} for name in ("sd", "auffusion")}
    model: dict[str, Any] = {
        "experts": {"visual": weights["sd"], "audio": weights["auffusion"]},
        "vocoder": weights["auffusion"],
        "fallback": None,
    }
    if inputs.tiny:
        model |= {"canvas": list(inputs.canvas), "steps": inputs.steps}
    path = folder / "overlay.yaml"
    path.write_text(json.dumps({"model": model}), encoding="utf-8")  # JSON is YAML
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", metavar="NAME", choices=JOBS, help=f"of: {'; '.join(JOBS)}")
    parser.add_argument("--minutes", type=float, help="for all jobs together; no limit by default")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="written by gpu.py --write-weights")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16", help="of the weights")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="where run directories are made for the time being")
    parser.add_argument("--tiny", action="store_true", help="small models; the figures mean nothing")
    parser.add_argument("--out", type=Path, help="JSON file; by default the committed one, for --tiny none")
    parser.add_argument("--authors", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
