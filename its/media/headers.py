"""Sizes of pictures, sounds and videos from their headers alone: a gallery of thousands has no time for pixels."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

from its.media.contained import is_own_file
from its.media.decode import MOST_FRAMES, MOST_PIXELS, RATES

_HEADER = 44
"""Bytes of a WAV file besides its samples, at least."""


def png_size(path: Path) -> tuple[int, int]:
    """Columns and rows of a PNG.

    Raises:
        ValueError: it is no PNG, or of more than `MOST_PIXELS`.
        OSError: it can't be read.
    """
    head = _head(path, 24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise ValueError("it is no PNG")
    columns, rows = struct.unpack(">II", head[16:24])
    if not 0 < columns * rows <= MOST_PIXELS:
        raise ValueError(f"it has {columns} x {rows} pixels; expected 1 to {MOST_PIXELS:,}")
    return columns, rows


def wav_seconds(path: Path) -> float:
    """Length of a WAV file of PCM.

    Raises:
        ValueError: it is none, is cut off, or has no sound or an unusual sample rate.
        OSError: it can't be read.
    """
    _head(path, 0)
    try:
        with wave.open(str(path), "rb") as sound:
            frames, rate, width = sound.getnframes(), sound.getframerate(), sound.getsampwidth() * sound.getnchannels()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"it is no WAV of PCM ({error or 'it ends too early'})") from None
    if not 0 < frames <= MOST_FRAMES or not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"it has {frames:,} samples at {rate} Hz")
    if frames * width + _HEADER > path.stat().st_size:
        raise ValueError("it is cut off")
    return frames / rate


def check_kind(path: Path) -> None:
    """Check that a file is what its ending says, before it is copied or uploaded.

    Raises:
        ValueError: it is not, or the ending is none of .png, .wav and .mp4.
        OSError: it can't be read.
    """
    if path.suffix == ".png":
        png_size(path)
    elif path.suffix == ".wav":
        wav_seconds(path)
    elif path.suffix != ".mp4" or _head(path, 12)[4:8] != b"ftyp":
        raise ValueError(f"it is no {path.suffix[1:].upper()}")


def _head(path: Path, length: int) -> bytes:
    """The first bytes of a regular file."""
    if path.exists() and not is_own_file(path):
        raise ValueError("it is no regular file, or a symbolic link")
    with path.open("rb") as file:
        return file.read(length)
