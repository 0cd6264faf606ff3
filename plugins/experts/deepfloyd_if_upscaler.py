"""DeepFloyd IF, stage II: from 64 to 256 pixels, as a colorizer uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor
from torch.nn import functional

from its.diffusion.noise import initial_noise
from its.weights import PretrainedComponent, Source
from its.weights.model_files import DIFFUSERS, ModelFiles, model_files
from its.weights.models import check_shapes, read_model
from its_plugins.experts.deepfloyd_if import UNET_CONFIG, check_epsilon, check_pixel_unet, sampler_of, unet_multiple

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel

SCHEDULES = tuple(f"{name}/scheduler_config.json" for name in ("scheduler", "image_noising_scheduler"))


class DeepFloydIFUpscaler(PretrainedComponent):
    """DeepFloyd IF, stage II: enlarges a picture, conditioned by text and by the small picture with some noise.

    Its texts are stage I's: both were trained on the same T5. Equal to diffusers' `IFSuperResolutionPipeline`.

    Args:
        weights: a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned one.
        variant: such as `fp16`, for weights files that carry this word in their names; null takes full precision, or
            else what is there.
        noise_level: timestep whose noise the small picture gets, so that its flaws aren't copied.
    """

    non_identity_args = ("variant",)

    unet: UNet2DConditionModel

    def __init__(
        self,
        *,
        weights: str = "DeepFloyd/IF-II-M-v1.0",
        revision: str | None = None,
        variant: str | None = "fp16",
        noise_level: int = 50,
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        if not 0 <= noise_level < 1000:
            raise ValueError(f"noise_level (={noise_level}) must lie between 0 and 999")
        self.variant = variant
        self.noise_level = noise_level
        self._model: ModelFiles | None = None

    def select(self, source: Source) -> Sequence[str]:
        """The UNet and its noise schedules; nothing else of the folder is read."""
        self._model = model_files(source, "unet", DIFFUSERS, variant=self.variant)
        check_pixel_unet(source.json(UNET_CONFIG), where=f"{source.name}: unet", channels=6)
        for name in source.require(*SCHEDULES):
            check_epsilon(source.json(name), where=source.name)
        return self._model.names + SCHEDULES

    def check_tensors(self) -> None:
        """Of the UNet against its `config.json`."""
        from diffusers import UNet2DConditionModel

        assert self._model is not None
        check_shapes(UNet2DConditionModel, self.source, self._model)

    def read(self) -> None:
        """Read the UNet."""
        from diffusers import UNet2DConditionModel

        assert self._model is not None
        self.unet = read_model(UNet2DConditionModel, self.folder, self._model, low_cpu_mem_usage=False)

    @property
    def multiple(self) -> int:
        """Rows and columns must be multiples of this. Valid after `find`."""
        return unet_multiple(self.source.json(UNET_CONFIG))

    def sampler(self) -> DDPMScheduler:
        """The noise schedule and ancestral sampler, a new one each time. Valid after `find`."""
        return sampler_of(self.source.json(SCHEDULES[0]))

    def condition_on(
        self, small: Tensor, size: tuple[int, int], generators: Sequence[torch.Generator]
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """What `PixelExpert.predict` is, for pictures of this size that small ones (b, 3, h, w) in [-1, 1] become.

        The batch may be a multiple of the small pictures', as it is under guidance.
        """
        large = functional.interpolate(small, size, mode="bilinear", align_corners=True)  # as in its training
        noise = initial_noise(generators, (3, *size)).to(large)
        level = torch.full((len(large),), self.noise_level, device=large.device)
        large = sampler_of(self.source.json(SCHEDULES[1])).add_noise(large, noise, level)

        def predict(pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            dtype, times = self.unet.conv_in.weight.dtype, len(pixels) // len(large)
            both = torch.cat([pixels, large.repeat(times, 1, 1, 1)], dim=1).to(dtype)
            output: Tensor = self.unet(
                both, timestep, text.to(dtype), class_labels=level.repeat(times), return_dict=False
            )[0]
            return output.to(pixels.dtype)

        return predict

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import deepfloyd_if as random_weights_if

        return cls(weights=str(random_weights_if.deepfloyd_if_upscaler(folder)), variant=None)
