"""Codec for the autoencoder of Stable Diffusion and other latent diffusion models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from its.interfaces import LatentCodec
from its.registry import register
from its.weights import PretrainedComponent, Source
from its.weights.files import tensors_of
from its.weights.model_files import DIFFUSERS, ModelFiles, model_files, within
from its.weights.models import check_shapes, for_inference, read_model
from its_plugins.experts import single_file
from its_plugins.experts.stable_diffusion_configs import VAE_DEFAULTS, check_vae, latent_space

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@register
class AutoencoderKLCodec(PretrainedComponent, LatentCodec):
    """Autoencoder of a latent diffusion model (Rombach et al., arXiv 2112.10752).

    Args:
        weights: `pack:NAME`, a diffusers folder or its `vae` subfolder, a checkpoint file, `owner/name` on the hub, or
            `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        variant: variant of the weights files, such as `fp16`; null prefers full precision to any variant.
        channels_last: use the channels-last memory layout, which is often faster. Results differ by rounding.
    """

    non_identity_args = ("variant", "channels_last")
    reads_checkpoints = True
    vae: AutoencoderKL

    def __init__(
        self, *, weights: str, revision: str | None = None, variant: str | None = None, channels_last: bool = False
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        self.variant = variant
        self.channels_last = channels_last
        self._model: ModelFiles | None = None
        self._config: dict[str, Any] = {}

    def select(self, source: Source) -> Sequence[str]:
        """Select a checkpoint file, the files of `vae/`, or those of the root if they are an autoencoder's."""
        if source.checkpoint is not None:
            file = source.require(source.checkpoint)
            if (shapes := source.shapes(file[0])) is not None:
                single_file.check(shapes, part="vae", where=source.name)
            self._model, self._config = None, single_file.read_config("vae")
            return file
        in_root = within("vae", "config.json") not in source and source.matching(f"{DIFFUSERS.safetensors}*")
        self._model = model_files(source, "" if in_root else "vae", DIFFUSERS, variant=self.variant)
        self._config = source.json(self._model.config)
        check_vae(self._config, where=f"{source.name}: {self._model.config}")
        return self._model.names

    def check_tensors(self) -> None:
        from diffusers import AutoencoderKL

        if self._model is not None:  # `select` checks a checkpoint file
            check_shapes(AutoencoderKL, self.source, self._model)

    def read(self) -> None:
        from diffusers import AutoencoderKL

        if self._model is not None:
            self.vae = read_model(
                AutoencoderKL, self.folder, self._model, channels_last=self.channels_last, low_cpu_mem_usage=False
            )
            return
        device, tensors = torch.get_default_device(), tensors_of(self.folder / self.files[0])
        vae = single_file.read(tensors, "vae", where=self.weights)
        self.vae = for_inference(vae, device=device, channels_last=self.channels_last)

    @property
    def latent_space(self) -> str:
        self._valid()
        return latent_space(self._config)

    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """Return (c, h, w) for (rows, columns) of a picture; Stable Diffusion has one latent for 8 x 8 pixels."""
        name, (rows, columns) = self.source.name, canvas
        config = {**VAE_DEFAULTS, **self._config}
        factor = 2 ** (len(config["block_out_channels"]) - 1)  # all blocks but the last halve the resolution
        if rows % factor or columns % factor or rows <= 0 or columns <= 0:
            raise ValueError(
                f"canvas [{rows}, {columns}]: rows and columns must be multiples of {factor}, "
                f"since the autoencoder of {name} has one latent for {factor} x {factor} pixels"
            )
        return config["latent_channels"], rows // factor, columns // factor

    def encode(self, picture: Tensor) -> Tensor:
        """Return the posterior mean (b, c, h, w) of pictures (b, 3, H, W) in [0, 1], scaled to about unit variance."""
        posterior = self.vae.encode(picture.to(self.vae.dtype) * 2 - 1).latent_dist
        return (posterior.mean * self.vae.config.scaling_factor).to(picture.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        return (self.vae.decode(scaled, return_dict=False)[0].to(latents.dtype) / 2 + 0.5).clamp(0, 1)

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import stable_diffusion

        return cls(weights=str(stable_diffusion.stable_diffusion(folder)))
