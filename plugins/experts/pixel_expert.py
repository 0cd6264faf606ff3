"""Diffusion models of pixels, as colorizers and score distillation use them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from its.interfaces import NoiseExpert

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


class PixelExpert(NoiseExpert):
    """A noise expert whose latents are the picture itself, in [-1, 1], and that knows how it was trained to be sampled.

    Shapes used here: b batch, h w rows and columns of pixels.
    """

    @property
    def latent_space(self) -> str:
        """Pixels: the picture itself."""
        return "pixels"

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Rows and columns must be multiples of this. Valid after `find`."""

    @abstractmethod
    def sampler(self) -> DDPMScheduler:
        """The model's noise schedule and ancestral sampler, a new one each time. Valid after `find`."""

    def alphas(self) -> Tensor:
        """The sampler's."""
        alphas: Tensor = self.sampler().alphas_cumprod
        return alphas

    @abstractmethod
    def predict(self, pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """What `sampler` steps by: noise (b, 3, h, w), or noise and a learned variance (b, 6, h, w).

        Args:
            pixels: (b, 3, h, w) noisy picture.
            timestep: (b,) training timestep.
            text: (b, ...) as `encode_text` gives it.
        """

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """(b, 3, h, w) -> the noise in it, without the learned variance."""
        return self.predict(latents, timestep, text)[:, : latents.shape[1]]
