"""Parts of `cpu.py`: what our loop and Lightning's cost around the networks, and what batches gain."""

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
from measuring import Figure, figure, interleaved, ratios
from ours import Levers

import its
from its.diffusion.noise import generators
from its.methods.base import Method
from its.methods.sample import Sample
from its.specs.prompts import PromptGrid
from its.specs.spec import SampleSpec

CPU = torch.device("cpu")
STEPS = 50


def loop(rounds: int) -> dict[str, Figure]:
    """Our loop over the bare forwards of tiny UNets, canvas 64 x 128, one sample, one thread."""
    inside: list[float] = []
    with _threads(1), tiny_loop((64, 128)) as denoise:
        experts = denoise.experts
        calls = _captured(denoise)

        def whole() -> None:
            inside.clear()
            denoise(1)

        def accounted() -> float:
            with _clocked(experts, inside):
                begin = time.thread_time()
                denoise(1)
                return (time.thread_time() - begin) / sum(inside) - 1

        def bare() -> None:
            with torch.inference_mode():
                for call in calls:
                    call()

        seconds = interleaved({"whole": whole, "bare": bare, "accounted": accounted}, rounds=2 * rounds)
    outside = [whole * share / (1 + share) / STEPS for whole, share in zip(*_pair(seconds), strict=True)]
    return {
        "loop over its UNet forwards, counted within one run": figure(seconds["accounted"], "%", scale=100),
        "loop over the same forwards without a loop": figure(
            [r - 1 for r in ratios(seconds["whole"], seconds["bare"])], "%", scale=100
        ),
        "outside of the UNets, a step": figure(outside, "ms", scale=1e3),
        "a UNet forward (two rows: with and without text)": figure(seconds["bare"], "ms", scale=1e3 / len(calls)),
    }


def batch(rounds: int) -> dict[str, Figure]:
    """Samples a second of tiny UNets at batch 16 over batch 1, on all cores."""
    found: dict[str, Figure] = {}
    for canvas in ((64, 128), (64, 512)):
        with tiny_loop(canvas, steps=4) as denoise:
            one = {"1": lambda d=denoise: d(1), "16": lambda d=denoise: d(16)}
            seconds = interleaved(one, rounds=rounds)
        gains = [16 * ratio for ratio in ratios(seconds["1"], seconds["16"])]
        found[f"batch 16 over batch 1, canvas {canvas[0]} x {canvas[1]}"] = figure(gains, "x")
    return found


def lightning(rounds: int) -> dict[str, Figure]:
    """Lightning's predict loop around a method that does nothing, one thread."""
    startups: list[float] = []
    batches: list[float] = []
    with _threads(1):
        for _ in range(rounds + 1):
            startup, each = _idle_run(1000)
            startups.append(startup)
            batches.append(each)
    return {
        "Lightning, a batch": figure(batches[1:], "ms", scale=1e3),
        "Lightning, start-up: from making a Trainer to the first batch": figure(startups[1:], "ms", scale=1e3),
    }


class TinyLoop:
    """`its.denoise` on tiny experts: called with a batch size, it makes that many latents."""

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
def _clocked(experts: dict[str, Any], seconds: list[float]) -> Iterator[None]:
    """Meanwhile, every forward of a UNet adds how long it took: time of this thread's own, whoever else is busy."""

    def clocked(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            begin = time.thread_time()
            found = forward(*args, **options)
            seconds.append(time.thread_time() - begin)
            return found

        return call

    seconds.clear()
    unets = [expert.unet for expert in experts.values()]
    for unet in unets:
        unet.forward = clocked(unet.forward)
    try:
        yield
    finally:
        for unet in unets:
            del unet.forward


def _captured(denoise: TinyLoop) -> list[Callable[[], Any]]:
    """The forwards of one run with what they were called with, to be repeated without anything around them."""
    calls: list[Callable[[], Any]] = []
    unets = [expert.unet for expert in denoise.experts.values()]

    def keep(unet: Any) -> Callable[..., Any]:
        forward = type(unet).forward

        def call(*args: Any, **options: Any) -> Any:
            calls.append(lambda: unet(*args, **options))
            return forward(unet, *args, **options)

        return call

    for unet in unets:
        unet.forward = keep(unet)
    try:
        denoise(1)
    finally:
        for unet in unets:
            del unet.forward
    return calls


def _pair(seconds: dict[str, list[float]]) -> tuple[list[float], list[float]]:
    return seconds["whole"], seconds["accounted"]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Idle(Method):
    """Makes nothing, and notes when it was asked to."""

    def __init__(self) -> None:
        super().__init__(experts={}, fallback=None)
        self.asked: list[float] = []

    def length(self, spec: SampleSpec) -> str:
        return "nothing"

    def settings(self, spec: SampleSpec) -> dict[str, Any]:
        return {}

    def make(self, specs: Sequence[SampleSpec]) -> list[Sample]:
        return []

    def predict_step(self, batch: list[SampleSpec], batch_idx: int = 0) -> list[Sample]:
        self.asked.append(time.perf_counter())
        return []


def _idle_run(batches: int) -> tuple[float, float]:
    """Seconds until the first batch, and from batch to batch."""
    grid, idle = PromptGrid(prompts=[]), Idle()
    grid.rows = ours.specs(range(batches))
    begin = time.perf_counter()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.predict(idle, datamodule=grid, return_predictions=False)
    return idle.asked[0] - begin, (idle.asked[-1] - idle.asked[0]) / (batches - 1)
