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
    monkeypatch.setattr(decoder, "MAX_POSITIONS", 2 * 4 * 8)
    codec, latents = Counting(), torch.randn(5, 3, 4, 8)
    assert torch.equal(decoder.decode(codec, latents), IdentityCodec().decode(latents))
    assert codec.sizes == [2, 2, 1]
    codec.sizes.clear()
    assert decoder.decode(codec, torch.randn(2, 3, 40, 80)).shape == (2, 3, 40, 80)
    assert codec.sizes == [1, 1]
