"""Interface of pixel-space diffusion models, for colorizers and score distillation."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from its.interfaces import NoiseExpert

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


class PixelExpert(NoiseExpert):
    """Noise expert whose latents are pixels in [-1, 1], with the sampler that it was trained for.

    Shapes used here: b batch, h w rows and columns of pixels.
    """

    @property
    def latent_space(self) -> str:
        return "pixels"

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Factor of which rows and columns must be multiples. Valid after `find`."""

    @abstractmethod
    def sampler(self) -> DDPMScheduler:
        """Return a new ancestral sampler with the model's noise schedule. Valid after `find`."""

    def alphas(self) -> Tensor:
        return self.sampler().alphas_cumprod

    @abstractmethod
    def predict(self, pixels: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Return the input of `sampler().step`: noise (b, 3, h, w), or noise and learned variance (b, 6, h, w).

        Args:
            pixels: noisy pictures (b, 3, h, w).
            timestep: training timestep, (b,).
            text: result of `encode_text`, (b, ...).
        """

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return self.predict(latents, timestep, text)[:, : latents.shape[1]]  # without the learned variance
