"""Loops: where they begin, and how their ends are joined."""

import pytest
import torch

from its.methods.loop import begin_quietly, join_ends


def test_a_sound_that_repeats_itself_is_a_loop_already():
    time = torch.arange(1500) / 1000
    sound = torch.sin(2 * torch.pi * 5 * time)[None]
    torch.testing.assert_close(join_ends(sound, 1000, fade=200), sound[:, :1000], rtol=0, atol=1e-5)


def test_the_end_of_a_loop_continues_at_its_beginning_with_the_same_power():
    noise = torch.randn(4, 3000, generator=torch.manual_seed(0))
    loop = join_ends(noise, 2000, fade=1000)
    assert loop.shape == (4, 2000)
    torch.testing.assert_close(loop[:, 0], noise[:, 2000], rtol=0, atol=0.02)  # what follows the last sample
    torch.testing.assert_close(loop[:, 1000:], noise[:, 1000:2000])
    assert 0.9 < loop[:, 250:750].std() < 1.1  # a plain fade between two noises has 0.71


@pytest.mark.parametrize("silence", [0, 1])
@pytest.mark.parametrize("turn", [0, 140])  # at 140 the quiet part lies across the ends
def test_a_loop_begins_where_it_is_quietest(silence, turn):
    spectrogram = torch.full((2, 1, 4, 256), 0.8)
    spectrogram[..., 100:130] = 0.1
    spectrogram = (spectrogram if silence == 0 else 1 - spectrogram).roll(turn, -1)
    latents = torch.arange(32.0).expand(2, 4, 2, 32)
    turned = begin_quietly(latents, spectrogram, spectrogram, free=[True, False], silence=silence)
    shift = int(turned[0][0, 0, 0, 0])
    assert (shift * 8 - turn) % 256 in range(104, 128)
    assert torch.equal(turned[0][0], latents[0].roll(-shift, -1))
    assert torch.equal(turned[1][0], spectrogram[0].roll(-8 * shift, -1))
    assert torch.equal(turned[0][1], latents[1])
