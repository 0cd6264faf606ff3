"""Our method as `its predict` runs it, with the levers of speed switched one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from its.methods.denoising import MultimodalDenoising
from its.methods.sample import Sample
from its.methods.speed import Auto
from its.specs.spec import SampleSpec
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.schedulers import diffusers_scheduler  # noqa: F401 - registers the one of FAST_SCHEDULER
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.hifi_gan import HiFiGAN

FAST_SCHEDULER: dict[str, Any] = {
    "scheduler": {"class_path": "DiffusersScheduler", "init_args": {"name": "DPMSolverMultistepScheduler"}}
}
"""That of `configs/fast/dpm25.yaml`."""


@dataclass(frozen=True, kw_only=True)
class Levers:
    """What makes the method faster; everything is off by default."""

    channels_last: bool = False
    compile: bool = False
    cuda_graph: Auto = False
    attention: str = "default"
    streams: Auto = False
    cudnn_benchmark: bool = False

    @property
    def needs_gpu(self) -> bool:
        """Whether some of it is for a GPU only."""
        return self.cuda_graph is True or self.streams is True or self.attention != "default"


PLAIN = Levers(cuda_graph="auto", streams="auto")
"""The defaults of `its predict`."""
FAST = replace(PLAIN, channels_last=True, compile=True)
"""Those with `configs/fast.yaml`."""
_GRAPH = Levers(cuda_graph=True)
_STREAMS = replace(_GRAPH, streams=True)
_LAYOUT = replace(_STREAMS, channels_last=True)
_COMPILED = replace(_LAYOUT, compile=True)
_ATTENTION = replace(_COMPILED, attention="auto")
LADDER = {
    "eager": Levers(),
    "+ CUDA graph": _GRAPH,
    "+ two streams": _STREAMS,
    "+ channels_last": _LAYOUT,
    "+ compile": _COMPILED,
    "+ attention by timing": _ATTENTION,
    "+ cuDNN benchmark": replace(_ATTENTION, cudnn_benchmark=True),
}
"""Each has the levers of the one before, and one more. The last two are in no config: see what they gain."""


def build(
    folder: Path, *, canvas: tuple[int, int], steps: int, device: torch.device, dtype: torch.dtype, levers: Levers
) -> MultimodalDenoising:
    """The method on weights of `models.write`, in the dtype and on the device."""
    of_expert: dict[str, Any] = {"channels_last": levers.channels_last, "attention": levers.attention}
    method = MultimodalDenoising(
        experts={
            "visual": StableDiffusion(weights=str(folder / "sd"), **of_expert),
            "audio": Auffusion(weights=str(folder / "auffusion"), **of_expert),
        },
        combiner=WarmStartAverage(t={"visual": 0.9, "audio": 1.0}),
        scheduler=DDIM(),
        vocoder=HiFiGAN(weights=str(folder / "auffusion")),
        steps=steps,
        canvas=canvas,
        trim=0,  # the authors' program is compared on the whole canvas
        noise_dtype="float16",
        compile=levers.compile,
        cuda_graph=levers.cuda_graph,
        streams=levers.streams,
    )
    method.prepare()
    method.to(device)  # before the weights are loaded: graphs and streams are set up for the method's device
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            method.configure_model()
    finally:
        torch.set_default_dtype(before)
    return method.to(device)


def specs(seeds: Sequence[int], settings: Mapping[str, Any] | None = None) -> list[SampleSpec]:
    """The authors' pair of prompts and their guidance, for each seed.

    Args:
        seeds: one a sample.
        settings: of the process, as a sweep has them; by default the method's.
    """
    return [
        SampleSpec(
            prompts={"visual": "a painting of castle towers, grayscale", "audio": "bell ringing"},
            negative_prompts={"visual": "", "audio": ""},
            guidance_scale={"visual": 10.0, "audio": 10.0},
            seed=seed,
            settings=settings or {},
            source="benchmark",
        )
        for seed in seeds
    ]


@torch.inference_mode()
def samples(
    method: MultimodalDenoising, seeds: Sequence[int], settings: Mapping[str, Any] | None = None
) -> list[Sample]:
    """What a batch of `its predict` does, without Lightning's Trainer around it and without files.

    Raises:
        RuntimeError: a sample failed, or the batch was not made in one piece or not in the run's precision.
    """
    made = method.predict_step(specs(seeds, settings))
    for sample in made:
        if sample.error is not None:
            raise RuntimeError(f"a sample failed: {sample.error}\n{sample.traceback or ''}")
        if sample.precision is not None or sample.timings["batch_size"] != len(seeds):
            raise RuntimeError(f"asked for a batch of {len(seeds)}, got {dict(sample.timings)}, {sample.precision}")
    return made
