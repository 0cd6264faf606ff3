"""DeepFloyd IF, stage II: upscaling from 64 to 256 pixels, for colorizers."""

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
from its_plugins.experts.deepfloyd_if import UNET_CONFIG, check_value, make_sampler, size_multiple

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel

SCHEDULES = tuple(f"{name}/scheduler_config.json" for name in ("scheduler", "image_noising_scheduler"))


class DeepFloydIFUpscaler(PretrainedComponent):
    """DeepFloyd IF, stage II: upscales a picture, conditioned by text and by the noised small picture.

    It takes the encoded text of stage I, since both stages were trained with the same T5. Equals diffusers'
    `IFSuperResolutionPipeline`.

    Args:
        weights: a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        noise_level: timestep of the noise that is added to the small picture, so that its artifacts are not copied.
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
        """Select the UNet and both noise schedules."""
        self._model = model_files(source, "unet", DIFFUSERS, variant=self.variant)
        check_value(source.json(UNET_CONFIG), "in_channels", 6, default=4, where=f"{source.name}: unet")
        for name in source.require(*SCHEDULES):
            check_value(source.json(name), "prediction_type", "epsilon", default="epsilon", where=source.name)
        return self._model.names + SCHEDULES

    def check_tensors(self) -> None:
        from diffusers import UNet2DConditionModel

        assert self._model is not None
        check_shapes(UNet2DConditionModel, self.source, self._model)

    def read(self) -> None:
        from diffusers import UNet2DConditionModel

        assert self._model is not None
        self.unet = read_model(UNet2DConditionModel, self.folder, self._model, low_cpu_mem_usage=False)

    @property
    def multiple(self) -> int:
        """Factor of which rows and columns must be multiples. Valid after `find`."""
        return size_multiple(self.source.json(UNET_CONFIG))

    def sampler(self) -> DDPMScheduler:
        """Return a new ancestral sampler with the model's noise schedule. Valid after `find`."""
        return make_sampler(self.source.json(SCHEDULES[0]))

    def condition_on(
        self, small: Tensor, size: tuple[int, int], generators: Sequence[torch.Generator]
    ) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Return a function like `PixelExpert.predict` for pictures of `size`, conditioned by small pictures.

        Args:
            small: small pictures (b, 3, h, w) in [-1, 1].
            size: rows and columns of the result.
            generators: noise source of each small picture.

        Returns:
            The function. Its batch size may be a multiple of b, as with classifier-free guidance.
        """
        large = functional.interpolate(small, size, mode="bilinear", align_corners=True)  # as in training
        noise = initial_noise(generators, (3, *size)).to(large)
        level = torch.full((len(large),), self.noise_level, device=large.device)
        large = make_sampler(self.source.json(SCHEDULES[1])).add_noise(large, noise, level)

        def predict(pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            dtype, times = self.unet.conv_in.weight.dtype, len(pixels) // len(large)
            both = torch.cat([pixels, large.repeat(times, 1, 1, 1)], dim=1).to(dtype)
            labels = level.repeat(times)
            output: Tensor = self.unet(both, timestep, text.to(dtype), class_labels=labels, return_dict=False)[0]
            return output.to(pixels.dtype)

        return predict

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import deepfloyd_if

        return cls(weights=str(deepfloyd_if.deepfloyd_if_upscaler(folder)), variant=None)
