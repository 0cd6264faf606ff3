"""Resampling and mixing of channels."""

from __future__ import annotations

import logging
from fractions import Fraction

from torch import Tensor

logger = logging.getLogger(__name__)

MAX_TERM = 2_000
"""Largest term of the reduced ratio of two sample rates. Memory grows with the product of the terms."""


def resample(waveform: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Resample sound (..., n) between two rates in Hz, in bounded memory.

    Ratios of common rates are exact. Others are approximated with terms of at most `MAX_TERM`, which changes pitch and
    length by less than 0.05 %.
    """
    from torchaudio.functional import resample as resample_exactly

    low, high = sorted((old_rate, new_rate))
    terms = Fraction(low, high).limit_denominator(MAX_TERM).as_integer_ratio()
    return resample_exactly(waveform, *(terms if old_rate == low else terms[::-1]))


def to_mono(waveform: Tensor) -> Tensor:
    """Mix channels (channels, n) to their mean (1, n). If they cancel out, warn and return the loudest channel."""
    mean, power = waveform.mean(0, keepdim=True), waveform.square().mean(-1)
    if mean.square().mean() >= 0.01 * power.mean():
        return mean
    loudest = int(power.argmax())
    if len(waveform) > 1 and power[loudest] > 0:
        logger.warning(
            f"the channels of a sound are in opposite phase and cancel out: using only channel {loudest + 1}",
        )
    return waveform[loudest : loudest + 1]
