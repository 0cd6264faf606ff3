"""Played pictures in memory, which are no samples and belong to no run."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from its.errors import UserError

MOST = 16
"""Number of played pictures that are kept."""
LONGEST = 60.0
"""Maximum seconds of a played picture."""
ITERATIONS = 32


@dataclass(frozen=True, kw_only=True)
class Played:
    """A picture that was played.

    Attributes:
        files: content of `picture.png` and `audio.wav`.
        seconds: duration of the sound.
        size: width and height of the spectrogram.
    """

    files: Mapping[str, bytes]
    seconds: float
    size: tuple[int, int]


class Scratch:
    """The last played pictures, by unguessable names."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Played] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, played: Played) -> str:
        """Store a played picture, and return its name."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._entries[name] = played
            while len(self._entries) > MOST:
                self._entries.popitem(last=False)
        return name

    def get(self, name: str, file: str) -> bytes | None:
        """Return the content of a file, or None."""
        with self._lock:
            entry = self._entries.get(name)
        return None if entry is None else entry.files.get(file)


def play_picture(
    path: Path, *, seconds: float, f_min: float, f_max: float, contrast: float, invert: bool, format: str = "Auffusion"
) -> Played:
    """Play a picture as `its sonify` does.

    Raises:
        UserError: the picture can't be read, or a value is out of range.
    """
    from its.engine.sonify import as_spectrogram, check_seconds, find_format, play
    from its.media.encode import png_bytes, wav_bytes
    from its.media.pictures import read_picture
    from its.runs.sample_files import eight_bit, sixteen_bit

    form = find_format(format, f_min=f_min, f_max=f_max)
    check_seconds("the duration", seconds)
    if seconds > LONGEST:
        raise UserError(f"the duration is {seconds:g} s; expected at most {LONGEST:g}. its sonify plays longer ones")
    if not 0 < contrast <= 100:
        raise UserError(f"the contrast is {contrast:g}; expected more than 0 and at most 100")
    picture = read_picture(path, background=abs(form.silence - invert))
    spectrogram = as_spectrogram(picture, form, seconds=seconds, contrast=contrast, invert=invert)
    sound = play(spectrogram, form, iterations=ITERATIONS)
    pixels = eight_bit(spectrogram[0].squeeze(0))
    files = {"picture.png": png_bytes(pixels), "audio.wav": wav_bytes(sixteen_bit(sound), form.sample_rate)}
    return Played(files=files, seconds=sound.shape[-1] / form.sample_rate, size=(pixels.shape[1], pixels.shape[0]))
