"""Group normalisation in the order of channels_last memory."""

import pytest
import torch
from torch import nn

from its_plugins.experts.channels_last_norm import ChannelsLastGroupNorm, use_channels_last_norms


@pytest.mark.parametrize("shift", [0.0, 300.0])  # a mean far from zero cancels in E[x^2] - E[x]^2
def test_it_equals_torchs_own(shift):
    norm = nn.GroupNorm(4, 12, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (torch.randn(2, 12, 6, 10) * 3 + shift).to(memory_format=torch.channels_last)
    y = ChannelsLastGroupNorm(norm)(x)
    torch.testing.assert_close(y, norm.double()(x.double()).float(), rtol=1e-4, atol=1e-4)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_half_precision_has_float32_statistics():
    norm = nn.GroupNorm(2, 8)
    x = (torch.randn(1, 8, 16, 16) * 2000).half()
    y = ChannelsLastGroupNorm(norm.half())(x)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), norm.float()(x.float()), rtol=1e-2, atol=1e-2)


def test_all_norms_of_a_network_are_replaced_in_place():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Sequential(nn.GroupNorm(4, 8)))
    x = torch.randn(1, 3, 4, 5).to(memory_format=torch.channels_last)
    expected = network(x)
    use_channels_last_norms(network)
    assert not [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
