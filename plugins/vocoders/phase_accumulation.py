"""Initial phase for Griffin-Lim, estimated from magnitudes in a single pass.

Shapes used here: t frames, k Fourier bins.
"""

from __future__ import annotations

from math import pi, tau

import torch
from torch import Tensor

GAUSSIAN_OF_HANN = 0.25645
"""gamma / n^2: a Hann window of n samples is nearly exp(-pi x^2 / gamma) (Prusa et al., 2017, Table I)."""

RELATIVE_FLOOR = 1e-6
"""Magnitudes are clamped to this share of the largest."""


def accumulate_phase(magnitude: Tensor, *, n_fft: int, win_length: int, hop_length: int) -> Tensor:
    """Estimate the phases (t, k) of a centred Fourier transform with a Hann window, in radians, from magnitudes (t, k).

    Along time, single pass spectrogram inversion (Beauregard, Harish and Wyse, DSP 2015) keeps tones coherent: each
    peak of a frame is assumed to be a sinusoid, whose phase is that of the previous frame at the same bin, advanced by
    the mean frequency of both frames. Along frequency, the phase gradient of Prusa, Balazs and Sondergaard (IEEE TASLP
    25, 2017) keeps transients coherent: the bins around a peak, up to the next minima, follow its phase, with a slope
    given by the delay of their energy from the middle of the frame. The phases are float64.
    """
    floor = RELATIVE_FLOOR * magnitude.max().double() + torch.finfo(magnitude.dtype).tiny
    log = magnitude.double().clamp(min=floor).log()
    peaks, frequency = _peaks(log)
    turn = tau * hop_length / n_fft * frequency
    ridge = torch.zeros_like(log)
    for i in range(1, len(log)):
        before = ridge[i - 1] + turn[i - 1] / 2
        ridge[i] = (before[peaks[i]] + turn[i] / 2) % tau
    slope = -tau / n_fft * _delay(log, win_length=win_length, hop_length=hop_length)
    relative = slope.cumsum(1)
    odd = torch.arange(log.shape[1], device=log.device) % 2
    # The phases above refer to the middle of each frame, those of the transform to its first sample: pi k apart.
    return ridge + (relative - relative.gather(1, peaks)) + pi * odd.double()


def _peaks(log: Tensor) -> tuple[Tensor, Tensor]:
    """Return each bin's peak, and the frequency of that peak in bins, (t, k) each, from log magnitudes (t, k)."""
    padded = torch.cat([log[:, :1], log, log[:, -1:]], 1)
    left, right = padded[:, :-2], padded[:, 2:]
    is_peak, is_valley = (log > left) & (log >= right), (log <= left) & (log < right)
    hill = is_valley.cumsum(1)  # number of the region between two minima, which contains one peak
    bins = torch.arange(log.shape[1], device=log.device).expand_as(hill)
    summits = torch.zeros_like(hill).scatter_reduce(1, hill, bins * is_peak, "amax")
    peaks = summits.gather(1, hill)
    curvature = (2 * log - left - right).clamp(min=torch.finfo(log.dtype).eps)
    offset = ((right - left) / 2 / curvature).clamp(-0.5, 0.5)  # maximum of the parabola through three bins
    return peaks, (bins + offset).gather(1, peaks)


def _delay(log: Tensor, *, win_length: int, hop_length: int) -> Tensor:
    """Return the delay (t, k) of each bin's energy from the middle of its frame, in samples, from log magnitudes.

    If the energy comes after the middle, magnitudes grow from frame to frame, by the slope of the window.
    """
    padded = torch.cat([log[:1], log, log[-1:]])
    growth = (padded[2:] - padded[:-2]) / (2 * hop_length)
    return (GAUSSIAN_OF_HANN * win_length**2 / tau * growth).clamp(-win_length / 2, win_length / 2)
