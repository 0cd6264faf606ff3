"""Ticks beside and below a spectrogram: Hz and seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from its.audio.spectrogram import SpectrogramFormat

APART = 0.1
"""Least distance of two ticks, as a share of the axis: their labels must not touch on a phone."""

SPREAD = 8
"""Most ticks on the axis of time."""


def hertz_ticks(recorded: Any) -> list[dict[str, Any]]:
    """Ticks of a recorded format, from the top: `label`, and `at`, from 0 (lower edge) to 1 (upper edge).

    None, for records older than the key `format`, and what is no format give no ticks: nothing is guessed.
    """
    if not isinstance(recorded, Mapping):
        return []
    try:
        form = SpectrogramFormat(**recorded)
        heights = {f: form.height_of(f) for f in _octaves(form)}
    except (TypeError, ValueError, KeyError, ArithmeticError, RuntimeError):  # RuntimeError is of torch
        return []
    ticks: list[dict[str, Any]] = []
    for hertz, height in heights.items():
        inside = min(max(height, 0.0), 1.0)
        if abs(inside - height) <= 1 / form.n_mels and (not ticks or ticks[-1]["at"] - inside >= APART):
            ticks.append({"label": f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}", "at": round(inside, 4)})
    return ticks


def second_ticks(seconds: float) -> list[dict[str, Any]]:
    """Ticks of an axis of time that is so long: `label` and `at`, from 0 to 1. The last one is its end."""
    step = next(s * 10**e for e in range(-3, 6) for s in (1, 2, 5) if seconds / (s * 10**e) <= SPREAD)
    inner = [step * i for i in range(int(seconds / step) + 1) if 1 - step * i / seconds >= APART]
    return [{"label": f"{t:g}", "at": round(t / seconds, 4)} for t in inner] + [{"label": f"{seconds:.3g}", "at": 1.0}]


def _octaves(form: SpectrogramFormat) -> list[float]:
    """The top of the range, and octaves of 125 Hz below it."""
    return [form.f_max, *(f for f in (125.0 * 2**k for k in range(8, -1, -1)) if form.f_min < f < form.f_max)]
