"""Loops: where they begin, and how their ends are joined."""

import torch

from its.methods.loop import join_ends, quietest_shift


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


def test_a_loop_begins_where_it_is_quietest():
    columns = torch.full((1, 4, 256), 0.8)
    columns[..., 100:130] = 0.1
    assert quietest_shift(columns, silence=0, positions=32) in range(13, 16)
    assert quietest_shift(1 - columns, silence=1, positions=32) in range(13, 16)
    columns = columns.roll(140, -1)  # the quiet part now lies across the ends
    assert quietest_shift(columns, silence=0, positions=32) in (31, 0, 1)
