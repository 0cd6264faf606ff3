"""Vocoding on devices that lack an operation, and vocoding of loops."""

import pytest
import torch

from its.audio.spectrogram import AUFFUSION
from its.interfaces import Vocoder
from its.methods.post_process import PostProcess
from its_plugins.vocoders.griffin_lim import GriffinLim


class Short(Vocoder):
    """A vocoder that its device can't run: the first calls fail."""

    format = AUFFUSION

    def __init__(self, failures):
        super().__init__()
        self.left = failures
        self.calls = 0

    def forward(self, log_mel):
        self.calls += 1
        if self.left:
            self.left -= 1
            raise NotImplementedError("Output channels > 65536 not supported at the MPS device.\nmore")
        return torch.zeros(len(log_mel), log_mel.shape[-1] * self.format.hop_length)


def test_a_vocoder_that_the_device_can_not_run_runs_on_the_cpu_and_stays_there():
    vocoder = Short(1)
    post_process = PostProcess(vocoder=vocoder, canvas=(256, 64))
    with pytest.warns(UserWarning, match=r"Short can't run on cpu, and runs on the CPU: .*65536[^\n]*$"):
        assert post_process.play(torch.rand(1, 1, 256, 64)).shape == (1, 64 * 160)
    assert post_process.play(torch.rand(1, 1, 256, 64)).shape == (1, 64 * 160)
    assert vocoder.calls == 3  # one failed, and no other was tried


def test_an_operation_that_no_device_has_is_an_error():
    post_process = PostProcess(vocoder=Short(9), canvas=(256, 64))
    with pytest.warns(UserWarning, match="runs on the CPU"), pytest.raises(NotImplementedError, match="65536"):
        post_process.play(torch.rand(1, 1, 256, 64))


class Periodic(Vocoder):
    """Plays the mean of each column: depends on the column alone."""

    format = AUFFUSION

    def forward(self, log_mel):
        return log_mel.mean(1).repeat_interleave(self.format.hop_length, -1) / 100


def test_a_vocoder_of_the_spectrogram_alone_plays_a_loop_as_it_is():
    picture = torch.rand(1, 1, 256, 64, generator=torch.manual_seed(0))
    plain, loop = (PostProcess(vocoder=Periodic(), canvas=(256, 64), loop=loop).play(picture) for loop in (False, True))
    torch.testing.assert_close(loop, plain)


def test_griffin_lim_plays_a_tone_through_the_end_of_a_loop():
    """Without the loop, its phase at the end has no relation to that at the beginning."""
    picture = torch.zeros(1, 1, 256, 64)
    picture[:, :, 160] = 0.9
    vocoder = GriffinLim()
    vocoder.load()
    steps = {}
    for loop in (False, True):
        sound = PostProcess(vocoder=vocoder, canvas=(256, 64), loop=loop).play(picture)[0]
        twice = torch.cat([sound, sound])
        window = torch.hann_window(512)
        at = [twice[n : n + 512] * window for n in range(2000, len(sound) + 1000, 64)]
        spectra = torch.stack([torch.fft.rfft(x).abs() for x in at])
        flux = spectra.diff(dim=0).clamp(min=0).sum(1)
        steps[loop] = float(flux[(len(sound) - 2000) // 64 - 8 :][:10].max() / flux.median())
    assert steps[True] < 2 < steps[False]
