"""Programs to compare, behind one interface: a number of steps in, latents and the seconds of the loop out."""

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
class Made:
    """One batch.

    Attributes:
        latents: (b, 4, h, w), float32 on the CPU.
        loop_seconds: of denoising.
        peak_gib: peak memory by stage, where the method records it.
    """

    latents: Tensor
    loop_seconds: float
    peak_gib: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A program with a batch size: from seeds to picture and sound on the host.

    Attributes:
        batch, steps: of a whole run.
        weights: bytes.
        make: number of steps, and a callback after each step -> one batch.
    """

    batch: int
    steps: int
    weights: int
    make: Callable[[int, OnStep | None], Made]


def of_authors(program: AuthorsProgram, device: Device) -> Variant:
    """The authors' program makes one sample at a time."""

    def make(steps: int, on_step: OnStep | None = None) -> Made:
        torch.backends.cudnn.benchmark = False
        program.steps = steps
        begin = time.perf_counter()
        z = program.latents(1, on_step)
        device.synchronize()
        seconds = time.perf_counter() - begin
        program.finish(z)
        return Made(latents=z.float().cpu(), loop_seconds=seconds)

    return Variant(batch=1, steps=program.steps, weights=_bytes(program.networks()), make=make)


def of_ours(
    method: MultimodalDenoising, *, batch: int, steps: int, fast: bool = False, cudnn_benchmark: bool = False
) -> Variant:
    """Our method makes a batch of the seeds from 1 on; `fast` takes the scheduler of `configs/fast/dpm25.yaml`."""
    runner = BatchRunner(method)  # of its own: a runner fills smaller batches up to the largest that it has seen

    def make(steps: int, on_step: OnStep | None = None) -> Made:
        method.run_batch = runner
        torch.backends.cudnn.benchmark = cudnn_benchmark  # as Lightning sets it for a whole process
        method.on_step = None if on_step is None else lambda step, batch: on_step(step.index)
        made = samples(method, range(1, batch + 1), {"steps": steps} | (FAST_SCHEDULER if fast else {}))
        latents = torch.stack([sample.result.latents for sample in made if sample.result is not None])
        timings = made[0].timings
        peaks = timings.get("peak_gib")
        peaks = dict(peaks) if isinstance(peaks, Mapping) else {}
        return Made(latents=latents, loop_seconds=timings["denoise"], peak_gib=peaks)

    return Variant(batch=batch, steps=steps, weights=_bytes([method]), make=make)


def _bytes(networks: Iterable[nn.Module]) -> int:
    return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())
