"""Open pictures, sounds and videos of unknown origin, with the same checks for all commands."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.errors import UserError
from its.media.limited import check_regular, read_limited, reason

if TYPE_CHECKING:
    from PIL import Image

PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Accepted picture formats, by Pillow's names. None of their decoders runs other programs."""

MOST_BYTES = 2**28
"""Maximum size of a picture file."""
MOST_PIXELS = 2**26
MOST_FRAMES = 2**28
"""Maximum number of values of a sound, over all channels: an hour and a half in mono at 48 kHz."""

RATES = (4_000, 384_000)
"""Minimum and maximum sample rate, in Hz."""


def open_picture(source: Path | str | bytes, *, formats: Sequence[str] = PICTURES) -> Image.Image:
    """Decode a picture and apply its EXIF orientation. Of an animation, decode the first frame.

    The number of pixels is checked before decoding.

    Args:
        source: a file, or its content.
        formats: accepted formats, by Pillow's names.

    Raises:
        OSError: the file can't be read.
        ValueError: the content is damaged, of another format, or has more than `MOST_PIXELS`.
    """
    from PIL import ImageOps

    with _opened(source, formats) as picture:
        picture.load()
        try:
            return ImageOps.exif_transpose(picture)
        except Exception:  # noqa: BLE001 - Pillow raises many kinds for damaged EXIF blocks; the pixels are intact
            return picture.copy()


def png_text(path: Path, key: str) -> str | None:
    """Return the text of a PNG under a keyword, or None if it has none. Pixels are not decoded.

    Raises:
        OSError, ValueError: as `open_picture`.
    """
    with _opened(path, ["PNG"]) as picture:
        text = picture.info.get(key)
    return text if isinstance(text, str) else None


@contextmanager
def _opened(source: Path | str | bytes, formats: Sequence[str]) -> Iterator[Image.Image]:
    """Open a picture, read its header only, and convert Pillow's errors, also those of the block, to ValueError."""
    from PIL import Image, UnidentifiedImageError

    content = source if isinstance(source, bytes) else read_limited(Path(source), MOST_BYTES)
    pixels = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its limit is above MOST_PIXELS
            picture = Image.open(io.BytesIO(content), formats=list(formats))
        with picture:
            pixels = picture.width * picture.height
            if pixels <= MOST_PIXELS:
                yield picture
    except UnidentifiedImageError:
        raise ValueError(f"it is not a readable picture; expected {', '.join(formats)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has far more than {MOST_PIXELS:,} pixels: make it smaller") from None
    except Exception as error:  # noqa: BLE001 - decoders raise many kinds for damaged content
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from None
    if pixels > MOST_PIXELS:
        size = f"{picture.width} x {picture.height}"
        raise ValueError(f"it has {size} pixels; expected {MOST_PIXELS:,} at most: make it smaller")


@contextmanager
def open_video(path: Path) -> Iterator[Any]:
    """Open an MP4 as an `av.container.InputContainer`, without decoding it.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not an MP4 file.
    """
    import av

    check_regular(path)
    try:
        with av.open(str(path), format="mp4") as container:
            yield container
    except av.FFmpegError as error:
        raise ValueError(f"it is not a readable MP4 file ({error.strerror})") from None


def open_sound(source: Path | str | bytes) -> Any:
    """Open a sound as a `soundfile.SoundFile` without decoding it. The caller must close it.

    Args:
        source: a file, or its content.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not a sound, is empty or longer than `MOST_FRAMES`, or its sample rate is outside `RATES`.
    """
    import soundfile

    if isinstance(source, bytes):
        name: Any = io.BytesIO(source)
    else:
        check_regular(Path(source))  # soundfile raises the same error for missing and for damaged files
        name = os.fsencode(source) if os.name == "posix" else source  # names may have any bytes on POSIX
    try:
        sound = soundfile.SoundFile(name)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: an extension such as .raw means that it has no header
        raise ValueError("it is not a readable sound; expected WAV, FLAC, OGG, MP3...") from None
    low, high = RATES
    if not 0 < sound.frames * sound.channels <= MOST_FRAMES:
        raise ValueError(f"it has {sound.frames * sound.channels:,} values; expected 1 to {MOST_FRAMES:,}")
    if not low <= sound.samplerate <= high:
        raise ValueError(
            f"its sample rate is {sound.samplerate} Hz; expected {low} to {high} Hz: resample it, e.g. to 44100 Hz"
        )
    return sound


@contextmanager
def naming(path: Path, remedy: str = "") -> Iterator[None]:
    """Convert errors of opening and decoding a file to a `UserError` with its path.

    Args:
        path: the file.
        remedy: remedy to add to the message.

    Raises:
        UserError: for `OSError`, `ValueError` and `RuntimeError` in the block.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"the file {path} does not exist{remedy and f'; {remedy}'}") from None
    except (OSError, ValueError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
        raise UserError(f"{path} can't be read: {reason(error)}{remedy and f'; {remedy}'}") from None
