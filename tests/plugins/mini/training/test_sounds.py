import numpy as np
import pytest
import torch

from its.audio.spectrogram import AUFFUSION
from its_plugins.mini.training.sounds import SOUNDS, clip


@pytest.mark.parametrize("name", SOUNDS)
def test_a_clip_fills_the_canvas_without_holes(name):
    sound = clip(name, np.random.default_rng(1))
    assert sound.shape == (163_840,)
    assert sound.dtype == np.float32
    assert 0.4 < abs(sound).max() <= 1
    gray = AUFFUSION.to_picture(AUFFUSION.log_mel(torch.from_numpy(sound)[None]))[0, 0]
    assert gray.shape == (256, 1024)
    assert (gray < 0.2).float().mean() < 0.02  # dead silence would cut the picture that shares the canvas


def test_clips_are_their_generators():
    one, same, other = (clip("bell", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_bell_has_partials_that_decay():
    gray = AUFFUSION.to_picture(AUFFUSION.log_mel(torch.from_numpy(SOUNDS["bell"](np.random.default_rng(3)))[None]))
    rows = gray[0, 0].mean(1)
    sharpness = (rows - torch.nn.functional.avg_pool1d(rows[None, None], 9, 1, 4)[0, 0])[20:-20].abs().max()
    noise = AUFFUSION.to_picture(AUFFUSION.log_mel(0.1 * torch.randn(1, 163_840)))[0, 0].mean(1)
    flat = (noise - torch.nn.functional.avg_pool1d(noise[None, None], 9, 1, 4)[0, 0])[20:-20].abs().max()
    assert sharpness > 3 * flat
