"""Write pictures, sounds and tensors atomically."""

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
    """Encode a PNG.

    Args:
        pixels: picture (h, w) or (h, w, 3), from 0 to 255.
        text: metadata, stored under the keyword `its`; or None.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if text is not None:
        info.add_text(KEY, text)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", compress_level=1, pnginfo=info)
    return content.getvalue()


def write_png(path: Path, pixels: np.ndarray[Any, Any], text: str | None = None) -> None:
    """Write a PNG, encoded with `png_bytes`.

    Raises:
        NotWritten: the file can't be written.
    """
    write_bytes(path, png_bytes(pixels, text))


def wav_bytes(waveform: np.ndarray[Any, Any], sample_rate: int, comment: str | None = None) -> bytes:
    """Encode a WAV file of 16-bit PCM samples.

    Args:
        waveform: 16-bit sound (n,) or (n, channels).
        sample_rate: sample rate in Hz.
        comment: metadata in ASCII of any length, or None. libsndfile would truncate it to 2 KB.
    """
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, waveform, sample_rate, subtype="PCM_16", format="WAV")
    return content.getvalue() if comment is None else _with_comment(content.getvalue(), comment)


def write_wav(path: Path, waveform: np.ndarray[Any, Any], sample_rate: int, comment: str | None = None) -> None:
    """Write a WAV file, encoded with `wav_bytes`.

    Raises:
        NotWritten: the file can't be written.
    """
    write_bytes(path, wav_bytes(waveform, sample_rate, comment))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        NotWritten: the file can't be written.
    """
    from safetensors.torch import save

    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, None if metadata is None else dict(metadata)))


def _with_comment(sound: bytes, text: str) -> bytes:
    """Append a LIST chunk of type INFO with one ICMT to a WAV file."""
    body = text.encode("ascii") + b"\0"
    body += b"\0" * (len(body) % 2)
    chunk = b"INFO" + b"ICMT" + struct.pack("<I", len(body)) + body
    content = sound + b"\0" * (len(sound) % 2) + b"LIST" + struct.pack("<I", len(chunk)) + chunk
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
