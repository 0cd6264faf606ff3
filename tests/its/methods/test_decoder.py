"""Decoding in slices."""

import torch

from its.interfaces import IdentityCodec
from its.methods import decoder


class Counting(IdentityCodec):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def decode(self, latents):
        self.sizes.append(len(latents))
        return super().decode(latents)


def test_a_batch_is_decoded_in_slices_that_give_the_same(monkeypatch):
    monkeypatch.setattr(decoder, "MAX_PIXELS", 2 * 4 * 8)
    codec, latents = Counting(), torch.randn(5, 3, 4, 8)
    assert torch.equal(decoder.decode(codec, latents), IdentityCodec().decode(latents))
    assert codec.sizes == [2, 2, 1]
    codec.sizes.clear()


def test_wide_latents_are_decoded_and_encoded_in_windows_that_overlap(monkeypatch):
    monkeypatch.setattr(decoder, "MAX_PIXELS", 2 * 4 * 8)
    codec, latents = Counting(), torch.rand(2, 3, 4, 40, generator=torch.manual_seed(0)) * 2 - 1
    torch.testing.assert_close(decoder.decode(codec, latents), IdentityCodec().decode(latents))
    assert codec.sizes == [1] * 8
    picture = torch.rand(2, 3, 4, 40, generator=torch.manual_seed(1))
    torch.testing.assert_close(decoder.encode(codec, picture), IdentityCodec().encode(picture))


class Neighbours(IdentityCodec):
    """Adds to each column its left neighbour, and 0 at the left end."""

    def decode(self, latents):
        return latents + torch.nn.functional.pad(latents, (1, 0))[..., :-1]


def test_a_loop_is_decoded_across_its_ends():
    latents = torch.rand(1, 3, 4, 16, generator=torch.manual_seed(0))
    loop = decoder.decode(Neighbours(), latents, loop=True)
    expected = latents + latents.roll(1, -1)
    torch.testing.assert_close(loop[..., 2:], expected[..., 2:], rtol=0, atol=0.05)
    assert (loop[..., 0] - expected[..., 0]).abs().max() < 0.05 < (latents[..., 0] - expected[..., 0]).abs().max()
