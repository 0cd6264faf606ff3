"""Estimated phases against the true phases of known sounds."""

import math

import pytest
import torch

from its_plugins.vocoders.phase_accumulation import accumulate_phase

SIZES = {"n_fft": 2048, "win_length": 1024, "hop_length": 160}


def spectrum(sound):
    window = torch.hann_window(1024, dtype=torch.float64)
    return torch.stft(sound, **SIZES, window=window, return_complex=True)[0].mT[8:-8]


def coherence(phase, true):
    """Return the share of magnitude with the right phase, up to a constant phase for the whole sound; 1 is perfect."""
    return float(
        (true.abs() * torch.polar(torch.ones_like(phase), phase).conj() * true).sum().abs() / true.abs().square().sum()
    )


def test_a_tone_keeps_its_phase():
    n = torch.arange(16000, dtype=torch.float64)
    true = spectrum(torch.sin(2 * math.pi * 1003.3 / 16000 * n)[None])
    assert coherence(accumulate_phase(true.abs(), **SIZES), true) > 0.98
    assert coherence(torch.zeros_like(true.abs()), true) < 0.1


def test_a_glide_keeps_its_phase():
    n = torch.arange(16000, dtype=torch.float64)
    true = spectrum(torch.sin(2 * math.pi * (500 * n / 16000 + 500 * (n / 16000) ** 2))[None])
    assert coherence(accumulate_phase(true.abs(), **SIZES), true) > 0.8


def test_the_phase_slope_of_a_click_is_its_delay():
    """A click d samples after the middle of a frame has the phase -2 pi k d / n_fft; `stft` adds pi k."""
    sound = torch.zeros(1, 8000, dtype=torch.float64)
    at, frames = 3230, torch.arange(19, 22)
    sound[0, at] = 1
    window = torch.hann_window(1024, dtype=torch.float64)
    magnitude = torch.stft(sound, **SIZES, window=window, return_complex=True)[0].mT.abs()
    hill = torch.exp(-(((torch.arange(1025) - 300) / 400) ** 2))  # a single peak, which all bins follow
    phase = accumulate_phase(magnitude * hill, **SIZES)[frames] - math.pi * torch.arange(1025)
    step = (phase.diff(dim=1)[:, 100:500] + math.pi) % (2 * math.pi) - math.pi
    delays = -step.mean(1) * 2048 / (2 * math.pi)
    assert delays.tolist() == pytest.approx((at - frames * 160).tolist(), abs=20)


def test_silence_and_a_single_frame_are_finite():
    for magnitude in (torch.zeros(5, 1025), torch.rand(1, 1025)):
        phase = accumulate_phase(magnitude, **SIZES)
        assert phase.shape == magnitude.shape
        assert phase.isfinite().all()
