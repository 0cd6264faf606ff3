"""This project as users run it, with the levers of speed switched one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from its.interfaces import Scheduler
from its.methods.denoising import MultimodalDenoising
from its.methods.sample import Sample
from its.specs.spec import SampleSpec
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.schedulers.ddim import DDIM
from its_plugins.schedulers.diffusers_scheduler import DiffusersScheduler
from its_plugins.vocoders.hifi_gan import HiFiGAN


class NotThere(Exception):
    """A lever that this device doesn't have, or that was left out."""


@dataclass(frozen=True, kw_only=True)
class Levers:
    """What can be switched; the defaults are off."""

    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False
    attention: str = "default"
    streams: bool = False


LADDER = {
    "eager": Levers(),
    "+ CUDA graph": Levers(cuda_graph=True),
    "+ channels_last": Levers(cuda_graph=True, channels_last=True),
    "+ compile": Levers(cuda_graph=True, channels_last=True, compile=True),
    "+ attention by timing": Levers(cuda_graph=True, channels_last=True, compile=True, attention="auto"),
    "+ two streams": Levers(cuda_graph=True, channels_last=True, compile=True, attention="auto", streams=True),
}
"""Each has what the one before has, and one lever more."""
ALONE = {
    "channels_last alone": Levers(channels_last=True),
    "compile alone": Levers(compile=True),
    "compile and channels_last, no graph": Levers(compile=True, channels_last=True),
}


def for_device(levers: Levers, device: torch.device) -> Levers:
    """The levers without those that only a GPU has."""
    if device.type == "cuda":
        return levers
    return Levers(channels_last=levers.channels_last, compile=levers.compile)


def build(
    folder: Path,
    *,
    canvas: tuple[int, int],
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    levers: Levers,
    scheduler: Scheduler | None = None,
) -> MultimodalDenoising:
    """The method on weights of `models.write`, loaded as Lightning loads it: in the run's dtype, on the device.

    Raises:
        NotThere: a lever needs a GPU, and there is none.
    """
    if device.type != "cuda" and levers != for_device(levers, device):
        raise NotThere("needs a GPU")
    of_expert: dict[str, Any] = {"channels_last": levers.channels_last, "attention": levers.attention}
    method = MultimodalDenoising(
        experts={
            "visual": StableDiffusion(weights=str(folder / "sd"), **of_expert),
            "audio": Auffusion(weights=str(folder / "auffusion"), **of_expert),
        },
        combiner=WarmStartAverage(t={"visual": 0.9, "audio": 1.0}),
        scheduler=scheduler or DDIM(),
        vocoder=HiFiGAN(weights=str(folder / "auffusion")),
        steps=steps,
        canvas=canvas,
        trim=0,  # what the authors' program is compared in is the whole canvas
        noise_dtype="float16",
        compile=levers.compile,
        cuda_graph=levers.cuda_graph,
        streams=levers.streams,
    )
    method.prepare()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            method.configure_model()
    finally:
        torch.set_default_dtype(before)
    return method.to(device)


def dpm_solver() -> Scheduler:
    """Of the preset of 25 steps, `configs/fast/dpm25.yaml`."""
    return DiffusersScheduler(name="DPMSolverMultistepScheduler")


def rows(seeds: Sequence[int], *, steps: int | None = None) -> list[SampleSpec]:
    """The authors' pair of prompts and their guidance, for each seed; in other steps than the method's where given."""
    return [
        SampleSpec(
            prompts={"visual": "a painting of castle towers, grayscale", "audio": "bell ringing"},
            negative_prompts={"visual": "", "audio": ""},
            guidance_scale={"visual": 10.0, "audio": 10.0},
            seed=seed,
            settings={} if steps is None else {"steps": steps},
            source="benchmark",
        )
        for seed in seeds
    ]


@torch.inference_mode()
def samples(method: MultimodalDenoising, seeds: Sequence[int], *, steps: int | None = None) -> list[Sample]:
    """What a batch of `its predict` does, without Lightning's Trainer around it and without files.

    Raises:
        RuntimeError: a sample failed, or was not made as asked for: another batch, another precision.
    """
    made = method.predict_step(rows(seeds, steps=steps))
    for sample in made:
        if sample.error is not None:
            raise RuntimeError(f"a sample failed: {sample.error}\n{sample.traceback or ''}")
        if sample.precision is not None or sample.timings["batch_size"] != len(seeds):
            raise RuntimeError(f"asked for a batch of {len(seeds)}, got {dict(sample.timings)}, {sample.precision}")
    return made
