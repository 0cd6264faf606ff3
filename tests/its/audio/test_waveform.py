"""Sample rates and channels."""

import math
import time

import pytest
import torch
from torchaudio.functional import resample as exact

from its.audio.waveform import resample, to_mono


def tone(hertz, rate, seconds):
    return torch.sin(2 * math.pi * hertz * torch.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize(("rate", "new_rate"), [(44_100, 16_000), (48_000, 44_100), (11_025, 48_000), (8_000, 44_100)])
def test_usual_rates_are_resampled_exactly(rate, new_rate):
    sound = torch.randn(1, 2_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resample(sound, rate, new_rate), exact(sound, rate, new_rate), rtol=0, atol=0)


@pytest.mark.parametrize(("rate", "new_rate"), [(44_101, 44_089), (383_987, 16_001), (4_001, 47_999)])
def test_coprime_rates_take_little_and_keep_the_pitch(rate, new_rate):
    began = time.process_time()
    found = resample(tone(440, rate, 0.5), rate, new_rate)
    assert time.process_time() - began < 10  # exact resampling takes minutes and gigabytes
    assert len(found) == pytest.approx(new_rate / 2, rel=5e-4, abs=2)
    middle = slice(new_rate // 10, new_rate // 5)
    assert (found[middle] - tone(440, new_rate, 0.5)[middle]).abs().max() < 0.3  # 0.05 % of 0.2 s are 0.1 ms


def test_the_loudest_of_cancelling_channels_is_used_with_a_warning(capsys):
    sound = tone(440, 16_000, 0.1)
    for channels in (torch.stack([sound, sound]), torch.stack([sound, 0 * sound]), torch.zeros(2, 9), sound[None]):
        torch.testing.assert_close(to_mono(channels), channels.mean(0, keepdim=True))
    assert capsys.readouterr().err == ""
    assert (to_mono(torch.stack([-0.95 * sound, sound])) == sound).all()
    assert "opposite phase" in (said := capsys.readouterr().err)
    assert "channel 2" in said
