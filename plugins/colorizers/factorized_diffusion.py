"""Colour by Factorized Diffusion (Geng, Park, Owens, arXiv 2404.11615): the gray is given, a model invents the rest."""

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
"""x_t (b, 3, h, w) and t (b,) -> what the sampler steps by: noise (b, 3, h, w), or noise and variance (b, 6, h, w)."""


def ancestral(
    x: Tensor,
    *,
    estimate: Estimate,
    sampler: DDPMScheduler,
    timesteps: Sequence[int],
    generators: Sequence[torch.Generator],
    gray: Tensor | None = None,
) -> Tensor:
    """From x_t at the first timestep to x_0, both (b, 3, h, w) in about [-1, 1].

    Args:
        x: noisy pictures.
        estimate: what a guided model says of them.
        sampler: takes x_t to x_{t-1}.
        timesteps: some of the sampler's, falling.
        generators: of each sample's noise.
        gray: (b, 1, h, w) in [-1, 1], whose noised luminance takes the place of x_t's before each step; None: the
            model alone decides, and this is plain DDPM.
    """
    for t in timesteps:
        if gray is not None:
            x = luminance(noised(gray, t, sampler, generators)) + x - luminance(x)
        output = estimate(x, torch.full((len(x),), t, device=x.device))
        x = sampler.step(output, t, x, generator=list(generators), return_dict=False)[0]
    return x


def luminance(x: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, 1, h, w): the mean over the channels, as the spectrogram is one."""
    return x.mean(1, keepdim=True)


def noised(gray: Tensor, t: int, sampler: DDPMScheduler, generators: Sequence[torch.Generator]) -> Tensor:
    """(b, 1, h, w) -> x_t = sqrt(a_t) gray + sqrt(1 - a_t) e, with e of three channels: (b, 3, h, w)."""
    e = initial_noise(generators, (3, *gray.shape[2:])).to(gray.device)
    return sampler.add_noise(gray.expand_as(e), e, torch.tensor([t], device=gray.device))


def guided(predict: Callable[[Tensor, Tensor, Tensor], Tensor], text: Tensor, null: Tensor, scale: float) -> Estimate:
    """Classifier-free guidance for models whose output may have a learned variance, which is the text's.

    Args:
        predict: x_t, t and text -> noise, or noise and variance.
        text: (b, ...) what each sample should become.
        null: (b, ...) the empty prompt.
        scale: gamma; 1 needs no second estimate.
    """

    def estimate(x: Tensor, t: Tensor) -> Tensor:
        if scale == 1:
            return predict(x, t, text)
        without, told = predict(torch.cat([x, x]), torch.cat([t, t]), torch.cat([null, text])).chunk(2)
        eps_null, eps_text = without[:, :3], told[:, :3]
        return torch.cat([eps_null + scale * (eps_text - eps_null), told[:, 3:]], dim=1)

    return estimate


def in_gamut(gray: Tensor, chroma: Tensor) -> Tensor:
    """gray (b, 1, h, w) in [0, 1] + as much of chroma (b, 3, h, w), whose channels add up to 0, as [0, 1] can hold.

    Each pixel's chroma is shrunk by one factor, so that hue and channel mean stay; clamping would change both.
    """
    room = torch.where(chroma > 0, 1 - gray, gray) / chroma.abs().clamp(min=1e-6)
    return (gray + chroma * room.amin(1, keepdim=True).clamp(max=1)).clamp(0, 1)  # the clamp is for rounding


@register
class FactorizedDiffusion(Colorizer):
    """Colours a gray picture: its luminance is kept in every noisy step, a text-guided pixel model adds the colour.

    The defaults but for the models are the paper's. A size that the models can't take is padded, and cut again.

    Args:
        expert: stage I, which colours the picture made smaller.
        upscaler: stage II, which colours it at its own size by what stage I made of it; null: the colours of
            stage I are enlarged, and the luminance is exact all the same.
        steps: of each stage's whole process.
        start: step at which stage I begins, with the noised gray picture; those before it are not computed.
        guidance_scale: of both stages.
        shrink: how many times smaller stage I's picture is.

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
        """Of both stages in one record."""
        records = [stage.provenance() or {} for stage in self._stages()]
        keys = [key for key in ("name", "revision", "sha256") if any(key in record for record in records)]
        joined: dict[str, Any] = {key: " + ".join(r[key] for r in records if key in r) for key in keys}
        if files := [file for record in records for file in record.get("files", ())]:
            joined["files"] = files
        return joined | {"embedded": True} if any(record.get("embedded") for record in records) else joined

    def forward(self, gray: Tensor, prompts: Sequence[str], generators: Sequence[torch.Generator]) -> Tensor:
        """(b, 1, h, w) in [0, 1], a prompt and a generator for each -> (b, 3, h, w) in [0, 1] of the same luminance."""
        rows, columns = gray.shape[2:]
        whole = self._padded(gray.float() * 2 - 1)
        size = (whole.shape[2], whole.shape[3])
        small = functional.interpolate(
            whole, (size[0] // self.shrink, size[1] // self.shrink), mode="bilinear", antialias=True
        )
        text, null = (self.expert.encode_text(some).to(gray.device) for some in (prompts, [""]))
        guide = partial(guided, text=text, null=null.expand_as(text), scale=self.guidance_scale)
        x = self._color(small, guide(self.expert.predict), self.expert.sampler(), generators, start=self.start)
        if self.upscaler is None:
            x = functional.interpolate(x, size, mode="bilinear")
        else:
            estimate = guide(self.upscaler.condition_on(x, size, generators))
            x = self._color(whole, estimate, self.upscaler.sampler(), generators, start=0)
        chroma = (x - luminance(x))[..., :rows, :columns] / 2
        return in_gamut(gray.float(), chroma)

    def _color(
        self,
        gray: Tensor,
        estimate: Estimate,
        sampler: DDPMScheduler,
        generators: Sequence[torch.Generator],
        *,
        start: int,
    ) -> Tensor:
        sampler.set_timesteps(self.steps)
        timesteps = sampler.timesteps.tolist()[start:]
        x = noised(gray, timesteps[0], sampler, generators)  # at gain 1; the authors' program began at gain 2
        return ancestral(x, estimate=estimate, sampler=sampler, timesteps=timesteps, generators=generators, gray=gray)

    def _padded(self, gray: Tensor) -> Tensor:
        """Repeat the last row and column until every stage can take the picture."""
        multiple = self.expert.multiple * self.shrink
        if self.upscaler is not None:
            multiple = math.lcm(multiple, self.upscaler.multiple)
        rows, columns = gray.shape[2:]
        return functional.pad(gray, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")

    def _stages(self) -> list[PixelExpert | DeepFloydIFUpscaler]:
        return [self.expert] if self.upscaler is None else [self.expert, self.upscaler]

    @classmethod
    def example(cls, folder: Path) -> Self:
        """Both stages with tiny random weights made in `folder`."""
        from its_plugins.experts.deepfloyd_if import DeepFloydIF

        return cls(
            expert=DeepFloydIF.example(folder / "stage_1"),
            upscaler=DeepFloydIFUpscaler.example(folder / "stage_2"),
            steps=4,
            start=1,
        )
