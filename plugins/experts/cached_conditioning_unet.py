"""A UNet with precomputed text keys and values, precomputed timestep embeddings and lean attention modules.

Cross-attention needs only the text's keys and values, and residual blocks need one vector of each timestep. Both depend
on the weights alone, so the same layers compute them once instead of at every step. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import sdpa_kernel

from its_plugins.experts.attention_backend import BACKENDS, Attention, choose, require

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class CachedConditioningUNet(nn.Module):
    """Stable Diffusion's UNet with its conditioning precomputed.

    Args:
        unet: with plain cross-attention and residual blocks, as Stable Diffusion v1's. It is changed in place and
            can't be used by itself afterwards.
        timesteps: T, number of training timesteps.
        attention: kernels that compute attention; `auto` is decided in the first forward pass.

    Raises:
        ValueError: the UNet has parts that can't be precomputed.
        UserError: these kernels are not available here.
    """

    def __init__(self, unet: UNet2DConditionModel, *, timesteps: int = 1000, attention: Attention = "default") -> None:
        super().__init__()
        require(attention, device=unet.conv_in.weight.device, dtype=unet.conv_in.weight.dtype)
        if reason := unsupported(unet.config):
            raise ValueError(f"this UNet's conditioning can't be precomputed: it has {reason}")
        self.attention: str = attention
        self.unet = unet
        self.text_width = _replace_attention(unet)
        """c', channels of all keys and values together."""
        self._text_projections = [
            module for module in unet.modules() if isinstance(module, _CrossAttention)
        ]  # in the order of their slices
        _tabulate_time(unet, timesteps)
        self.train(unet.training)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.unet.conv_in.weight.dtype

    def keys_and_values(self, states: Tensor) -> Tensor:
        """Hidden states of a text (b, l, c) -> concatenated keys and values of all cross-attentions (b, l, c')."""
        states = states.to(self.dtype)
        return torch.cat([to(states) for layer in self._text_projections for to in (layer.to_k, layer.to_v)], dim=-1)

    def forward(self, latents: Tensor, timestep: Tensor, keys_and_values: Tensor) -> Tensor:
        """Noisy latents (b, 4, h, w), timestep (b,) from 0 to T - 1, text (b, l, c') -> noise (b, 4, h, w)."""

        def run() -> Tensor:
            noise: Tensor = self.unet(latents, timestep, keys_and_values, return_dict=False)[0]
            return noise

        if self.attention == "auto":
            self.attention = choose(run, device=latents.device, dtype=self.dtype)
        if self.attention == "default":
            return run()
        with sdpa_kernel(BACKENDS[self.attention]):
            return run()


class _SelfAttention(nn.Module):
    """Self-attention with one projection for queries, keys and values.

    Args:
        attention: diffusers' module, whose weights are used.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.heads
        projections = attention.to_q, attention.to_k, attention.to_v
        weight = torch.cat([projection.weight for projection in projections])
        self.to_qkv = nn.Linear(1, 1, bias=False, device=weight.device, dtype=weight.dtype)
        self.to_qkv.out_features, self.to_qkv.in_features = weight.shape
        self.to_qkv.weight = nn.Parameter(weight, requires_grad=False)
        if attention.to_q.bias is not None:
            bias = torch.cat([projection.bias for projection in projections])
            self.to_qkv.bias = nn.Parameter(bias, requires_grad=False)
        self.to_out = attention.to_out[0]

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        """(b, l, c) -> (b, l, c)."""
        q, k, v = self.to_qkv(hidden_states).chunk(3, dim=-1)
        projected: Tensor = self.to_out(_attend(q, k, v, self.heads))
        return projected


class _CrossAttention(nn.Module):
    """Cross-attention to keys and values that are a slice of what the UNet receives as text.

    Args:
        attention: diffusers' module, whose weights are used.
        start: of the slice; keys come first, then as many values.
    """

    def __init__(self, attention: Any, start: int) -> None:
        super().__init__()
        self.heads: int = attention.heads
        self.start = start
        self.width: int = attention.to_k.out_features
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out[0]

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        """(b, l, c) and keys and values (b, l', c') -> (b, l, c)."""
        middle = self.start + self.width
        key, value = (
            encoder_hidden_states[..., self.start : middle],
            encoder_hidden_states[..., middle : middle + self.width],
        )
        projected: Tensor = self.to_out(_attend(self.to_q(hidden_states), key, value, self.heads))
        return projected


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """(b, l, h d), (b, l', h d), (b, l', h d) -> (b, l, h d).

    Without einops: it runs 32 times a forward pass, where the host's time is what limits a GPU at small batches.
    """
    q, k, v = (torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class _TimeTable(nn.Module):
    """Looks up what all residual blocks need of a timestep, in place of the sinusoids."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.table[timesteps]


class _Unchanged(nn.Module):
    """In place of the layers whose results the table holds."""

    def forward(self, embedding: Tensor, condition: None = None) -> Tensor:
        return embedding


class _Slice(nn.Module):
    """A residual block's share of the table's row, in place of its projection."""

    def __init__(self, start: int, width: int) -> None:
        super().__init__()
        self.start = start
        self.width = width

    def forward(self, row: Tensor) -> Tensor:
        return row[:, self.start : self.start + self.width]


def _replace_attention(unet: nn.Module) -> int:
    """Replace the attention modules of all transformer blocks; return c'."""
    from diffusers.models.attention import BasicTransformerBlock

    width = 0
    for block in [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]:
        for name in ("attn1", "attn2"):
            attention: Any = getattr(block, name)
            if attention is None:
                continue
            if attention.is_cross_attention:
                setattr(block, name, _CrossAttention(attention, width))
                width += 2 * attention.to_k.out_features
            else:
                setattr(block, name, _SelfAttention(attention))
    return width


@torch.no_grad()
def _tabulate_time(unet: UNet2DConditionModel, timesteps: int) -> None:
    from diffusers.models.resnet import ResnetBlock2D

    weight = unet.conv_in.weight
    blocks: list[Any] = [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    sinusoids = unet.time_proj(torch.arange(timesteps, device=weight.device))
    embedding = unet.time_embedding(sinusoids.to(weight.dtype))
    projected = [block.time_emb_proj(block.nonlinearity(embedding)) for block in blocks]
    starts = accumulate((part.shape[1] for part in projected), initial=0)
    for block, start, part in zip(blocks, starts, projected, strict=False):
        block.time_emb_proj = _Slice(start, part.shape[1])
        block.skip_time_act = True  # the table holds activated values
    unet.time_proj, unet.time_embedding = _TimeTable(torch.cat(projected, dim=1)), _Unchanged()


def unsupported(config: Mapping[str, Any]) -> str | None:
    """The part of a UNet, by its configuration, that can't be precomputed; None without one."""
    extras = ("class_embed_type", "addition_embed_type", "encoder_hid_dim", "num_class_embeds", "time_embedding_act_fn",
              "time_cond_proj_dim", "cross_attention_norm")  # fmt: skip
    if found := [name for name in extras if config.get(name) is not None]:
        return found[0]
    shift = config.get("resnet_time_scale_shift", "default")
    if shift not in ("default", "scale_shift"):
        return f"residual blocks with {shift}"
    types = (*config.get("down_block_types", ()), *config.get("up_block_types", ()), config.get("mid_block_type"))
    if simple := [name for name in types if name and "Simple" in name]:
        return f"{simple[0]}, whose cross-attention is outside of transformer blocks"
    return "two cross-attentions in a row" if config.get("dual_cross_attention") else None
