"""Common interface of the compared programs: makes a batch in a number of steps, and measures the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from authors_loop import AuthorsProgram
from devices import Device
from ours import FAST_SCHEDULER, samples
from torch import Tensor, nn

from its.methods.batch_runner import BatchRunner
from its.methods.denoising import MultimodalDenoising

OnStep = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Result of a batch."""

    latents: Tensor  # (b, 4, h, w), float32 on the CPU
    loop_seconds: float  # seconds of denoising
    peak_gib: Mapping[str, float] = field(default_factory=dict)  # peak memory by stage, if recorded


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Program with a batch size, which makes pictures and sounds on the host."""

    batch: int
    steps: int  # steps of a complete run
    weights: int  # bytes of the weights
    make: Callable[[int, OnStep | None], Batch]  # takes the number of steps, and a callback after each step


def of_authors(program: AuthorsProgram, device: Device) -> Variant:
    """Wrap the authors' program, which makes one sample at a time."""

    def make(steps: int, on_step: OnStep | None = None) -> Batch:
        torch.backends.cudnn.benchmark = False
        program.steps = steps
        begin = time.perf_counter()
        z = program.latents(1, on_step)
        device.synchronize()
        seconds = time.perf_counter() - begin
        program.finish(z)
        return Batch(latents=z.float().cpu(), loop_seconds=seconds)

    return Variant(batch=1, steps=program.steps, weights=_bytes(program.networks()), make=make)


def of_ours(
    method: MultimodalDenoising, *, batch: int, steps: int, fast: bool = False, cudnn_benchmark: bool = False
) -> Variant:
    """Wrap a method, with the seeds from 1 on; `fast` selects the scheduler of `configs/fast/dpm25.yaml`."""
    runner = BatchRunner(method)  # one for each variant, since runners pad smaller batches to their largest batch

    def make(steps: int, on_step: OnStep | None = None) -> Batch:
        method.run_batch = runner
        torch.backends.cudnn.benchmark = cudnn_benchmark  # a setting of the process
        method.on_step = None if on_step is None else lambda step, batch: on_step(step.index)
        finished = samples(method, range(1, batch + 1), {"steps": steps} | (FAST_SCHEDULER if fast else {}))
        latents = torch.stack([sample.result.latents for sample in finished if sample.result is not None])
        timings = finished[0].timings
        return Batch(latents=latents, loop_seconds=timings["denoise"], peak_gib=timings.get("peak_gib", {}))

    return Variant(batch=batch, steps=steps, weights=_bytes([method]), make=make)


def _bytes(networks: Iterable[nn.Module]) -> int:
    return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
