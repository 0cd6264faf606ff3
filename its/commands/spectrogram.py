"""`its spectrogram AUDIO`: draws the spectrogram of any sound."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from its.audio.spectrogram import SpectrogramFormat
from its.audio.waveform import resample, to_mono
from its.commands.formats import add_options, check_seconds, chosen_format, target
from its.errors import UserError
from its.media.decode import naming, open_sound
from its.media.encode import write_png
from its.output import say
from its.runs.sample_files import eight_bit

logger = logging.getLogger(__name__)

ENOUGH = 60.0
"""Seconds that are drawn unless more are asked for."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0.

    Raises:
        UserError: a sound or an option that makes no sense; nothing was written.
    """
    parser = argparse.ArgumentParser(
        prog="its spectrogram",
        description="Draw the spectrogram of a sound as the experts know them; its sonify plays it again.",
    )
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="WAV, FLAC, OGG, MP3...")
    parser.add_argument("--output", type=Path, metavar="FILE.png", help="by default AUDIO.spectrogram.png, here")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds to skip")
    parser.add_argument("--duration", type=float, metavar="S", help=f"seconds to draw (all, up to {ENOUGH:g})")
    add_options(parser)
    options = parser.parse_args(arguments)
    form = chosen_format(options)
    path = target(options, options.audio, ".spectrogram.png")
    waveform, rate = read_sound(options.audio, start=options.start, seconds=options.duration)
    picture = draw(waveform, rate, form)
    write_png(path, eight_bit(picture[0].squeeze(0)))
    rows, columns = picture.shape[-2:]
    say(f"its: {path}: {columns} x {rows}, {columns * form.hop_length / form.sample_rate:.2f} s")
    return 0


def read_sound(path: Path, *, start: float = 0.0, seconds: float | None = None) -> tuple[Tensor, int]:
    """A sound file -> (channels, n) in [-1, 1], and its sample rate in Hz. Only what is drawn is read.

    Raises:
        UserError: it can't be read, or has nothing there.
    """
    if seconds is not None:
        check_seconds("--duration", seconds)
    with naming(path), open_sound(path) as file:
        rate, length = file.samplerate, file.frames / file.samplerate
        if not 0 <= start < length:
            raise UserError(f"--start is {start:g} s; {path} lasts {length:.2f} s")
        if seconds is None and length - start > ENOUGH:
            logger.info(f"{path} lasts {length:.0f} s: drawing {ENOUGH:g} (--duration draws more)")
        file.seek(round(start * rate))
        read = file.read(round((seconds or ENOUGH) * rate), dtype="float32", always_2d=True)
    sound = rearrange(torch.from_numpy(read), "n c -> c n")
    if not sound.isfinite().all():
        raise UserError(f"{path} holds values that are no numbers: it is damaged")
    return sound, rate


def draw(waveform: Tensor, rate: int, form: SpectrogramFormat) -> Tensor:
    """Sound (channels, n) -> its spectrogram (1, 1 or 3, h, w) in [0, 1]: mono, or the first two of the channels."""
    sound = to_mono(waveform) if form.channels == 1 else waveform[[0, -1 if len(waveform) < 2 else 1]]
    if rate != form.sample_rate:
        sound = resample(sound, rate, form.sample_rate)
    # A transform's worth at least, so that there is something to reflect at the ends; and whole columns.
    short = max(form.n_fft - sound.shape[-1], -sound.shape[-1] % form.hop_length)
    sound = functional.pad(sound, (0, short))
    with torch.inference_mode():
        log_mel = form.log_mel(sound if form.channels == 1 else sound.unsqueeze(0))
        return form.to_picture(log_mel).clamp(0, 1)
