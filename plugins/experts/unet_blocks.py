"""Blocks of Stable Diffusion's UNet with fewer kernel launches and copies than in diffusers, on the same weights.

Shapes used here: b batch, c channels, h w rows and columns, l tokens (h w), l' text tokens,
c' channels of the keys and values of all cross-attentions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Transformer(nn.Module):
    """Spatial transformer whose 1 x 1 convolutions are linear layers over tokens, without copies between layouts.

    Args:
        model: diffusers' module, whose weights are used.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.norm = model.norm
        self.proj_in, self.proj_out = _as_linear(model.proj_in), _as_linear(model.proj_out)
        self.blocks = nn.ModuleList(_Block(block) for block in model.transformer_blocks)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
        """Map (b, c, h, w) and text (b, l', c') to (b, c, h, w), in a tuple as in diffusers."""
        height = hidden_states.shape[2]
        tokens = self.proj_in(self.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            tokens = block(tokens, encoder_hidden_states)
        update = torch.unflatten(self.proj_out(tokens), 1, (height, -1)).permute(0, 3, 1, 2)
        return (hidden_states + update,)


class _Block(nn.Module):
    """Transformer block."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norms, self.attentions = nn.ModuleList(), nn.ModuleList()
        for norm, attention in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
            if attention is not None:
                self.norms.append(norm)
                self.attentions.append((CrossAttention if attention.is_cross_attention else _SelfAttention)(attention))
        self.norm3, self.ff = block.norm3, block.ff

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        """(b, l, c) and text (b, l', c') -> (b, l, c)."""
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            tokens = tokens + attention(norm(tokens), text)
        return tokens + self.ff(self.norm3(tokens))


class _SelfAttention(nn.Module):
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.heads
        projections = attention.to_q, attention.to_k, attention.to_v
        bias = None if attention.to_q.bias is None else torch.cat([projection.bias for projection in projections])
        self.to_qkv = _make_linear(torch.cat([projection.weight for projection in projections]), bias)
        self.to_out = attention.to_out[0]

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        """(b, l, c) -> (b, l, c)."""
        q, k, v = self.to_qkv(tokens).chunk(3, dim=-1)
        return self.to_out(_attend(q, k, v, self.heads))


class CrossAttention(nn.Module):
    """Cross-attention to precomputed keys and values: a slice of the text, keys before values.

    Args:
        attention: diffusers' module, whose weights are used.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.heads
        self.to_q, self.to_k, self.to_v = attention.to_q, attention.to_k, attention.to_v
        self.to_out = attention.to_out[0]
        self.set_slice(0)

    def set_slice(self, start: int) -> int:
        """Set the first channel of the keys and values in the text; return the channel after them."""
        self.start, self.middle = start, start + self.to_k.out_features
        self.end: int = self.middle + self.to_v.out_features
        return self.end

    def forward(self, tokens: Tensor, text: Tensor) -> Tensor:
        """(b, l, c) and text (b, l', c') -> (b, l, c)."""
        key, value = text[..., self.start : self.middle], text[..., self.middle : self.end]
        return self.to_out(_attend(self.to_q(tokens), key, value, self.heads))


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Compute attention of queries (b, l, h d) to keys and values (b, l', h d). Returns (b, l, h d).

    This does not use einops, whose overhead on the host, in 32 calls per forward pass, would slow down small batches on
    a GPU.
    """
    q, k, v = (torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _as_linear(layer: Any) -> nn.Linear:
    """Convert a 1 x 1 convolution to a linear layer; return a linear layer unchanged."""
    return layer if isinstance(layer, nn.Linear) else _make_linear(layer.weight.flatten(1), layer.bias)


def _make_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False, device=weight.device, dtype=weight.dtype)
    layer.out_features, layer.in_features = weight.shape
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


class Residual(nn.Module):
    """Residual block that adds its slice of the precomputed timestep row.

    Args:
        block: diffusers' module, whose weights are used.
        start, width: position of the slice.
    """

    def __init__(self, block: Any, start: int, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2
        self.conv_shortcut, self.nonlinearity = block.conv_shortcut, block.nonlinearity
        self.start, self.end = start, start + width

    def forward(self, hidden_states: Tensor, row: Tensor) -> Tensor:
        """(b, c, h, w) and a row (b, r) of the timestep table -> (b, c'', h, w)."""
        update = self.conv1(self.nonlinearity(self.norm1(hidden_states)))
        update = self.norm2(update + row[:, self.start : self.end, None, None])
        update = self.conv2(self.nonlinearity(update))
        shortcut = hidden_states if self.conv_shortcut is None else self.conv_shortcut(hidden_states)
        return shortcut + update
