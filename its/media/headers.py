"""Sizes of pictures, sounds and videos from their headers alone: a gallery of thousands has no time for pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from its.media.contained import is_own_file
from its.media.decode import MOST_FRAMES, MOST_PIXELS, RATES

MOST_CHUNKS = 1000
"""Of a WAV file; ours have four."""

PCM = (1, 0xFFFE)
"""Format tags of WAV files whose samples are integers, the second with more about its channels."""


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


def wav_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Names and sizes of a WAV file's chunks; the file is at the beginning of each chunk's content.

    Raises:
        ValueError: it is no WAV file, or has more than `MOST_CHUNKS`.
    """
    riff = file.read(12)
    if (riff[:4], riff[8:]) != (b"RIFF", b"WAVE"):
        raise ValueError("it is no WAV file")
    for _ in range(MOST_CHUNKS):
        if len(header := file.read(8)) < 8:
            return
        name, size = struct.unpack("<4sI", header)
        start = file.tell()
        yield name, size
        file.seek(start + size + size % 2)
    raise ValueError(f"it has more than {MOST_CHUNKS} chunks")


def wav_seconds(path: Path) -> float:
    """Length of a WAV file of PCM.

    Raises:
        ValueError: it is none, is cut off, or has no sound or an unusual sample rate.
        OSError: it can't be read.
    """
    _head(path, 0)
    with path.open("rb") as file:
        rate = width = size = 0
        for name, length in wav_chunks(file):
            if name == b"fmt " and length >= 16:
                kind, _, rate, _, width, _ = struct.unpack("<HHIIHH", file.read(16))
                if kind not in PCM:
                    raise ValueError("it is no WAV of PCM")
            elif name == b"data":
                size = length
                if file.tell() + size > path.stat().st_size:
                    raise ValueError("it is cut off")
    frames = size // width if width else 0
    if not 0 < frames <= MOST_FRAMES or not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"it has {frames:,} samples at {rate} Hz")
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
