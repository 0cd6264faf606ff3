"""Convert pictures to sounds and sounds to spectrograms in an expert's spectrogram format, without a model."""

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
"""Maximum seconds of sound; ten minutes make a picture of 60,000 columns."""

DEFAULT_SECONDS = 60.0
"""Maximum seconds of a sound that `read_sound` reads by default."""


def find_format(name: str, *, f_min: float | None = None, f_max: float | None = None) -> SpectrogramFormat:
    """Return the spectrogram format of a registered expert.

    Args:
        name: name of the expert.
        f_min, f_max: frequencies of the lowest and the highest row in Hz; by default the format's.

    Raises:
        UserError: the expert is unknown, or the range of frequencies is invalid.
    """
    registry.load_plugins()
    formats = _formats()
    if name not in formats:
        known = ", ".join(by_nearness(name, formats))
        raise UserError(f"--format is {name!r}; expected one of {known}.{nearest(name, formats)}")
    form = formats[name]
    low = form.f_min if f_min is None else f_min
    high = form.f_max if f_max is None else f_max
    if not 0 <= low < high <= form.sample_rate / 2:
        raise UserError(
            f"--f_min is {low:g} Hz and --f_max {high:g} Hz; expected 0 <= f_min < f_max <= "
            f"{form.sample_rate / 2:g} Hz, half of {name}'s sample rate"
        )
    return replace(form, f_min=low, f_max=high)


def check_seconds(option: str, seconds: float) -> None:
    """Check a duration.

    Raises:
        UserError: it is not above 0, or is above `LONGEST`.
    """
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST):
        raise UserError(f"{option} is {seconds:g} s; expected more than 0 and at most {LONGEST:g}")


def target(output: Path | None, source: Path, suffix: str, *, overwrite: bool) -> Path:
    """Return the path of a result: `output`, or else the name of the source with this suffix, in the current folder.

    Raises:
        UserError: the path has another suffix or exists already, or its folder does not exist.
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
        raise UserError(f"{path} exists already; give another --output, or --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} for {path.name} does not exist")


def as_spectrogram(
    picture: Tensor, form: SpectrogramFormat, *, seconds: float | None, contrast: float = 1.0, invert: bool = False
) -> Tensor:
    """Convert any picture (1, 3, h, w) in [0, 1] to a spectrogram of a format, (1, 1 or 3, n_mels, columns) in [0, 1].

    Args:
        picture: picture of any size.
        form: format of the spectrogram.
        seconds: duration; None keeps the picture's proportions.
        contrast: factor around the middle gray.
        invert: exchange light and dark.

    Raises:
        UserError: the duration is not above 0, or is above `LONGEST`.
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
    """Vocode a spectrogram (1, 1 or 3, h, w) in [0, 1] by Griffin-Lim; return the sound (n,), in stereo (2, n)."""
    vocoder = registry.classes("Vocoder")[VOCODER](format=form, iterations=iterations)
    assert isinstance(vocoder, Vocoder)
    vocoder.prepare()
    vocoder.load()
    with torch.inference_mode():
        (sound,) = vocoder(form.to_log_mel(spectrogram))
    return torch.as_tensor(sound)


def read_sound(path: Path, *, start: float = 0.0, seconds: float | None = None) -> tuple[Tensor, int]:
    """Read a section of a sound file; return (channels, n) in [-1, 1] and the sample rate in Hz.

    Args:
        path: file in any format of libsndfile.
        start: seconds to skip.
        seconds: seconds to read; by default all, up to `DEFAULT_SECONDS`.

    Raises:
        UserError: the file can't be read or is damaged, or `start` is after its end.
    """
    if seconds is not None:
        check_seconds("--duration", seconds)
    with naming(path), open_sound(path) as file:
        rate, length = file.samplerate, file.frames / file.samplerate
        if not 0 <= start < length:
            raise UserError(f"--start is {start:g} s; {path} lasts {length:.2f} s")
        if seconds is None and length - start > DEFAULT_SECONDS:
            logger.info(f"{path} lasts {length:.0f} s: drawing {DEFAULT_SECONDS:g} (--duration draws more)")
        file.seek(round(start * rate))
        samples = file.read(round((seconds or DEFAULT_SECONDS) * rate), dtype="float32", always_2d=True)
    sound = rearrange(torch.from_numpy(samples), "n c -> c n")
    if not sound.isfinite().all():
        raise UserError(f"{path} is damaged: it contains values that are not finite")
    return sound, rate


def draw(waveform: Tensor, rate: int, form: SpectrogramFormat) -> Tensor:
    """Compute the spectrogram (1, 1 or 3, h, w) in [0, 1] of a sound (channels, n).

    Args:
        waveform: sound; it is mixed to mono, or cut to its first two channels in a stereo format.
        rate: sample rate in Hz.
        form: format of the spectrogram.
    """
    sound = to_mono(waveform) if form.channels == 1 else waveform[[0, -1 if len(waveform) < 2 else 1]]
    if rate != form.sample_rate:
        sound = resample(sound, rate, form.sample_rate)
    # Pad to at least one window, which reflection at the ends needs, and to a multiple of the hop length.
    padding = max(form.n_fft - sound.shape[-1], -sound.shape[-1] % form.hop_length)
    sound = functional.pad(sound, (0, padding))
    with torch.inference_mode():
        log_mel = form.log_mel(sound if form.channels == 1 else sound.unsqueeze(0))
        return form.to_picture(log_mel).clamp(0, 1)


def _formats() -> dict[str, SpectrogramFormat]:
    """Spectrogram formats of the registered experts, without experts that need arguments to construct."""
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
