"""Group normalisation for compiled networks in channels_last."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelsLastGroupNorm(nn.Module):
    """Group normalisation that reads and writes channels_last tensors in the order of their memory.

    torch's own is compiled to a copy into the contiguous layout, a reduction and a copy back. Here the statistics of
    each channel are reduced first, then combined over the group: var = E[var_c] + Var[mean_c]. Uncompiled it is slower.

    Args:
        norm: whose groups, weights and epsilon are used.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w), in the dtype of x; statistics are float32."""
        height = x.shape[2]
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2).float()
        var, mean = torch.var_mean(tokens, dim=1, correction=0)
        mean, var = (torch.unflatten(statistic, 1, (self.groups, -1)) for statistic in (mean, var))  # (b, g, c / g)
        group_mean = mean.mean(-1, keepdim=True)
        group_var = (var + (mean - group_mean).square()).mean(-1, keepdim=True)
        rstd = (group_var + self.eps).rsqrt()
        rstd, center = (each.expand_as(mean).flatten(1)[:, None] for each in (rstd, group_mean))  # (b, 1, c)
        normed = ((tokens - center) * (rstd * self.weight.float()) + self.bias.float()).to(x.dtype)
        return torch.unflatten(normed, 1, (height, -1)).permute(0, 3, 1, 2)


def use_channels_last_norms(network: nn.Module) -> None:
    """Replace the group norms of a network in channels_last that is about to be compiled."""
    for name, norm in [(n, m) for n, m in network.named_modules() if isinstance(m, nn.GroupNorm)]:
        network.set_submodule(name, ChannelsLastGroupNorm(norm))
