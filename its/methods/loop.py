"""Loops: pictures and sounds whose end continues at their beginning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LOOP_CONTEXT, LOOP_FADE = 0.5, 0.1
"""Seconds of a loop that the vocoder repeats around its ends, and of the fade from the repetition into the loop."""
QUIET = 16
"""Columns over which the loudness is averaged to find the beginning of a loop: 0.16 s of the paper's canvases."""


def begin_quietly(
    latents: Tensor, picture: Tensor, spectrogram: Tensor, *, free: Sequence[bool], silence: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotate loops to begin where they are quietest, so that neither a figure nor a note is cut in two.

    Args:
        latents: (b, c, h, w).
        picture: (b, 3, H, W).
        spectrogram: (b, 1 or 3, H, W) in [0, 1].
        free: whether each sample may be rotated.
        silence: gray value of silence, 0 or 1.

    Returns:
        The same, rotated by whole columns of the latents.
    """
    columns, tensors = latents.shape[-1], (latents, picture, spectrogram)
    shifts = [_quietest(each, silence, columns) if may else 0 for each, may in zip(spectrogram, free, strict=True)]
    a, b, c = (
        torch.stack([x.roll(-shift * x.shape[-1] // columns, -1) for x, shift in zip(each, shifts, strict=True)])
        for each in tensors
    )
    return a, b, c


def _quietest(spectrogram: Tensor, silence: int, positions: int) -> int:
    """Return the quietest of `positions` evenly spaced columns of a spectrogram (1 or 3, H, W)."""
    loudness = (spectrogram - silence).abs().mean((0, 1))
    around = torch.stack([loudness.roll(shift) for shift in range(-QUIET // 2, QUIET // 2)]).sum(0)
    return int(around[:: len(around) // positions].argmin())


def join_ends(sound: Tensor, length: int, *, fade: int) -> Tensor:
    """Cut a sound to a loop, whose beginning is faded in over the sound that follows its end.

    Vocoders that depend on the spectrogram alone repeat exactly, and nothing changes. Griffin-Lim's phases differ, so
    the power of the fade is corrected for the correlation of the two sounds.

    Args:
        sound: (..., n) with at least `fade` samples after the loop.
        length: samples of the loop.
        fade: samples of the fade.

    Returns:
        The loop, (..., length).
    """
    loop, repeated = sound[..., :length].clone(), sound[..., length : length + fade]
    begin = loop[..., :fade]
    power = (begin.square().sum(-1, keepdim=True) * repeated.square().sum(-1, keepdim=True)).sqrt()
    correlation = ((begin * repeated).sum(-1, keepdim=True) / power.clamp(min=1e-12)).clamp(0, 1)
    rise = (torch.arange(fade, device=sound.device) + 0.5) / fade
    gain = (rise**2 + (1 - rise) ** 2 + 2 * correlation * rise * (1 - rise)).sqrt()
    loop[..., :fade] = (rise * begin + (1 - rise) * repeated) / gain
    return loop
