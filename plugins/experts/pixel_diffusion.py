"""Pixel-space diffusion models in the layout of Stable Diffusion: a UNet of three channels, conditioned by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from its.interfaces import IdentityCodec, LatentCodec
from its.registry import register
from its.weights import Source
from its_plugins.experts.deepfloyd_if import make_sampler, size_multiple
from its_plugins.experts.pixel_expert import PixelExpert
from its_plugins.experts.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


@register
class PixelDiffusion(StableDiffusion, PixelExpert):
    """Text-guided pixel-space model from a diffusers folder or the hub, for example the embedded pack's colour expert.

    Args:
        weights: `pack:NAME`, a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        unet_folder: subfolder of the UNet, which also holds the sampler's `scheduler_config.json`.
        channels_last: use the channels-last memory layout, which is often faster. Results differ by rounding.
    """

    reads_checkpoints = False
    channels = 3

    def __init__(
        self,
        *,
        weights: str,
        revision: str | None = None,
        variant: str | None = None,
        unet_folder: str = "unet",
        channels_last: bool = False,
    ) -> None:
        super().__init__(
            weights=weights, revision=revision, variant=variant, unet_folder=unet_folder, channels_last=channels_last
        )

    def select(self, source: Source) -> Sequence[str]:
        """Select UNet, text encoder, tokenizer, and the noise schedule beside the UNet."""
        source.require(self.schedule_file)
        return super().select(source)  # the UNet's JSON files include the schedule

    def _check_configs(self, name: str) -> None:
        self._configs["vae"] = {}  # ignore an autoencoder beside the UNet
        super()._check_configs(name)

    @property
    def schedule_file(self) -> str:
        return f"{self.unet_folder}/scheduler_config.json"

    @property
    def latent_space(self) -> str:
        return "pixels"

    @property
    def multiple(self) -> int:
        return size_multiple(self.source.json(f"{self.unet_folder}/config.json"))

    def sampler(self) -> DDPMScheduler:
        return make_sampler(self.source.json(self.schedule_file))

    def predict(self, pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return StableDiffusion.predict_noise(self, pixels, timestep, text)

    def codec(self) -> LatentCodec:
        return IdentityCodec()

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import deepfloyd_if, stable_diffusion

        weights = stable_diffusion.stable_diffusion(folder, channels=3)
        sampler = deepfloyd_if.SAMPLER | {"variance_type": "fixed_small"}
        stable_diffusion.write_json(weights / "unet" / "scheduler_config.json", sampler)
        return cls(weights=str(weights))
