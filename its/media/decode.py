"""Open pictures and sounds from untrusted sources. All commands use these functions, so their checks are the same."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.errors import UserError
from its.media.limited import check_regular, read_limited

if TYPE_CHECKING:
    from PIL import Image

PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Formats that are read; no decoder of these runs other programs."""

MOST_BYTES = 2**28
"""Of a file that is read as a whole."""
MOST_PIXELS = 2**26
MOST_FRAMES = 2**28
"""Of a sound, of all channels: an hour and a half in mono at 48 kHz."""

RATES = (4_000, 384_000)
"""Least and largest sample rate, in Hz."""


def open_picture(source: Path | str | bytes, *, formats: Sequence[str] = PICTURES) -> Image.Image:
    """Decode a picture, upright by its EXIF; of an animation, its first frame.

    Its size is checked before any pixel is decoded.

    Args:
        source: a file, or its content.
        formats: that it may have, as Pillow names them.

    Raises:
        OSError: there is no such file, or it can't be read.
        ValueError: it is no picture, damaged, or has more than `MOST_PIXELS`.
    """
    from PIL.Image import Transpose

    with _opened(source, formats) as picture:
        picture.load()
        turn = _TURNS.get(_orientation(picture))
        return picture.copy() if turn is None else picture.transpose(Transpose[turn])


_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""Orientation in EXIF -> what makes a picture upright, as Pillow names it."""


def _orientation(picture: Image.Image) -> int:
    """Orientation in a picture's EXIF; 1, upright, if there is none or the block can't be read."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - Pillow raises many kinds for damaged blocks; the pixels are whole
        return 1


def png_text(path: Path, key: str) -> str | None:
    """The text that a PNG has under a keyword, if it has one; no pixel is decoded.

    Raises:
        OSError, ValueError: as `open_picture`.
    """
    with _opened(path, ["PNG"]) as picture:
        text = picture.info.get(key)
    return text if isinstance(text, str) else None


@contextmanager
def _opened(source: Path | str | bytes, formats: Sequence[str]) -> Iterator[Image.Image]:
    """A picture of which only the header is read; what Pillow raises of it, in the block too, as ValueError."""
    from PIL import Image, UnidentifiedImageError

    content = source if isinstance(source, bytes) else read_limited(Path(source), MOST_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of a larger limit than ours
            picture = Image.open(io.BytesIO(content), formats=list(formats))
        with picture:
            if picture.width * picture.height > MOST_PIXELS:
                size = f"{picture.width} x {picture.height}"
                raise _Unusable(f"it has {size} pixels; expected {MOST_PIXELS:,} at most: make it smaller")
            yield picture
    except _Unusable:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"it is no picture that can be read; expected {', '.join(formats)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has far more than {MOST_PIXELS:,} pixels: make it smaller") from None
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they meet in damaged content
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from None


class _Unusable(ValueError):
    """A message of ours."""


@contextmanager
def open_video(path: Path) -> Iterator[Any]:
    """Open an MP4, nothing of which is decoded yet -> `av.container.InputContainer`.

    Raises:
        OSError: there is no such file, or it can't be read.
        ValueError: it is no MP4.
    """
    import av

    check_regular(path)
    try:
        with av.open(str(path), format="mp4") as container:
            yield container
    except av.FFmpegError as error:
        raise ValueError(f"it is no MP4 that can be read ({error.strerror})") from None


def open_sound(source: Path | str | bytes) -> Any:
    """Open a sound, nothing of which is decoded yet.

    Args:
        source: a file, or its content.

    Returns:
        A `soundfile.SoundFile`, to be closed.

    Raises:
        OSError: there is no such file, or it can't be read.
        ValueError: it is no sound, empty, longer than `MOST_FRAMES`, or of a sample rate outside of `RATES`.
    """
    import soundfile

    if not isinstance(source, bytes):
        check_regular(Path(source))  # soundfile's error doesn't tell a missing file from a damaged one
    try:
        sound = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else _system_path(source))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: by its ending it has no header, as .raw
        raise ValueError("it is no sound that can be read; expected WAV, FLAC, OGG, MP3...") from None
    low, high = RATES
    if not 0 < sound.frames * sound.channels <= MOST_FRAMES:
        raise ValueError(f"it has {sound.frames * sound.channels:,} values; expected 1 to {MOST_FRAMES:,}")
    if not low <= sound.samplerate <= high:
        raise ValueError(f"its sample rate is {sound.samplerate} Hz: resample it to 44100 Hz or the like")
    return sound


def _system_path(path: Path | str) -> Path | str | bytes:
    """A path for libsndfile, whose names may have any bytes on POSIX."""
    return os.fsencode(path) if os.name == "posix" else path


@contextmanager
def naming(path: Path, remedy: str = "") -> Iterator[None]:
    """Turn what opening a file raises into an error of the user's that names the file.

    Args:
        path: the file.
        remedy: what to do; added to the message.

    Raises:
        UserError: instead of `OSError` and `ValueError`.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"there is no file {path}{remedy and f'; {remedy}'}") from None
    except (OSError, ValueError, RuntimeError) as error:  # soundfile's own are RuntimeErrors
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path} can't be read: {reason}{remedy and f'; {remedy}'}") from None
