"""Cycle consistency: compare a spectrogram with the spectrogram of its vocoded sound (arXiv 2405.12221, Figure 6).

Differences show artefacts of the vocoder, and pictures that are not the spectrogram of any sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from its.audio.spectrogram import SpectrogramFormat

DECIBELS = 20 / math.log(10)
"""Decibels per natural logarithm of a magnitude."""

EDGE = 8
"""Columns to ignore at either end, where analysis windows reach beyond the sound."""

GAP = 8
"""White columns between the two pictures."""


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """Comparison of a spectrogram with that of its sound.

    Attributes:
        error_db: mean absolute difference of the log-mel spectrograms, in dB.
        level_db: mean difference, in dB; negative if the sound is softer, as after peak limiting.
        shape_db: mean absolute difference at equal levels, in dB.
        correlation: Pearson correlation of the log-mel spectrograms; 0 if one of them is constant.
        delay: delay of the sound in samples, at most one hop, compensated before the comparison.
        picture: both spectrograms side by side, (H, 2 W + GAP) in [0, 1], the original first; (3, H, ...) in stereo.
    """

    error_db: float
    level_db: float
    shape_db: float
    correlation: float
    delay: int
    picture: Tensor

    def metrics(self) -> dict[str, float]:
        """Return the rounded metrics for `sample.json`."""
        decibels = {name: round(getattr(self, name), 2) for name in ("error_db", "level_db", "shape_db")}
        return {**decibels, "correlation": round(self.correlation, 4), "delay": self.delay}


def compare_with_sound(spectrogram: Tensor, waveform: Tensor, form: SpectrogramFormat) -> Cycle:
    """Compute the spectrogram of a sound and compare it with the one that was vocoded.

    Synthesis may centre windows differently from `SpectrogramFormat.log_mel`, which shifts the sound by up to a hop
    (torch's `center=True` is half a hop early) and does not count as an error of the vocoder. So shifts of up to a hop
    are tried, in steps of a quarter hop, and the one with the lowest `shape_db` is used.

    Args:
        spectrogram: vocoded spectrogram, (H, W) gray in [0, 1], row 0 the highest band; (3, H, W) in stereo.
        waveform: sound of the spectrogram, (n,) with n = W * hop_length; (2, n) in stereo.
        form: spectrogram format.
    """
    picture = rearrange(spectrogram, "h w -> 1 1 h w" if form.channels == 1 else "c h w -> 1 c h w")
    original = form.to_log_mel(picture)[0]
    spectra = {delay: form.log_mel(sound[None])[0] for delay, sound in _shifts(waveform.float(), form.hop_length)}
    delay = min(spectra, key=lambda delay: (_compare(spectra[delay], original)[2], abs(delay)))
    log_mel = spectra[delay]
    error_db, level_db, shape_db = _compare(log_mel, original)
    return Cycle(
        error_db=error_db,
        level_db=level_db,
        shape_db=shape_db,
        correlation=correlation(_inner(log_mel), _inner(original)),
        delay=delay,
        picture=side_by_side(spectrogram, form.to_picture(log_mel[None]).reshape(spectrogram.shape).clamp(0, 1)),
    )


def correlation(one: Tensor, other: Tensor) -> float:
    """Return the Pearson correlation over all values; 0 if one tensor is constant."""
    a, b = one.double() - one.double().mean(), other.double() - other.double().mean()
    norm = float(a.norm() * b.norm())
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Join two pictures (..., H, W) of equal height with a white gap."""
    return torch.cat([left, left.new_ones(*left.shape[:-1], GAP), right], -1)


def _compare(log_mel: Tensor, original: Tensor) -> tuple[float, float, float]:
    """Return error, level and shape in dB, without the edges."""
    difference = (_inner(log_mel) - _inner(original)) * DECIBELS
    level = difference.mean()
    return float(difference.abs().mean()), float(level), float((difference - level).abs().mean())


def _inner(columns: Tensor) -> Tensor:
    """Remove `EDGE` columns at either end of (..., f, t), unless none would be left."""
    return columns[..., EDGE:-EDGE] if columns.shape[-1] > 2 * EDGE else columns


def _shifts(waveform: Tensor, hop: int) -> Iterator[tuple[int, Tensor]]:
    """Yield delays of -1 to 1 hop in quarter hops, and the sound with each delay removed, padded with silence."""
    padded = functional.pad(waveform, (hop, hop))
    for quarter in range(-4, 5):
        delay = quarter * hop // 4
        yield delay, padded[..., hop + delay : hop + delay + waveform.shape[-1]]
