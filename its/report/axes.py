"""Axis ticks of a spectrogram, in Hz and in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from its.audio.spectrogram import SpectrogramFormat

MIN_DISTANCE = 0.1
"""Minimum distance of two ticks as a fraction of the axis, so that labels do not overlap on a phone."""

MAX_STEPS = 8
"""Maximum number of steps between the ticks of the time axis."""


def hertz_ticks(values: Any) -> list[dict[str, Any]]:
    """Return the ticks of the frequency axis, from the top: `label`, and `at`, from 0 (bottom) to 1 (top).

    Args:
        values: the spectrogram format in a sample's record. If it is missing or invalid, no ticks are returned.
    """
    if not isinstance(values, Mapping):
        return []
    try:
        form = SpectrogramFormat(**values)
        octaves = [f for f in (125.0 * 2**k for k in range(8, -1, -1)) if form.f_min < f < form.f_max]
        heights = {f: form.frequency_height(f) for f in (form.f_max, *octaves)}
    except (TypeError, ValueError, KeyError, ArithmeticError, RuntimeError):  # RuntimeError: from torch
        return []
    ticks: list[dict[str, Any]] = []
    for hertz, height in heights.items():
        inside = min(max(height, 0.0), 1.0)
        if abs(inside - height) <= 1 / form.n_mels and (not ticks or ticks[-1]["at"] - inside >= MIN_DISTANCE):
            ticks.append({"label": f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}", "at": round(inside, 4)})
    return ticks


def second_ticks(seconds: float) -> list[dict[str, Any]]:
    """Return the ticks of a time axis, the last one at its end: `label`, and `at`, from 0 to 1."""
    step = next(s * 10**e for e in range(-3, 6) for s in (1, 2, 5) if seconds / (s * 10**e) <= MAX_STEPS)
    inner = [step * i for i in range(int(seconds / step) + 1) if 1 - step * i / seconds >= MIN_DISTANCE]
    return [{"label": f"{t:g}", "at": round(t / seconds, 4)} for t in inner] + [{"label": f"{seconds:.3g}", "at": 1.0}]
