"""A UNet that computes once what it would compute alike at every step: all about the text, all about the timestep.

Cross-attention asks nothing of a text but its keys and values, and residual blocks nothing of a timestep but a vector
each. Both depend on the weights alone, so they are computed ahead, by the same layers: results differ by rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import sdpa_kernel

from its_plugins.experts.attention_backend import BACKENDS, Attention, fastest, require

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class LeanUNet(nn.Module):
    """Stable Diffusion's UNet, which it changes and keeps: it can't be used by itself any more.

    Args:
        unet: with plain cross-attention and residual blocks, as Stable Diffusion v1's.
        timesteps: T, how many training timesteps there are.
        attention: which kernels compute attention; `auto` is decided in the first forward pass.

    Raises:
        ValueError: it has parts that would have to be computed at every step.
        UserError: these kernels can't be had.
    """

    def __init__(self, unet: UNet2DConditionModel, *, timesteps: int = 1000, attention: Attention = "default") -> None:
        super().__init__()
        require(attention, device=unet.conv_in.weight.device, dtype=unet.conv_in.weight.dtype)
        self.attention: str = attention
        if reason := unsupported(unet.config):
            raise ValueError(f"this UNet can't be made lean: it has {reason}")
        self.unet = unet
        self._listeners = [layer for layer in _attentions(unet) if layer.is_cross_attention]
        starts = accumulate((2 * layer.to_k.out_features for layer in self._listeners), initial=0)
        for layer, start in zip(self._listeners, starts, strict=False):
            layer.set_processor(_Attend(start, layer.to_k.out_features))
        _tabulate_time(unet, timesteps)
        self.train(unet.training)

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.unet.conv_in.weight.dtype

    def keys_and_values(self, states: Tensor) -> Tensor:
        """Hidden states of a text (b, l, c) -> keys and values of all cross-attentions in a row (b, l, c')."""
        states = states.to(self.dtype)
        return torch.cat([to(states) for layer in self._listeners for to in (layer.to_k, layer.to_v)], dim=-1)

    def forward(self, latents: Tensor, timestep: Tensor, keys_and_values: Tensor) -> Tensor:
        """Noisy latents (b, 4, h, w), timestep (b,) from 0 to T - 1, text (b, l, c') -> noise (b, 4, h, w)."""

        def run() -> Tensor:
            noise: Tensor = self.unet(latents, timestep, keys_and_values, return_dict=False)[0]
            return noise

        if self.attention == "auto":
            seconds = fastest(run, device=latents.device, dtype=self.dtype)
            self.attention = next(iter(seconds))
            listed = ", ".join(f"{name} {1000 * t:.1f} ms" for name, t in seconds.items())
            print(f"its: attention: {self.attention} ({listed} a forward pass)", file=sys.stderr, flush=True)
        if self.attention == "default":
            return run()
        with sdpa_kernel(BACKENDS[self.attention]):
            return run()


class _Attend:
    """Cross-attention to keys and values that are a slice of what the UNet is given as text."""

    def __init__(self, start: int, width: int) -> None:
        self.start = start
        self.width = width

    def __call__(self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        query = attention.to_q(hidden_states)
        key = encoder_hidden_states[..., self.start : self.start + self.width]
        value = encoder_hidden_states[..., self.start + self.width : self.start + 2 * self.width]
        q, k, v = (rearrange(x, "b l (h c) -> b h l c", h=attention.heads) for x in (query, key, value))
        heard = functional.scaled_dot_product_attention(q, k, v)
        projected: Tensor = attention.to_out[0](rearrange(heard, "b h l c -> b l (h c)"))
        return projected


class _TimeTable(nn.Module):
    """What each timestep tells every residual block, in the place of the sinusoids."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.table[timesteps]


class _Known(nn.Module):
    """In the place of the layers whose results the table holds."""

    def forward(self, embedding: Tensor, condition: None = None) -> Tensor:
        return embedding


class _Slice(nn.Module):
    """A residual block's share of the table's row, in the place of its projection."""

    def __init__(self, start: int, width: int) -> None:
        super().__init__()
        self.start = start
        self.width = width

    def forward(self, row: Tensor) -> Tensor:
        return row[:, self.start : self.start + self.width]


@torch.no_grad()
def _tabulate_time(unet: UNet2DConditionModel, timesteps: int) -> None:
    weight = unet.conv_in.weight
    blocks = _residual_blocks(unet)
    sinusoids = unet.time_proj(torch.arange(timesteps, device=weight.device))
    embedding = unet.time_embedding(sinusoids.to(weight.dtype))
    told = [block.time_emb_proj(block.nonlinearity(embedding)) for block in blocks]
    for block, start, part in zip(blocks, accumulate((p.shape[1] for p in told), initial=0), told, strict=False):
        block.time_emb_proj = _Slice(start, part.shape[1])
        block.skip_time_act = True  # the table has it already
    unet.time_proj, unet.time_embedding = _TimeTable(torch.cat(told, dim=1)), _Known()


def _attentions(unet: nn.Module) -> list[Any]:
    from diffusers.models.attention_processor import Attention

    return [module for module in unet.modules() if isinstance(module, Attention)]


def _residual_blocks(unet: nn.Module) -> list[Any]:
    from diffusers.models.resnet import ResnetBlock2D

    return [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]


def unsupported(config: Mapping[str, Any]) -> str | None:
    """The part of a UNet, by its configuration, that would have to be computed at every step; None without one."""
    extras = ("class_embed_type", "addition_embed_type", "encoder_hid_dim", "num_class_embeds", "time_embedding_act_fn",
              "time_cond_proj_dim", "cross_attention_norm")  # fmt: skip
    if found := [name for name in extras if config.get(name) is not None]:
        return found[0]
    shift = config.get("resnet_time_scale_shift", "default")
    if shift not in ("default", "scale_shift"):
        return f"residual blocks with {shift}"
    return "two cross-attentions in a row" if config.get("dual_cross_attention") else None
