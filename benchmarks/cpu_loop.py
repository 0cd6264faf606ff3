"""Parts of `cpu.py`: overhead of the loops of `its` and Lightning around the networks, and the gain of batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import models
import ours
import torch
from lightning.pytorch import Trainer
from measuring import Figure, figure, interleave, ratios
from ours import Levers

import its
from its.diffusion.noise import generators
from its.methods.base import Method
from its.methods.sample import Sample
from its.specs.prompts import PromptGrid
from its.specs.spec import SampleSpec

CPU = torch.device("cpu")
STEPS = 50
PREDICT_ONLY = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Options of a Trainer that only predicts."""


def loop(rounds: int) -> dict[str, Figure]:
    """Time of `its.denoise` over that of the UNet forwards alone; tiny UNets, canvas 64 x 128, one thread."""
    inside: list[float] = []
    calls: list[Callable[[], Any]] = []

    def measure(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            begin = time.thread_time()  # CPU time of this thread, independent of other processes
            result = forward(*args, **options)
            inside.append(time.thread_time() - begin)
            return result

        return call

    def record(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(lambda: forward.__self__(*args, **options))
            return forward(*args, **options)

        return call

    with _threads(1), tiny_loop((64, 128)) as denoise:
        with _wrap_forwards(denoise, record):
            denoise(1)

        def overhead() -> float:
            inside.clear()
            with _wrap_forwards(denoise, measure):
                begin = time.thread_time()
                denoise(1)
                return (time.thread_time() - begin) / sum(inside) - 1

        def bare() -> None:
            with torch.inference_mode():
                for call in calls:
                    call()

        turns: dict[str, Callable[[], float | None]] = {"loop": lambda: denoise(1), "bare": bare}
        seconds = interleave(turns | {"overhead": overhead}, rounds=2 * rounds)
    shares = seconds["overhead"]
    outside = [total * share / (1 + share) / STEPS for total, share in zip(seconds["loop"], shares, strict=True)]
    return {
        "loop over its UNet forwards, counted within one run": figure(shares, "%", scale=100),
        "loop over the same forwards without a loop": figure(
            [r - 1 for r in ratios(seconds["loop"], seconds["bare"])], "%", scale=100
        ),
        "outside of the UNets, a step": figure(outside, "ms", scale=1e3),
        "a UNet forward (two rows: with and without text)": figure(seconds["bare"], "ms", scale=1e3 / len(calls)),
    }


def batch(rounds: int) -> dict[str, Figure]:
    """Samples per second of tiny UNets at batch 16 over batch 1, on all cores."""
    figures: dict[str, Figure] = {}
    for canvas in ((64, 128), (64, 512)):
        with tiny_loop(canvas, steps=4) as denoise:
            seconds = interleave({str(n): lambda n=n, d=denoise: d(n) for n in (1, 16)}, rounds=rounds)
        gains = [16 * ratio for ratio in ratios(seconds["1"], seconds["16"])]
        figures[f"batch 16 over batch 1, canvas {canvas[0]} x {canvas[1]}"] = figure(gains, "x")
    return figures


def lightning(rounds: int) -> dict[str, Figure]:
    """Time of Lightning's predict loop around a method that does nothing, one thread."""
    with _threads(1):
        _, *runs = [_idle_run(1000) for _ in range(rounds + 1)]
    return {
        "Lightning, a batch": figure([each for _, each in runs], "ms", scale=1e3),
        "Lightning, start-up: from making a Trainer to the first batch": figure(
            [startup for startup, _ in runs], "ms", scale=1e3
        ),
    }


class TinyLoop:
    """`its.denoise` with tiny experts. A call makes a batch of latents of the given size."""

    def __init__(self, folder: Path, canvas: tuple[int, int], steps: int) -> None:
        method = ours.build(folder, canvas=canvas, steps=steps, device=CPU, dtype=torch.float32, levers=Levers())
        self.experts: dict[str, Any] = dict(method.experts.items())
        self.process = method.process
        self.shape = method.decoder.sound.latent_shape(canvas)
        self.text = {name: expert.encode_text(["castle", ""]) for name, expert in self.experts.items()}

    @torch.inference_mode()
    def __call__(self, batch: int) -> None:
        its.denoise(
            its.initial_noise(generators(range(batch)), self.shape),
            experts={
                name: its.GuidedExpert(
                    expert,
                    text=self.text[name][:1].expand(batch, -1, -1),
                    null_text=self.text[name][1:].expand(batch, -1, -1),
                    scales=[10.0] * batch,
                )
                for name, expert in self.experts.items()
            },
            combiner=self.process.combiner,
            scheduler=self.process.scheduler,
            steps=self.process.steps,
        )


@contextmanager
def tiny_loop(canvas: tuple[int, int], *, steps: int = STEPS) -> Iterator[TinyLoop]:
    with tempfile.TemporaryDirectory() as folder:
        models.write(Path(folder), models.TINY, device=CPU, dtype=torch.float32)
        yield TinyLoop(Path(folder), canvas, steps)


@contextmanager
def _wrap_forwards(denoise: TinyLoop, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Context in which the forward passes of the UNets are wrapped."""
    unets = [expert.unet for expert in denoise.experts.values()]
    for unet in unets:
        unet.forward = wrap(unet.forward)
    try:
        yield
    finally:
        for unet in unets:
            del unet.forward


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Idle(Method):
    """Method that makes no samples and records the times of its batches."""

    def __init__(self) -> None:
        super().__init__(experts={}, fallback=None)
        self.times: list[float] = []

    def length(self, spec: SampleSpec) -> str:
        return "nothing"

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        return {}

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        return []

    def predict_step(self, batch: list[SampleSpec], batch_idx: int = 0) -> list[Sample]:
        self.times.append(time.perf_counter())
        return []


def _idle_run(batches: int) -> tuple[float, float]:
    """Return the seconds until the first batch, and between batches."""
    grid, idle = PromptGrid(prompts=[]), Idle()
    grid.rows = ours.specs(range(batches))
    begin = time.perf_counter()
    trainer = Trainer(accelerator="cpu", devices=1, **PREDICT_ONLY)
    trainer.predict(idle, datamodule=grid, return_predictions=False)
    return idle.times[0] - begin, (idle.times[-1] - idle.times[0]) / (batches - 1)
