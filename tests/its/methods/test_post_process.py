"""Vocoding on devices that lack an operation."""

import pytest
import torch

from its.audio.spectrogram import AUFFUSION
from its.interfaces import Vocoder
from its.methods.post_process import PostProcess


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
