"""`its sonify IMAGE`: plays any picture as a spectrogram."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from its import registry
from its.audio.spectrogram import SpectrogramFormat
from its.commands.formats import add_options, check_free, check_seconds, chosen_format, target
from its.errors import UserError
from its.interfaces import Vocoder
from its.media.encode import write_wav
from its.media.pictures import read_picture
from its.output import say
from its.runs.sample_files import eight_bit, sixteen_bit

VOCODER = "GriffinLim"


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0.

    Raises:
        UserError: a picture or an option that makes no sense; nothing was written.
    """
    options = _parser().parse_args(arguments)
    form = chosen_format(options)
    if options.duration is not None:
        check_seconds("--duration", options.duration)
    if not 0 < options.contrast <= 100:
        raise UserError(f"--contrast is {options.contrast:g}; expected more than 0 and at most 100")
    if not 1 <= options.iterations <= 10_000:
        raise UserError(f"--iterations is {options.iterations}; expected 1 to 10000")
    sound = target(options, options.image, ".wav")
    video = sound.with_suffix(".mp4")
    if options.video:
        check_free(video, overwrite=options.overwrite)
    picture = read_picture(options.image, background=abs(form.silence - options.invert))  # silent after all
    heard = as_spectrogram(picture, form, seconds=options.duration, contrast=options.contrast, invert=options.invert)
    waveform = play(heard, form, iterations=options.iterations)
    _write(sound, video if options.video else None, heard, waveform, form, caption=options.image.name)
    say(f"its: {sound}: {waveform.shape[-1] / form.sample_rate:.2f} s, {form.f_min:g} to {form.f_max:g} Hz")
    return 0


def as_spectrogram(
    picture: Tensor, form: SpectrogramFormat, *, seconds: float | None, contrast: float = 1.0, invert: bool = False
) -> Tensor:
    """Any picture (1, 3, h, w) in [0, 1] -> a spectrogram of the format, (1, 1 or 3, rows, columns) in [0, 1].

    Args:
        picture: of any size.
        form: has as many rows as bands.
        seconds: how long it lasts; None keeps the picture's proportions.
        contrast: by which it is stretched around the middle gray.
        invert: light for dark.

    Raises:
        UserError: it would last too long, or not at all.
    """
    height, width = picture.shape[-2:]
    per_second = form.sample_rate / form.hop_length
    columns = width * form.n_mels / height if seconds is None else seconds * per_second
    check_seconds("the length by the picture's proportions" if seconds is None else "--duration", columns / per_second)
    size = (form.n_mels, max(round(columns), 1))
    gray = form.sounding(picture)
    if gray.shape[-2:] != size:
        gray = functional.interpolate(gray, size, mode="bicubic", antialias=True)
    gray = ((gray - 0.5) * contrast + 0.5).clamp(0, 1)
    return 1 - gray if invert else gray


def play(spectrogram: Tensor, form: SpectrogramFormat, *, iterations: int = 32) -> Tensor:
    """A spectrogram (1, 1 or 3, h, w) in [0, 1] -> its sound, (n,), in stereo (2, n)."""
    vocoder = registry.classes("Vocoder")[VOCODER](format=form, iterations=iterations)
    assert isinstance(vocoder, Vocoder)
    vocoder.prepare()
    vocoder.load()
    with torch.inference_mode():
        (sound,) = vocoder(form.to_log_mel(spectrogram))
    return torch.as_tensor(sound)


def _write(
    sound: Path, video: Path | None, spectrogram: Tensor, waveform: Tensor, form: SpectrogramFormat, *, caption: str
) -> None:
    from its.media.video import write_video

    pcm = sixteen_bit(waveform)
    write_wav(sound, pcm, form.sample_rate)
    if video is not None:
        write_video(video, [eight_bit(spectrogram[0].squeeze(0))], pcm, form.sample_rate, captions=[caption])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="its sonify",
        description="Play a picture as a spectrogram: columns are moments, rows are frequencies, light is loud "
        "(in Riffusion's format dark is). Without a model: by Griffin-Lim.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="any picture")
    parser.add_argument("--output", type=Path, metavar="FILE.wav", help="by default the picture's name, here")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds; by default as the proportions say")
    parser.add_argument("--contrast", type=float, default=1.0, help="above 1 makes silence of what is dim (1)")
    parser.add_argument("--invert", action="store_true", help="what is dark is loud, and what is light silent")
    parser.add_argument("--video", action="store_true", help="also FILE.mp4, with a line that moves over the picture")
    parser.add_argument("--iterations", type=int, default=32, metavar="N", help="of Griffin-Lim (32)")
    add_options(parser)
    return parser
