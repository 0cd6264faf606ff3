"""Cycle consistency: the sound turned back into a spectrogram, beside the one that was played.

A vocoder that invents, or a picture that no sound can have, shows as a difference (arXiv 2405.12221, Figure 6).
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
"""For one natural logarithm of a magnitude."""

EDGE = 8
"""Columns left out at either end: an analysis window that reaches past the sound sees something else there."""

GAP = 8
"""White columns between the two pictures."""


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """How a spectrogram came back from its sound.

    Attributes:
        error_db: mean absolute difference of the two log-mel spectrograms, in dB.
        level_db: mean difference, in dB: below 0 where the sound is softer, as after a limit on its peak.
        shape_db: the mean absolute difference that is left when the levels are made equal, in dB.
        correlation: of the two log-mel spectrograms, in [-1, 1]; 0 where one of them is constant.
        delay: samples by which the sound was late, at most one hop; it was moved back before comparing.
        picture: (h, 2 w + gap) in [0, 1]: the one that was played, and the one that came back; in stereo (3, h, ...).
    """

    error_db: float
    level_db: float
    shape_db: float
    correlation: float
    delay: int
    picture: Tensor

    def figures(self) -> dict[str, float]:
        """What `sample.json` keeps, rounded to what is meant."""
        return {
            "error_db": round(self.error_db, 2),
            "level_db": round(self.level_db, 2),
            "shape_db": round(self.shape_db, 2),
            "correlation": round(self.correlation, 4),
            "delay": self.delay,
        }


def go_round(spectrogram: Tensor, waveform: Tensor, form: SpectrogramFormat) -> Cycle:
    """Analyse the sound and compare.

    Synthesis that centres its windows elsewhere than `SpectrogramFormat.log_mel` gives a sound that is early or
    late by up to a hop (pairs such as torch's `center=True` and Auffusion's analysis: half a hop early), which says
    nothing about the vocoder. So the sound is compared at delays of a quarter hop each, and the best one counts.

    Args:
        spectrogram: (h, w) gray in [0, 1], row 0 the highest band, as it was played; in stereo (3, h, w).
        waveform: (n,) its sound, w * hop_length samples; in stereo (2, n).
        form: maps one to the other.
    """
    drawn = rearrange(spectrogram, "h w -> 1 1 h w" if form.channels == 1 else "c h w -> 1 c h w")
    played = form.to_log_mel(drawn)[0]
    heard = {delay: form.log_mel(moved[None])[0] for delay, moved in _delays(waveform.float(), form.hop_length)}
    best = min(heard, key=lambda delay: (shape_db(heard[delay], played), abs(delay)))
    back = heard[best]
    return Cycle(
        error_db=error_db(back, played),
        level_db=level(back, played) * DECIBELS,
        shape_db=shape_db(back, played),
        correlation=correlation(inner(back), inner(played)),
        delay=best,
        picture=side_by_side(spectrogram, form.to_picture(back[None]).reshape(spectrogram.shape).clamp(0, 1)),
    )


def error_db(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference of two log-mel spectrograms (..., f, t), natural logs, in dB; without the edges."""
    return float((inner(one) - inner(other)).abs().mean()) * DECIBELS


def level(one: Tensor, other: Tensor) -> float:
    """How much louder the first is, as a natural logarithm; without the edges."""
    return float((inner(one) - inner(other)).mean())


def shape_db(one: Tensor, other: Tensor) -> float:
    """As `error_db`, at equal levels."""
    return error_db(one - level(one, other), other)


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, over all values; 0 where one of them is constant."""
    a, b = one.double() - one.double().mean(), other.double() - other.double().mean()
    norm = float(a.norm() * b.norm())
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def inner(columns: Tensor) -> Tensor:
    """(..., f, t) without `EDGE` columns at either end, where any would be left."""
    return columns[..., EDGE:-EDGE] if columns.shape[-1] > 2 * EDGE else columns


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """Two pictures (..., h, w) of one height, with a white gap."""
    return torch.cat([left, left.new_ones(*left.shape[:-1], GAP), right], -1)


def _delays(waveform: Tensor, hop: int) -> Iterator[tuple[int, Tensor]]:
    """(d, the sound moved d samples back) for every quarter of a hop up to a hop, silence moving in."""
    padded = functional.pad(waveform, (hop, hop))
    for quarter in range(-4, 5):
        delay = quarter * hop // 4
        yield delay, padded[..., hop + delay : hop + delay + waveform.shape[-1]]
