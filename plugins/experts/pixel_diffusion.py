"""Diffusion models of pixels in the layout of a Stable Diffusion folder: a UNet of three channels, told by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from its.interfaces import IdentityCodec, LatentCodec
from its.registry import register
from its.weights import Source
from its_plugins.experts.deepfloyd_if import sampler_of, unet_multiple
from its_plugins.experts.pixel_expert import PixelExpert
from its_plugins.experts.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


@register
class PixelDiffusion(StableDiffusion, PixelExpert):
    """A text-guided model of pixels, such as the embedded pack's colour expert, from a diffusers folder or the hub.

    Args:
        weights: `pack:NAME`, a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: such as `fp16`, for weights files that carry this word in their names.
        unet_folder: where the UNet is, with `scheduler_config.json`, which says how it is sampled, beside its weights.
        channels_last: another layout in memory, often faster; results differ by rounding.
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
        """UNet, text encoder and tokenizer, and the noise schedule beside the UNet."""
        source.require(self.schedule_file)
        return super().select(source)  # the UNet's JSON files include the schedule

    def _check_configs(self, name: str) -> None:
        self._configs["vae"] = {}  # pixels need none, whatever lies beside the UNet
        super()._check_configs(name)

    @property
    def schedule_file(self) -> str:
        """Beside the UNet."""
        return f"{self.unet_folder}/scheduler_config.json"

    @property
    def latent_space(self) -> str:
        """Pixels: the picture itself."""
        return "pixels"

    @property
    def multiple(self) -> int:
        """Rows and columns must be multiples of this. Valid after `find`."""
        return unet_multiple(self.source.json(f"{self.unet_folder}/config.json"))

    def sampler(self) -> DDPMScheduler:
        """The noise schedule and ancestral sampler, a new one each time. Valid after `find`."""
        return sampler_of(self.source.json(self.schedule_file))

    def predict(self, pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """(b, 3, h, w), timestep (b,), text (b, l, c) -> noise, in the picture's dtype."""
        return StableDiffusion.predict_noise(self, pixels, timestep, text)

    def codec(self) -> LatentCodec:
        """Pixels need none."""
        return IdentityCodec()

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import deepfloyd_if as random_weights_if
        from its_plugins.random_weights import stable_diffusion as random_weights

        where = random_weights.stable_diffusion(folder, channels=3)
        random_weights.write_json(
            where / "unet" / "scheduler_config.json", random_weights_if.SAMPLER | {"variance_type": "fixed_small"}
        )
        return cls(weights=str(where))
