"""The main method of `its predict` with selectable levers (optimisations)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import or_
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
from its_plugins.schedulers import diffusers_scheduler  # noqa: F401 - registers FAST_SCHEDULER's class
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.hifi_gan import HiFiGAN

FAST_SCHEDULER: dict[str, Any] = {
    "scheduler": {"class_path": "DiffusersScheduler", "init_args": {"name": "DPMSolverMultistepScheduler"}}
}
"""The scheduler of `configs/fast/dpm25.yaml`."""


@dataclass(frozen=True, kw_only=True)
class Levers:
    """Options that make the method faster; all are off by default."""

    channels_last: bool = False
    compile: bool = False
    cuda_graph: Auto = False
    attention: str = "default"
    streams: Auto = False
    cudnn_benchmark: bool = False

    @property
    def needs_gpu(self) -> bool:
        """Whether some of the levers need a GPU."""
        return self.cuda_graph is True or self.streams is True or self.attention != "default"


PLAIN = Levers(cuda_graph="auto", streams="auto")
"""The defaults of `its predict`."""
FAST = replace(PLAIN, channels_last=True, compile=True)
"""The levers of `configs/fast.yaml`."""
_ADDED: dict[str, dict[str, Any]] = {
    "eager": {},
    "+ CUDA graph": {"cuda_graph": True},
    "+ two streams": {"streams": True},
    "+ channels_last": {"channels_last": True},
    "+ compile": {"compile": True},
    "+ attention by timing": {"attention": "auto"},
    "+ cuDNN benchmark": {"cudnn_benchmark": True},
}
LADDER = {name: Levers(**options) for name, options in zip(_ADDED, accumulate(_ADDED.values(), or_), strict=True)}
"""Each entry adds one lever to the entry before. The last two levers are in no config."""


def build(
    folder: Path, *, canvas: tuple[int, int], steps: int, device: torch.device, dtype: torch.dtype, levers: Levers
) -> MultimodalDenoising:
    """Build the method from weights of `models.write`."""
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
        trim=0,  # as in the authors' program
        noise_dtype="float16",
        compile=levers.compile,
        cuda_graph=levers.cuda_graph,
        streams=levers.streams,
    )
    method.prepare()
    method.to(device)  # before loading, since graphs and streams are set up for the method's device
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            method.configure_model()
    finally:
        torch.set_default_dtype(before)
    return method.to(device)


def specs(seeds: Sequence[int], settings: Mapping[str, Any] | None = None) -> list[SampleSpec]:
    """Return a spec for each seed with the authors' prompts and guidance. `settings` override the method's."""
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
    """Make a batch like `its predict`, without Lightning's Trainer and without files.

    Raises:
        RuntimeError: a sample failed, or the batch was split or made in another precision.
    """
    batch = method.predict_step(specs(seeds, settings))
    for sample in batch:
        if sample.error is not None:
            raise RuntimeError(f"a sample failed: {sample.error}\n{sample.traceback or ''}")
        if sample.precision is not None or sample.timings["batch_size"] != len(seeds):
            raise RuntimeError(f"expected a batch of {len(seeds)}, got {dict(sample.timings)}, {sample.precision}")
    return batch
