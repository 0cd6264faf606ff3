import math

import pytest
import torch

from its.methods.score_distillation.implicit_image import PAPER, ImplicitImage, Network


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_papers_network():
    image = ImplicitImage((8, 16), PAPER, source())
    shapes = [tuple(p.shape) for p in image.parameters()]
    layer = [(256,), (256,), (256,)]  # bias; the norm's weight and bias
    assert shapes == [(256, 256, 1, 1), *layer] * 3 + [(1, 256, 1, 1), (1,)]
    x = image()
    assert x.shape == (1, 1, 8, 16)
    assert 0 < x.min() < x.max() < 1


def test_features_are_sines_and_cosines_of_each_pixels_place():
    network = Network(features=5, scale=3.0, width=4)
    image = ImplicitImage((6, 10), network, source(1))
    frequencies = torch.randn(2, 5, generator=source(1)) * 3.0
    for row, column in ((0, 0), (2, 7), (5, 9)):
        phase = 2 * math.pi * (row / 6 * frequencies[0] + column / 10 * frequencies[1])
        torch.testing.assert_close(
            image.features[0, :, row, column], torch.cat([phase.sin(), phase.cos()]), rtol=0, atol=1e-5
        )


def test_it_depends_on_its_generator_alone():
    torch.manual_seed(0)
    one = ImplicitImage((4, 4), Network(width=8), source(3))()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(ImplicitImage((4, 4), Network(width=8), source(3))(), one)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(ImplicitImage((4, 4), Network(width=8), source(4))(), one)


def test_it_stays_in_float32_where_all_else_is_half():
    torch.set_default_dtype(torch.bfloat16)
    try:
        image = ImplicitImage((4, 4), Network(width=8), source())
        with torch.autocast("cpu", torch.bfloat16):
            x = image()
    finally:
        torch.set_default_dtype(torch.float32)
    assert {x.dtype, *(p.dtype for p in image.parameters())} == {torch.float32}
    assert torch.equal(x, ImplicitImage((4, 4), Network(width=8), source())())


def test_sizes_that_make_no_sense():
    with pytest.raises(ValueError, match=r"network: width \(=0\) is too small"):
        Network(width=0)
