"""UNet and control net with precomputed keys and values, precomputed timestep embeddings and faster blocks.

Cross-attention needs only the text's keys and values, and residual blocks need only a projection of the timestep
embedding. Both are computed once instead of at every step, by the same layers. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from its_plugins.experts.attention_backend import BACKENDS, Attention, check_available, choose_backend
from its_plugins.experts.unet_blocks import CrossAttention, Residual, Transformer

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel


Residuals = tuple[Sequence[Tensor], Tensor]
"""A control net's additions to the UNet's skip connections, and to the output of its middle block."""


class _CachedConditioning(nn.Module):
    """Network of Stable Diffusion v1's architecture with its conditioning precomputed.

    Args:
        network: diffusers' network. It is changed in place; don't use it by itself afterwards.
        timesteps: T, number of training timesteps.

    Raises:
        ValueError: the network has layers that can't be precomputed.
    """

    def __init__(self, network: Any, *, timesteps: int) -> None:
        super().__init__()
        if feature := unsupported_feature(network.config):
            raise ValueError(f"this network's conditioning can't be precomputed: it has {feature}")
        self._cross_attentions = _replace_transformers(network)
        _tabulate_time(network, timesteps)
        network.train(network.training)  # also the new modules
        self.training = network.training

    @property
    def text_width(self) -> int:
        """Channels of the keys and values."""
        return self._cross_attentions[-1].end if self._cross_attentions else 0

    def keys_and_values(self, states: Tensor) -> Tensor:
        """Return the keys and values of all cross-attentions, concatenated (b, l, c'), for hidden states (b, l, c)."""
        projections = [project for layer in self._cross_attentions for project in (layer.to_k, layer.to_v)]
        if not projections:
            return states[..., :0]
        states = states.to(projections[0].weight.dtype)
        return torch.cat([project(states) for project in projections], dim=-1)


class CachedConditioningUNet(_CachedConditioning):
    """Stable Diffusion's UNet with its conditioning precomputed.

    Args:
        unet: UNet of Stable Diffusion v1's architecture. It is changed in place; don't use it by itself afterwards.
        timesteps: T, number of training timesteps.
        attention: attention backend; `auto` is resolved in the first forward pass.

    Raises:
        ValueError: the UNet has layers that can't be precomputed.
        UserError: the attention backend is not available on the UNet's device.
    """

    def __init__(self, unet: UNet2DConditionModel, *, timesteps: int = 1000, attention: Attention = "default") -> None:
        check_available(attention, device=unet.conv_in.weight.device, dtype=unet.conv_in.weight.dtype)
        super().__init__(unet, timesteps=timesteps)
        self.attention: str = attention
        self.unet = unet

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def forward(
        self, latents: Tensor, timestep: Tensor, keys_and_values: Tensor, residuals: Residuals | None = None
    ) -> Tensor:
        """Estimate the noise (b, 4, h, w).

        Args:
            latents: noisy latents (b, 4, h, w).
            timestep: (b,) from 0 to T - 1.
            keys_and_values: result of `keys_and_values`, (b, l, c').
            residuals: additions of control nets; None for none.
        """
        down, middle = residuals or (None, None)

        def run() -> Tensor:
            return self.unet(
                latents,
                timestep,
                keys_and_values,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )[0]

        if self.attention == "auto":
            self.attention = choose_backend(run, device=latents.device, dtype=self.dtype)
        if self.attention == "default":
            return run()
        with sdpa_kernel(BACKENDS[self.attention]):
            return run()


class CachedConditioningControlNet(_CachedConditioning):
    """ControlNet (Zhang et al., arXiv 2302.05543) with its conditioning precomputed, also its control picture's.

    Args:
        network: control net for a UNet of Stable Diffusion v1's architecture; changed in place.
        timesteps: T, number of training timesteps.

    Raises:
        ValueError: the network has layers that can't be precomputed.
    """

    def __init__(self, network: ControlNetModel, *, timesteps: int = 1000) -> None:
        super().__init__(network, timesteps=timesteps)
        self.network = network
        self.embedding, network.controlnet_cond_embedding = network.controlnet_cond_embedding, nn.Identity()

    @property
    def dtype(self) -> torch.dtype:
        return self.network.conv_in.weight.dtype

    def embed(self, picture: Tensor) -> Tensor:
        """Embed control pictures (b, 3, H, W) in [0, 1] to (b, c, h, w)."""
        return self.embedding(picture.to(self.dtype))

    def forward(self, latents: Tensor, timestep: Tensor, keys_and_values: Tensor, embedding: Tensor) -> Residuals:
        """Return the additions to a UNet for the same latents (b, 4, h, w) and timestep (b,)."""
        down, middle = self.network(latents, timestep, keys_and_values, embedding, return_dict=False)
        return down, middle


class _TimeTable(nn.Module):
    """Replaces the sinusoidal embedding by a lookup of the projected embeddings of all residual blocks."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.table[timesteps]


class _Passthrough(nn.Module):
    """Replaces the timestep embedding layers, whose output is in the table."""

    def forward(self, embedding: Tensor, condition: None = None) -> Tensor:
        return embedding


class _Slice(nn.Module):
    """Replaces the projection of a residual block by its slice of a row of the table."""

    def __init__(self, start: int, width: int) -> None:
        super().__init__()
        self.start = start
        self.width = width

    def forward(self, row: Tensor) -> Tensor:
        return row[:, self.start : self.start + self.width]


def _replace_transformers(unet: nn.Module) -> list[CrossAttention]:
    """Replace diffusers' transformers; return all cross-attentions, in the order of their slices of the text."""
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    for name, model in [(n, m) for n, m in unet.named_modules() if isinstance(m, Transformer2DModel)]:
        unet.set_submodule(name, Transformer(model))
    cross_attentions = [module for module in unet.modules() if isinstance(module, CrossAttention)]
    end = 0
    for layer in cross_attentions:
        end = layer.set_slice(end)
    return cross_attentions


@torch.no_grad()
def _tabulate_time(unet: UNet2DConditionModel | ControlNetModel, timesteps: int) -> None:
    from diffusers.models.resnet import ResnetBlock2D

    weight = unet.conv_in.weight
    blocks: list[tuple[str, Any]] = [(n, m) for n, m in unet.named_modules() if isinstance(m, ResnetBlock2D)]
    sinusoids = unet.time_proj(torch.arange(timesteps, device=weight.device))
    embedding = unet.time_embedding(sinusoids.to(weight.dtype))
    projected = [block.time_emb_proj(block.nonlinearity(embedding)) for _, block in blocks]
    widths = [values.shape[1] for values in projected]
    for (name, block), start, width in zip(blocks, accumulate(widths, initial=0), widths, strict=False):
        resizes = block.upsample is not None or block.downsample is not None
        if block.time_embedding_norm == "default" and block.output_scale_factor == 1 and not resizes:
            unet.set_submodule(name, Residual(block, start, width))
        else:
            block.time_emb_proj = _Slice(start, width)
            block.skip_time_act = True  # the activation is already applied to the table's values
    unet.time_proj, unet.time_embedding = _TimeTable(torch.cat(projected, dim=1)), _Passthrough()


def unsupported_feature(config: Mapping[str, Any]) -> str | None:
    """Return a feature of a UNet's configuration that prevents precomputing, or None."""
    extras = ("class_embed_type", "addition_embed_type", "encoder_hid_dim", "num_class_embeds", "time_embedding_act_fn",
              "time_cond_proj_dim", "cross_attention_norm")  # fmt: skip
    if present := [name for name in extras if config.get(name) is not None]:
        return present[0]
    shift = config.get("resnet_time_scale_shift", "default")
    if shift not in ("default", "scale_shift"):
        return f"residual blocks with the time scale shift {shift}"
    types = (*config.get("down_block_types", ()), *config.get("up_block_types", ()), config.get("mid_block_type"))
    if simple := [name for name in types if name and "Simple" in name]:
        return f"{simple[0]}, whose cross-attention is outside of transformer blocks"
    return "two cross-attentions in a row" if config.get("dual_cross_attention") else None
