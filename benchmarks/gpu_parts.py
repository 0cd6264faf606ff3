"""The parts of `gpu.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from bench import CHECK_STEPS, Bench
from counting import compilations, copy_rate, flop_of_a_sample, host_waits, launches_a_step, peak_memory
from measuring import Figure, figure, interleaved, ratios
from ours import ALONE, LADDER, Levers, NotThere
from torch import Tensor
from variants import Variant, of_authors, of_ours
from writing import predict

Figures = dict[str, Figure | str]


def ceilings(bench: Bench) -> Figures:
    """What the device reaches at best: a product of bf16 matrices, a copy."""
    size = 2**22 if bench.tiny else 2**30
    rates = interleaved({"gemm": bench.gemm, "copy": lambda: copy_rate(bench.device, size)}, rounds=bench.rounds)
    return {
        "GEMM, bf16, 8192 x 8192 x 8192, random data": figure(rates["gemm"], "TFLOP/s", scale=1e-12),
        "copy within the device": figure(rates["copy"], "GB/s", scale=1e-9),
    }


def compare(bench: Bench) -> Figures:
    """The authors' program, the informed user's, ours at several batch sizes and in fewer steps."""
    reference = bench.reference()
    exact = bench.authors(torch.float32)
    found: Figures = {"authors, float32 | error": bench.check("authors, float32", _short(of_authors(exact)), reference)}
    del exact
    flop = _flop(bench)
    ready = {name: _ready(bench, name, make, reference, found) for name, make in _compared(bench).items()}
    before = compilations()
    clocks = _clocks({**ready, "gemm": bench.gemm}, bench.rounds)
    recompiled = compilations() - before
    theirs, informed = (clocks[name].samples for name in ("authors", "informed user"))
    gemm = clocks["gemm"].samples
    for name, variant in ready.items():
        speed = clocks[name].samples
        floor = [1 / (flop[variant.steps] / rate) for rate in gemm]
        found |= {
            f"{name} | samples/s": figure(speed, ""),
            f"{name} | ms a step": figure(clocks[name].step_ms, ""),
            f"{name} | over the authors'": figure(ratios(speed, theirs), "x"),
            f"{name} | over the informed user's": figure(ratios(speed, informed), "x"),
            f"{name} | share of the floor": figure(ratios(speed, floor), "%", scale=100),
        }
        found |= _counts(name, variant, bench)
    found["recompilations after warm-up"] = figure(recompiled, "")
    return found


def levers(bench: Bench) -> Figures:
    """One lever after the other at batch 1, each with those before it; then some alone."""
    reference = bench.reference()
    found: Figures = {}
    ready: dict[str, Variant] = {}
    for name, choice in (LADDER | ALONE).items():
        make = _maker(bench, choice)
        try:
            ready[name] = _ready(bench, name, make, reference, found)
        except NotThere as why:
            found[f"{name} | samples/s"] = str(why)
    found |= _bits(ready, bench)
    clocks = _clocks(ready, bench.rounds)
    first, before = clocks["eager"].samples, "eager"
    for name, variant in ready.items():
        speed = clocks[name].samples
        found[f"{name} | samples/s"] = figure(speed, "")
        found[f"{name} | ms a step"] = figure(clocks[name].step_ms, "")
        found[f"{name} | over eager"] = figure(ratios(speed, first), "x")
        if name in LADDER:
            found[f"{name} | over the line before"] = figure(ratios(speed, clocks[before].samples), "x")
            before = name
        found |= _counts(name, variant, bench)
    return found


def files(bench: Bench) -> Figures:
    """End to end under Lightning's Trainer: what writing PNG, WAV and JSON adds to the wall time."""
    method = bench.method(bench.best)
    batch = max(bench.fast_batches)
    cuda = bench.device.type == "cuda"
    precision = {torch.float32: "32-true", torch.float16: "16-true", torch.bfloat16: "bf16-true"}[bench.dtype]

    def run(writes: bool) -> float:
        return predict(
            method, batches=2, batch=batch, writes=writes,
            accelerator="gpu" if cuda else "cpu", devices=1, precision=precision,
        )  # fmt: skip

    seconds = interleaved({"with": lambda: run(True), "without": lambda: run(False)}, rounds=bench.rounds)
    return {
        f"batch {batch}, with files | s a sample": figure(seconds["with"], "", scale=1 / (2 * batch)),
        f"batch {batch}, without | s a sample": figure(seconds["without"], "", scale=1 / (2 * batch)),
        "writing adds": figure([r - 1 for r in ratios(seconds["with"], seconds["without"])], "%", scale=100),
    }


PARTS: dict[str, Callable[[Bench], Figures]] = {p.__name__: p for p in (ceilings, compare, levers, files)}


@dataclass(frozen=True, kw_only=True)
class Clocked:
    """One value a round."""

    samples: list[float]
    """A second."""
    step_ms: list[float]


def _compared(bench: Bench) -> dict[str, Callable[[], Variant]]:
    def our(batch: int, *, fast: bool = False) -> Variant:
        # Each batch size has a method of its own: a compiled one fills smaller batches up to the size that it knows.
        method = bench.method(bench.best, fast=fast)
        return of_ours(method, batch=batch, steps=bench.fast_steps if fast else bench.steps)

    compared = {
        "authors": lambda: of_authors(bench.authors()),
        "informed user": lambda: of_authors(bench.authors(informed=True)),
    }
    compared |= {f"ours, batch {b}": lambda b=b: our(b) for b in bench.batches}
    fast = f"ours, {bench.fast_steps} steps"
    return compared | {f"{fast}, batch {b}": lambda b=b: our(b, fast=True) for b in bench.fast_batches}


def _maker(bench: Bench, choice: Levers) -> Callable[[], Variant]:
    return lambda: of_ours(bench.method(choice), batch=1, steps=bench.steps)


def _ready(bench: Bench, name: str, make: Callable[[], Variant], reference: Tensor, found: Figures) -> Variant:
    """Build a variant, warm it up and check it."""
    print(f"  {name}: building, warming up, checking", flush=True)
    variant = make()
    begin = time.perf_counter()
    # Compiling and capturing belong to the peak: what a captured graph uses is not counted again when it runs.
    peak = peak_memory(variant, bench.device)
    found[f"{name} | first batch"] = figure(time.perf_counter() - begin, "s")
    found[f"{name} | memory"] = "needs a GPU" if peak is None else figure(peak, "GiB", scale=2.0**-30)
    if variant.steps == bench.steps:  # another solver ends elsewhere
        found[f"{name} | error"] = bench.check(name, _short(variant), reference)
    return variant


def _short(variant: Variant) -> Tensor:
    return variant.make(CHECK_STEPS, None).latents


def _bits(ready: dict[str, Variant], bench: Bench) -> Figures:
    """A CUDA graph replays what would have been launched: not a bit may differ."""
    found: Figures = {}
    pairs = {"eager": "+ CUDA graph", "compile and channels_last, no graph": "+ compile"}
    for plain, graph in pairs.items():
        if plain not in ready or graph not in ready or bench.device.type != "cuda":
            continue
        same = torch.equal(_short(ready[plain]), _short(ready[graph]))
        found[f"{graph} | bits equal to those without graph"] = "yes" if same else "no"
        if not same:
            bench.failures.append(f"{graph}: latents differ from those without a graph")
    return found


def _clocks(variants: dict[str, Variant | Callable[[], float]], rounds: int) -> dict[str, Clocked]:
    """All in turn; a function in place of a variant measures something else."""
    steps: dict[str, list[float]] = {name: [] for name in variants}

    def run(name: str, variant: Variant) -> float:
        begin = time.perf_counter()
        made = variant.make(variant.steps, None)
        steps[name].append(made.loop_seconds / variant.steps * 1e3)
        return variant.batch / (time.perf_counter() - begin)

    turns = {
        name: (lambda name=name, variant=variant: run(name, variant)) if isinstance(variant, Variant) else variant
        for name, variant in variants.items()
    }
    speeds = interleaved(turns, rounds=rounds)
    return {name: Clocked(samples=speeds[name], step_ms=steps[name][1:]) for name in variants}


def _counts(name: str, variant: Variant, bench: Bench) -> Figures:
    counted = {
        "host waits in the loop": host_waits(variant, bench.device),
        "launches a step": launches_a_step(variant, bench.device),
    }
    return {
        f"{name} | {what}": "needs a GPU" if value is None else figure(value, "") for what, value in counted.items()
    }


def _flop(bench: Bench) -> dict[int, float]:
    method = bench.method(Levers())
    return flop_of_a_sample(method, (bench.steps, bench.fast_steps))
