"""Colorizer by Factorized Diffusion (Geng, Park, Owens, arXiv 2404.11615): luminance is given, colour is sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from its.diffusion.noise import initial_noise
from its.interfaces import Colorizer
from its.registry import register
from its_plugins.experts.deepfloyd_if_upscaler import DeepFloydIFUpscaler
from its_plugins.experts.pixel_expert import PixelExpert

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

Estimate = Callable[[Tensor, Tensor], Tensor]
"""x_t (b, 3, h, w) and t (b,) -> noise (b, 3, h, w), or noise and variance (b, 6, h, w)."""


def sample_ancestral(
    x: Tensor,
    *,
    estimate: Estimate,
    sampler: DDPMScheduler,
    timesteps: Sequence[int],
    generators: Sequence[torch.Generator],
    gray: Tensor | None = None,
) -> Tensor:
    """Denoise x_t at the first timestep to x_0, both (b, 3, h, w) in about [-1, 1].

    Args:
        x: noisy pictures.
        estimate: guided model.
        sampler: computes x_{t-1} from x_t.
        timesteps: decreasing subset of the sampler's timesteps.
        generators: noise source of each sample.
        gray: gray pictures (b, 1, h, w) in [-1, 1]. Their noised luminance replaces that of x_t before each step. None
            for plain DDPM.
    """
    for t in timesteps:
        if gray is not None:
            x = luminance(add_noise(gray, t, sampler, generators)) + x - luminance(x)
        output = estimate(x, torch.full((len(x),), t, device=x.device))
        x = sampler.step(output, t, x, generator=list(generators), return_dict=False)[0]
    return x


def luminance(x: Tensor) -> Tensor:
    """Return the mean (b, 1, h, w) over the channels of (b, c, h, w)."""
    return x.mean(1, keepdim=True)


def add_noise(gray: Tensor, t: int, sampler: DDPMScheduler, generators: Sequence[torch.Generator]) -> Tensor:
    """Return x_t = sqrt(a_t) gray + sqrt(1 - a_t) e, (b, 3, h, w), with noise e of three channels."""
    e = initial_noise(generators, (3, *gray.shape[2:])).to(gray.device)
    return sampler.add_noise(gray.expand_as(e), e, torch.tensor([t], device=gray.device))


def guide(predict: Callable[[Tensor, Tensor, Tensor], Tensor], text: Tensor, null: Tensor, scale: float) -> Estimate:
    """Add classifier-free guidance to a model. A learned variance is that of the conditional output.

    Args:
        predict: model; maps x_t, t and text to noise, or to noise and variance.
        text: encoded prompt of each sample, (b, ...).
        null: encoded empty prompt, (b, ...).
        scale: guidance scale gamma; at 1 the unconditional output is not computed.
    """

    def estimate(x: Tensor, t: Tensor) -> Tensor:
        if scale == 1:
            return predict(x, t, text)
        unconditional, conditional = predict(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, text])).chunk(2)
        eps_null, eps_text = unconditional[:, :3], conditional[:, :3]
        return torch.cat([eps_null + scale * (eps_text - eps_null), conditional[:, 3:]], dim=1)

    return estimate


def add_chroma(gray: Tensor, chroma: Tensor) -> Tensor:
    """Add chroma (b, 3, h, w) with channel mean 0 to gray (b, 1, h, w) in [0, 1], scaled to stay within [0, 1].

    Each pixel's chroma is scaled by one factor, which keeps hue and channel mean; clamping would change both.
    """
    limit = torch.where(chroma > 0, 1 - gray, gray) / chroma.abs().clamp(min=1e-6)
    return (gray + chroma * limit.amin(1, keepdim=True).clamp(max=1)).clamp(0, 1)  # remove rounding errors


@register
class FactorizedDiffusion(Colorizer):
    """Factorized Diffusion: a text-guided pixel model samples the colour, and each step keeps the luminance.

    All defaults except the models are the paper's. Pictures are padded to a size that the models accept, and cropped.

    Args:
        expert: stage I, which colours the downscaled picture.
        upscaler: stage II, which colours the picture at full size from the output of stage I; null to upscale the
            colours of stage I. The luminance is exact in both cases.
        steps: number of steps of each stage's complete process.
        start: first step of stage I, which starts from the noised gray picture and skips the steps before.
        guidance_scale: guidance scale of both stages.
        shrink: factor by which the picture is downscaled for stage I.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        expert: PixelExpert,
        upscaler: DeepFloydIFUpscaler | None = None,
        steps: int = 30,
        start: int = 7,
        guidance_scale: float = 10.0,
        shrink: int = 4,
    ) -> None:
        super().__init__()
        if not 0 <= start < steps:
            raise ValueError(f"start (={start}) must lie between 0 and steps (={steps}) - 1")
        if shrink < 1:
            raise ValueError(f"shrink (={shrink}) must be at least 1")
        self.expert = expert
        self.upscaler = upscaler
        self.steps = steps
        self.start = start
        self.guidance_scale = guidance_scale
        self.shrink = shrink

    def provenance(self) -> dict[str, Any]:
        """Merge the records of both stages."""
        stages = [stage for stage in (self.expert, self.upscaler) if stage is not None]
        records = [stage.provenance() or {} for stage in stages]
        keys = [key for key in ("name", "revision", "sha256") if any(key in record for record in records)]
        merged: dict[str, Any] = {key: " + ".join(r[key] for r in records if key in r) for key in keys}
        if files := [file for record in records for file in record.get("files", ())]:
            merged["files"] = files
        return merged | {"embedded": True} if any(record.get("embedded") for record in records) else merged

    def forward(self, gray: Tensor, prompts: Sequence[str], generators: Sequence[torch.Generator]) -> Tensor:
        rows, columns = gray.shape[2:]
        padded = self._pad(gray.float() * 2 - 1)
        size = (padded.shape[2], padded.shape[3])
        small = functional.interpolate(
            padded, (size[0] // self.shrink, size[1] // self.shrink), mode="bilinear", antialias=True
        )
        text, null = (self.expert.encode_text(texts).to(gray.device) for texts in (prompts, [""]))
        guided = partial(guide, text=text, null=null.expand_as(text), scale=self.guidance_scale)
        x = self._color(small, guided(self.expert.predict), self.expert.sampler(), generators, start=self.start)
        if self.upscaler is None:
            x = functional.interpolate(x, size, mode="bilinear")
        else:
            estimate = guided(self.upscaler.condition_on(x, size, generators))
            x = self._color(padded, estimate, self.upscaler.sampler(), generators, start=0)
        chroma = (x - luminance(x))[..., :rows, :columns] / 2
        return add_chroma(gray.float(), chroma)

    def _color(
        self,
        gray: Tensor,
        estimate: Estimate,
        sampler: DDPMScheduler,
        generators: Sequence[torch.Generator],
        start: int,
    ) -> Tensor:
        sampler.set_timesteps(self.steps)
        timesteps = sampler.timesteps.tolist()[start:]
        x = add_noise(gray, timesteps[0], sampler, generators)  # at gain 1; the authors' program uses gain 2
        return sample_ancestral(
            x, estimate=estimate, sampler=sampler, timesteps=timesteps, generators=generators, gray=gray
        )

    def _pad(self, gray: Tensor) -> Tensor:
        """Pad to a size that both stages support, by repeating the last row and column."""
        multiple = self.expert.multiple * self.shrink
        if self.upscaler is not None:
            multiple = math.lcm(multiple, self.upscaler.multiple)
        rows, columns = gray.shape[2:]
        return functional.pad(gray, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.experts.deepfloyd_if import DeepFloydIF

        expert, upscaler = DeepFloydIF.example(folder / "stage_1"), DeepFloydIFUpscaler.example(folder / "stage_2")
        return cls(expert=expert, upscaler=upscaler, steps=4, start=1)
