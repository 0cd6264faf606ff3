"""Change the sample rate and the channels of a sound."""

from __future__ import annotations

import logging
from fractions import Fraction

from torch import Tensor

logger = logging.getLogger(__name__)


LARGEST_TERM = 2_000
"""Of the ratio of two sample rates. The resampler's memory grows with the product of its terms."""


def resample(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """Resample (..., n) from `rate` to `wanted` Hz, in memory that is bounded for any two rates.

    The ratio of usual rates is exact. Others are approximated by one with terms up to `LARGEST_TERM`, which changes
    pitch and length by less than 0.05 %.
    """
    from torchaudio.functional import resample as exact

    less, more = sorted((rate, wanted))
    ratio = Fraction(less, more).limit_denominator(LARGEST_TERM)
    terms = (ratio.numerator, ratio.denominator)
    return exact(waveform, *(terms if rate == less else terms[::-1]))


def to_mono(waveform: Tensor) -> Tensor:
    """The mean of channels, (channels, n) -> (1, n).

    Where they cancel each other, it is the loudest channel, and a warning says so.
    """
    mean, power = waveform.mean(0, keepdim=True), waveform.square().mean(-1)
    if mean.square().mean() >= 0.01 * power.mean():
        return mean
    loudest = int(power.argmax())
    if len(waveform) > 1 and power[loudest] > 0:
        logger.warning(
            f"the channels of a sound are in opposite phase and cancel each other: taking channel {loudest + 1} alone",
        )
    return waveform[loudest : loudest + 1]
