"""The autoencoder of latent diffusion models such as Stable Diffusion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from its.interfaces import LatentCodec
from its.registry import register
from its.weights import Located
from its_plugins.pipeline_folder import DIFFUSERS_STEM, locate_model, read_config, read_model

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@register
class AutoencoderKLCodec(LatentCodec):
    """The `vae` of a diffusers folder: pictures to latents and back (Rombach et al., arXiv 2112.10752).

    Args:
        weights: `pack:NAME`, a diffusers folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub.
        variant: such as `fp16`, for weights files that carry this word in their names.
        channels_last: another layout in memory, often faster; results differ by rounding.
    """

    vae: AutoencoderKL

    def __init__(
        self,
        *,
        weights: str,
        revision: str | None = None,
        variant: str | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.revision = revision
        self.variant = variant
        self.channels_last = channels_last
        self._located: Located | None = None
        self._config: dict[str, Any] = {}
        self._loaded = False

    def prepare(self) -> None:
        """Find `vae/`, and read how it is built."""
        if self._located is None:
            self._located = locate_model(
                self.weights, "vae", stem=DIFFUSERS_STEM, revision=self.revision, variant=self.variant
            )
            self._config = read_config(self._located.folder / "vae" / "config.json")

    def load(self) -> None:
        """Read the weights, once."""
        if self._loaded:
            return
        from diffusers import AutoencoderKL

        self.vae = read_model(
            AutoencoderKL,
            self.located,
            "vae",
            variant=self.variant,
            channels_last=self.channels_last,
            low_cpu_mem_usage=False,
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

    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """(rows, columns) of a picture -> (c, h, w): 8 pixels a latent each way in Stable Diffusion."""
        located, (rows, columns) = self.located, canvas
        factor = 2 ** (len(self._config["block_out_channels"]) - 1)  # every block but the last halves the picture
        if rows % factor or columns % factor or rows <= 0 or columns <= 0:
            raise ValueError(
                f"canvas [{rows}, {columns}]: rows and columns must be multiples of {factor}, "
                f"since the autoencoder of {located.name} keeps one latent for {factor} x {factor} pixels"
            )
        return self._config["latent_channels"], rows // factor, columns // factor

    def encode(self, picture: Tensor) -> Tensor:
        """(b, 3, H, W) in [0, 1] -> (b, c, h, w): the posterior's mean, scaled to about unit variance."""
        posterior = self.vae.encode(picture.to(self.vae.dtype) * 2 - 1).latent_dist
        latents: Tensor = posterior.mean * self.vae.config.scaling_factor
        return latents.to(picture.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 3, H, W) in [0, 1]."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        picture: Tensor = self.vae.decode(scaled, return_dict=False)[0]
        return (picture.to(latents.dtype) / 2 + 0.5).clamp(0, 1)

    def provenance(self) -> dict[str, Any]:
        """Name, and revision or sha256, of the autoencoder."""
        return self.located.provenance()

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins import random_weights

        return cls(weights=str(random_weights.stable_diffusion(folder)))
