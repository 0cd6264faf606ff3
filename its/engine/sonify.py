"""Pictures as sounds and sounds as pictures, in the spectrogram format of an expert, without a model."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from its import registry
from its.audio.spectrogram import SpectrogramFormat
from its.audio.waveform import resample, to_mono
from its.errors import UserError, by_nearness, nearest
from its.interfaces import Vocoder
from its.media.decode import naming, open_sound

logger = logging.getLogger(__name__)

VOCODER = "GriffinLim"

LONGEST = 600.0
"""Seconds of sound at most; ten minutes are a picture of 60,000 columns."""

DRAWN = 60.0
"""Seconds of a sound that are drawn by default."""


def find_format(name: str, *, f_min: float | None = None, f_max: float | None = None) -> SpectrogramFormat:
    """Return the spectrogram format of a registered expert.

    Args:
        name: of the expert.
        f_min, f_max: frequencies of the lowest and the highest row in Hz, in the place of the format's.

    Raises:
        UserError: there is no such expert, or no such range of frequencies.
    """
    registry.load_plugins()
    formats = _formats()
    if name not in formats:
        known = ", ".join(by_nearness(name, formats))
        raise UserError(f"--format is {name!r}; experts with a spectrogram: {known}.{nearest(name, formats)}")
    form = formats[name]
    low = form.f_min if f_min is None else f_min
    high = form.f_max if f_max is None else f_max
    if not 0 <= low < high <= form.sample_rate / 2:
        raise UserError(
            f"the frequencies are {low:g} to {high:g} Hz; expected 0 or more, rising, and at most half of "
            f"{name}'s sample rate, {form.sample_rate / 2:g} Hz"
        )
    return replace(form, f_min=low, f_max=high)


def check_seconds(option: str, seconds: float) -> None:
    """Check a duration.

    Raises:
        UserError: it is not above 0, or above `LONGEST`.
    """
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST):
        raise UserError(f"{option} is {seconds:g} s; expected more than 0 and at most {LONGEST:g}")


def target(output: Path | None, source: Path, suffix: str, *, overwrite: bool) -> Path:
    """Return the path of a result: `output`, or else the name of the source with this suffix, in the current folder.

    Raises:
        UserError: the path has another suffix, is taken, or its folder does not exist.
    """
    path = output or Path(f"{source.stem}{suffix}")
    expected = suffix[suffix.rindex(".") :]
    if path.suffix.lower() != expected:
        raise UserError(f"--output is {path}; expected a name ending in {expected}")
    check_free(path, overwrite=overwrite)
    return path


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that a file can be written.

    Raises:
        UserError: the path is a folder or an existing file that may not be replaced, or its folder does not exist.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise UserError(f"{path} is there already; give another --output, or --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for {path.name}")


def as_spectrogram(
    picture: Tensor, form: SpectrogramFormat, *, seconds: float | None, contrast: float = 1.0, invert: bool = False
) -> Tensor:
    """Convert any picture (1, 3, h, w) in [0, 1] to a spectrogram of a format, (1, 1 or 3, n_mels, columns) in [0, 1].

    Args:
        picture: of any size.
        form: format of the spectrogram.
        seconds: duration; None keeps the picture's proportions.
        contrast: factor around the middle gray.
        invert: exchange light and dark.

    Raises:
        UserError: the duration is not above 0, or above `LONGEST`.
    """
    height, width = picture.shape[-2:]
    per_second = form.sample_rate / form.hop_length
    columns = width * form.n_mels / height if seconds is None else seconds * per_second
    check_seconds("the length by the picture's proportions" if seconds is None else "--duration", columns / per_second)
    size = (form.n_mels, max(round(columns), 1))
    gray = form.select_channels(picture)
    if gray.shape[-2:] != size:
        gray = functional.interpolate(gray, size, mode="bicubic", antialias=True)
    gray = ((gray - 0.5) * contrast + 0.5).clamp(0, 1)
    return 1 - gray if invert else gray


def play(spectrogram: Tensor, form: SpectrogramFormat, *, iterations: int = 32) -> Tensor:
    """Vocode a spectrogram (1, 1 or 3, h, w) in [0, 1] by Griffin-Lim: sound (n,), in stereo (2, n)."""
    vocoder = registry.classes("Vocoder")[VOCODER](format=form, iterations=iterations)
    assert isinstance(vocoder, Vocoder)
    vocoder.prepare()
    vocoder.load()
    with torch.inference_mode():
        (sound,) = vocoder(form.to_log_mel(spectrogram))
    return torch.as_tensor(sound)


def read_sound(path: Path, *, start: float = 0.0, seconds: float | None = None) -> tuple[Tensor, int]:
    """Read a part of a sound file: (channels, n) in [-1, 1], and its sample rate in Hz.

    Args:
        path: of a file in any format of libsndfile.
        start: seconds to skip.
        seconds: to read; by default all, up to `DRAWN`.

    Raises:
        UserError: the file can't be read, or has no sound there.
    """
    if seconds is not None:
        check_seconds("--duration", seconds)
    with naming(path), open_sound(path) as file:
        rate, length = file.samplerate, file.frames / file.samplerate
        if not 0 <= start < length:
            raise UserError(f"--start is {start:g} s; {path} lasts {length:.2f} s")
        if seconds is None and length - start > DRAWN:
            logger.info(f"{path} lasts {length:.0f} s: drawing {DRAWN:g} (--duration draws more)")
        file.seek(round(start * rate))
        read = file.read(round((seconds or DRAWN) * rate), dtype="float32", always_2d=True)
    sound = rearrange(torch.from_numpy(read), "n c -> c n")
    if not sound.isfinite().all():
        raise UserError(f"{path} holds values that are no numbers: it is damaged")
    return sound, rate


def draw(waveform: Tensor, rate: int, form: SpectrogramFormat) -> Tensor:
    """Compute the spectrogram (1, 1 or 3, h, w) in [0, 1] of a sound (channels, n).

    Args:
        waveform: mixed to mono, or cut to its first two channels in a stereo format.
        rate: sample rate in Hz.
        form: format of the spectrogram.
    """
    sound = to_mono(waveform) if form.channels == 1 else waveform[[0, -1 if len(waveform) < 2 else 1]]
    if rate != form.sample_rate:
        sound = resample(sound, rate, form.sample_rate)
    # At least one window, so that reflection at the ends has samples, and whole columns.
    padding = max(form.n_fft - sound.shape[-1], -sound.shape[-1] % form.hop_length)
    sound = functional.pad(sound, (0, padding))
    with torch.inference_mode():
        log_mel = form.log_mel(sound if form.channels == 1 else sound.unsqueeze(0))
        return form.to_picture(log_mel).clamp(0, 1)


def _formats() -> dict[str, SpectrogramFormat]:
    """Formats of the registered experts; experts that need arguments to construct are left out."""
    formats = {}
    for name, cls in registry.classes("NoiseExpert").items():
        form = getattr(cls, "format", None)
        if form is None:
            try:
                form = cls().format
            except (TypeError, ValueError):
                continue
        if isinstance(form, SpectrogramFormat):
            formats[name] = form
    return formats
