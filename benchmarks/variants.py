"""What is compared, behind one face: seeds and steps in, latents and the seconds of denoising out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from authors_loop import AuthorsProgram
from ours import samples
from torch import Tensor, nn

from its.interfaces import Step
from its.methods.denoising import MultimodalDenoising

OnStep = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """Latents (b, 4, h, w), float32 on the CPU, and how long the loop took that made them."""

    latents: Tensor
    loop_seconds: float


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to make samples, from seeds to picture and sound on the host."""

    batch: int
    steps: int
    weights: int
    """Bytes."""
    make: Callable[[int, OnStep | None], Made]
    """Steps, and what to call after each -> one batch."""


def of_authors(program: AuthorsProgram) -> Variant:
    """One sample at a time."""

    def make(steps: int, on_step: OnStep | None = None) -> Made:
        program.steps = steps
        begin = time.perf_counter()
        z = program.latents(1, on_step)
        wait(program.device)
        seconds = time.perf_counter() - begin
        program.finish(z)
        return Made(latents=z.float().cpu(), loop_seconds=seconds)

    return Variant(batch=1, steps=program.steps, weights=_bytes(program.networks()), make=make)


def of_ours(method: MultimodalDenoising, *, batch: int, steps: int) -> Variant:
    """A batch of seeds from 1 on."""

    def make(steps: int, on_step: OnStep | None = None) -> Made:
        method.on_step = None if on_step is None else _without_batch(on_step)
        made = samples(method, range(1, batch + 1), steps=steps)
        latents = torch.stack([sample.result.latents for sample in made if sample.result is not None])
        return Made(latents=latents, loop_seconds=made[0].timings["denoise"])

    return Variant(batch=batch, steps=steps, weights=_bytes([method]), make=make)


def _bytes(networks: Iterable[nn.Module]) -> int:
    return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())


def _without_batch(on_step: OnStep) -> Callable[[Step, int], None]:
    return lambda step, batch: on_step(step.index)


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
