"""The autoencoder of latent diffusion models such as Stable Diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from its.interfaces import LatentCodec
from its.registry import register
from its.weights import PretrainedComponent, Source
from its.weights.files import read_json, tensors_of
from its.weights.model_files import DIFFUSERS, ModelFiles, model_files, within
from its.weights.models import check_shapes, for_inference, read_model
from its_plugins.experts import single_file
from its_plugins.experts.stable_diffusion_configs import VAE_DEFAULTS, check_vae, latent_space

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@register
class AutoencoderKLCodec(PretrainedComponent, LatentCodec):
    """The autoencoder of a latent diffusion model: pictures to latents and back (Rombach et al., arXiv 2112.10752).

    Args:
        weights: `pack:NAME`, a diffusers folder (or its `vae` alone), a checkpoint file, `owner/name` on the hub, or
            `owner/name/file`.
        revision: branch, tag or commit on the hub; null for the pinned one.
        variant: such as `fp16`, for weights files that carry this word in their names; null takes full precision, or
            else what is there.
        channels_last: another layout in memory, often faster; results differ by rounding.
    """

    non_identity_args = ("variant", "channels_last")
    reads_checkpoints = True
    vae: AutoencoderKL

    def __init__(
        self,
        *,
        weights: str,
        revision: str | None = None,
        variant: str | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(weights=weights, revision=revision)
        self.variant = variant
        self.channels_last = channels_last
        self._model: ModelFiles | None = None
        self._config: dict[str, Any] = {}

    def select(self, source: Source) -> Sequence[str]:
        """The files of `vae/`, or of the root where that is an autoencoder."""
        if source.checkpoint is not None:
            file = source.require(source.checkpoint)
            if (shapes := source.shapes(file[0])) is not None:
                single_file.check(shapes, part="vae", where=source.name, configs=single_file.CONFIGS)
            self._model, self._config = None, read_json(single_file.CONFIGS / "vae" / "config.json")
            return file
        alone = within("vae", "config.json") not in source and source.matching(f"{DIFFUSERS.safetensors}*")
        self._model = model_files(source, "" if alone else "vae", DIFFUSERS, variant=self.variant)
        self._config = source.json(self._model.config)
        check_vae(self._config, where=f"{source.name}: {self._model.config}")
        return self._model.names

    def check_tensors(self) -> None:
        """Of a folder against its `config.json`; of a checkpoint file they were checked by `select`."""
        from diffusers import AutoencoderKL

        if self._model is not None:
            check_shapes(AutoencoderKL, self.source, self._model)

    def read(self) -> None:
        """Read the autoencoder."""
        from diffusers import AutoencoderKL

        if self._model is not None:
            self.vae = read_model(
                AutoencoderKL, self.folder, self._model, channels_last=self.channels_last, low_cpu_mem_usage=False
            )
            return
        device, tensors = torch.get_default_device(), tensors_of(self.folder / self.files[0])
        vae = single_file.read(tensors, "vae", configs=single_file.CONFIGS, where=self.weights)
        self.vae = for_inference(vae, device=device, channels_last=self.channels_last)

    @property
    def latent_space(self) -> str:
        """By the configuration: channels, pixels a latent, scale."""
        return latent_space(self._config if self.source else {})

    def latent_shape(self, canvas: tuple[int, int]) -> tuple[int, int, int]:
        """(rows, columns) of a picture -> (c, h, w): 8 pixels a latent each way in Stable Diffusion."""
        name, (rows, columns) = self.source.name, canvas
        known = {**VAE_DEFAULTS, **self._config}
        factor = 2 ** (len(known["block_out_channels"]) - 1)  # every block but the last halves the picture
        if rows % factor or columns % factor or rows <= 0 or columns <= 0:
            raise ValueError(
                f"canvas [{rows}, {columns}]: rows and columns must be multiples of {factor}, "
                f"since the autoencoder of {name} keeps one latent for {factor} x {factor} pixels"
            )
        return known["latent_channels"], rows // factor, columns // factor

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

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import stable_diffusion as random_weights

        return cls(weights=str(random_weights.stable_diffusion(folder)))
