"""Phases for a spectrogram that has none, in a single pass: where Griffin-Lim starts from.

Shapes used here: t frames, k Fourier bins.
"""

from __future__ import annotations

from math import pi, tau

import torch
from torch import Tensor

GAUSSIAN_OF_HANN = 0.25645
"""A Hann window of n samples is nearly exp(-pi x^2 / (this n^2)) (Prusa, Balazs and Sondergaard, 2017, Table I)."""

QUIETEST = 1e-6
"""Share of the loudest bin below which a bin's own ups and downs mean nothing."""


def accumulated_phase(magnitude: Tensor, *, n_fft: int, win_length: int, hop_length: int) -> Tensor:
    """Magnitudes (t, k) -> phases (t, k) of a centred Fourier transform with a Hann window, in radians, float64.

    Each peak of a frame is taken for a sinusoid. Its phase is that of the frame before at the same place, turned by
    the mean of both frames' frequencies. The bins around it, down to the next minima, follow it, off by what their
    distance in time from the middle of the frame makes. Single pass spectrogram inversion (Beauregard, Harish and
    Wyse, DSP 2015) along time, with the phase gradient of Prusa, Balazs and Sondergaard (IEEE TASLP 25, 2017) along
    frequency; the first keeps tones whole, the second strokes.
    """
    floor = QUIETEST * magnitude.max().double() + torch.finfo(magnitude.dtype).tiny
    log = magnitude.double().clamp(min=floor).log()
    peaks, frequency = _peaks(log)
    turn = tau * hop_length / n_fft * frequency
    ridge = torch.zeros_like(log)
    for i in range(1, len(log)):
        before = ridge[i - 1] + turn[i - 1] / 2
        ridge[i] = (before[peaks[i]] + turn[i] / 2) % tau
    slope = -tau / n_fft * _delay(log, win_length=win_length, hop_length=hop_length)
    along = slope.cumsum(1)
    odd = torch.arange(log.shape[1], device=log.device) % 2
    # Phases counted from the middle of each frame; the transform counts from its first sample.
    return ridge + (along - along.gather(1, peaks)) + pi * odd.double()


def _peaks(log: Tensor) -> tuple[Tensor, Tensor]:
    """Log magnitudes (t, k) -> for each bin, the bin of its peak and that peak's frequency, in bins."""
    padded = torch.cat([log[:, :1], log, log[:, -1:]], 1)
    left, right = padded[:, :-2], padded[:, 2:]
    is_peak, is_valley = (log > left) & (log >= right), (log <= left) & (log < right)
    hill = is_valley.cumsum(1)  # from one valley to the next there is one peak
    bins = torch.arange(log.shape[1], device=log.device).expand_as(hill)
    summits = torch.zeros_like(hill).scatter_reduce(1, hill, bins * is_peak, "amax")
    peaks = summits.gather(1, hill)
    curvature = (2 * log - left - right).clamp(min=torch.finfo(log.dtype).eps)
    offset = ((right - left) / 2 / curvature).clamp(-0.5, 0.5)  # the summit of the parabola through three bins
    return peaks, (bins + offset).gather(1, peaks)


def _delay(log: Tensor, *, win_length: int, hop_length: int) -> Tensor:
    """Log magnitudes (t, k) -> how many samples after the middle of its frame a bin's energy lies.

    Energy that is yet to come grows from frame to frame, by the slope of the window.
    """
    padded = torch.cat([log[:1], log, log[-1:]])
    growth = (padded[2:] - padded[:-2]) / (2 * hop_length)
    return (GAUSSIAN_OF_HANN * win_length**2 / tau * growth).clamp(-win_length / 2, win_length / 2)
