"""Write pictures, sounds and tensors, each as a whole or not at all; errors name the file."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.media.atomic import write_bytes
from its.media.metadata import KEY

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def png_bytes(pixels: np.ndarray[Any, Any], text: str | None = None) -> bytes:
    """Encode (h, w) or (h, w, 3) of 0 to 255 as PNG, with a text unless it is None."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if text is not None:
        info.add_text(KEY, text)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", compress_level=1, pnginfo=info)
    return content.getvalue()


def write_png(path: Path, pixels: np.ndarray[Any, Any], text: str | None = None) -> None:
    """Write a picture, as `png_bytes`.

    Raises:
        NotWritten: it can't be written.
    """
    write_bytes(path, png_bytes(pixels, text))


def wav_bytes(waveform: np.ndarray[Any, Any], sample_rate: int, comment: str | None = None) -> bytes:
    """Encode sound as WAV of 16-bit PCM.

    Args:
        waveform: (n,) or (n, channels), 16-bit.
        sample_rate: in Hz.
        comment: in ASCII, of any length: libsndfile's own are read back up to 2 KB only.
    """
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, waveform, sample_rate, subtype="PCM_16", format="WAV")
    return content.getvalue() if comment is None else _with_comment(content.getvalue(), comment)


def write_wav(path: Path, waveform: np.ndarray[Any, Any], sample_rate: int, comment: str | None = None) -> None:
    """Write sound, as `wav_bytes`.

    Raises:
        NotWritten: it can't be written.
    """
    write_bytes(path, wav_bytes(waveform, sample_rate, comment))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        NotWritten: it can't be written.
    """
    from safetensors.torch import save

    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, None if metadata is None else dict(metadata)))


def _with_comment(sound: bytes, text: str) -> bytes:
    """A WAV file with one more chunk at its end: LIST of the type INFO with one ICMT."""
    body = text.encode("ascii") + b"\0"
    body += b"\0" * (len(body) % 2)
    chunk = b"INFO" + b"ICMT" + struct.pack("<I", len(body)) + body
    whole = sound + b"\0" * (len(sound) % 2) + b"LIST" + struct.pack("<I", len(chunk)) + chunk
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]
