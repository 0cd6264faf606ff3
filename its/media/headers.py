"""Read the sizes of pictures and sounds from file headers, fast enough for thousands of files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from its.media.decode import MOST_FRAMES, MOST_PIXELS, RATES
from its.media.limited import open_regular

MOST_CHUNKS = 1000
"""Maximum number of chunks of a WAV file. `its` writes four."""

PCM = (1, 0xFFFE)
"""WAV format tags of integer samples: WAVE_FORMAT_PCM and WAVE_FORMAT_EXTENSIBLE."""


def png_size(path: Path) -> tuple[int, int]:
    """Return the width and height of a PNG, in pixels.

    Raises:
        ValueError: the file is not a PNG, or has more than `MOST_PIXELS`.
        OSError: the file can't be read, or is a symbolic link.
    """
    head = _head(path, 24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        raise ValueError("it is not a PNG file")
    columns, rows = struct.unpack(">II", head[16:24])
    if not 0 < columns * rows <= MOST_PIXELS:
        raise ValueError(f"it has {columns} x {rows} pixels; expected 1 to {MOST_PIXELS:,}")
    return columns, rows


def wav_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the name and size of each chunk of a WAV file, with the file positioned at the chunk's content.

    Raises:
        ValueError: the file is not a WAV file, or has more than `MOST_CHUNKS`.
    """
    riff = file.read(12)
    if (riff[:4], riff[8:]) != (b"RIFF", b"WAVE"):
        raise ValueError("it is not a WAV file")
    for _ in range(MOST_CHUNKS):
        if len(header := file.read(8)) < 8:
            return
        name, size = struct.unpack("<4sI", header)
        start = file.tell()
        yield name, size
        file.seek(start + size + size % 2)
    raise ValueError(f"it has more than {MOST_CHUNKS} chunks")


def wav_seconds(path: Path) -> float:
    """Return the duration of a PCM WAV file, in seconds.

    Raises:
        ValueError: the file is not a PCM WAV file, is truncated, has no samples, too many, or an unusual sample rate.
        OSError: the file can't be read, or is a symbolic link.
    """
    with open_regular(path, follow_links=False) as file:
        rate = width = size = 0
        for name, length in wav_chunks(file):
            if name == b"fmt " and len(form := file.read(min(length, 16))) == 16:
                kind, _, rate, _, width, _ = struct.unpack("<HHIIHH", form)
                if kind not in PCM:
                    raise ValueError("it is not a WAV file with PCM samples")
            elif name == b"data":
                size = length
                if file.tell() + size > os.fstat(file.fileno()).st_size:
                    raise ValueError("it is truncated")
    frames = size // width if width else 0
    if not 0 < frames <= MOST_FRAMES or not RATES[0] <= rate <= RATES[1]:
        raise ValueError(
            f"it has {frames:,} samples at {rate} Hz; expected 1 to {MOST_FRAMES:,} at {RATES[0]} to {RATES[1]} Hz"
        )
    return frames / rate


def check_content(path: Path) -> None:
    """Check that the content of a PNG, WAV or MP4 file matches its extension.

    Raises:
        ValueError: it does not, or the file has another extension.
        OSError: the file can't be read, or is a symbolic link.
    """
    if path.suffix == ".png":
        png_size(path)
    elif path.suffix == ".wav":
        wav_seconds(path)
    elif path.suffix != ".mp4" or _head(path, 12)[4:8] != b"ftyp":
        raise ValueError(f"it is not a valid {path.suffix[1:].upper()} file")


def _head(path: Path, length: int) -> bytes:
    with open_regular(path, follow_links=False) as file:
        return file.read(length)
