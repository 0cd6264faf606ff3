"""DeepFloyd IF, stage II: from 64 to 256 pixels, as a colorizer uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from its.interfaces import Part
from its.noise import initial_noise
from its.weights import Located, locate
from its_plugins.deepfloyd_if import read_sampler, unet_multiple
from its_plugins.pipeline_folder import DIFFUSERS_STEM, locate_model, read_model

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel


class DeepFloydIFUpscaler(Part):
    """DeepFloyd IF, stage II: draws a picture again, larger, told by text and by the small picture made a bit noisy.

    Its texts are stage I's: both were trained on the same T5. Equal to diffusers' `IFSuperResolutionPipeline`.

    Args:
        weights: a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: such as `fp16`, for weights files that carry this word in their names.
        noise_level: timestep whose noise the small picture gets, so that its flaws aren't copied.
    """

    unet: UNet2DConditionModel

    def __init__(
        self,
        *,
        weights: str = "DeepFloyd/IF-II-M-v1.0",
        revision: str | None = None,
        variant: str | None = "fp16",
        noise_level: int = 50,
    ) -> None:
        super().__init__()
        if not 0 <= noise_level < 1000:
            raise ValueError(f"noise_level (={noise_level}) must lie between 0 and 999")
        self.weights = weights
        self.revision = revision
        self.variant = variant
        self.noise_level = noise_level
        self._located: Located | None = None
        self._loaded = False

    def prepare(self) -> None:
        """Find the UNet and its noise schedules; nothing else of the folder is downloaded."""
        if self._located is not None:
            return
        unet = locate_model(self.weights, "unet", stem=DIFFUSERS_STEM, revision=self.revision, variant=self.variant)
        schedules = [f"{name}/scheduler_config.json" for name in ("scheduler", "image_noising_scheduler")]
        others = locate(self.weights, files=schedules, revision=self.revision)
        self._located = replace(unet, files=unet.files + others.files)

    def load(self) -> None:
        """Read the weights, once."""
        if self._loaded:
            return
        from diffusers import UNet2DConditionModel

        self.unet = read_model(
            UNet2DConditionModel, self.located, "unet", variant=self.variant, low_cpu_mem_usage=False
        )
        self._loaded = True

    @property
    def located(self) -> Located:
        """Where the weights are.

        Raises:
            RuntimeError: `prepare` was not called yet.
        """
        if self._located is None:
            raise RuntimeError(f"{type(self).__name__}: call prepare() first, which finds {self.weights}")
        return self._located

    @property
    def multiple(self) -> int:
        """Rows and columns must be multiples of this. Valid after `prepare`."""
        return unet_multiple(self.located, "unet")

    def sampler(self) -> DDPMScheduler:
        """The noise schedule and ancestral sampler, a new one each time. Valid after `prepare`."""
        return read_sampler(self.located)

    def told_by(
        self, small: Tensor, size: tuple[int, int], generators: Sequence[torch.Generator]
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """What `PixelExpert.predict` is, for pictures of this size that small ones (b, 3, h, w) in [-1, 1] become.

        The batch may be a multiple of the small pictures', as it is under guidance.
        """
        large = functional.interpolate(small, size, mode="bilinear", align_corners=True)  # as in its training
        noise = initial_noise(generators, (3, *size)).to(large)
        level = torch.full((len(large),), self.noise_level, device=large.device)
        large = read_sampler(self.located, "image_noising_scheduler").add_noise(large, noise, level)

        def predict(pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            dtype, times = self.unet.conv_in.weight.dtype, len(pixels) // len(large)
            both = torch.cat([pixels, large.repeat(times, 1, 1, 1)], dim=1).to(dtype)
            output: Tensor = self.unet(
                both, timestep, text.to(dtype), class_labels=level.repeat(times), return_dict=False
            )[0]
            return output.to(pixels.dtype)

        return predict

    def provenance(self) -> dict[str, Any]:
        """Name, and revision or sha256, of what is read."""
        return self.located.provenance()

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins import random_weights_if

        return cls(weights=str(random_weights_if.deepfloyd_if_upscaler(folder)), variant=None)
