"""Compare variants in interleaved rounds. Results are written after each run."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ours
import torch
from authors_loop import AuthorsProgram
from budget import Budget, Candidate, TooLongError
from counting import compilations, copy_rate, from_cache, gemm_rate, host_waits, launches_a_step
from devices import Device
from inputs import CHECK_STEPS, Inputs
from measuring import Figure, figure
from models import TINY
from ours import FAST, LADDER, PLAIN, Levers
from results_file import Results
from torch import Tensor
from variants import Batch, Variant, of_authors, of_ours

TOLERANCE = 1e-2
"""Largest relative error of the latents against float32."""
ROUNDS = 3
"""Rounds that must fit into the time before another variant is prepared."""
COUNTED = {"host waits in the loop": host_waits, "launches a step": launches_a_step}
GEMM = "GEMM, bf16, 8192 x 8192 x 8192, random data"


@dataclass(kw_only=True)
class Comparison:
    """State that all groups of variants share."""

    inputs: Inputs
    device: Device
    results: Results
    budget: Budget
    rounds: int  # at most
    compile: bool  # whether to measure variants that compile
    failures: list[str] = field(default_factory=list)  # messages; the exit status is 1 if there are any
    programs: dict[str | Levers, Any] = field(default_factory=dict)  # in memory, so that variants share weights

    @property
    def levers(self) -> dict[str, Levers]:
        """Levers by name: the ladder, the defaults of `its predict`, and those of `configs/fast.yaml`."""
        return LADDER | {"plain": PLAIN, "fast": replace(FAST, compile=self.compile)}

    def key(self, program: str) -> str | Levers:
        """Return the key of a program in `programs`; programs with equal levers have the same key."""
        return self.levers.get(program, program)

    def unavailable(self, candidate: Candidate) -> str | None:
        """Return the reason why a candidate can't be measured; None if it can."""
        key = self.key(candidate.program)
        if not isinstance(key, Levers):
            return None
        if key.needs_gpu and not self.device.has_graphs:
            return "needs a GPU"
        return "left out (--no-compile)" if key.compile and not self.compile else None

    def variant(self, candidate: Candidate) -> Variant:
        """Build a candidate, from a program in memory if possible."""
        key = self.key(candidate.program)
        if key not in self.programs:
            self.programs[key] = self._build(key)
        if not isinstance(key, Levers):
            return of_authors(self.programs[key], self.device)
        options = {"batch": candidate.batch, "fast": candidate.fast, "cudnn_benchmark": key.cudnn_benchmark}
        return of_ours(self.programs[key], steps=self.steps(candidate), **options)

    def steps(self, candidate: Candidate) -> int:
        return self.inputs.shape.fast_steps if candidate.fast else self.inputs.shape.steps

    def keep_only(self, candidates: Sequence[Candidate]) -> None:
        """Free the programs that none of these candidates uses."""
        needed = {self.key(candidate.program) for candidate in candidates}
        self.programs = {key: program for key, program in self.programs.items() if key in needed}
        self.device.free()

    def gemm(self) -> float:
        return gemm_rate(self.device, torch.bfloat16, 256 if self.inputs.shape is TINY else 8192)

    def ceilings(self) -> None:
        """Measure the device's upper limits: a product of bf16 matrices, and a copy."""
        begin = time.perf_counter()
        size = 2**22 if self.inputs.shape is TINY else 2**30
        figures = {
            GEMM: figure([self.gemm() for _ in range(5)], "TFLOP/s", scale=1e-12),
            "copy within the device": figure([copy_rate(self.device, size) for _ in range(5)], "GB/s", scale=1e-9),
        }
        self.results.add("ceilings", figures, seconds=time.perf_counter() - begin)

    def _build(self, key: str | Levers) -> Any:
        folder, shape, dtype = self.inputs.folder, self.inputs.shape, self.inputs.dtype
        common: dict[str, Any] = {"canvas": shape.canvas, "steps": shape.steps, "device": self.device.torch}
        if isinstance(key, Levers):
            return ours.build(folder, **common, dtype=dtype, levers=key)
        if key == "authors, float32":
            return AuthorsProgram(folder, **common, dtype=torch.float32)
        informed = key == "informed user"
        return AuthorsProgram(folder, **common, dtype=dtype, informed=informed, compiles=self.compile)


class Group:
    """Variants that are run in turn, which form one part of the results.

    `bases` has the names of the ratios, by the variant to divide by (None: the variant before).
    """

    def __init__(
        self, shared: Comparison, part: str, candidates: Sequence[Candidate], bases: dict[str | None, str]
    ) -> None:
        self.shared, self.part, self.candidates, self.bases = shared, part, candidates, bases
        self.figures: dict[str, dict[str, Figure | str]] = {candidate.name: {} for candidate in candidates}
        self.recompiled: int | None = None
        self.ready: dict[Candidate, Variant] = {}
        self.latents: dict[str, Tensor] = {}
        self.samples: dict[str, dict[int, float]] = {}  # samples per second by variant and round; FLOP/s under "gemm"
        self.steps: dict[str, list[float]] = {}  # milliseconds per step
        self.least_rounds = min(ROUNDS, shared.rounds)
        self._begin = time.perf_counter()

    def measure(self) -> None:
        """Prepare all variants, run them in rounds, and count launches and waits."""
        self.prepare()
        before = compilations()
        self.run_rounds()
        self.recompiled = compilations() - before
        self.count()
        self.write()

    def prepare(self) -> None:
        """Build, warm up and check the variants that fit into the time."""
        budget = self.shared.budget
        for candidate in self.candidates:
            need = budget.needs(candidate, self.ready, self.least_rounds)
            if (reason := self.shared.unavailable(candidate)) is not None:
                self._record_reason(candidate, reason)
            elif need > budget.left():
                self._record_reason(
                    candidate, f"not begun: it needs {need:.0f} s, {max(budget.left(), 0):.0f} s were left"
                )
            else:
                print(f"  {candidate.name}: loading, warming up, checking", flush=True)
                self._guard(candidate, self._prepare_in_time)
            self.write()

    def run_rounds(self) -> None:
        """Run all prepared variants once per round until the time is up, in reverse order in every second round."""
        budget = self.shared.budget
        for number in range(self.shared.rounds):
            if not self.ready or sum(budget.run(candidate) for candidate in self.ready) > budget.left():
                break
            self.samples.setdefault("gemm", {})[number] = self.shared.gemm()
            for candidate in list(self.ready)[:: -1 if number % 2 else 1]:
                self._guard(candidate, lambda candidate, number=number: self._run(candidate, number))
                self._compute()
                self.write()
            print(f"  round {number + 1} done, {budget.left():.0f} s left", flush=True)

    def count(self) -> None:
        """Count waits and launches of the variants with batch size 1."""
        for candidate in [each for each in self.ready if each.batch == 1 and not each.fast]:
            if not self.shared.device.has_graphs:
                self.figures[candidate.name] |= dict.fromkeys(COUNTED, "needs a GPU")
            elif self.shared.budget.run(candidate) < self.shared.budget.left():  # half a run, and a profiler
                self._guard(candidate, self._count)
            self.write()

    def write(self) -> None:
        figures = {f"{name} | {metric}": value for name, of in self.figures.items() for metric, value in of.items()}
        if self.recompiled is not None:
            figures["recompilations after warm-up"] = figure(self.recompiled, "")
        self.shared.results.keep(self.part, figures, seconds=time.perf_counter() - self._begin)

    def _guard(self, candidate: Candidate, do: Callable[[Candidate], None]) -> None:
        """Record an exception of a variant and continue with the others."""
        try:
            do(candidate)
        except (Exception, TooLongError) as error:  # noqa: BLE001 - keep the figures of the others
            traceback.print_exc()
            self.ready.pop(candidate, None)
            reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self._record_reason(candidate, reason)
            self.shared.failures.append(f"{candidate.name}: {reason}")
            self.shared.device.free()

    def _record_reason(self, candidate: Candidate, text: str) -> None:
        """Record the reason why figures are missing or incomplete."""
        measured = candidate.name in self.samples
        self.figures[candidate.name]["stopped" if measured else "samples/s"] = text
        print(f"  {candidate.name}: {text}", flush=True)

    def _prepare_in_time(self, candidate: Candidate) -> None:
        """Prepare a variant in the time that the rounds of the others leave."""
        budget = self.shared.budget
        with budget.limit(budget.left() - self.least_rounds * sum(budget.run(each) for each in self.ready)):
            self._prepare(candidate)

    def _prepare(self, candidate: Candidate) -> None:
        figures, device = self.figures[candidate.name], self.shared.device
        compiled, cached = from_cache()
        begin = time.perf_counter()
        variant = self.shared.variant(candidate)
        loaded = time.perf_counter()
        steps = min(CHECK_STEPS, variant.steps)
        before = device.allocated()
        device.reset_peak()
        first = variant.make(steps, None)
        warm = time.perf_counter()
        second = variant.make(steps, None)
        end = time.perf_counter()
        run = end - warm + (variant.steps - steps) * second.loop_seconds / steps
        self.shared.budget.learn(candidate, prepare=end - begin, run=run if candidate.timed else 0.0)
        if candidate.timed:
            self.ready[candidate] = variant
        estimate = f"about {variant.batch / run:.3g}, from {steps} steps" if candidate.timed else "not timed"
        figures |= {"samples/s": estimate, "ms a step": figure(second.loop_seconds / steps * 1e3, "")}
        figures |= _memory(variant, first, before=before, peak=device.peak())
        figures |= {"load": figure(loaded - begin, "s"), "first batch": figure(warm - loaded, "s")}
        if candidate.compiles:
            after = from_cache()
            figures["graphs"] = f"{after[0] - compiled} compiled, {after[1] - cached} from the compile cache"
        self._check(candidate, first)

    def _check(self, candidate: Candidate, batch: Batch) -> None:
        """Compare the first seed's latents with the float32 reference, and all latents with those of `equals`."""
        name, reference = candidate.name, self.shared.inputs.reference
        if not candidate.fast:  # latents of another solver differ
            error = ((batch.latents[0] - reference).norm() / reference.norm()).item()
            self.figures[name]["error"] = figure(error, "")
            if not error < TOLERANCE:
                self.shared.failures.append(f"{name}: relative error {error:.3g}; expected under {TOLERANCE:g}")
        self.latents[name] = batch.latents
        if candidate.equals in self.latents:
            same = torch.equal(batch.latents, self.latents[candidate.equals])
            self.figures[name][f"bits equal to {candidate.equals}"] = "yes" if same else "no"
            if not same:
                self.shared.failures.append(f"{name}: latents differ from those of {candidate.equals}")

    def _run(self, candidate: Candidate, number: int) -> None:
        variant = self.ready[candidate]
        begin = time.perf_counter()
        batch = variant.make(variant.steps, None)
        seconds = time.perf_counter() - begin
        self.shared.budget.runs[candidate.name] = seconds
        self.samples.setdefault(candidate.name, {})[number] = variant.batch / seconds
        self.steps.setdefault(candidate.name, []).append(batch.loop_seconds / variant.steps * 1e3)

    def _count(self, candidate: Candidate) -> None:
        for metric, count in COUNTED.items():
            self.figures[candidate.name][metric] = figure(count(self.ready[candidate], self.shared.device), "")

    def _compute(self) -> None:
        """Compute the figures of all complete runs; ratios compare runs of the same round."""
        before: dict[int, float] = {}
        for candidate in [each for each in self.candidates if each.name in self.samples]:
            name, speeds = candidate.name, self.samples[candidate.name]
            flop = self.shared.inputs.flop[self.shared.steps(candidate)]
            floor = {number: rate / flop for number, rate in self.samples["gemm"].items()}
            ratios = {"share of the floor": _ratio(speeds, floor, "%", scale=100)}
            for base, metric in self.bases.items():
                ratios[metric] = _ratio(speeds, before if base is None else self.samples.get(base, {}), "x")
            before = speeds
            self.figures[name] |= {
                "samples/s": figure(list(speeds.values()), ""),
                "ms a step": figure(self.steps[name], ""),
                "rounds": figure(len(speeds), ""),
                **{metric: ratio for metric, ratio in ratios.items() if ratio is not None},
            }


def _memory(variant: Variant, batch: Batch, *, before: int | None, peak: int | None) -> dict[str, Figure | str]:
    """Compute the peak memory of a variant and its weights, by stage if known, without other variants in memory.

    `before` and `peak` are the allocated bytes before its first batch, and their maximum during it.
    """
    if before is None or peak is None:
        return {"memory": "needs a GPU"}
    others = (before - variant.weights) / 2**30
    stages = {f"peak of {stage}": gib - others for stage, gib in batch.peak_gib.items()}
    most = max(stages.values(), default=peak / 2**30 - others)
    return {name: figure(gib, "GiB") for name, gib in {"memory": most, **stages}.items()}


def _ratio(over: dict[int, float], under: dict[int, float], unit: str, *, scale: float = 1.0) -> Figure | None:
    """Divide the values of common rounds; None without common rounds."""
    common = [over[number] / under[number] for number in over if number in under]
    return figure(common, unit, scale=scale) if common else None
